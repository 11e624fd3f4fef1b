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


def until(limit: timedelta | None, tell: Progress, monotonic: Callable[[], float] = time.monotonic) -> Progress:
    """Return a progress that reports to ``tell``, and raises TimeLimitError once the limit, if any, has passed."""
    if limit is None:
        return tell
    ends_at = monotonic() + limit.total_seconds()

    def timed(phase: str, done: int, total: int | None) -> None:
        tell(phase, done, total)
        if monotonic() >= ends_at:
            of = f" of {total:,}" if total is not None else ""
            raise TimeLimitError(
                f"the time limit is over, at {done:,}{of} {phase}; what was read is kept",
                "run again, which goes on there, or give it more with --time-limit",
            )

    return timed
