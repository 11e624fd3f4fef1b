"""The order in which virtual devices may begin a rotation: a few at a time, so that this machine keeps their limits.

A device hears that a rotation waits for it when its turn comes; a message may come late anywhere.
"""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable, Mapping
from typing import Any

from protocol.job_document import is_rotation

MOST_AT_ONCE = 8
LIMIT_SECONDS = 120.0  # after that the next one's turn comes, whatever this one does

_UPDATE = re.compile(r"\$aws/things/[^/]+/jobs/[^/]+/update")


class Turns:
    """Thread-safe."""

    def __init__(self, most: int = MOST_AT_ONCE) -> None:
        self._lock = threading.Lock()
        self._most = most
        self._at_work: set[str] = set()
        self._waiting: dict[str, Callable[[], None]] = {}  # by device, the first to come first

    def announce(self, device: str, deliver: Callable[[], None]) -> None:
        """Deliver when it is the device's turn; of several announcements the last."""
        with self._lock:
            self._waiting[device] = deliver
        self._go_on()

    def end(self, device: str) -> None:
        """End the turn of a device whose job has ended or takes too long; harmless if it had no turn."""
        with self._lock:
            self._at_work.discard(device)
        self._go_on()

    def _go_on(self) -> None:
        while (deliver := self._next()) is not None:
            deliver()

    def _next(self) -> Callable[[], None] | None:
        with self._lock:
            free = len(self._at_work) < self._most
            device = next((name for name in self._waiting if free or name in self._at_work), None)
            if device is None:
                return None
            self._at_work.add(device)
            return self._waiting.pop(device)


def announces_a_rotation(topic: str, payload: bytes) -> bool:
    """Return whether a message of the cloud brings a device a rotation that it has not begun."""
    if not topic.endswith(("/jobs/notify-next", "/jobs/$next/get/accepted")):
        return False
    execution: Mapping[str, Any] = json.loads(payload).get("execution", {})
    return execution.get("status") == "QUEUED" and is_rotation(execution.get("jobDocument"))


def ends_a_job(topic: str, payload: bytes) -> bool:
    """Return whether a device's message reports how a job has ended."""
    return _UPDATE.fullmatch(topic) is not None and b'"IN_PROGRESS"' not in payload
