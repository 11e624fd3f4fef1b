"""How long a run may go on: what Lambda leaves, less what saving and reporting take."""

from __future__ import annotations

import time
from collections.abc import Callable

from controller.errors import CertfleetError


class OutOfTimeError(CertfleetError):
    """The budget is spent. Nothing is lost: what was read is kept, and the next run goes on there."""


class TimeBudget:
    """Seconds that are left. Asked before each call that a rate limit delays, and between steps."""

    def __init__(
        self, seconds_left: Callable[[], float], reserve: float, sleep: Callable[[float], None] = time.sleep
    ) -> None:
        self._seconds_left, self._reserve, self._sleep = seconds_left, reserve, sleep

    @property
    def left(self) -> float:
        """Seconds of work that are left; below zero if the reserve is being used."""
        return self._seconds_left() - self._reserve

    def require(self, doing: str, seconds: float = 0.0) -> None:
        """Raise OutOfTimeError, which names what it was doing, unless ``seconds`` more are left."""
        if self.left <= seconds:
            raise OutOfTimeError(
                f"stopped while {doing}: the time of this run is used up", "The next run goes on; nothing need be done."
            )

    def sleep(self, seconds: float) -> None:
        """Sleep for a rate limit, or raise OutOfTimeError if that would take too long."""
        self.require("waiting for a rate limit", seconds)
        self._sleep(seconds)

    def tell(self, phase: str, done: int, total: int | None) -> None:
        """Take the progress of ``refresh`` and ``apply``: in this phase ``done`` of ``total``, if that is known.

        Raises OutOfTimeError if the time is up, and so ends them.
        """
        self.require(f"at {phase}, {done} of {total or 'many'}")
