"""Runs Lambda code in this process, as asynchronous invocations.

Each invocation goes through the cloud's Lambda state, so that ``update_function_configuration`` and
``put_function_concurrency`` act at once, as on AWS. Unlike AWS: code that outruns its time limit is not
stopped, but its run counts as failed, by its thread's processor time, because how busy this machine is should
decide nothing; and unless a test asks for Lambda's own unkindness (``invocations.py``), events run once and at
once, and the waits between attempts are seconds.
"""

from __future__ import annotations

import importlib
import json
import logging
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from functools import partial
from types import MappingProxyType
from typing import Any, Protocol

from backend.functions import services as backend_services
from sandbox.aws import Cloud
from sandbox.aws.functions import FunctionThrottledError, Invoke

from .clients import Clients
from .invocations import RunKilledError, Unkindness

log = logging.getLogger(__name__)

HANDLERS_PACKAGE = "backend.functions."


@dataclass(frozen=True)
class InvokeConfig:
    """How the template wants failed asynchronous invocations treated."""

    retries: int = 2
    oldest_event_seconds: float = 6 * 3600
    on_failure_queue_url: str | None = None


@dataclass(frozen=True)
class Invocation:
    """One event on its way to a function."""

    function: str
    event: Mapping[str, Any]
    accepted_at: datetime
    failures: int = 0
    throttlings: int = 0


class TimeSource(Protocol):
    """The clock (``sandbox.clock.SandboxClock``)."""

    def now(self) -> datetime:
        """Return the sandbox's present."""

    @property
    def moved(self) -> timedelta:
        """By how much the clock was moved in all."""


class FunctionDownError(Exception):
    """A test lets every run of the function fail for a time."""


class FunctionTimeoutError(Exception):
    """A run took longer than the function's time limit."""


class StackFunctions:
    """The functions of one stack."""

    def __init__(
        self,
        cloud: Cloud,
        clients: Clients,
        clock: TimeSource,
        code: Mapping[str, Invoke] = MappingProxyType({}),
        workers: int = 8,
    ) -> None:
        self._cloud = cloud
        self._clients = clients
        self.client: backend_services.ClientFactory = clients.get  # what code is given: a test may stand in between
        self._clock, self._moves = clock.now, clock
        self._code = code
        self._pool = ThreadPoolExecutor(workers, thread_name_prefix="lambda")
        self._configs: dict[str, InvokeConfig] = {}
        self._warm: dict[tuple[str, frozenset[tuple[str, str]]], backend_services.Services] = {}
        self.unkindness = Unkindness()
        self._idle = threading.Condition()
        self._running = self._waiting = 0  # on the pool, on the clock
        self._stopped = False

    def runs(self, properties: Mapping[str, Any]) -> bool:
        """Return whether a function's code is here; the CDK brings one of its own for custom resources."""
        handler = str(properties.get("Handler", ""))
        return handler in self._code or handler.startswith(HANDLERS_PACKAGE)

    def create(self, name: str, environment: Mapping[str, str], properties: Mapping[str, Any]) -> str:
        """Make a function in the cloud whose code runs here; returns its ARN."""
        self._configs[name] = InvokeConfig()
        return self._cloud.functions.register(name, partial(self._run, name), environment, properties)

    def configure(self, name: str, config: InvokeConfig) -> None:
        """Set how failed invocations of a function are treated."""
        self._configs[name] = config

    def invoke(self, name: str, event: Mapping[str, Any]) -> None:
        """Accept an event; it runs on a thread of the pool, when and as often as Lambda's queue has it."""
        invocation, moved = Invocation(name, event, self._clock()), self._moves.moved

        def run_held() -> None:
            """Submit the event, aged by how far a test moved the clock, not by how long it takes on a busy machine."""
            self._submit(replace(invocation, accepted_at=self._clock() - (self._moves.moved - moved)))

        for delay in self.unkindness.delays(name, event, run_held):
            self._submit(invocation, delay)

    def drain(self, timeout: float) -> bool:
        """Wait until nothing runs or waits; False if that takes longer than ``timeout`` seconds.

        An invocation that a gate holds does not count: it waits for the test.
        """
        with self._idle:
            return self._idle.wait_for(lambda: not self._running and not self._waiting, timeout)

    def settle(self, timeout: float) -> bool:
        """Wait until nothing runs, whatever waits for its time; False if that takes longer (seconds)."""
        with self._idle:
            return self._idle.wait_for(lambda: not self._running, timeout)

    def stop(self) -> None:
        """Drop what waits, let finish what runs."""
        with self._idle:
            self._stopped = True
        self._pool.shutdown(wait=True, cancel_futures=True)

    def _submit(self, invocation: Invocation, delay: timedelta = timedelta()) -> None:
        with self._idle:
            if self._stopped:
                return
            self._waiting += 1
        if not delay:
            self._start(invocation)
            return
        site = self._cloud.site
        with site.transaction():
            site.timers.at(self._clock() + delay, lambda: self._start(invocation))

    def _start(self, invocation: Invocation) -> None:
        with self._idle:
            if not self._stopped:
                self._waiting, self._running = self._waiting - 1, self._running + 1
                self._pool.submit(self._attempt, invocation)

    def _attempt(self, invocation: Invocation) -> None:
        try:
            self._run_or_retry(invocation)
        except Exception:
            log.exception("a task of the sandbox's stack failed")
        finally:
            with self._idle:
                self._running -= 1
                self._idle.notify_all()

    def _run_or_retry(self, invocation: Invocation) -> None:
        config, waits = self._configs[invocation.function], self.unkindness.waits
        if (self._clock() - invocation.accepted_at).total_seconds() > config.oldest_event_seconds:
            self._give_up(invocation, config, "EventAgeExceeded")
            return
        try:
            self._cloud.functions.run(invocation.function, invocation.event)
        except FunctionThrottledError:
            wait = waits.after_throttling(invocation.throttlings)
            self._submit(replace(invocation, throttlings=invocation.throttlings + 1), timedelta(seconds=wait))
        except (Exception, RunKilledError) as error:  # noqa: BLE001  # whatever the function raises
            log.warning("%s failed: %s: %s", invocation.function, type(error).__name__, error)
            if invocation.failures >= config.retries:
                self._give_up(invocation, config, "RetriesExhausted")
            else:
                wait = waits.after_failure(invocation.failures)
                self._submit(replace(invocation, failures=invocation.failures + 1), timedelta(seconds=wait))

    def _run(self, name: str, event: Mapping[str, Any], variables: Mapping[str, str]) -> Any:
        handler, limit = self._cloud.functions.handler_and_limit(name)
        if self.unkindness.is_down(name, self._clock()):
            raise FunctionDownError(f"{name} is down")
        started = time.thread_time()
        if handler in self._code:
            result = self._code[handler](event, variables)
        else:
            with backend_services.running(self._services(name, variables)):
                result = _handler(handler)(event, None)
        if time.thread_time() - started > limit:
            raise FunctionTimeoutError(f"{name} took longer than its {limit} seconds")
        return result

    def _services(self, name: str, variables: Mapping[str, str]) -> backend_services.Services:
        key = (name, frozenset(variables.items()))
        if key not in self._warm:
            self._warm[key] = backend_services.build(variables, self.client, self._clock)
        return self._warm[key]

    def _give_up(self, invocation: Invocation, config: InvokeConfig, condition: str) -> None:
        if config.on_failure_queue_url is None:
            return
        record = {
            "requestContext": {"functionArn": invocation.function, "condition": condition},
            "requestPayload": invocation.event,
        }
        self._clients.get("sqs").send_message(QueueUrl=config.on_failure_queue_url, MessageBody=json.dumps(record))


def _handler(name: str) -> Callable[[Mapping[str, Any], object], Any]:
    module, _, function = name.rpartition(".")
    handler: Callable[[Mapping[str, Any], object], Any] = getattr(importlib.import_module(module), function)
    return handler
