"""Other components of the device, as far as a restart of the token exchange service concerns them."""

from __future__ import annotations

from .budget import Budget


class Dependent:
    """A component with a HARD dependency on the token exchange service; it is started again with that service."""

    def __init__(self, name: str, budget: Budget) -> None:
        self.name, self._budget = name, budget
        self.starts = 0
        self.is_running = False

    def start(self) -> None:
        """Start, if it may; one that was started too often within an hour stays dead."""
        self.is_running = self._budget.may_start()
        self.starts += self.is_running
