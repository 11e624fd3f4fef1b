"""Where documents come from, and the files that were read there.

A source only gathers bytes under the limits; nothing here knows YAML. Documents are the ``.yaml`` and
``.yml`` files of a folder and its folders. Names that start with a dot are left out; a symbolic link
is a problem wherever it stands, because it may lead out of the folder.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Protocol

from controller.errors import DesiredStateError, Problem

from .limits import Limits

_LINK = "found a symbolic link; allowed: regular files and folders"


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """One file. ``path`` is shown in messages; ``inner`` is its path inside the folder that was read."""

    path: str
    inner: str
    data: bytes


@dataclass(frozen=True, slots=True)
class Snapshot:
    """The content of a source at one moment; ``problems`` are files that could not be taken."""

    folder: str  # as messages show it
    files: tuple[DocumentFile, ...]
    problems: tuple[Problem, ...] = ()
    commit: str | None = None  # full hash; None outside a repository
    committed_at: datetime | None = None
    is_dirty: bool = False  # the files differ from that commit, or there is no commit
    ancestors: tuple[str, ...] | None = None  # the newest commits behind it, newest first; None: not known
    repository: str | None = None  # host and path of the repository's remote, such as github.com/acme/fleet


_TOO_MUCH = "Name the folder of one fleet with --desired-state, and keep other YAML files out of it."


class DesiredStateSource(Protocol):
    """A place that documents are read from."""

    def read(self, limits: Limits) -> Snapshot:
        """Gather the files; raises GitError or DesiredStateError if the place itself is unusable."""
        ...


def is_document_name(name: str) -> bool:
    """Return whether a file of that name holds documents."""
    return name.lower().endswith((".yaml", ".yml")) and not name.startswith(".")


class Gatherer:
    """Collects files under the limits; shared by every source."""

    def __init__(self, limits: Limits) -> None:
        self.files: list[DocumentFile] = []
        self.problems: list[Problem] = []
        self._limits = limits
        self._total = 0

    def admits(self, path: str, *, depth: int) -> bool:
        """Return whether a name at that depth of folders may be looked at."""
        if not path.isprintable():
            self.refuse(ascii(path), "the name has unprintable characters; allowed: printable text")
        elif depth > self._limits.max_folder_depth:
            self.refuse(path, f"lies deeper than {self._limits.max_folder_depth} folders")
        else:
            return True
        return False

    def admits_size(self, path: str, size: int) -> bool:
        """Return whether a file of ``size`` bytes may be read; DesiredStateError if files or bytes are too many."""
        limits = self._limits
        if size > limits.max_file_bytes:
            self.refuse(path, f"the file has {size} bytes; allowed: at most {limits.max_file_bytes}")
        elif len(self.files) >= limits.max_files:
            raise DesiredStateError([Problem(path, 1, f"more than {limits.max_files} files of documents")], _TOO_MUCH)
        elif self._total + size > limits.max_total_bytes:
            found = f"the files exceed {limits.max_total_bytes} bytes together"
            raise DesiredStateError([Problem(path, 1, found)], _TOO_MUCH)
        else:
            return True
        return False

    def take(self, file: DocumentFile) -> None:
        """Keep a file that was admitted."""
        self.files.append(file)
        self._total += len(file.data)

    def refuse(self, path: str, message: str) -> None:
        """Record a file that is not read, with the message why."""
        self.problems.append(Problem(path, 1, message))

    def refuse_link(self, path: str) -> None:
        """Record a symbolic link."""
        self.refuse(path, _LINK)


class FolderReader:
    """Reads documents from a folder of the file system."""

    def __init__(self, folder: Path, shown: str, limits: Limits) -> None:
        self._folder = folder
        self._shown = shown  # how the folder is called in messages; "" for the repository's root
        self._gatherer = Gatherer(limits)

    def read(self) -> Gatherer:
        """Return every document file, in order of path; DesiredStateError if the folder cannot be read."""
        if not self._folder.is_dir():
            found = "no folder" if self._folder.exists() else "nothing"
            message = f"found {found}; allowed: a folder with documents"
            remedy = "Name the desired-state folder, or the folder of one fleet in it."
            raise DesiredStateError([Problem(str(self._folder), 1, message)], remedy)
        for inner in self._walk("", 0):
            self._take(inner)
        return self._gatherer

    def _walk(self, inner: str, depth: int) -> Iterator[str]:
        """Yield the paths of the document files below a folder; links are left out and reported."""
        try:
            with os.scandir(self._folder / inner) as entries:
                found = sorted(entries, key=lambda entry: entry.name)
        except OSError as error:
            self._gatherer.refuse(self._show(inner), f"cannot be read: {error.strerror}")
            return
        for entry in found:
            path = f"{inner}/{entry.name}".lstrip("/")
            if entry.name.startswith(".") or not self._gatherer.admits(self._show(path), depth=depth):
                continue
            if entry.is_symlink():
                self._gatherer.refuse_link(self._show(path))
            elif entry.is_dir():
                yield from self._walk(path, depth + 1)
            elif is_document_name(entry.name):
                yield path

    def _take(self, inner: str) -> None:
        path = self._show(inner)
        try:
            data = self._read_file(inner)
        except OSError as error:
            self._gatherer.refuse(path, f"cannot be read: {error.strerror}")
            return
        if data is not None:
            self._gatherer.take(DocumentFile(path, inner, data))

    def _read_file(self, inner: str) -> bytes | None:
        """Return the bytes of a regular file; None if it was refused. Opens without following or waiting."""
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
        descriptor = os.open(self._folder / inner, flags)
        with os.fdopen(descriptor, "rb") as file:
            status = os.fstat(descriptor)
            if not stat.S_ISREG(status.st_mode):
                self._gatherer.refuse(self._show(inner), "found no regular file; allowed: regular files and folders")
                return None
            if not self._gatherer.admits_size(self._show(inner), status.st_size):
                return None
            return file.read(status.st_size)

    def _show(self, inner: str) -> str:
        return "/".join(part for part in (self._shown, inner) if part) or "."
