"""Files that are whole or absent, whatever happens while they are written.

Each write goes to a temporary file in the same folder, is synced, and renamed over its target; then
the folder is synced. A temporary file from an interrupted write is removed by the next one.
"""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Iterable, Optional

from .system import Attributes, System


def temporary(path: Path) -> Path:
    """Where a file is written before it takes its place."""
    return path.with_name(path.name + ".tmp")


def stage(system: System, path: Path, data: bytes, attributes: Optional[Attributes] = None) -> None:
    """Write and sync the temporary file of ``path``; it is 0600 until ``attributes`` are given, which comes last."""
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


def publish(system: System, path: Path) -> None:
    """Let a staged file take its place."""
    system.replace(temporary(path), path)
    system.sync_folder(path.parent)


def write(system: System, path: Path, data: bytes) -> None:
    """Write a file that only its owner may read, atomically and durably."""
    stage(system, path, data)
    publish(system, path)


def remove(system: System, paths: Iterable[Path]) -> None:
    """Remove files and their drafts in this order, durably; what is missing is no error."""
    folders = []
    for path in paths:
        for target in (path, temporary(path)):
            if system.exists(target):
                system.remove(target)
                if path.parent not in folders:
                    folders.append(path.parent)
    for folder in folders:
        system.sync_folder(folder)
