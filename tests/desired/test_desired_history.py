"""The documents over time: which edition was in force when, and what a commit says of itself."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import git
import pytest
from shared_documents import fleet, policy
from shared_repository import Repository

from controller.desired import policy_history as module
from controller.desired.policy_history import DocumentHistory
from controller.errors import GitError

NOW = datetime(2026, 11, 30, tzinfo=UTC)
DOCUMENTS = fleet() + policy("line-a")


def day(number):
    return NOW + timedelta(days=number)


@pytest.fixture
def repository(tmp_path):
    made = Repository(tmp_path / "plant")
    made.write(DOCUMENTS)
    made.commit("the first", date=day(-100))
    return made


def editions(repository, since):
    return DocumentHistory(repository.desired).editions("factory", since)


def test_the_edition_in_force_when_the_period_begins_comes_first(repository):
    repository.write(DOCUMENTS + "# again\n")
    repository.commit("the second", date=day(-50))
    (repository.repository / "README").write_text("of no matter")
    repository.commit("beside the documents", date=day(-30))
    repository.write(DOCUMENTS)
    repository.commit("the third", date=day(-10))
    assert [one.since for one in editions(repository, day(-20))] == [day(-50), day(-10)]
    assert [one.since for one in editions(repository, day(-200))] == [day(-100), day(-50), day(-10)]


def test_what_a_branch_looked_like_before_it_was_merged_was_never_in_force(repository):
    repository.git("checkout", "-q", "-b", "change")
    repository.write("not: [a document")
    repository.commit("half a change", date=day(-40))
    repository.write(DOCUMENTS + "# whole\n")
    repository.commit("a whole change", date=day(-30))
    repository.git("checkout", "-q", "main")
    repository.git("merge", "-q", "--no-ff", "-m", "merge it", "change", date=day(-5))
    found = editions(repository, day(-20))
    assert [(one.since, one.desired is not None) for one in found] == [(day(-100), True), (day(-5), True)]


def test_a_commit_with_a_wrong_date_is_in_force_after_the_one_before_it(repository):
    repository.write(DOCUMENTS + "# again\n")
    repository.commit("by a clock that was wrong", date=day(-300))
    assert [one.since for one in editions(repository, day(-400))] == [day(-100), day(-100)]


def test_an_edition_with_errors_is_named(repository):
    repository.write("not: [a document")
    repository.commit("a slip", date=day(-10))
    assert [one.desired is None for one in editions(repository, day(-20))] == [False, True]


def test_a_commit_names_who_answers_for_it(repository):
    trailers = "Reviewed-by: Grace <g@x>\nOverride: orphans=3\nCo-authored-by: nobody <n@x>\nChange-Id: 7\n"
    repository.commit(f"a change\n\n{trailers}", date=day(-3))
    history = DocumentHistory(repository.desired)
    note = history.note(git.Repo(repository.repository).head.commit.hexsha)
    assert (note.author, note.committed_at) == ("t <t@example.org>", day(-3))
    assert note.trailers == (("Reviewed-by", "Grace <g@x>"), ("Override", "orphans=3"))


@pytest.mark.parametrize("commit", ["f" * 40, "--all", "HEAD", ""])
def test_what_is_no_commit_of_this_clone_is_unknown(repository, commit):
    assert DocumentHistory(repository.desired).note(commit) is None


def test_a_shallow_clone_is_refused_with_what_to_do(repository, tmp_path):
    repository.commit("another", date=day(-1))
    repository.git("clone", "-q", "--depth", "1", f"file://{repository.repository}", str(tmp_path / "clone"))
    with pytest.raises(GitError, match="shallow") as refused:
        DocumentHistory(tmp_path / "clone" / "desired_state").editions("factory", NOW)
    assert "git fetch --unshallow" in refused.value.remedy


def test_so_are_a_folder_outside_of_git_and_a_history_too_long_to_read(repository, tmp_path, monkeypatch):
    with pytest.raises(GitError, match="found no git repository"):
        DocumentHistory(tmp_path).editions("factory", NOW)
    monkeypatch.setattr(module, "MAX_COMMITS", 0)
    with pytest.raises(GitError, match="more than 0 commits"):
        editions(repository, NOW)
