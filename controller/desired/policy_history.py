"""The documents over time, from git, and each commit's message."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from controller.errors import CertfleetError, GitError
from controller.reconcile.values import DesiredState

from .git_source import GitRef
from .limits import DEFAULT_LIMITS
from .loading import load_snapshot
from .repository import GitCommandError, GitRepository, find_repository, folder_in, remote_of

MAX_COMMITS = 5_000  # of the folder's history that are read: some years of several changes a day
_TRAILERS = re.compile(r"(?:(?:approved|reviewed|acked|signed-off|merged)-by|override)", re.IGNORECASE)
_FIELDS = "%H%x00%an <%ae>%x00%cI%x00%s%x00%(trailers:only=yes,unfold=yes)"


@dataclass(frozen=True, slots=True)
class Edition:
    """The documents of one fleet as they stood from a commit on; ``desired`` is None if they have errors there."""

    commit: str
    since: datetime
    desired: DesiredState | None


@dataclass(frozen=True, slots=True)
class CommitNote:
    """The message of a commit; ``trailers`` are those that name a person who answers for it."""

    commit: str
    author: str
    committed_at: datetime
    subject: str
    trailers: tuple[tuple[str, str], ...] = ()


@dataclass(slots=True)
class DocumentHistory:
    """The history of a folder of documents, in the clone around it."""

    folder: Path
    ref: str = "HEAD"
    _notes: dict[str, CommitNote | None] = field(default_factory=dict)

    def editions(self, fleet: str, since: datetime) -> list[Edition]:
        """Read the documents at every commit that changed them, from the last one before ``since`` on.

        Only first parents are followed: the commits of a branch that was merged were never applied. An edition is in
        force from its commit's date on, which for a merge is the merge's.

        Raises:
            GitError: There is no repository, it is shallow, or its history is too long.
        """
        dates: list[tuple[str, datetime]] = []
        for commit in self._commits():  # a date may be wrong, the order is not
            date = self._date(commit)
            dates.append((commit, max(date, dates[-1][1]) if dates else date))
        before = [one for one in dates if one[1] <= since][-1:]
        return [self._edition(fleet, *one) for one in [*before, *(one for one in dates if one[1] > since)]]

    def note(self, commit: str) -> CommitNote | None:
        """Read a commit's message; None if this clone does not hold it."""
        if commit not in self._notes:
            self._notes[commit] = self._read_note(commit)
        return self._notes[commit]

    def remote(self) -> str | None:
        """Host and path of the repository's origin, such as ``github.com/acme/fleet``; None without one."""
        with self._repository() as repo:
            return remote_of(repo)

    def _commits(self) -> list[str]:
        """Return the commits that changed the folder, oldest first."""
        with self._repository() as repo:
            if repo.is_shallow:
                raise GitError(
                    "this clone is shallow: the history that shows what the policies allowed is not in it",
                    "git fetch --unshallow, or fetch-depth: 0 in the checkout step of the workflow",
                )
            inner = folder_in(self.folder.absolute(), repo) or "."
            listed = repo.ask(
                "log", "--first-parent", "--format=%H", f"--max-count={MAX_COMMITS + 1}", self.ref, "--", inner
            )
        found: list[str] = listed.split()[::-1]
        if len(found) > MAX_COMMITS:
            raise GitError(
                f"{inner} was changed by more than {MAX_COMMITS:,} commits",
                "read the evidence of a fleet whose documents have a folder of their own: --desired-state FOLDER",
            )
        return found

    def _date(self, commit: str) -> datetime:
        note = self.note(commit)
        assert note is not None  # noqa: S101 - git has just listed it
        return note.committed_at

    def _edition(self, fleet: str, commit: str, since: datetime) -> Edition:
        try:
            snapshot = GitRef(self.folder, commit).read(DEFAULT_LIMITS)
            [desired] = load_snapshot(snapshot, now=since, fleet=fleet)
        except CertfleetError:
            return Edition(commit, since, None)
        return Edition(commit, since, desired)

    def _read_note(self, commit: str) -> CommitNote | None:
        if not re.fullmatch(r"[0-9a-f]{7,40}", commit):
            return None
        with self._repository() as repo:
            try:
                told = repo.ask("show", "--no-patch", f"--format={_FIELDS}", "--end-of-options", f"{commit}^{{commit}}")
            except GitCommandError:
                return None
        full, author, date, subject, trailers = told.split("\0", 4)
        return CommitNote(full, author, datetime.fromisoformat(date).astimezone(UTC), subject, _people(trailers))

    def _repository(self) -> GitRepository:
        repo = find_repository(self.folder.absolute())
        if repo is None:
            raise GitError(
                f"{self.folder}: found no git repository, and what policies allowed stands in its history",
                "run inside a clone of the repository that holds the documents",
            )
        return repo


def _people(trailers: str) -> tuple[tuple[str, str], ...]:
    named = (line.partition(":") for line in trailers.splitlines())
    return tuple((name.strip(), value.strip()) for name, _, value in named if _TRAILERS.fullmatch(name.strip()))
