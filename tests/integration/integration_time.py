"""A sandbox in which one thing happens at a time, in the order of its clock: an hour costs nothing, and a run repeats.

Devices, Lambda's runs and the cloud's own timers take their turns on the thread of the test. A run of a function
stops at each call to AWS, which takes its time, and meanwhile everything else goes on: so runs overlap as they do on
Lambda, and any of them may be killed between two calls.
"""

from __future__ import annotations

import heapq
import itertools
import threading
from datetime import UTC, datetime, timedelta
from functools import partial
from unittest import mock

from integration_bench import Bench, Ending
from integration_sandbox import SandboxBench, name_authorities

from backend.functions import issuers, registry, sweep
from component.certificate_rotator.configuration import parse
from component.certificate_rotator.loop import ThreadTimer
from component.certificate_rotator.system import System
from sandbox.clock import SandboxClock
from sandbox.edge.in_process import InProcessDevice
from sandbox.edge.in_process_host import InProcessHost
from sandbox.stack import functions
from sandbox.world import World

WITH_PAUSES = (functions, registry, issuers, sweep)
"""Modules of which the one called ``time`` is the timeline's."""


class PowerCutError(BaseException):
    """The device that is at work has no power any more; ``then`` is what becomes of it."""

    def __init__(self, then):
        super().__init__()
        self.then = then


class Timeline:
    """Stands in for a device's loop, for Lambda's threads, and for the module ``time`` of the functions."""

    def __init__(self, clock, timers):
        self.clock, self._timers = clock, timers
        self._heap, self._count, self._lock = [], itertools.count(), threading.Lock()

    # a loop of the component's

    def call_soon(self, action):
        self.call_later(0.0, action)

    def call_later(self, seconds, action):
        timer = ThreadTimer(action)
        with self._lock:
            heapq.heappush(self._heap, (self.clock.now() + timedelta(seconds=seconds), next(self._count), timer))
        return timer

    # a pool of threads

    def submit(self, task, *arguments):
        self.call_soon(_Strand(partial(task, *arguments)).go_on)

    def shutdown(self, **_how):
        """What has not gone on by then never will."""

    # the module time

    def thread_time(self):
        """Of the run that asks: if the clock leaps, no run has taken so long."""
        return _HERE.strand.spent

    def sleep(self, seconds):
        strand = _HERE.strand
        strand.spent += seconds
        self.call_later(seconds, strand.go_on)
        strand.rest()

    # what passes

    def run(self, span):
        """Let everything happen that is due within this span."""
        end = self.clock.now() + span
        while (due := self._next_due()) is not None and due <= end:
            self._move_to(due)
            self._act()
        self._move_to(end)

    def leap(self, span):
        """Let nothing happen for a while, as if the world had slept."""
        self.clock.advance(span)

    def _move_to(self, instant):
        self.clock.advance(max(instant - self.clock.now(), timedelta()))  # and the cloud does what is due

    def _next_due(self):
        with self._lock:
            dues = [entry[0] for entry in self._heap[:1]]
        return min((due for due in (*dues, self._timers.next_due()) if due is not None), default=None)

    def _act(self):
        with self._lock:
            if not self._heap or self._heap[0][0] > self.clock.now():
                return
            timer = heapq.heappop(self._heap)[2]
        try:
            if timer.action is not None:
                timer.action()
        except PowerCutError as cut:
            cut.then()


_HERE = threading.local()


class _Strand:
    """A thread that goes on only when it is its turn."""

    def __init__(self, task):
        self._task, self._turn, self._resting = task, threading.Semaphore(0), threading.Semaphore(0)
        self.spent = 0.0  # seconds
        self._thread = threading.Thread(target=self._run, daemon=True)

    def go_on(self):
        """Let it run until it rests or ends."""
        if self._thread.ident is None:
            self._thread.start()
        self._turn.release()
        self._resting.acquire()

    def rest(self):
        self._resting.release()
        self._turn.acquire()

    def _run(self):
        self._turn.acquire()
        _HERE.strand = self
        try:
            self._task()
        finally:
            self._resting.release()


class Calls:
    """What functions take for boto3's clients: each call takes a moment, and ``meet`` decides what becomes of it."""

    def __init__(self, client, timeline, random):
        self._client, self._timeline, self._random = client, timeline, random
        self.meet = lambda call: call()
        self.made = 0

    def client(self, service, endpoint_url):
        return _Client(self, self._client(service, endpoint_url))

    def make(self, call):
        self.made += 1
        self._timeline.sleep(self._random.uniform(0.01, 0.1))
        return self.meet(call)


class _Client:
    def __init__(self, calls, client):
        self._calls, self._client = calls, client

    def __getattr__(self, name):
        method = getattr(self._client, name)
        return lambda **request: self._calls.make(partial(method, **request))


class Host(InProcessHost):
    """Every device of it is served by the timeline."""

    def __init__(self, *parts, timeline):
        super().__init__(*parts, threads=0)
        self._timeline = timeline

    def loop(self):
        return self._timeline


class Gateway(InProcessDevice):
    """A device on the timeline: whoever holds its controls is on the thread that runs it."""

    def __init__(self, *parts, world):
        self.values = {}
        super().__init__(*parts, configuration=lambda: parse(self.values), system=lambda: _Disk(self))
        self._world = world
        self.at_disk = lambda: None  # called before each change of the disk
        self._coming_back = ThreadTimer(None)

    def start(self):
        self._guarded(self._begin)

    def lose_power(self, seconds):
        """As a nucleus that is killed, or a plug that is pulled."""
        self.stop()
        self._coming_back.cancel()
        self._coming_back = self._world.timeline.call_later(seconds, self.start)

    def wait_connected(self, timeout=15.0, *, connections=1):
        return self._world.until(lambda: self.is_connected and self.connections >= connections, timeout)

    def _on_loop(self, action):
        self._guarded(action)


class _Disk(System):
    def __init__(self, device):
        super().__init__()
        self._device = device


def _announced(name):
    original = getattr(System, name)

    def method(self, *arguments):
        self._device.at_disk()
        return original(self, *arguments)

    return method


for _name in ("create", "write", "sync", "replace", "remove"):
    setattr(_Disk, _name, _announced(_name))


class TimelineWorld(World):
    """A world whose devices and functions are on one timeline. A device that is waited for is given its time."""

    def __init__(self, fleet, folder, random):
        start = datetime.now(UTC).replace(microsecond=random.randrange(1_000_000))
        super().__init__(fleet, folder, SandboxClock(frozen_at=start))
        self.random = random
        self.timeline = Timeline(self.clock, self.cloud.site.timers)
        self.cloud._ticker = threading.Thread(target=lambda: None)  # the timeline moves the clock

    def _start_devices(self, built):
        running = self.stack._functions
        self.calls = Calls(running.client, self.timeline, self.random)
        running.client, running._pool = self.calls.client, self.timeline
        self.stack.drain = lambda seconds: self.until(lambda: running.drain(0), seconds)
        self.stack.settle = lambda seconds: self.until(lambda: running.settle(0), seconds)
        for module in WITH_PAUSES:
            self._closing.enter_context(mock.patch.object(module, "time", self.timeline))
        cloud = self.cloud
        host = Host(cloud.registry, cloud.jobs, self.bus, self.clock, self.faults, timeline=self.timeline)
        self._built = {device.name: device for device in built}
        for device in built:
            self._lay_out(device)
            self.devices[device.name] = Gateway(device.name, self.folder_of(device.name), host, world=self)
            self.devices[device.name].start()

    def until(self, condition, seconds):
        """Let time pass until a condition holds; False if it does not within so many of the clock's seconds."""
        end = self.clock.now() + timedelta(seconds=seconds)
        while not (found := condition()) and self.clock.now() < end:
            self.timeline.run(timedelta(seconds=0.25))
        return found


class TimelineBench(SandboxBench):
    """The bench over such a world; a deployment only brings the configuration."""

    def open(self):
        Bench.open(self)
        name_authorities(self)

    def configuration_of(self, thing):
        return self.world.devices[thing].values

    def deploy(self, merge=None, reset=()):
        for thing in self.things:
            self.world.devices[thing].values = {} if reset else {**self.configuration_of(thing), **merge}
        return dict.fromkeys(self.things, Ending("SUCCEEDED"))

    def until(self, condition, what, timeout=None):
        found = self.world.until(condition, timeout or self.pace.cleanup)
        assert found, f"waited in vain: {what}; registry: {self.registry()}"
        return found
