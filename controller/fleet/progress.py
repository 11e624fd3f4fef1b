"""How a refresh shows how far it is."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called on the refresh's own thread, often: keep it cheap."""

    def __call__(self, phase: str, done: int, total: int | None) -> None:
        """Show progress: ``phase`` is one of list, jobs, certificates, things; ``total`` is None if it is not known."""


def silent(phase: str, done: int, total: int | None) -> None:
    """Report nothing: no phase, nothing done, no total."""
