"""Files that are whole or absent, whatever happens while they are written.

Each write goes to a temporary file in the same folder, is synced, and renamed over its target; then
the folder is synced, once for files that are written together. A temporary file from an interrupted write
is removed by the next one.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Iterable, Mapping, Optional

from .system import Attributes, System

_OWN: Mapping[Path, Attributes] = {}
_NONE: Mapping[Path, Path] = {}


def temporary(path: Path) -> Path:
    """Return where a file is written before it takes its place."""
    return path.with_name(path.name + ".tmp")


def stage(
    system: System, path: Path, data: bytes, attributes: Optional[Attributes] = None, *, durable: bool = True
) -> None:
    """Write the temporary file of ``path``, and sync it if it shall be ``durable``.

    Its mode is 0600 until ``attributes`` are set, last of all.
    """
    draft = temporary(path)
    system.remove(draft)
    try:
        descriptor = system.create(draft)
        try:
            system.write(descriptor, data)
            if durable:
                system.sync(descriptor)
        finally:
            system.close(descriptor)
        if attributes is not None:
            system.set_attributes(draft, attributes)
    except OSError:
        with contextlib.suppress(OSError):
            system.remove(draft)
        raise


def write(system: System, path: Path, data: bytes, *, durable: bool = True) -> None:
    """Write a file that only its owner may read, atomically and durably.

    Without ``durable`` a power cut may leave the file of before; it leaves one of the two, whole.
    """
    stage(system, path, data)
    system.replace(temporary(path), path)
    if durable:
        system.sync_folder(path.parent)


def write_all(
    system: System,
    contents: Mapping[Path, bytes],
    attributes: Mapping[Path, Attributes] = _OWN,
    backups: Mapping[Path, Path] = _NONE,
) -> None:
    """Write the ``contents`` of files, each atomically, in this order; all of them are durable on return.

    Those without ``attributes`` only their owner may read. ``backups``: files that keep what lies at a path now.
    """
    for path, data in contents.items():
        stage(system, path, data, attributes.get(path))
    for backup, path in backups.items():
        _keep(system, backup, path)
    for path in contents:
        system.replace(temporary(path), path)
    for folder in dict.fromkeys(path.parent for path in (*contents, *backups)):
        system.sync_folder(folder)


def _keep(system: System, backup: Path, path: Path) -> None:
    """Give the file at ``path`` a second name, or copy it; whoever replaces the file later leaves that name alone."""
    system.remove(backup)
    try:
        system.add_name(path, backup)
    except OSError:  # the file system has no second names
        stage(system, backup, system.read(path))
        system.replace(temporary(backup), backup)


def remove(system: System, paths: Iterable[Path]) -> None:
    """Remove files and their drafts in this order, durably; what is missing is not an error."""
    found = [target for path in paths for target in (path, temporary(path)) if system.exists(target)]
    for target in found:
        system.remove(target)
    for folder in dict.fromkeys(target.parent for target in found):
        system.sync_folder(folder)
