"""The shared part of one sandbox cloud: account, region, clock, lock, timers, outgoing messages.

All state of a cloud is guarded by one lock, taken once per request (``Site.transaction``). Effects that a
request causes outside (messages on the bus, calls to listeners) are put into the outbox and happen
after the lock is released, in order, never nested: a listener may call the cloud again from the
same thread or wait for another thread that does.
"""

from __future__ import annotations

import heapq
import itertools
import json
import logging
import threading
import uuid
from collections import deque
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.bus import Bus, Message
from sandbox.clock import SandboxClock

log = logging.getLogger(__name__)


class Outbox:
    """The lock, and what is to happen once it is released: one transaction is ``with outbox:``."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._depth = 0  # of transactions of the thread that holds the lock
        self._actions: deque[Callable[[], None]] = deque()
        self._draining = threading.Lock()

    def __enter__(self) -> None:
        """Hold the lock."""
        self._lock.acquire()
        self._depth += 1

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        """Release the lock; let the posted actions happen if that was the outermost transaction, and not in vain."""
        self._depth -= 1
        outermost = self._depth == 0
        self._lock.release()
        if outermost and failed is None:
            self._drain()

    def post(self, action: Callable[[], None]) -> None:
        """Let ``action`` happen after the transaction; what it raises is logged and reaches nobody."""
        self._actions.append(action)

    def _drain(self) -> None:
        # Whoever drains takes the others' actions too, so that order holds and nobody waits.
        while self._actions and self._draining.acquire(blocking=False):
            try:
                while self._actions:
                    self._run(self._actions.popleft())
            finally:
                self._draining.release()

    @staticmethod
    def _run(action: Callable[[], None]) -> None:
        try:
            action()
        except Exception:
            log.exception("a listener of the sandbox cloud failed")


class Timers:
    """Actions at instants of the sandbox's clock; to cancel one, let it find that it is no longer wanted."""

    def __init__(self) -> None:
        self._heap: list[tuple[datetime, int, Callable[[], None]]] = []
        self._count = itertools.count()

    def at(self, instant: datetime, action: Callable[[], None]) -> None:
        """Run ``action`` inside a transaction at or soon after ``instant``."""
        heapq.heappush(self._heap, (instant, next(self._count), action))

    def next_due(self) -> datetime | None:
        """Return the earliest instant at which something is to happen."""
        return self._heap[0][0] if self._heap else None

    def run_due(self, now: datetime) -> None:
        """Run everything due, in the order of the instants, including what that adds."""
        while self._heap and self._heap[0][0] <= now:
            heapq.heappop(self._heap)[2]()


@dataclass(frozen=True)
class Site:
    """One account and region of the sandbox, and the means that its services share."""

    account: str
    region: str
    clock: SandboxClock
    bus: Bus
    outbox: Outbox = field(default_factory=Outbox)
    timers: Timers = field(default_factory=Timers)

    def arn(self, resource: str, service: str = "iot") -> str:
        """Return the ARN of a resource here."""
        return f"arn:aws:{service}:{self.region}:{self.account}:{resource}"

    def now(self) -> datetime:
        """Return the sandbox's present."""
        return self.clock.now()

    def transaction(self) -> AbstractContextManager[None]:
        """Hold the lock; at the end of the outermost transaction let the posted actions happen."""
        return self.outbox

    def tick(self) -> None:
        """Run the timers that the clock has made due."""
        with self.transaction():
            self.timers.run_due(self.now())

    def publish(self, topic: str, payload: Mapping[str, Any] | bytes, qos: int = 0) -> None:
        """Publish as the cloud does, once the transaction is over."""
        raw = payload if isinstance(payload, bytes) else json.dumps(payload, separators=(",", ":")).encode()
        message = Message(topic, raw, qos)
        self.outbox.post(lambda: self.bus.publish(message))


def new_id() -> str:
    """Return a random identifier in the form that AWS uses for resources."""
    return str(uuid.uuid4())


def epoch_seconds(instant: datetime) -> int:
    """Return whole seconds since 1970, as the MQTT payloads of jobs and shadows count."""
    return int(instant.timestamp())
