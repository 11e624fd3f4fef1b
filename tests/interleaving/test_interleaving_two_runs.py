"""Two reconcilers that stop and go on at any call: no device is asked twice, whoever else asks it meanwhile."""

from __future__ import annotations

from datetime import timedelta

import pytest
from interleaving_cases import made
from interleaving_two_runs import every_schedule

from protocol.algorithms import KeyType

MEANWHILE = {
    "nothing": lambda world: None,
    "a device answers": lambda world: world.answer("line-a-1"),
    "a person starts a job": lambda world: world.start_by_hand("line-a-2"),
    "a device becomes due": lambda world: world.pass_time(days=1),
}


def two_devices_and_one_that_is_nearly_due():
    world = made(2, rollout={"waves": ["100%"]})
    world.plant.add("line-a-3", "line-a", age=timedelta(days=89, hours=12), key=KeyType.ECDSA_P256)
    return world


def play_all(happens: str, **stops: int) -> None:
    for schedule, judge in every_schedule(two_devices_and_one_that_is_nearly_due, MEANWHILE[happens], **stops):
        assert not judge.faults, f"{schedule}: {[str(fault) for fault in judge.faults]}"


@pytest.mark.parametrize("happens", MEANWHILE)
def test_two_runs_at_once_ask_each_device_once(happens):
    play_all(happens, seconds=2, firsts=3)


@pytest.mark.soak
@pytest.mark.parametrize("happens", MEANWHILE)
def test_two_runs_ask_each_device_once_wherever_one_stops_and_the_other_goes_on(happens):
    play_all(happens)
