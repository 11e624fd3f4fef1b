"""A stand-in for GitHub, and the commands of its steps."""

import pytest
from workflows_github import GitHubStandIn
from workflows_runner import Runner
from workflows_warm import warm_commands


@pytest.fixture(scope="session", autouse=True)
def commands():
    with warm_commands() as Runner.commands:
        yield


@pytest.fixture
def github():
    server = GitHubStandIn()
    yield server
    server.close()
