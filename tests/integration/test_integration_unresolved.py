"""A job that times out after the commit leaves both certificates until the device commits again, or a person decides.

The device runs the real component as a process, the backend is the synthesised template; the operator
listens at the notification topic. Messages are withheld by faults of the network, and time is moved on.
"""

from __future__ import annotations

import itertools
import json
import uuid
from datetime import timedelta

import pytest
from integration_sandbox import Operator, held_by, phase_of, record_of

from sandbox.edge.faults import Direction, Fault

MINUTES = 1  # of the job's timeout
FAST = {"keyAlgorithm": "ECDSA-P256", "signingAlgorithm": "ECDSA-WITH-SHA256"}
PRESENCE = "PresenceConnected"


class Loses:
    """An effect that lets nothing pass for which ``when(its payload)`` is true, and notes that it came to that."""

    def __init__(self, when):
        self.when, self.has_lost = when, False

    def __call__(self, delivery):
        if not self.when(json.loads(delivery.payload)):
            return (delivery,)
        self.has_lost = True
        return ()


def success_is_lost(job):
    """The device's last report never arrives."""
    lost = Loses(lambda update: update["status"] == "SUCCEEDED")
    return [Fault(f"$aws/things/+/jobs/{job}/update", lost, Direction.FROM_DEVICE)]


def silence_after_the_commit(job):
    """The first commit arrives, its answer does not, and no further commit does; the job before is confirmed."""
    commits = itertools.count()
    repeats = Loses(lambda commit: commit["jobId"] == job and next(commits) > 0)
    answers = Loses(lambda answer: answer["jobId"] == job)
    return [
        Fault("awslabs/things/+/certificate/commit", repeats, Direction.FROM_DEVICE),
        Fault("awslabs/things/+/certificate/commit/accepted", answers, Direction.TO_DEVICE),
    ]


@pytest.fixture
def operator(world):
    return Operator(world)


@pytest.fixture(autouse=True)
def healed(world):
    yield
    world.faults.clear()


def time_out_after_commit(bench, world, faults, seconds):
    """Rotate until the commit is written down, then let the job's time pass; returns the job's id.

    ``seconds`` is the device's own patience with an answer.
    """
    [thing] = bench.things
    limits = {**bench.pace.limits, "stepTimeLimitSeconds": seconds}
    assert bench.deploy(merge=limits)[thing].status == "SUCCEEDED"
    job = f"unresolved-{uuid.uuid4().hex[:12]}"
    faults = faults(job)
    for fault in faults:
        world.faults.add(fault)
    bench.aws("iot").create_job(
        jobId=job,
        targets=bench.arns(),
        document=json.dumps({"operation": "ROTATE_CERTIFICATE", **FAST}),
        timeoutConfig={"inProgressTimeoutInMinutes": MINUTES},
    )
    bench.until(lambda: phase_of(world, thing) == "committed", "the commit is written down")
    bench.until(lambda: all(fault.effect.has_lost for fault in faults), "what is to be lost is lost")
    world.clock.advance(timedelta(minutes=MINUTES, seconds=1))
    [ending] = bench.endings(job).values()
    assert ending.status == "TIMED_OUT"
    assert world.stack.drain(60)
    world.clock.advance(timedelta(seconds=2))  # what comes in the second of the end counts for neither side
    return job


def assert_both_stay(bench, world, operator, before, job):
    [thing] = bench.things
    [old] = before[thing]
    now = bench.certificates(thing)
    assert len(now) == 2
    assert old in now
    assert {held.status for held in now.values()} == {"ACTIVE"}
    assert phase_of(world, thing) == "unresolved"
    assert any(job in text and "TIMED_OUT after the commit: both certificates stay" in text for text in operator.read())
    [new] = set(now) - {old}
    return old, new


def assert_settled(bench, world, operator, kept, gone, kind):
    [thing] = bench.things
    bench.until(lambda: list(bench.certificates(thing)) == [kept], f"only {kept} is left")
    bench.until(lambda: not bench.exists(gone), f"{gone} is removed")
    assert bench.certificates(thing)[kept].status == "ACTIVE"
    bench.until(
        lambda: any(f"certificate {gone} is removed" in text for text in operator.read()),
        "the operator is told the outcome",
    )
    evidence = record_of(world, thing)
    assert evidence["outcome"]["S"] == {"new": "rotated", "old": "rolled back"}[kind]


def test_the_next_connection_shows_that_the_new_one_is_in_use_and_the_old_one_goes(bench, world, operator):
    """Nobody repeats the commit, as with a stock component: AWS IoT's presence event tells."""
    [thing], before = bench.things, bench.registry()
    job = time_out_after_commit(bench, world, success_is_lost, seconds=30)
    old, new = assert_both_stay(bench, world, operator, before, job)
    world.devices[thing].restart()
    assert_settled(bench, world, operator, kept=new, gone=old, kind="new")
    assert held_by(world, thing) == new


def test_a_device_that_never_heard_of_its_commit_repeats_it_and_the_old_one_goes(bench, world, operator):
    """Without presence events, too: the repeated commit comes over the very connection that proves it."""
    [thing], before = bench.things, bench.registry()
    with bench.rule_off(PRESENCE):
        job = time_out_after_commit(bench, world, silence_after_the_commit, seconds=60)
        old, new = assert_both_stay(bench, world, operator, before, job)
        world.faults.clear()
        assert_settled(bench, world, operator, kept=new, gone=old, kind="new")
    assert held_by(world, thing) == new


def test_a_device_that_went_back_to_its_old_certificate_keeps_it_until_a_person_deactivates_the_new_one(
    bench, world, operator
):
    [thing], before = bench.things, bench.registry()
    with bench.rule_off(PRESENCE):
        job = time_out_after_commit(bench, world, silence_after_the_commit, seconds=6)
        old, new = assert_both_stay(bench, world, operator, before, job)
        bench.until(lambda: held_by(world, thing) == old, "the device has rolled back")
    world.devices[thing].restart()
    decide = f"`aws iot update-certificate --new-status INACTIVE --certificate-id {new}`"
    bench.until(lambda: any(decide in text for text in operator.read()), "a person is asked to decide")
    assert world.stack.drain(60)  # the sweep leaves alone what the run that asked has not written down yet
    assert set(bench.certificates(thing)) == {old, new}
    bench.aws("iot").update_certificate(certificateId=new, newStatus="INACTIVE")
    world.clock.advance(timedelta(minutes=15, seconds=1))  # of the sweep's schedule
    assert_settled(bench, world, operator, kept=old, gone=new, kind="old")
    assert held_by(world, thing) == old


def test_after_all_that_the_device_rotates_as_ever(bench):
    before = bench.registry()
    bench.assert_rotated(bench.rotate(FAST), before)
