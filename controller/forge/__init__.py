"""The common part of GitHub and GitLab: comments and issues, outputs for later jobs, HTTP as both ask for it.

``controller.github`` and ``controller.gitlab`` add the two APIs, and the steps that only one of them has.
"""
