"""Whatever happens, in whatever order: found by chance, and in small worlds one by one."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import HealthCheck, seed, settings
from hypothesis.stateful import run_state_machine_as_test
from interleaving_machine import Interleaving
from interleaving_moves import told
from interleaving_small_world import SMALL_WORLDS, SmallWorld, two_runs

AS_EVER = settings(deadline=None, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
BY_CHANCE = settings(AS_EVER, derandomize=False, max_examples=1_000, stateful_step_count=50)


def play_all(small: SmallWorld, longest: int) -> None:
    for history, world in small.play_all(longest):
        assert not world.judge.faults, f"{told(history)}: {[str(fault) for fault in world.judge.faults]}"


def test_the_invariants_hold_and_the_fleet_heals_whatever_happens():
    run_state_machine_as_test(Interleaving, settings=settings(AS_EVER, max_examples=60, stateful_step_count=30))


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("number", range(1, 6))
def test_the_invariants_hold_and_the_fleet_heals_in_a_thousand_long_histories(number):
    run_state_machine_as_test(seed(number)(type("Interleaving", (Interleaving,), {})), settings=BY_CHANCE)


@pytest.mark.parametrize("name", SMALL_WORLDS)
def test_whatever_happens_next_in_a_small_world_the_invariants_hold(name):
    play_all(SMALL_WORLDS[name], 1)


@pytest.mark.soak
@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", SMALL_WORLDS.keys() - {"two runs at once"})
def test_every_history_of_three_moves_in_a_small_world_keeps_the_invariants(name):
    play_all(SMALL_WORLDS[name], 3)


@pytest.mark.soak
@pytest.mark.timeout(7200)
def test_two_runs_ask_each_device_once_wherever_one_stops_and_the_other_goes_on():
    play_all(replace(SMALL_WORLDS["two runs at once"], moves=two_runs(range(31), range(31))), 1)
