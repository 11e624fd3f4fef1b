"""Progress, a line for each fleet: on a terminal only, on stderr, and only for what takes longer than a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import TextIO

from controller.errors import CertfleetError
from controller.fleet.progress import Progress, silent


class TimeLimitError(CertfleetError):
    """A run has taken as long as it may."""


@contextmanager
def progress_on(
    stream: TextIO, monotonic: Callable[[], float] = time.monotonic, *, label: str = ""
) -> Iterator[Progress]:
    """Yield a line, under a label, that the block feeds and that ends with it. Only a terminal stream is touched."""
    if not stream.isatty():
        yield silent
        return
    from controller.commands.progress_lines import ProgressLine  # noqa: PLC0415 (much to import, for a terminal only)

    bar = ProgressLine(stream, monotonic, label)
    try:
        yield bar.tell
    finally:
        bar.stop()


class TimeLimit:
    """How long one run may look at AWS, all of its fleets together; without a ``limit`` as long as it takes."""

    def __init__(self, limit: timedelta | None, monotonic: Callable[[], float] = time.monotonic) -> None:
        self._monotonic = monotonic
        self._ends_at = None if limit is None else monotonic() + limit.total_seconds()

    def on(self, tell: Progress) -> Progress:
        """Return a progress that reports to ``tell``, and raises TimeLimitError once the limit has passed."""
        began: dict[str, tuple[float, int]] = {}  # by phase, when it was first heard of, and how much was done then

        def timed(phase: str, done: int, total: int | None) -> None:
            tell(phase, done, total)
            if self._ends_at is None:
                return
            now = self._monotonic()
            since, before = began.setdefault(phase, (now, done))
            if now >= self._ends_at:
                rest = _rest(done - before, now - since, None if total is None else total - done)
                of = f" of {total:,}" if total is not None else ""
                raise TimeLimitError(
                    f"the time limit is over, at {done:,}{of} {phase}{rest}; what was read is kept",
                    "run again, which goes on there, or give it more with --time-limit",
                )

        return timed


def _rest(done: int, seconds: float, left: int | None) -> str:
    """Return how long the rest of a phase takes, if so many took so long; an empty text if nobody knows."""
    from controller.reconcile.values import span_text  # noqa: PLC0415 (much to import, for who has run out of time)

    return (
        f", the rest of which takes about {span_text(timedelta(seconds=seconds * left / done))}"
        if done and left
        else ""
    )
