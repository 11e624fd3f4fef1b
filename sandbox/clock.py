"""The sandbox's clock: real time plus an offset, so that months can pass in a test."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

SLEEP_STEP_SECONDS = 0.2  # until somebody who sleeps hears that the clock was moved


class SandboxClock:
    """An aware UTC clock that runs, and can be moved forward; listeners hear of every move.

    Thread-safe. A test that wants time to stand still passes ``frozen_at``; one in which nobody waits passes
    ``skips_waits``: whoever would sleep by this clock moves it instead, and an hour costs nothing.
    """

    def __init__(
        self, *, frozen_at: datetime | None = None, offset: timedelta = timedelta(), skips_waits: bool = False
    ) -> None:
        self._skips_waits = skips_waits
        self._lock = threading.Lock()
        self._frozen_at = frozen_at
        self._offset = offset
        self._listeners: list[Callable[[], None]] = []

    def now(self) -> datetime:
        """Return the sandbox's present."""
        with self._lock:
            return (self._frozen_at or datetime.now(UTC)) + self._offset

    @property
    def moved(self) -> timedelta:
        """By how much the clock was moved in all; the time that runs by itself does not count."""
        with self._lock:
            return self._offset

    @property
    def ahead(self) -> timedelta:
        """By how much the sandbox's present is ahead of this machine's."""
        with self._lock:
            return self._offset if self._frozen_at is None else self._frozen_at + self._offset - datetime.now(UTC)

    def advance(self, by: timedelta) -> None:
        """Move forward; raises ValueError on a step back, which no cloud takes."""
        if by < timedelta():
            message = f"time moves forward only, found {by}"
            raise ValueError(message)
        with self._lock:
            self._offset += by
        for listener in self._listeners:
            listener()

    async def sleep(self, span: timedelta) -> None:
        """Wait until the sandbox's present is this much later."""
        if self._skips_waits:
            self.advance(span)
            return
        until = self.now() + span
        while (left := (until - self.now()).total_seconds()) > 0:  # noqa: ASYNC110  # a clock that is moved ends it
            await asyncio.sleep(min(left, SLEEP_STEP_SECONDS))

    def on_advance(self, listener: Callable[[], None]) -> None:
        """Call ``listener`` after every move, on the mover's thread."""
        self._listeners.append(listener)
