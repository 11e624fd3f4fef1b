"""What the workflows post to GitHub: one sticky comment per pull request, one tracking issue per fleet.

``python -m controller.github --help`` lists the two. They take the environment that GitHub Actions
gives (GITHUB_API_URL, GITHUB_REPOSITORY, GITHUB_EVENT_PATH) and the token in GITHUB_TOKEN.
"""
