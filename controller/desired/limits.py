"""How much the reader of documents accepts: a pull request may come from anyone."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Limits:
    """Bounds of the input; exceeding one is a problem like any other."""

    max_files: int = 1_000  # documents' files in one desired state
    max_folder_depth: int = 8  # folders below the one that is read
    max_file_bytes: int = 1024 * 1024  # bytes of one file
    max_total_bytes: int = 16 * 1024 * 1024  # bytes of all files together
    max_documents: int = 1_000  # YAML documents in one file
    max_nodes: int = 100_000  # mappings, lists and scalars in one file
    max_depth: int = 12  # mappings and lists inside each other
    max_scalar: int = 10_000  # characters of one key or value
    max_problems: int = 500  # listed in one error; further ones are counted


DEFAULT_LIMITS = Limits()
MAX_ANCESTORS = 1_000  # commits that are known to lie behind one: whoever applies more seldom than that is asked
