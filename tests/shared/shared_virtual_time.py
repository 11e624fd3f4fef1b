"""Time that passes only while quotas are waited for: hours of a look, at AWS's rates, in the time of its computing.

Calls take no time of their own, and of two APIs that are asked side by side each has all of it, as it is with AWS.
"""

from __future__ import annotations

import os
import signal
import threading

from controller.commands.progress import TimeLimit
from controller.fleet import AwsSession

VARIABLE = "CERTFLEET_TESTS_VIRTUAL_TIME"
"""In the environment of a command: ``on``, or after how many virtual seconds it is killed as by ``kill -9``."""


class VirtualTime:
    """A monotonic clock, and the sleep that alone moves it; of any number of threads."""

    def __init__(self, killed_at: float = float("inf")) -> None:
        self._now, self._killed_at = 0.0, killed_at
        self._lock, self._read = threading.Lock(), threading.local()

    def monotonic(self) -> float:
        """The clock."""
        self._read.now = self._now
        return self._now

    def sleep(self, seconds: float) -> None:
        """Let it be so much later than this thread last saw."""
        with self._lock:
            self._now = max(self._now, getattr(self._read, "now", self._now) + seconds)
            if self._now >= self._killed_at:
                os.kill(os.getpid(), signal.SIGKILL)


def live_in_virtual_time(setting: str) -> VirtualTime:
    """Let the rates and the time limit of this process go by a clock of its own."""
    time = VirtualTime(float("inf") if setting == "on" else float(setting))
    AwsSession.__init__.__kwdefaults__.update(monotonic=time.monotonic, sleep=time.sleep)
    TimeLimit.__init__.__defaults__ = (time.monotonic,)
    return time
