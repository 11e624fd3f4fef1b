"""What a person allows once holds for what that person has seen: not for what fails while the run is overtaken."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from interleaving_aws import Turns
from interleaving_moves import made
from interleaving_world import DAY, World, policy

from protocol.algorithms import KeyType


@pytest.fixture
def world() -> Iterator[World]:
    """Four devices of line-a have failed, and halted it; line-b, of one device, comes after it."""
    found = made(8, rollout={"waves": ["4", "100%"]})
    documents = found.documents
    documents.policies["line-b"] = policy("line-b")
    found.commit(documents)
    found.plant.failing = set(found.plant.holds)
    found.apply()
    found.answer()
    found.plant.add("line-b-1", "line-b", age=100 * DAY, key=KeyType.ECDSA_P256)
    found.pass_time(days=1)
    yield found
    found.close()


def overtaken(world: World, *overrides: str) -> None:
    """A run that has made its first job is overtaken by another; what it has asked fails before it looks again."""
    given = [part for override in overrides for part in ("--override", override)]
    run = Turns(lambda: world.apply(*given))
    while run.waits_at != "CreateJob":
        run.step()
    run.step()
    world.apply(cache="function")
    world.pass_time(minutes=5)
    world.answer()
    world.pass_time(seconds=1)
    assert run.finish().code == 0


def test_what_fails_while_a_run_that_resumes_is_overtaken_is_not_taken_as_looked_at(world):
    assert world.plan().json["waves"][0]["status"] == "halted"
    overtaken(world, "resume=line-a")
    assert world.plan().json["waves"][0]["status"] == "halted"
    assert not world.judge.faults


def test_a_device_that_was_to_be_tried_again_and_fails_is_not_tried_once_more_by_the_same_run(world):
    device = min(world.plant.failing)
    overtaken(world, "resume=line-a", f"again={device}")
    assert world.judge.failures[device] == 2
    assert not [fault for fault in world.judge.faults if device in fault.text]


def test_what_fails_while_a_run_looks_stops_the_job_that_it_would_make():
    """Its own jobs are read first: without a second look at them, as many others are asked after most have failed."""
    world = made(4, rollout={"waves": ["100%"], "maxInFlight": 8})
    for number in range(5, 9):
        world.plant.add(f"line-a-{number}", "line-a", age=89.5 * DAY, key=KeyType.ECDSA_P256)
    world.plant.failing = set(world.plant.holds)
    world.apply()
    world.pass_time(hours=13)
    run = Turns(world.apply)
    while run.waits_at != "ListJobExecutionsForJob":
        run.step()
    run.step()
    world.answer()
    assert run.finish().code == 0
    assert len(world.jobs()) == 1
    assert world.plan().json["waves"][0]["status"] == "halted"
    assert not world.judge.faults
    world.close()
