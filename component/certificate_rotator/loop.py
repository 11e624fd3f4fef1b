"""One thread on which messages and timers become one sequence of events.

It sleeps until there is something to do: no polling. An action that raises ends ``run`` with its
exception, and with it the process: the nucleus starts the component anew, and the journal carries on.
"""

from __future__ import annotations

import heapq
import itertools
import threading
import time
from collections import deque
from typing import Callable, Deque, List, Optional, Tuple

Action = Callable[[], None]


class ThreadTimer:
    """An entry of the loop's heap."""

    def __init__(self, action: Action) -> None:
        self.action: Optional[Action] = action

    def cancel(self) -> None:
        """See ports.Timer."""
        self.action = None


class ThreadLoop:
    """A Loop for whoever calls ``run``."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._ready: Deque[Action] = deque()
        self._timers: List[Tuple[float, int, ThreadTimer]] = []
        self._sequence = itertools.count()
        self._failure: Optional[BaseException] = None
        self._stopped = False

    def call_soon(self, action: Action) -> None:
        """See ports.Loop."""
        with self._changed:
            self._ready.append(action)
            self._changed.notify()

    def call_later(self, seconds: float, action: Action) -> ThreadTimer:
        """See ports.Loop; callable from any thread here."""
        timer = ThreadTimer(action)
        with self._changed:
            heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._sequence), timer))
            self._changed.notify()
        return timer

    def stop(self, failure: Optional[BaseException] = None) -> None:
        """Let ``run`` return, or raise the failure, after the action in progress; callable from any thread."""
        with self._changed:
            self._stopped = True
            self._failure = self._failure or failure
            self._changed.notify()

    def run(self) -> None:
        """Run actions until stopped."""
        while True:
            action = self._next()
            if action is None:
                break
            action()
        if self._failure is not None:
            raise self._failure

    def _next(self) -> Optional[Action]:
        with self._changed:
            while not self._stopped:
                wait = self._expire()
                if self._ready:
                    return self._ready.popleft()
                self._changed.wait(wait)
        return None

    def _expire(self) -> Optional[float]:
        """Move due timers to the ready actions; seconds until the next one is due, None for never."""
        while self._timers:
            due, _, timer = self._timers[0]
            remaining = due - time.monotonic()
            if timer.action is None:
                heapq.heappop(self._timers)
            elif remaining <= 0:
                heapq.heappop(self._timers)
                self._ready.append(_run(timer))
            else:
                return remaining
        return None


def _run(timer: ThreadTimer) -> Action:
    def action() -> None:
        if timer.action is not None:  # cancelled by an action that was ready before it
            timer.action()

    return action
