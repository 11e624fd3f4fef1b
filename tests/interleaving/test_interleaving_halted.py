"""A halt outlasts whatever keeps the loop from coming to its end: nobody who applies, or a guardrail that refuses."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from interleaving_moves import made
from interleaving_world import World


@pytest.fixture
def world() -> Iterator[World]:
    """The four devices of the first wave have been asked, and all have failed if they were to."""
    found = made(8, rollout={"waves": ["4", "100%"]})
    found.plant.failing = set(found.plant.holds)
    found.apply()
    yield found
    found.close()


def is_halted(world: World) -> bool:
    return world.plan().json["waves"][0]["status"] == "halted"


def stays_halted(world: World) -> bool:
    """Now, and however many runs come to their end from now on."""
    found = []
    for _ in range(3):
        found.append(is_halted(world))
        world.apply(cache="cold")
        world.pass_time(days=50)
    return all(found) and not world.judge.faults


def test_a_halt_is_told_and_kept_though_nobody_has_applied_for_months(world):
    world.answer()
    assert is_halted(world)
    world.pass_time(days=100)
    assert stays_halted(world)


def test_a_halt_is_told_and_kept_though_a_guardrail_refuses_every_apply_for_months(world):
    world.answer()
    world.change("line-a", thingGroup="line-b")
    for _ in range(3):
        world.pass_time(days=30)
        assert world.apply().code == 3
    world.change("line-a", thingGroup="line-a")
    assert stays_halted(world)


def test_a_person_may_resume_what_was_halted_before_anybody_applied_for_months(world):
    world.answer()
    world.pass_time(days=100)
    world.plant.failing.clear()
    world.apply("--override", "resume=line-a")
    world.answer()
    assert not is_halted(world)
    assert len(world.plant.rotations) == 4, "it starts with its first wave"


def test_a_rollout_that_went_well_starts_with_its_first_wave_if_nobody_has_applied_for_months(world):
    world.plant.failing.clear()
    world.answer()
    world.pass_time(days=100)
    for _ in range(2):
        assert world.plan().json["waves"][0]["wave"] == 1
        world.apply()
    world.answer()
    assert len(world.plant.rotations) == 4 + 4
