"""A stand-in for GitHub."""

import pytest
from workflows_github import GitHubStandIn


@pytest.fixture
def github():
    server = GitHubStandIn()
    yield server
    server.close()
