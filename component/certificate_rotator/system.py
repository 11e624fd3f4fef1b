"""The file system, one method per call that a power cut can fall between.

Nothing else in this package touches files, so a test that stops the device before and after every
call of this class has stopped it everywhere. Policy (what is written when) stands in ``files.py``.
"""

from __future__ import annotations

import errno
import os
import stat
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Callable, Dict, NamedTuple, Optional, TypeVar

from . import windows_files

_POSIX = os.name == "posix"
_SHARING_PAUSES = (0.05, 0.1, 0.2, 0.4, 0.8) + 8 * (1.0,)
"""Seconds between attempts while another process holds a file open on Windows; about ten in all."""
_SHARING_ERRORS = frozenset({5, 32, 33})
"""Errors that Windows reports then: access denied (to replace an open file), sharing violation, lock violation."""
_WINDOWS_SECURITY = "windows.security"

T = TypeVar("T")
_NEW_FILE = os.O_WRONLY | os.O_CREAT | os.O_EXCL | getattr(os, "O_BINARY", 0) | getattr(os, "O_NOFOLLOW", 0)


@dataclass(frozen=True)
class Attributes:
    """The access to a file: permission bits, owner, group, and extended attributes (SELinux, ACLs).

    On Windows the one extended attribute is the file's security descriptor, and the rest shows nothing.
    """

    mode: int
    owner: int
    group: int
    extended: Dict[str, bytes] = field(default_factory=dict)


class Own(NamedTuple):
    """A file that nobody but this user can have written."""

    time: float  # of its last change, in seconds
    data: bytes


class System:
    """The real file system. Every method raises OSError as the call beneath it does.

    On Windows a file that another process holds open (a virus scanner, a backup, the nucleus) can be neither replaced
    nor removed, and perhaps not read: these calls are repeated for about ten seconds before they raise.
    """

    def __init__(self, wait: Callable[[float], None] = time.sleep) -> None:
        self._wait = wait

    def read(self, path: Path) -> bytes:
        """Return the whole file."""
        return self._patiently(path.read_bytes)

    def exists(self, path: Path) -> bool:
        """Return whether there is a file."""
        return path.exists()

    def read_own(self, path: Path) -> Optional[Own]:
        """Return a regular file of this user's own that has no other name; None for anything else, and for a link."""
        try:
            if not _is_own(os.lstat(str(path))):
                return None
        except FileNotFoundError:
            return None
        descriptor = os.open(str(path), os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
        try:
            status = os.fstat(descriptor)  # the same one, or whatever took its place
            return Own(status.st_mtime, os.read(descriptor, status.st_size)) if _is_own(status) else None
        finally:
            os.close(descriptor)

    def changed(self, folder: Path) -> float:
        """Return when something in the folder was made, replaced or removed last, in seconds since 1970."""
        return folder.stat().st_mtime

    def make_folder(self, folder: Path) -> None:
        """Make a folder that is its owner's only, and those above it; one that exists is not an error."""
        folder.parent.mkdir(parents=True, exist_ok=True)
        folder.mkdir(mode=0o700, exist_ok=True)

    def link(self, path: Path, target: Path) -> None:
        """Let a symbolic link to the target take the place of whatever is there."""
        if path.is_symlink() and path.readlink() == target:
            return
        draft = path.with_name(path.name + ".link")
        draft.unlink(missing_ok=True)
        draft.symlink_to(target)
        draft.replace(path)

    def add_name(self, path: Path, name: Path) -> None:
        """Give a file a second name; raises OSError on a file system that has no such thing, and on Windows."""
        if not _POSIX:  # who has the file open under one name keeps the other one from being removed
            raise OSError(errno.ENOTSUP, os.strerror(errno.ENOTSUP), str(path))
        os.link(str(path), str(name))

    def obstacle(self, path: Path) -> str:
        """Return what would keep a file from being renamed over this one, with what to do.

        Empty if nothing is known.
        """
        if is_mounted(path):
            return "it is a mount of its own; mount the folder instead of its files"
        if not os.access(str(path.parent), os.W_OK):
            return f"{path.parent} cannot be written; mount it writable, and give root the right to"
        return "it is immutable; chattr -i it" if is_immutable(path) else ""

    def create(self, path: Path) -> int:
        """Open a file that must not exist yet, readable by its owner only; returns a descriptor."""
        return os.open(str(path), _NEW_FILE, 0o600) if _POSIX else windows_files.create(path)

    def write(self, descriptor: int, data: bytes) -> None:
        """Write everything to a file's descriptor."""
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]

    def sync(self, descriptor: int) -> None:
        """Wait until the data of a ``descriptor`` is on the disk."""
        os.fsync(descriptor)

    def close(self, descriptor: int) -> None:
        """Close a descriptor."""
        os.close(descriptor)

    def replace(self, source: Path, target: Path) -> None:
        """Rename the source over the target, atomically."""
        self._patiently(lambda: source.replace(target))

    def remove(self, path: Path) -> None:
        """Unlink; a missing file is not an error."""
        self._patiently(lambda: path.unlink(missing_ok=True))

    def sync_folder(self, folder: Path) -> None:
        """Wait until renames and removals in the folder are on the disk; NTFS orders them by itself."""
        if _POSIX:
            descriptor = os.open(str(folder), os.O_RDONLY)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def attributes(self, path: Path) -> Attributes:
        """Read the attributes of a file."""
        status = path.stat()
        return Attributes(status.st_mode & 0o7777, status.st_uid, status.st_gid, _extended_attributes(path))

    def set_attributes(self, path: Path, wanted: Attributes) -> None:
        """Give a file the ``wanted`` attributes."""
        if not _POSIX:
            windows_files.set_security(path, wanted.extended[_WINDOWS_SECURITY])
            return
        status = path.stat()
        if (status.st_uid, status.st_gid) != (wanted.owner, wanted.group):
            os.chown(str(path), wanted.owner, wanted.group)
        present = _extended_attributes(path)
        for name, value in wanted.extended.items():
            if present.get(name) != value:
                os.setxattr(str(path), name, value)
        path.chmod(wanted.mode)  # last: chown clears bits, an ACL changes them

    def _patiently(self, call: Callable[[], T]) -> T:
        for pause in _SHARING_PAUSES:
            try:
                return call()
            except PermissionError as error:
                if getattr(error, "winerror", None) not in _SHARING_ERRORS:
                    raise
            self._wait(pause)
        return call()


def _is_own(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode) and (status.st_uid, status.st_nlink) == (os.geteuid(), 1)


def _extended_attributes(path: Path) -> Dict[str, bytes]:
    if not _POSIX:
        return {_WINDOWS_SECURITY: windows_files.security(path)}
    if not hasattr(os, "listxattr"):
        return {}
    try:
        return {name: os.getxattr(str(path), name) for name in os.listxattr(str(path))}
    except OSError:  # a file system without them
        return {}


_GET_FLAGS, _IMMUTABLE = 0x80086601, 0x10 | 0x20  # FS_IOC_GETFLAGS; FS_IMMUTABLE_FL and FS_APPEND_FL of linux/fs.h


def is_mounted(path: Path, mounts: Path = Path("/proc/self/mountinfo")) -> bool:
    """Return whether this very file is a mount, as containers mount single files; never on other systems than Linux."""
    try:
        points = [line.split()[4] for line in mounts.read_text(encoding="utf-8").splitlines()]
    except (OSError, IndexError):
        return False
    return str(path) in {point.encode().decode("unicode_escape") for point in points}


def is_immutable(path: Path) -> bool:
    """Return whether the file carries the attribute that keeps even root from replacing it."""
    try:
        import fcntl  # noqa: PLC0415  # there is none on Windows

        with path.open("rb") as file:
            flags = int.from_bytes(fcntl.ioctl(file, _GET_FLAGS, bytes(8))[:4], sys.byteorder)
    except (ImportError, OSError):  # a file system without
        return False
    return bool(flags & _IMMUTABLE)
