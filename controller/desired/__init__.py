"""The desired state: from a git ref, a folder or a bundle to checked values.

``load(source, now=…)`` gives one ``DesiredState`` for each Fleet document, or raises
DesiredStateError with every problem: file, line, what was found, what is allowed.
"""

from __future__ import annotations

from .git_source import GitRef, WorkingTree
from .limits import DEFAULT_LIMITS, Limits
from .loading import load, load_snapshot
from .sources import DesiredStateSource, DocumentFile, Snapshot

__all__ = [
    "DEFAULT_LIMITS",
    "DesiredStateSource",
    "DocumentFile",
    "GitRef",
    "Limits",
    "Snapshot",
    "WorkingTree",
    "load",
    "load_snapshot",
]
