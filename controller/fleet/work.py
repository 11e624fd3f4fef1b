"""Calls on threads, their results in order on one: how a refresh keeps to the quota and stays deterministic.

Only API calls run on the threads; every result is handled by the caller's thread, in the order in
which the calls were added, so all writes come from one place and a run can be repeated.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any, TypeVar

T = TypeVar("T")
_Call = tuple[Callable[[], Any], Callable[[Any], None]]

WORKERS = 16  # at 10 calls a second and 100 ms each, one API keeps one or two busy
WINDOW = 64  # calls under way or waiting for their turn to be handled


class Work:
    """A queue of calls. ``then`` handlers may add further calls; ``run`` ends when none are left.

    The work that an answer leads to (``follow``) comes before the work that was added, of which at most half a window
    is under way. So calls of two APIs alternate, and neither waits for the rate of the other.
    """

    def __init__(self, workers: int = WORKERS, window: int = WINDOW) -> None:
        self._workers = workers
        self._window = window
        self._waiting: deque[_Call] = deque()
        self._following: deque[_Call] = deque()

    def add(self, call: Callable[[], T], then: Callable[[T], None]) -> None:
        """Run ``call`` on a thread, and ``then`` with its result on this one."""
        self._waiting.append((call, then))

    def follow(self, call: Callable[[], T], then: Callable[[T], None]) -> None:
        """Run ``call`` and ``then`` as ``add`` does, but before all that was added."""
        self._following.append((call, then))

    def run(self, refill: Callable[[], None] = lambda: None) -> None:
        """Do all calls. ``refill`` is asked to add more whenever the queue runs dry.

        The first call or handler that fails stops it: calls not yet begun are dropped, the results of those
        under way are still handled (they cost quota), then the failure is raised.
        """
        executor = ThreadPoolExecutor(self._workers, thread_name_prefix="fleet")
        try:
            failure = self._run(executor, refill)
        except BaseException as error:
            # Whoever interrupts a run does not wait for calls that stall.
            executor.shutdown(wait=isinstance(error, Exception), cancel_futures=True)
            raise
        finally:
            self._waiting.clear()
            self._following.clear()
        executor.shutdown()
        if failure is not None:
            raise failure

    def _run(self, executor: ThreadPoolExecutor, refill: Callable[[], None]) -> Exception | None:
        under_way: deque[tuple[Future[Any], Callable[[Any], None], bool]] = deque()
        failure: Exception | None = None
        added = 0  # of those under way
        while True:
            while failure is None and len(under_way) < self._window:
                if not (self._following or self._waiting):
                    refill()
                is_added = not self._following
                if is_added and (not self._waiting or added >= max(2, self._window // 2)):
                    break
                call, then = (self._waiting if is_added else self._following).popleft()
                under_way.append((executor.submit(call), then, is_added))
                added += is_added
            if not under_way:
                return failure
            future, then, is_added = under_way.popleft()
            added -= is_added
            if future.cancelled():
                continue
            try:
                then(future.result())
            except Exception as error:  # noqa: BLE001 (raised by the caller, once what is under way is kept)
                failure = failure or error
                for waiting, *_ in under_way:
                    waiting.cancel()
