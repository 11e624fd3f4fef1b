"""The faults of asynchronous invocations in Lambda, on purpose: late, overtaken, doubled, lost, not run for a time.

Each trait is one that the Lambda developer guide describes under "How Lambda handles errors and retries with
asynchronous invocation" (https://docs.aws.amazon.com/lambda/latest/dg/invocation-async-error-handling.html,
read 2026-11-29): events wait in a queue that is eventually consistent, so that a function may be given an event
twice; a function that cannot keep up may never be given one; an error is repeated after one minute and after two
more; a throttled event returns to the queue for up to six hours, with pauses from one second to five minutes.
Nothing there promises an order, so none is kept here. Time is the sandbox's clock: a test that moves it forward
waits for nothing.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

Run = Callable[[], None]
"""Starts the invocation at once; may be called later, more than once, or never."""


class RunKilledError(BaseException):
    """A run ends here, as when its process dies or its time is up: its code does nothing more, not even clean up."""


Effect = Callable[[Run], Sequence[float]]
"""An invocation → the seconds after which it runs, one for each run; none if it is lost or held."""


def late(seconds: float) -> Effect:
    """Keep the event in the queue; later ones overtake it."""
    return lambda _: (seconds,)


def doubled(after: float = 0.0) -> Effect:
    """Deliver the event twice, the second time ``after`` seconds later."""
    return lambda _: (0.0, after)


def lost() -> Effect:
    """Never deliver the event."""
    return lambda _: ()


class Gate:
    """An effect that holds events until the test lets them go, in the order that it chooses."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._held: list[Run] = []

    def __call__(self, run: Run) -> Sequence[float]:
        """See ``Effect``: the event is held."""
        with self._changed:
            self._held.append(run)
            self._changed.notify_all()
        return ()

    def wait(self, count: int = 1, timeout: float = 60.0) -> bool:
        """Wait until so many events are held; False if that takes longer (seconds)."""
        with self._changed:
            return self._changed.wait_for(lambda: len(self._held) >= count, timeout)

    def release(self) -> None:
        """Let everything go that is held."""
        with self._changed:
            held, self._held = self._held, []
        for run in held:
            run()


@dataclass(slots=True)
class InvocationFault:
    """One fault in force; ``struck`` counts the events that it met."""

    function: str  # how its name ends: the stack's name need not be known
    effect: Effect
    when: Callable[[Mapping[str, Any]], bool] = field(default=lambda _event: True)
    times: int | None = None  # None: always
    struck: int = 0

    def meets(self, function: str, event: Mapping[str, Any]) -> bool:
        """Return whether this event is to be struck."""
        return (
            (self.times is None or self.struck < self.times) and function.endswith(self.function) and self.when(event)
        )


@dataclass(frozen=True, slots=True)
class RetryDelays:
    """Seconds between attempts: after errors, and while a function is throttled."""

    retries: tuple[float, ...] = (1.0, 2.0)
    throttled_first: float = 1.0
    throttled_most: float = 1.0

    @classmethod
    def of_lambda(cls) -> RetryDelays:
        """Return the delays of AWS Lambda."""
        return cls(retries=(60.0, 120.0), throttled_first=1.0, throttled_most=300.0)

    def after_failure(self, failures: int) -> float:
        """Return the seconds before the next attempt, given how many failed before this one."""
        return self.retries[min(failures, len(self.retries) - 1)]

    def after_throttling(self, throttlings: int) -> float:
        """Return the seconds before the next attempt, given how many were throttled before this one."""
        return float(min(self.throttled_first * 2.0 ** min(throttlings, 16), self.throttled_most))


class Unkindness:
    """The faults in force for one stack. Thread-safe; without any, every event runs once and at once."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._faults: list[InvocationFault] = []
        self._down: dict[str, datetime] = {}
        self.waits = RetryDelays()

    def add(self, fault: InvocationFault) -> InvocationFault:
        """Bring a fault into force; returns it, so that a test can ask how often it struck."""
        with self._lock:
            self._faults.append(fault)
        return fault

    def down(self, function: str, until: datetime) -> None:
        """Let every run of a function fail until this instant of the sandbox's clock."""
        with self._lock:
            self._down[function] = until

    def clear(self) -> None:
        """Be kind from now on; what is late or held stays so."""
        with self._lock:
            self._faults.clear()
            self._down.clear()
            self.waits = RetryDelays()

    def delays(self, function: str, event: Mapping[str, Any], run: Run) -> Sequence[timedelta]:
        """Return when an event runs, from now; of the faults that meet it the latest decides."""
        with self._lock:
            found = next((fault for fault in reversed(self._faults) if fault.meets(function, event)), None)
            if found is not None:
                found.struck += 1
        seconds = (0.0,) if found is None else found.effect(run)
        return [timedelta(seconds=after) for after in seconds]

    def is_down(self, function: str, now: datetime) -> bool:
        """Return whether a run fails, whatever its code would do."""
        with self._lock:
            return any(function.endswith(name) and now < until for name, until in self._down.items())
