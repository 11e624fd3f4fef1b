"""Documents from git: the working tree with the commit it stands on, or any ref from the object database.

Reading a ref never touches the working tree or the index. Paths in messages start at the
repository's root, as annotations in a pull request want them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from functools import partial, wraps
from pathlib import Path
from typing import TypeVar

from controller.errors import GitError
from controller.plain_text import one_line

from .limits import MAX_ANCESTORS, Limits
from .repository import LINK, SUBMODULE, TREE, GitCommandError, GitRepository, find_repository, folder_in, remote_of
from .sources import DocumentFile, FolderReader, Gatherer, Snapshot, is_document_name

S = TypeVar("S", "WorkingTree", "GitRef")


def _explained(read: Callable[[S, Limits], Snapshot]) -> Callable[[S, Limits], Snapshot]:
    """Turn what git refuses of a repository that it knows into a GitError."""

    @wraps(read)
    def reading(self: S, limits: Limits) -> Snapshot:
        try:
            return read(self, limits)
        except (GitCommandError, OSError, ValueError) as error:
            raise GitError(
                f"{self.path}: the git repository cannot be read: {one_line(str(error))}",
                "See what git fsck shows; in a partial clone, or one without its remote, fetch all of it: "
                "git fetch --refetch --no-filter, or read the folder of a full clone.",
            ) from error

    return reading


@dataclass(frozen=True, slots=True)
class WorkingTree:
    """The folder as it lies there, edits included; works outside a repository too.

    In a repository the snapshot names the commit that HEAD stands on, and is dirty if the
    documents differ from it. Outside of one there is no commit, and the snapshot is dirty.
    """

    path: Path

    @_explained
    def read(self, limits: Limits) -> Snapshot:
        """Gather the files of the folder."""
        folder = self.path.absolute()
        repository = find_repository(folder) if folder.is_dir() else None
        if repository is None:
            return _snapshot(str(self.path), FolderReader(folder, "", limits).read(), is_dirty=True)
        with repository as repo:
            inner = folder_in(folder, repo)
            read = FolderReader(folder, inner, limits).read()
            snapshot = replace(_snapshot(str(self.path), read, is_dirty=True), repository=remote_of(repo))
            commit = _resolve(repo, "HEAD")
            if commit is None:
                return snapshot  # nothing was committed yet
            is_dirty = _text(snapshot.files) != _committed(repo, commit, inner, limits)
            return replace(_at(snapshot, repo, commit), is_dirty=is_dirty)


@dataclass(frozen=True, slots=True)
class GitRef:
    """The folder as a ref holds it: a branch, a tag, a commit, or anything that names one."""

    path: Path
    ref: str

    @_explained
    def read(self, limits: Limits) -> Snapshot:
        """Gather the files of the folder at that ref; GitError if repository, ref or folder is missing."""
        folder = self.path.absolute()
        repository = find_repository(folder)
        if repository is None:
            raise GitError(
                f"{self.path}: found no git repository, which the ref {self.ref!r} needs",
                "Run inside a clone of the repository, or read the folder as it lies there, without a ref.",
            )
        with repository as repo:
            commit = _require_commit(repo, self.ref)
            inner = folder_in(folder, repo)
            tree = _folder(repo, commit, inner)
            if tree is None:
                raise GitError(
                    f"{inner}: found no such folder at {self.ref} ({commit[:12]})",
                    f"Name a folder that {self.ref} holds, or a ref that holds {inner}.",
                )
            gatherer = Gatherer(limits)
            _gather(repo, tree, gatherer, shown=inner)
            snapshot = _snapshot(f"{inner or '.'} at {self.ref}", gatherer, is_dirty=False)
            return replace(_at(snapshot, repo, commit), repository=remote_of(repo))


def _snapshot(folder: str, gatherer: Gatherer, *, is_dirty: bool) -> Snapshot:
    return Snapshot(folder, tuple(gatherer.files), tuple(gatherer.problems), is_dirty=is_dirty)


def _at(snapshot: Snapshot, repo: GitRepository, commit: str) -> Snapshot:
    """Return the snapshot of that commit, with its ancestors; None for them in a shallow clone, which lacks them."""
    most = 1 if repo.is_shallow else 1 + MAX_ANCESTORS
    listed = [line.split() for line in repo.ask("rev-list", "--timestamp", f"--max-count={most}", commit).splitlines()]
    committed_at = datetime.fromtimestamp(int(listed[0][0]), UTC)
    behind = None if repo.is_shallow else tuple(sha for _, sha in listed[1:])
    return replace(snapshot, commit=commit, committed_at=committed_at, ancestors=behind)


def _resolve(repo: GitRepository, ref: str) -> str | None:
    """Return the commit that a ref names.

    None for an unknown ref, GitError if certfleet cannot read such repositories.
    """
    if repo.object_format != "sha1":
        raise GitError(
            f"found a repository of the object format {repo.object_format} at {repo.folder}; certfleet reads sha1",
            "Keep the desired state in a repository made with: git init --object-format=sha1",
        )
    if "\0" in ref:
        return None
    try:
        return repo.ask("rev-parse", "--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
    except GitCommandError:
        return None


def _require_commit(repo: GitRepository, ref: str) -> str:
    commit = _resolve(repo, ref)
    if commit is not None:
        return commit
    if repo.is_shallow:
        raise GitError(
            f"found no ref {ref!r} in this clone, which is shallow and may lack it",
            "Fetch it: git fetch --unshallow --tags, or fetch-depth: 0 in the checkout step of the workflow.",
        )
    raise GitError(
        f"found no ref {ref!r} in the repository at {repo.folder}",
        "Name a branch, tag or commit that git rev-parse knows; git fetch brings those of the remote.",
    )


def _folder(repo: GitRepository, commit: str, inner: str) -> str | None:
    """Return the folder's tree at the commit; None if it is not there or is not a folder."""
    tree = commit
    for name in filter(None, inner.split("/")):
        found = next((entry for entry in repo.tree(tree) if entry.name == name and entry.mode == TREE), None)
        if found is None:
            return None
        tree = found.sha
    return tree


def _gather(repo: GitRepository, tree: str, gatherer: Gatherer, *, shown: str, inner: str = "", depth: int = 0) -> None:
    """Take every document file below the tree; links and submodules are refused."""
    for entry in sorted(repo.tree(tree), key=lambda each: each.name):
        path = "/".join(filter(None, (shown, inner, entry.name)))
        if entry.name.startswith(".") or not gatherer.admits(path, depth=depth):
            continue
        inside = "/".join(filter(None, (inner, entry.name)))
        if entry.mode == TREE:
            _gather(repo, entry.sha, gatherer, shown=shown, inner=inside, depth=depth + 1)
        elif entry.mode == SUBMODULE:
            gatherer.refuse(path, "found a submodule; allowed: regular files and folders")
        elif entry.mode == LINK:
            gatherer.refuse_link(path)
        elif is_document_name(entry.name):
            data = repo.content(entry.sha, partial(gatherer.admits_size, path))
            if data is not None:
                gatherer.take(DocumentFile(path, inside, data))


def _committed(repo: GitRepository, commit: str, inner: str, limits: Limits) -> Mapping[str, bytes]:
    """Return the documents of the folder at the commit, as ``_text`` gives them."""
    gatherer = Gatherer(limits)
    tree = _folder(repo, commit, inner)
    if tree is not None:
        _gather(repo, tree, gatherer, shown=inner)
    return _text(tuple(gatherer.files))


def _text(files: tuple[DocumentFile, ...]) -> Mapping[str, bytes]:
    """Return contents by path, with ends of lines made equal: a checkout may have changed them."""
    return {file.inner: file.data.replace(b"\r\n", b"\n") for file in files}
