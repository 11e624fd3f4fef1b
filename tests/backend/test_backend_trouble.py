"""Benign trouble settles by itself: of many rotations with messages lost, doubled or late, hardly one needs a person.

The handlers run over an account in memory, a device's side is played as its component does it (repeats, patience,
the way back), and every quarter of an hour the sweep runs. Nobody here means harm.
"""

from __future__ import annotations

import heapq
import itertools
import random
from datetime import timedelta

import pytest
from backend_aws import JOB, VARIABLES, FakeAws
from backend_device import Device, run
from botocore.exceptions import ClientError

from backend.functions import commit_certificate, create_certificate, job_execution_terminal, services
from backend.functions.errors import ConflictError

TROUBLE = 0.01  # of all messages, answers, events and invocations: a third each is lost, doubled, late
LATEST = 60  # seconds
REPEAT, PATIENCE, RESTART = 10, 30, 5  # seconds
SWEEP = 15 * 60


class Rotation:
    """One device, one job, one account; time is a queue of what happens when."""

    def __init__(self, chance):
        self.chance, self.queue, self.order = chance, [], itertools.count()
        self.aws = FakeAws()
        self.device = Device(self.aws)
        self.installed, self.waits_for, self.ended = self.device.old, None, None

    def later(self, seconds, act):
        at = self.aws.now + timedelta(seconds=seconds)
        heapq.heappush(self.queue, (at, next(self.order), act))

    def deliver(self, act):
        """Once, or never, or twice, or late."""
        fate = self.chance.random() / TROUBLE
        if fate >= 1:
            self.later(0.2, act)
        elif fate >= 2 / 3:
            self.later(self.chance.uniform(0, LATEST), act)
        elif fate >= 1 / 3:
            self.later(0.2, act)
            self.later(self.chance.uniform(0, LATEST), act)

    def invoke(self, module, event):
        """A function's run; what it publishes reaches the device as any message does."""
        self.aws.published.clear()
        try:
            run(self.aws, module, event)
        except (ClientError, ConflictError):
            return
        for topic, _ in self.aws.published:
            self.deliver(lambda topic=topic: self.hears(topic))

    # the device

    def begin(self):
        self.connect()
        self.waits_for = "create"
        self.ask(0, lambda: (create_certificate, self.device.create_event(principal=self.installed)))

    def ask(self, waited, message):
        """Repeat a request until it is answered, or for as long as there is patience."""
        wanted = self.waits_for
        if waited >= PATIENCE:
            self.fail()
            return
        module, event = message()
        self.deliver(lambda: self.invoke(module, event))
        self.later(REPEAT, lambda: self.waits_for == wanted and self.ask(waited + REPEAT, message))

    def hears(self, topic):
        operation, _, outcome = topic.partition("certificate/")[2].partition("/")
        if operation != self.waits_for:
            return
        self.waits_for = None
        if outcome == "rejected":
            self.fail()
        elif operation == "create":
            self.installed = self.device.new
            self.later(RESTART, self.commit)
        else:
            self.report("SUCCEEDED")

    def commit(self):
        self.connect()
        self.waits_for = "commit"
        self.ask(0, lambda: (commit_certificate, self.device.commit_event(principal=self.installed)))

    def fail(self):
        self.waits_for = None
        if self.installed == self.device.old:
            self.report("FAILED")
            return
        self.installed = self.device.old
        self.later(RESTART, lambda: (self.connect(), self.report("FAILED")))

    def connect(self):
        event = self.device.connected_event(self.installed)
        self.deliver(lambda: self.invoke(job_execution_terminal, event))

    def report(self, status):
        """Until AWS IoT Jobs has taken it."""
        if self.ended is None:
            self.deliver(lambda: self.end(status))
            self.later(REPEAT, lambda: self.report(status))

    def end(self, status):
        if self.ended is None:
            self.ended = status
            self.aws.executions[self.device.name, JOB]["status"] = status
            event = self.device.ended_event(status)
            self.deliver(lambda: self.invoke(job_execution_terminal, event))

    # the world

    def sweep(self):
        self.device.sweep()
        if self.aws.items.get((self.device.name, "current"), {}).get("phase", {"S": "finished"})["S"] != "finished":
            self.later(SWEEP, self.sweep)

    def play(self):
        self.later(0, self.begin)
        self.later(SWEEP, self.sweep)
        for hours in (1.1, 7.1, 25.1):  # the network breaks off now and then
            self.later(hours * 3600, self.connect)
        while self.queue:
            self.aws.now, _, act = heapq.heappop(self.queue)
            act()


def needs_a_person(chance):
    """Play one rotation; whether somebody was asked to decide."""
    rotation = Rotation(chance)
    with services.running(services.build(VARIABLES, rotation.aws.client, lambda: rotation.aws.now)):
        rotation.play()
    left = rotation.device.attached
    assert left[rotation.installed].status == "ACTIVE", rotation.device.record
    asked = any("--new-status INACTIVE" in notice for notice in rotation.aws.notices)
    assert asked or list(rotation.aws.certificates) == [rotation.installed], rotation.device.record
    return asked


def play(rotations, seed, capsys):
    chance = random.Random(seed)
    asked = sum(needs_a_person(chance) for _ in range(rotations))
    with capsys.disabled():
        print(f"\n{asked} of {rotations} rotations with {TROUBLE:.0%} trouble needed a person", end=" ")  # noqa: T201
    assert asked * 1000 <= rotations


def test_of_some_rotations_in_trouble_none_needs_a_person(capsys):
    play(150, 7, capsys)


@pytest.mark.soak
@pytest.mark.timeout(0)
def test_of_ten_thousand_rotations_in_trouble_fewer_than_one_in_a_thousand_need_a_person(capsys):
    play(10_000, 8, capsys)
