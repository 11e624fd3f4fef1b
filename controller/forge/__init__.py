"""The common part of GitHub and GitLab: what is posted at which place, what later jobs go by, HTTP as both ask for it.

``controller.github`` and ``controller.gitlab`` add the two APIs, and the steps that only one of them has.
"""
