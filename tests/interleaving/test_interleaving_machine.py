"""Whatever happens, in whatever order: found by chance, and in a small world one by one."""

from __future__ import annotations

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from interleaving_machine import Interleaving
from interleaving_small_world import histories, play

AS_EVER = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
BY_CHANCE = settings(deadline=None, database=None, suppress_health_check=list(HealthCheck))


def play_all(length: int) -> int:
    number = 0
    for number, names in enumerate(histories(length), 1):  # noqa: B007 - the number of the last is how many there are
        faults = play(names).judge.faults
        assert not faults, f"{', '.join(names)}: {[str(fault) for fault in faults]}"
    return number


def test_the_invariants_hold_and_the_fleet_heals_whatever_happens():
    run_state_machine_as_test(Interleaving, settings=settings(AS_EVER, max_examples=80, stateful_step_count=30))


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_the_invariants_hold_and_the_fleet_heals_whatever_happens_for_long():
    run_state_machine_as_test(Interleaving, settings=settings(BY_CHANCE, max_examples=5000, stateful_step_count=50))


def test_every_history_of_two_steps_in_a_small_world_keeps_the_invariants():
    assert play_all(2) == 64


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_every_history_of_four_steps_in_a_small_world_keeps_the_invariants():
    assert play_all(4) > 10_000
