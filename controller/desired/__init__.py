"""The desired state: from a git ref, a folder or a bundle to checked values.

``load(source, now=…)`` gives one ``DesiredState`` for each Fleet document, or raises
DesiredStateError with every problem: file, line, what was found, what is allowed. Bundles, the history of documents,
their schema and their reference are modules of their own, because few commands need them.
"""

from __future__ import annotations

import os

# Else pydantic looks for plugins through every package that is installed, and lets them change what is valid.
os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")

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
