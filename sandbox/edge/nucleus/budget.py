"""Faults that a nucleus counts against a component, ours or another: after three within an hour it stays down."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from datetime import datetime

from .traits import COUNTED, MAX_COUNTED, WINDOW, Counts, Profile


class FailureBudget:
    """Counts what the profile counts, by the world's clock."""

    def __init__(self, profile: Profile, now: Callable[[], datetime]) -> None:
        self._counts, self._most, self._now = COUNTED.on(profile), MAX_COUNTED.on(profile), now
        self._noted: deque[datetime] = deque()
        self._installs: deque[datetime] = deque()  # where starts count, install is a unit of its own

    def launched(self) -> None:
        """Count the run step anew after a launch of the nucleus."""
        self._noted.clear()

    def may_start(self) -> bool:
        """Ask before each start of the run step; one that is allowed may count itself."""
        if self._counts is Counts.ERRORS:
            return not self._is_spent(self._noted)
        if self._is_spent(self._noted):
            return False
        self._noted.append(self._now())
        return True

    def failed(self) -> None:
        """Count a run step that has ended with an error."""
        if self._counts is Counts.ERRORS:
            self._noted.append(self._now())

    def may_install_again(self) -> bool:
        """Ask after an install step that has failed."""
        noted = self._noted if self._counts is Counts.ERRORS else self._installs
        noted.append(self._now())
        return not self._is_spent(noted)

    def _is_spent(self, noted: deque[datetime]) -> bool:
        while noted and noted[0] <= self._now() - WINDOW:
            noted.popleft()
        return len(noted) >= self._most


class Dependent:
    """Another component, with a HARD dependency on the token exchange service; it starts again with that."""

    def __init__(self, name: str, budget: FailureBudget) -> None:
        self.name, self._budget = name, budget
        self.starts = 0
        self.is_running = False

    def start(self) -> None:
        """Start, if it may; one that was started too often within an hour stays dead."""
        self.is_running = self._budget.may_start()
        self.starts += self.is_running
