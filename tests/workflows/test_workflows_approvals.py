"""Who approved a commit, as GitHub tells."""

from __future__ import annotations

from contextlib import closing

import pytest
from workflows_github import REPOSITORY, GitHubStandIn

from controller.evidence import Approval
from controller.github.api import GitHub
from controller.github.approvals import approvals_of

COMMIT = "c" * 40


@pytest.fixture
def server():
    with closing(GitHubStandIn()) as made:
        yield made


def asked(server):
    return approvals_of(GitHub(server.url, REPOSITORY, "token"), COMMIT)


def review(login, state):
    return {"user": None if login is None else {"login": login}, "state": state}


def test_whoever_merged_and_whoever_approved_last_answer_for_it(server):
    server.pulls[COMMIT] = [{"number": 7, "merged_at": "2026-11-01T00:00:00Z", "merged_by": {"login": "ada"}}]
    server.reviews[7] = [
        review("grace", "CHANGES_REQUESTED"), review("grace", "APPROVED"), review("grace", "COMMENTED"),
        review("linus", "APPROVED"), review("linus", "DISMISSED"), review(None, "APPROVED"),
    ]  # fmt: skip
    assert asked(server) == (Approval("ada", "merged", 7), Approval("grace", "approved", 7))


def test_a_pull_request_that_was_not_merged_and_a_merger_who_is_gone_are_nobodys_word(server):
    server.pulls[COMMIT] = [
        {"number": 7, "merged_at": None, "merged_by": None},
        {"number": 8, "merged_at": "2026-11-01T00:00:00Z", "merged_by": None},
    ]
    assert asked(server) == ()


def test_a_commit_that_came_by_no_pull_request_has_none(server):
    assert asked(server) == ()
