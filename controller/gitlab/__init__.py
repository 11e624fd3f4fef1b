"""Steps of a pipeline that speak with GitLab: the note on a merge request, the tracking issues.

What is said, and how it is found again, is ``controller.github``'s; here stands what differs between the two.
"""
