"""Stops the device, its disk or its token at one counted point, or from one point on.

Counted, not drawn: a first run counts the points, then each is hit once. A point is every call that touches the
disk (a write has one in its middle too), every call that touches the token, and every message of the device.
Where a device that stops would leave the same behind at one point as at another, one of them stands for both.
"""

from __future__ import annotations

import contextlib
import os

from component.certificate_rotator.journal import Step
from component.certificate_rotator.pkcs11_token import Token
from component.certificate_rotator.system import System


class Killed(BaseException):
    """Nothing catches it, as nothing catches kill -9."""


class Injector:
    """Counts points, and acts at one of them or from one of them on."""

    def __init__(self):
        self.points = []
        self.act = lambda index, name: None
        self.within = 0  # calls of System in progress
        self.changes = 0  # of the token

    def point(self, name):
        self.points.append(name)
        self.act(len(self.points) - 1, name)

    def kill_at(self, *indices):
        """Let the device die at each of these points; it counts on in its next life."""

        def act(at, _name):
            if at in indices:
                raise Killed

        self.act = act
        return self

    def fail_from(self, index, calls, error):
        """Let every call of these names fail from a point on."""

        def act(at, name):
            if at >= index and name in calls:
                raise error

        self.act = act
        return self

    def heal(self):
        self.act = lambda index, name: None


class Counter(Injector):
    """Counts points, and sees what a stop at each of them would leave behind in ``world``.

    ``after`` a stop at that point, of which it dies, those of the lives that follow.
    """

    def __init__(self, after=-1):
        super().__init__()
        self.world = None
        self._alike = {}  # what is left behind → the points that leave it

        def act(index, _name):
            if index == after:
                raise Killed
            if index > after:
                self._alike.setdefault(self.world.remains(), []).append(index)

        self.act = act

    def stops(self, *, every=False):
        """(point, of how many alike); of each that are alike the last, unless every point is wanted."""
        if every:
            return [(index, 1) for index in range(len(self.points))]
        return [(alike[-1], len(alike)) for alike in self._alike.values()]


class CountingSystem(System):
    """The real file system with a point before every call, and one in the middle of each write."""

    def __init__(self, injector):
        super().__init__()
        self.injector = injector
        self.opened = set()

    def died(self):
        """The process is gone, and with it what it held open: on Windows nobody could replace those files."""
        while self.opened:
            os.close(self.opened.pop())

    def create(self, path):
        self.injector.point("create")
        self.injector.within += 1
        try:
            descriptor = super().create(path)
        finally:
            self.injector.within -= 1
        self.opened.add(descriptor)
        return descriptor

    def close(self, descriptor):
        self.injector.point("close")
        self.opened.discard(descriptor)
        super().close(descriptor)

    def write(self, descriptor, data):
        self.injector.point("write")
        super().write(descriptor, data[: len(data) // 2])
        self.injector.point("write")
        super().write(descriptor, data[len(data) // 2 :])


def _counted(name):
    original = getattr(System, name)

    def method(self, *arguments):
        self.injector.point(name)
        self.injector.within += 1
        try:
            return original(self, *arguments)
        finally:
            self.injector.within -= 1

    return method


for _name in ("read", "exists", "sync", "replace", "remove", "sync_folder", "attributes", "obstacle",
              "set_attributes", "read_own", "changed", "make_folder", "link", "add_name"):  # fmt: skip
    setattr(CountingSystem, _name, _counted(_name))

MUTATING = {"create", "write", "sync", "replace", "remove", "sync_folder", "set_attributes"}
GROWING = {"create", "write"}


class CountingToken(Token):
    """A real token with a point before every call, and one after each that changes it."""

    pauses = (0.0,)

    def __init__(self, injector, *arguments):
        super().__init__(*arguments)
        self.injector = injector

    @contextlib.contextmanager
    def _errors(self, what):
        name = "token " + what.split()[0]
        with super()._errors(what):
            self.injector.point(name)
            yield
            if name in TOKEN_CHANGES:
                self.injector.changes += 1
                self.injector.point(name + " done")


TOKEN_CHANGES = {"token make", "token store", "token rename", "token remove"}
TOKEN_CALLS = TOKEN_CHANGES | {"token open", "token look", "token read", "token sign"}


def with_messages(device, injector):
    """Points before and after each message of the device, and before each that reaches it."""
    publish, restart, deliver = device.publish, device.restart, device.deliver

    def counted(name, method):
        def call(*arguments):
            injector.point(f"before {name}")
            method(*arguments)
            injector.point(f"after {name}")

        return call

    device.publish, device.restart = counted("publish", publish), counted("restart", restart)

    def counted_deliver(topic, payload):
        injector.point("deliver")
        deliver(topic, payload)

    device.deliver = counted_deliver


def run_until_calm(world, *, power_cut):
    """Let half an hour pass; whenever the device dies, it comes back three seconds later.

    Either the power goes (the nucleus reads the credential again), or only the component dies (the nucleus
    keeps the connection that it has).
    """
    end = world.loop.time + 1800
    while world.loop.time < end:
        try:
            world.run(end - world.loop.time)
        except Killed:  # noqa: PERF203  # that is what this loop is for
            world.device.process_died()
            world.device.system.died()
            if power_cut:
                world.device.switch_off()
                world.device.next_is(3.0, world.device.switch_on)
            elif world.device.rotator is not None:  # else the nucleus has ended it meanwhile
                world.device.rotator.stop()
                world.loop.call_later(3.0, world.device.component_ended)


def run_while_one_is_tried(world):
    """Let time pass until the device has gone from one credential to the other, its patience doubled each time.

    If the component alone dies just before it restarts the nucleus, the connection of before is tried in vain.
    Returns the minutes since the beginning.
    """
    trials = (Step.CONNECTING, Step.SWITCHING, Step.RECONNECTING, Step.RETRYING)
    while (record := world.device.make_journal().load()) is not None and record.step in trials:
        assert world.loop.time < 4 * 3600, "it goes to and fro and does not come to rest"
        world.run(600)
    return world.loop.time / 60


def assert_ended(world):
    """Completed or rolled back, and nothing left over within two restarts."""
    for _ in range(2):
        if world.device.leftovers():
            world.device.switch_on()
            world.run(600)
    world.assert_sound()
    in_place = world.device.certificate_in_place()
    if world.cloud.status() == "SUCCEEDED":
        assert in_place != world.first_certificate
        assert world.cloud.registry == {in_place}
    else:
        assert world.cloud.status() in ("FAILED", "TIMED_OUT")
