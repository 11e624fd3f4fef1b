"""Steps of a pipeline that speak with GitLab: the note on a merge request, the tracking issues, who approved."""
