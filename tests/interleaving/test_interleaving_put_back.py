"""Faults of before, put back one by one, are each found: by every history of a small world, and by chance.

``pytest -s -n 0 -k short_history`` prints the list.
"""

from __future__ import annotations

import sys

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test
from interleaving_faults import FAULTS, put_back
from interleaving_machine import of_family
from interleaving_moves import told
from interleaving_small_world import SMALL_WORLDS

BY_CHANCE = settings(
    deadline=None,
    derandomize=True,
    database=None,
    suppress_health_check=list(HealthCheck),
    phases=[Phase.generate],  # to find it is enough
    report_multiple_bugs=False,
    max_examples=1000,
    stateful_step_count=30,
)


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.fault)
def test_a_fault_that_is_put_back_is_found_by_a_short_history(fault, monkeypatch):
    small = SMALL_WORLDS[fault.world]
    assert not small.play(fault.history, fault.ending).judge.faults
    with put_back(monkeypatch, fault):
        world = small.play(fault.history, fault.ending)
    assert fault.invariant in world.judge.broken()
    sys.stdout.write(f"{fault.fault}: {fault.world}: {told(fault.history)}: {fault.invariant}\n")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.fault)
def test_a_fault_that_is_put_back_is_found_by_playing_every_history(fault, monkeypatch):
    with put_back(monkeypatch, fault):
        played = enumerate(SMALL_WORLDS[fault.world].play_all(3), 1)
        found = next(((n, h) for n, (h, world) in played if fault.invariant in world.judge.broken()), None)
    assert found, fault
    sys.stdout.write(f"{fault.fault}: {fault.world}, history {found[0]}: {told(found[1])}: {fault.invariant}\n")


@pytest.mark.soak
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.fault)
def test_a_fault_that_is_put_back_is_found_by_chance(fault, monkeypatch):
    machine = of_family(SMALL_WORLDS[fault.world].family)
    machine.played.clear()
    with put_back(monkeypatch, fault), pytest.raises((AssertionError, ExceptionGroup)) as found:
        run_state_machine_as_test(machine, settings=BY_CHANCE)
    tried, moves = len(machine.played) - 1, len(machine.played[-1])  # the last was played once more
    sys.stdout.write(f"{fault.fault}: example {tried}, {moves} moves: {str(found.value).splitlines()[0]}\n")
