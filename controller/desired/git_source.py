"""Documents from git: the working tree with the commit it stands on, or any ref from the object database.

Reading a ref never touches the working tree or the index. Paths in messages start at the
repository's root, as annotations in a pull request want them.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import UTC
from functools import wraps
from pathlib import Path
from typing import TypeVar

from controller.errors import CertfleetError, GitError
from controller.plain_text import one_line

from .limits import MAX_ANCESTORS, Limits
from .repository_name import repository_name
from .sources import DocumentFile, FolderReader, Gatherer, Snapshot, is_document_name

# GitPython's import fails where there is no git command, and a desired state from a bundle needs none.
os.environ.setdefault("GIT_PYTHON_REFRESH", "quiet")
import git

_LINK_MODE = 0o120000
S = TypeVar("S", "WorkingTree", "GitRef")


def _explained(read: Callable[[S, Limits], Snapshot]) -> Callable[[S, Limits], Snapshot]:
    """Turn whatever GitPython raises for a repository into a GitError."""

    @wraps(read)
    def reading(self: S, limits: Limits) -> Snapshot:
        try:
            return read(self, limits)
        except CertfleetError:
            raise
        except Exception as error:  # (GitPython lets through what its parts raise: of any kind)
            said = one_line(str(error))
            raise GitError(
                f"{self.path}: the git repository cannot be read: {type(error).__name__}: {said}",
                "See what git fsck says; in a partial clone, or one without its remote, fetch all of it: "
                "git fetch --refetch --no-filter, or read the folder of a full clone.",
            ) from error

    return reading


@dataclass(frozen=True, slots=True)
class WorkingTree:
    """The folder as it lies there, edits included; works outside a repository too.

    In a repository the snapshot names the commit that HEAD stands on, and is dirty where the
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
            is_dirty = _text(snapshot.files) != _committed(commit, inner, limits)
            return replace(_at(snapshot, repo, commit), is_dirty=is_dirty)


@dataclass(frozen=True, slots=True)
class GitRef:
    """The folder as a ref holds it: a branch, a tag, a commit, or anything that names one."""

    path: Path
    ref: str

    @_explained
    def read(self, limits: Limits) -> Snapshot:
        """Gather the files of the folder at that ref; GitError where repository, ref or folder is missing."""
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
            tree = _folder(commit, inner)
            if tree is None:
                raise GitError(
                    f"{inner}: found no such folder at {self.ref} ({commit.hexsha[:12]})",
                    f"Name a folder that {self.ref} holds, or a ref that holds {inner}.",
                )
            gatherer = Gatherer(limits)
            _gather(tree, inner, "", gatherer)
            snapshot = _snapshot(f"{inner or '.'} at {self.ref}", gatherer, is_dirty=False)
            return replace(_at(snapshot, repo, commit), repository=remote_of(repo))


def _snapshot(folder: str, gatherer: Gatherer, *, is_dirty: bool) -> Snapshot:
    return Snapshot(folder, tuple(gatherer.files), tuple(gatherer.problems), is_dirty=is_dirty)


def _at(snapshot: Snapshot, repo: git.Repo, commit: git.Commit) -> Snapshot:
    """The snapshot of that commit, with what lies behind it; a shallow clone does not know that."""
    behind = None
    if repo.git.rev_parse("--is-shallow-repository") == "false":
        behind = tuple(repo.git.rev_list(commit.hexsha, max_count=1 + MAX_ANCESTORS).split()[1:])
    committed_at = commit.committed_datetime.astimezone(UTC)
    return replace(snapshot, commit=commit.hexsha, committed_at=committed_at, ancestors=behind)


def find_repository(folder: Path) -> git.Repo | None:
    """The repository around the folder, which need not exist itself; None where there is none."""
    while not folder.is_dir():
        folder = folder.parent
    try:
        repo = git.Repo(folder, search_parent_directories=True)
    except (git.InvalidGitRepositoryError, git.NoSuchPathError):
        return None
    if shutil.which("git") is None:
        raise GitError("found no git command, which a repository needs", "Install git and put it in PATH.")
    repo.git.update_environment(GIT_OPTIONAL_LOCKS="0", LC_ALL="C")
    if "GIT_DIR" in os.environ:
        # A hook's environment may point at another repository than the one around the folder. Set only
        # then: with it git no longer asks who owns the repository.
        repo.git.update_environment(GIT_DIR=str(repo.git_dir))
    return repo


def folder_in(folder: Path, repo: git.Repo) -> str:
    """The folder's path from the repository's root, with slashes; empty for the root."""
    if repo.working_tree_dir is None:
        raise GitError(f"{folder}: found a bare repository", "Run inside a clone that has a working tree.")
    inner = folder.resolve().relative_to(Path(repo.working_tree_dir).resolve()).as_posix()
    return "" if inner == "." else inner


def _resolve(repo: git.Repo, ref: str) -> git.Commit | None:
    """The commit that a ref names; None for an unknown ref, GitError where git cannot work here at all."""
    try:
        if repo.git.rev_parse("--show-object-format") != "sha1":
            raise GitError(
                f"found a repository of the object format sha256 at {repo.working_tree_dir}; certfleet reads sha1",
                "Keep the desired state in a repository made with: git init --object-format=sha1",
            )
        name = repo.git.rev_parse("--verify", "--quiet", "--end-of-options", f"{ref}^{{commit}}")
        return repo.commit(name)
    except git.GitCommandError as error:
        said = str(error.stderr).strip().removeprefix("stderr: ").strip("' \n")
        if "dubious ownership" in said or "not a git repository" in said:
            raise GitError(
                f"git refuses to read {repo.working_tree_dir}: {said.splitlines()[0]}",
                "Run as the owner of the repository, or add it to git's safe.directory.",
            ) from error
        return None
    except ValueError:  # the name has a NUL, or is no object that GitPython reads
        return None


def _require_commit(repo: git.Repo, ref: str) -> git.Commit:
    commit = _resolve(repo, ref)
    if commit is not None:
        return commit
    if repo.git.rev_parse("--is-shallow-repository") == "true":
        raise GitError(
            f"found no ref {ref!r} in this clone, which is shallow and may lack it",
            "Fetch it: git fetch --unshallow --tags, or fetch-depth: 0 in the checkout step of the workflow.",
        )
    raise GitError(
        f"found no ref {ref!r} in the repository at {repo.working_tree_dir}",
        "Name a branch, tag or commit that git rev-parse knows; git fetch brings those of the remote.",
    )


def _folder(commit: git.Commit, inner: str) -> git.Tree | None:
    """The folder's tree at the commit; None where it is not there or is no folder."""
    tree = commit.tree
    for name in filter(None, inner.split("/")):
        try:
            item = tree[name]
        except KeyError:
            return None
        if not isinstance(item, git.Tree):
            return None
        tree = item
    return tree


def _gather(tree: git.Tree, shown: str, inner: str, gatherer: Gatherer, depth: int = 0) -> None:
    """Take every document file below the tree; links and submodules are refused."""
    named = ((str(item.path).rpartition("/")[2], item) for item in tree)
    for name, item in sorted(named, key=lambda each: each[0]):
        path = "/".join(filter(None, (shown, inner, name)))
        if name.startswith(".") or not gatherer.admits(path, depth=depth):
            continue
        inside = "/".join(filter(None, (inner, name)))
        if isinstance(item, git.Tree):
            _gather(item, shown, inside, gatherer, depth + 1)
        elif isinstance(item, git.Submodule):
            gatherer.refuse(path, "found a submodule; allowed: regular files and folders")
        elif item.mode == _LINK_MODE:
            gatherer.refuse_link(path)
        elif is_document_name(name) and gatherer.admits_size(path, item.size):
            gatherer.take(DocumentFile(path, inside, item.data_stream.read()))


def _committed(commit: git.Commit, inner: str, limits: Limits) -> Mapping[str, bytes]:
    """The documents of the folder at the commit, as ``_text`` gives them."""
    gatherer = Gatherer(limits)
    tree = _folder(commit, inner)
    if tree is not None:
        _gather(tree, inner, "", gatherer)
    return _text(tuple(gatherer.files))


def _text(files: tuple[DocumentFile, ...]) -> Mapping[str, bytes]:
    """Contents by path with ends of lines made equal: a checkout may have changed them."""
    return {file.inner: file.data.replace(b"\r\n", b"\n") for file in files}


def remote_of(repo: git.Repo) -> str | None:
    """Where the repository's origin is, without credentials; None without an origin."""
    try:
        return repository_name(repo.git.config("--get", "remote.origin.url"))
    except git.GitCommandError:
        return None
