"""The workflows' messages to GitHub: the comment of a pull request, the tracking issue of a fleet, outputs for jobs.

``python -m controller.github --help`` lists the steps. They take the environment that GitHub Actions
gives (GITHUB_API_URL, GITHUB_REPOSITORY, GITHUB_EVENT_PATH …) and the token in GITHUB_TOKEN.
"""
