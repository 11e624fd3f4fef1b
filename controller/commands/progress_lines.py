"""The lines of progress on a terminal, drawn by rich; imported only if there is a terminal."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import TextIO

from rich import progress
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    TaskID,
    TextColumn,
    TimeElapsedColumn,
    TimeRemainingColumn,
)

SHOWN_AFTER = 1.0  # seconds


class ProgressLine:
    """One line that changes, with what is left and how long that takes; drawn from the first word after a second on."""

    def __init__(self, stream: TextIO, monotonic: Callable[[], float], label: str) -> None:
        self._monotonic, self._label, self._stream = monotonic, label, stream
        self._started = monotonic()
        self._task: TaskID | None = None
        self._phase = ""

    def tell(self, phase: str, done: int, total: int | None) -> None:
        """See ``controller.fleet.progress.Progress``."""
        if self._task is None:
            if self._monotonic() - self._started < SHOWN_AFTER:
                return
            self._task = _BOARD.line(self._stream)
        if phase != self._phase:
            _BOARD.lines.reset(self._task)  # how fast the phase before was says nothing of this one
            self._phase = phase
        _BOARD.lines.update(self._task, description=f"{self._label} {phase}".lstrip(), completed=done, total=total)

    def stop(self) -> None:
        """Take the line away."""
        if self._task is not None:
            _BOARD.end(self._task)


class _Board:
    """The lines of all fleets that are read side by side; a terminal takes one board at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._shown: set[TaskID] = set()

    def line(self, stream: TextIO) -> TaskID:
        with self._lock:
            if not self._shown:
                self.lines = progress.Progress(
                    TextColumn("{task.description}"),
                    BarColumn(bar_width=30),
                    MofNCompleteColumn(),
                    TimeElapsedColumn(),
                    TimeRemainingColumn(),
                    console=Console(file=stream),
                    transient=True,
                )
                self.lines.start()
            task = self.lines.add_task("")
            self._shown.add(task)
            return task

    def end(self, task: TaskID) -> None:
        with self._lock:
            self._shown.discard(task)
            if self._shown:
                self.lines.remove_task(task)
            else:
                self.lines.stop()


_BOARD = _Board()
