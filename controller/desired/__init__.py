"""The desired state: from a git ref, a folder or a bundle to checked values.

``load(source, now=…)`` gives one ``DesiredState`` for each Fleet document, or raises
DesiredStateError with every problem: file, line, what was found, what is allowed.
"""

from __future__ import annotations

from .bundle import Bundle, LastApplied, make_bundle, require_successor, write_bundle
from .bundle_reader import BundleSource, read_bundle
from .git_source import GitRef, WorkingTree
from .limits import DEFAULT_LIMITS, Limits
from .loading import load, load_snapshot
from .policy_history import CommitNote, DocumentHistory, Edition
from .reference import reference_markdown
from .schema import json_schema, schema_text
from .sources import DesiredStateSource, DocumentFile, Snapshot

__all__ = [
    "DEFAULT_LIMITS",
    "Bundle",
    "BundleSource",
    "CommitNote",
    "DesiredStateSource",
    "DocumentFile",
    "DocumentHistory",
    "Edition",
    "GitRef",
    "LastApplied",
    "Limits",
    "Snapshot",
    "WorkingTree",
    "json_schema",
    "load",
    "load_snapshot",
    "make_bundle",
    "read_bundle",
    "reference_markdown",
    "require_successor",
    "schema_text",
    "write_bundle",
]
