"""The progress bar: on a terminal only, on stderr, and only for what takes longer than a second."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TextIO

from rich import progress
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn

from controller.fleet.progress import Progress, silent

SHOWN_AFTER = 1.0  # seconds


@contextmanager
def progress_on(stream: TextIO, monotonic: Callable[[], float] = time.monotonic) -> Iterator[Progress]:
    """A bar that the block feeds; it is gone when the block ends. Anything but a terminal stays untouched."""
    if not stream.isatty():
        yield silent
        return
    bar = _Bar(stream, monotonic)
    try:
        yield bar.tell
    finally:
        bar.stop()


class _Bar:
    """One line that changes; drawn from the first word after a second on."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float]) -> None:
        self._monotonic = monotonic
        self._started = monotonic()
        self._task: TaskID | None = None
        self._progress = progress.Progress(
            TextColumn("{task.description}"),
            BarColumn(bar_width=30),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=Console(file=stream),
            transient=True,
        )

    def tell(self, phase: str, done: int, total: int | None) -> None:
        if self._task is None:
            if self._monotonic() - self._started < SHOWN_AFTER:
                return
            self._progress.start()
            self._task = self._progress.add_task(phase)
        self._progress.update(self._task, description=phase, completed=done, total=total)

    def stop(self) -> None:
        if self._task is not None:
            self._progress.stop()
