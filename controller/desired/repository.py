"""The git repository around a folder, asked by the ``git`` command; what it holds is read through one such process."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import IO, Self

from controller.errors import GitError

from .repository_name import repository_name

TREE, LINK, SUBMODULE = 0o040000, 0o120000, 0o160000  # modes of a tree's entries; others are files
_SHA1_BYTES = 20
_CHUNK = 1 << 16
_OTHERS = (
    "GIT_DIR",
    "GIT_WORK_TREE",
)  # a hook's environment may name another repository than the one around the folder


class GitCommandError(Exception):
    """git has refused a command; the text is what it wrote."""


@dataclass(frozen=True, slots=True)
class TreeEntry:
    """One name in a tree."""

    name: str
    mode: int
    sha: str


@dataclass(slots=True)
class GitRepository:
    """A git repository, used as a context: the process that reads objects ends with it."""

    folder: Path  # in which git is run
    top: Path | None = None  # of the working tree; None in a bare repository
    object_format: str = ""
    is_shallow: bool = False
    _objects: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def __enter__(self) -> Self:
        """Return the repository itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process that reads objects."""
        if self._objects is not None:
            self._objects.communicate()
            self._objects = None

    def ask(self, *arguments: str) -> str:
        """Return what a git command prints, without the end of its last line; raises GitCommandError."""
        ran = subprocess.run(  # noqa: S603
            ["git", *arguments],  # noqa: S607
            cwd=self.folder,
            env=_environment(),
            capture_output=True,
            check=False,
        )
        if ran.returncode:
            raise GitCommandError(_text(ran.stderr).strip())
        return _text(ran.stdout).removesuffix("\n")

    def tree(self, name: str) -> Iterator[TreeEntry]:
        """Yield the entries of a tree, or of a commit's tree, in git's order."""
        data = self.content(f"{name}^{{tree}}")
        assert data is not None  # noqa: S101 - nobody refused it
        start = 0
        while start < len(data):
            blank, end = data.index(b" ", start), data.index(b"\0", start)
            sha = data[end + 1 : end + 1 + _SHA1_BYTES].hex()
            yield TreeEntry(_text(data[blank + 1 : end]), int(data[start:blank], 8), sha)
            start = end + 1 + _SHA1_BYTES

    def content(self, name: str, admits: Callable[[int], bool] = lambda _size: True) -> bytes | None:
        """Return what an object holds.

        None, and nothing is kept, if ``admits`` refuses its size. Raises GitCommandError.
        """
        to, source = self._object_pipes()
        to.write(f"{name}\n".encode())
        to.flush()
        head = source.readline().split()
        if len(head) != 3:  # noqa: PLR2004 - object, type, bytes
            raise GitCommandError(f"the object {name} is missing")
        size = int(head[2])
        if admits(size):
            data = source.read(size)
            source.read(1)
            if len(data) != size:
                raise GitCommandError(f"the object {name} is cut off")
            return data
        left = size + 1
        while left and (read := len(source.read(min(left, _CHUNK)))):
            left -= read
        return None

    def _object_pipes(self) -> tuple[IO[bytes], IO[bytes]]:
        if self._objects is None:
            self._objects = subprocess.Popen(
                ["git", "cat-file", "--batch"],  # noqa: S607
                cwd=self.folder,
                env=_environment(),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
            )
        assert self._objects.stdin is not None  # noqa: S101 - for mypy
        assert self._objects.stdout is not None  # noqa: S101 - for mypy
        return self._objects.stdin, self._objects.stdout


def find_repository(folder: Path) -> GitRepository | None:
    """Return the repository around the folder, which need not exist itself; None if there is none.

    Raises:
        GitError: There is no git command, or git does not read this repository.
    """
    while not folder.is_dir():
        folder = folder.parent
    root = next((one for one in (folder, *folder.parents) if _is_root(one)), None)
    if root is None:
        return None
    if shutil.which("git") is None:
        raise GitError("found no git command, which a repository needs", "Install git and put it in PATH.")
    found = GitRepository(root)
    try:
        told = found.ask("rev-parse", "--is-bare-repository", "--is-shallow-repository", "--show-object-format")
    except GitCommandError as error:
        raise GitError(
            f"git refuses to read {root}: {str(error).partition(chr(10))[0]}",
            "Run as the owner of the repository, or add it to git's safe.directory.",
        ) from error
    bare, shallow, found.object_format = told.split("\n")
    found.is_shallow, found.top = shallow == "true", None if bare == "true" else root
    return found


def folder_in(folder: Path, repository: GitRepository) -> str:
    """Return the folder's path from the repository's root, with slashes, empty for the root; raises GitError."""
    if repository.top is None:
        raise GitError(f"{folder}: found a bare repository", "Run inside a clone that has a working tree.")
    inner = folder.resolve().relative_to(repository.top.resolve()).as_posix()
    return "" if inner == "." else inner


def remote_of(repository: GitRepository) -> str | None:
    """Return where the repository's origin is, without credentials; None without an origin."""
    try:
        return repository_name(repository.ask("config", "--get", "remote.origin.url"))
    except GitCommandError:
        return None


def _is_root(folder: Path) -> bool:
    """Return whether a repository's working tree begins here, or the folder is a bare repository."""
    marked = folder / ".git"
    return marked.is_file() or _holds_objects(marked) or _holds_objects(folder)


def _holds_objects(folder: Path) -> bool:
    head = folder / "HEAD"
    return (head.is_file() or head.is_symlink()) and (folder / "objects").is_dir() and (folder / "refs").is_dir()


def _environment() -> dict[str, str]:
    """Return our environment, in which git takes no locks, speaks English, and looks at the folder where it is run."""
    kept = {name: value for name, value in os.environ.items() if name not in _OTHERS}
    return {**kept, "GIT_OPTIONAL_LOCKS": "0", "LC_ALL": "C"}


def _text(said: bytes) -> str:
    return said.decode("utf-8", "surrogateescape")
