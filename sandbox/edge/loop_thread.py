"""An asyncio event loop on a thread of its own, for callers that are not asynchronous."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")

STOP_TIMEOUT_SECONDS = 10.0


class LoopThread:
    """Start it, hand it coroutines and calls from any thread, stop it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._loop: asyncio.AbstractEventLoop | None = None  # while it runs
        self._thread: threading.Thread | None = None
        self._lock = threading.Lock()

    def start(self) -> None:
        """Begin to run."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, args=(self._loop,), name=self._name, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Cancel what still runs, wait for it, end the thread; harmless when it does not run."""
        with self._lock:
            loop, self._loop = self._loop, None
            if loop is None:
                return
            loop.call_soon_threadsafe(loop.stop)
        if self._thread is not None:
            self._thread.join(STOP_TIMEOUT_SECONDS)

    def call(self, action: Callable[..., object], *arguments: object) -> None:
        """Run the action on the loop soon; dropped without a word while the loop does not run."""
        with self._lock:
            if self._loop is not None:
                self._loop.call_soon_threadsafe(action, *arguments)

    def run(self, work: Coroutine[Any, Any, T], timeout: float | None = 30.0) -> T:
        """Run a coroutine on the loop and wait for its result; TimeoutError after ``timeout`` seconds."""
        if self._loop is None:
            work.close()
            message = f"{self._name} does not run"
            raise RuntimeError(message)
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout)

    def _run(self, loop: asyncio.AbstractEventLoop) -> None:
        asyncio.set_event_loop(loop)
        try:
            loop.run_forever()
        finally:
            tasks = asyncio.all_tasks(loop)
            for task in tasks:
                task.cancel()
            loop.run_until_complete(asyncio.gather(*tasks, return_exceptions=True))
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
