"""A preview of a change speaks of those who start because of it, and of nobody who is asked already."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from interleaving_faults import PutBack, put_back
from interleaving_moves import (
    a_device_goes_offline_or_returns,
    a_policy_rests_or_goes_on,
    apply_runs,
    days_pass,
    devices_answer,
    made,
    the_key_type_changes,
    the_policy_is_renamed,
    what_the_preview_of_the_change_told_happens,
)

from controller.reconcile.outlook import comparison

SUSPENDED_AND_NOT = (a_policy_rests_or_goes_on, partial(a_policy_rests_or_goes_on, field="neither"))
POLICY = comparison._policy
ONE_IS_SILENT = (a_device_goes_offline_or_returns, apply_runs, devices_answer, days_pass)


@pytest.fixture
def world():
    made_of_three = made(3, rollout={"waves": ["100%"]})
    yield made_of_three
    made_of_three.close()


def test_whoever_is_asked_already_and_waits_in_the_standing_job_from_now_on_does_not_start(world):
    for step in (*SUSPENDED_AND_NOT, *ONE_IS_SILENT, what_the_preview_of_the_change_told_happens):
        step(world)
    assert not world.judge.faults
    [standing] = [job for name, job in world.jobs().items() if "standing" in name]
    assert set(standing.executions) == {"line-a-1"}


def test_a_preview_that_does_not_count_who_starts_beside_a_silent_device_is_found(world, monkeypatch):
    for step in ONE_IS_SILENT:
        step(world)
    uncounted = PutBack("", [(comparison, "_is_due", lambda *_: False)], "", "", ())
    with put_back(monkeypatch, uncounted):
        the_key_type_changes(world)
        what_the_preview_of_the_change_told_happens(world)
    assert world.judge.broken() == {"what the preview told happens"}


@pytest.fixture
def one_is_asked():
    """A first wave of one that has not answered; the second would be asked five minutes after it at the latest."""
    made_of_two = made(2, rollout={"waves": ["1", "100%"], "soak": "0s"})
    for step in (apply_runs, the_policy_is_renamed):
        step(made_of_two)
    yield made_of_two
    made_of_two.close()


def test_a_device_that_would_start_soon_is_no_find_if_the_rollout_is_told_to_start_again(one_is_asked):
    what_the_preview_of_the_change_told_happens(one_is_asked)
    assert not one_is_asked.judge.faults
    asked = {name for job in one_is_asked.jobs().values() for name in job.executions}
    assert asked == {"line-a-1", "line-a-2"}


def test_a_preview_that_does_not_tell_that_a_rollout_starts_again_is_found(one_is_asked, monkeypatch):
    untold = PutBack("", [(comparison, "_policy", lambda *all: replace(POLICY(*all), first_wave=0))], "", "", ())
    with put_back(monkeypatch, untold):
        what_the_preview_of_the_change_told_happens(one_is_asked)
    assert one_is_asked.judge.broken() == {"what the preview told happens"}
