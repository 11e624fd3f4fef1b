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


def temporary(path: Path) -> Path:
    """Return where a file is written before it takes its place."""
    return path.with_name(path.name + ".tmp")


def stage(system: System, path: Path, data: bytes, attributes: Optional[Attributes] = None) -> None:
    """Write and sync the temporary file of ``path``; its mode is 0600 until ``attributes`` are set, last of all."""
    draft = temporary(path)
    system.remove(draft)
    try:
        descriptor = system.create(draft)
        try:
            system.write(descriptor, data)
            system.sync(descriptor)
        finally:
            system.close(descriptor)
        if attributes is not None:
            system.set_attributes(draft, attributes)
    except OSError:
        with contextlib.suppress(OSError):
            system.remove(draft)
        raise


def write(system: System, path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, atomically and durably."""
    write_all(system, {path: data})


def write_all(system: System, contents: Mapping[Path, bytes], attributes: Mapping[Path, Attributes] = _OWN) -> None:
    """Write the ``contents`` of files, each atomically, in this order; all of them are durable on return.

    Those without ``attributes`` only their owner may read.
    """
    for path, data in contents.items():
        stage(system, path, data, attributes.get(path))
    for path in contents:
        system.replace(temporary(path), path)
    for folder in dict.fromkeys(path.parent for path in contents):
        system.sync_folder(folder)


def remove(system: System, paths: Iterable[Path]) -> None:
    """Remove files and their drafts in this order, durably; what is missing is not an error."""
    found = [target for path in paths for target in (path, temporary(path)) if system.exists(target)]
    for target in found:
        system.remove(target)
    for folder in dict.fromkeys(target.parent for target in found):
        system.sync_folder(folder)
