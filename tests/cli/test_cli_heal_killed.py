"""``certfleet heal apply`` killed by SIGKILL: the next run goes on, and what is in use stays ACTIVE and attached."""

from __future__ import annotations

import itertools
import os
import signal
import subprocess
import sys
import threading

import pytest

PROGRAM = """
import os, signal, sys
from controller import cli
from controller.fleet.aws import AwsSession

place, is_done, plain, calls = sys.argv[1], sys.argv[2] == "done", AwsSession.call, []


def call(self, service, operation, **parameters):
    calls.append(operation)
    is_there = place in (operation, str(len(calls)))
    if is_there and not is_done:
        os.kill(os.getpid(), signal.SIGKILL)
    answer = plain(self, service, operation, **parameters)
    if is_there:
        os.kill(os.getpid(), signal.SIGKILL)
    return answer


AwsSession.call = call
code = cli.main(sys.argv[3:])
print("calls", *calls)
sys.exit(code)
"""


class Thing:
    """A thing with two certificates, ready for one of healing's steps."""

    def __init__(self, world, name, stage):
        self.world, self.name, self.stage = world, name, stage
        self.used, self.other = world.device(name), world.certificate(name)
        if stage != "watch":
            world.heal()
            world.pass_by(1)
            world.connected(self.used, name)
            world.pass_by(20)
        if stage == "remove":
            world.heal()
            world.pass_by(40)
            world.connected(self.used, name)
        self.planned = world.plan()[0]
        assert {kind for kind, *_ in self.planned} == {stage}

    def apply(self, place="nowhere", when="before"):
        """In a process of its own, which dies at that call or operation; returns its exit code and its calls."""
        done = subprocess.run(
            [sys.executable, "-c", PROGRAM, str(place), when, "heal", "apply", self.world.file, "--pause", "0s"],
            cwd=self.world.repository, env=os.environ, capture_output=True, text=True, check=False,
        )  # fmt: skip
        told = [line for line in done.stdout.splitlines() if line.startswith("calls ")]
        assert done.returncode in {0, 1, -signal.SIGKILL}, done.stderr
        return done.returncode, told[0].split()[1:] if told else []

    def assert_in_order(self):
        """What the device uses works, and the other one is where the step has brought it."""
        assert self.world.statuses(self.name)[self.used] == "ACTIVE"
        self.world.heal()
        found = self.world.statuses(self.name)
        assert found == {self.used: "ACTIVE"} | {
            "watch": {self.other: "ACTIVE"}, "deactivate": {self.other: "INACTIVE"}, "remove": {},
        }[self.stage]  # fmt: skip


# Where a death may leave something half done: after what is noted and before what is done, and between two changes.
CHOSEN = [("deactivate", "UpdateCertificate", "before"), ("remove", "DetachThingPrincipal", "done")]


@pytest.mark.unmeasured
@pytest.mark.parametrize(("stage", "operation", "when"), CHOSEN)
def test_healing_that_was_killed_is_brought_to_its_end_by_the_next_run(world, stage, operation, when):
    thing = Thing(world, "killed", stage)
    code, _ = thing.apply(operation, when)
    assert code == -signal.SIGKILL
    thing.assert_in_order()


@pytest.mark.soak
@pytest.mark.parametrize("stage", ["watch", "deactivate", "remove"])
def test_so_it_is_at_every_call(world, stage):
    """How many there are the first run that outlives its number tells: a first look has more than those after it."""
    killed = 0
    for when in ("before", "done"):
        for number in itertools.count(1):
            thing = Thing(world, f"{stage}-{number}-{when}", stage)
            code, _ = thing.apply(number, when)
            thing.assert_in_order()
            if code != -signal.SIGKILL:
                break
            killed += 1
    assert killed > 10
    print(f"heal apply, {stage}: killed at {killed} places, before and after each call")  # noqa: T201


def test_two_that_carry_out_one_plan_at_the_same_time_do_it_once(world):
    thing = Thing(world, "at-once", "deactivate")
    codes = []
    both = [threading.Thread(target=lambda: codes.append(thing.apply()[0])) for _ in range(2)]
    for one in both:
        one.start()
    for one in both:
        one.join()
    assert set(codes) <= {0, 1}
    assert 0 in codes, "who comes second stops at what is not called for any more"
    thing.assert_in_order()
