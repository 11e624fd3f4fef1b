"""A person lets a rollout go on: whoever is tried again is nobody new, and what else is needed is printed."""

from __future__ import annotations

from dataclasses import replace
from functools import partial

import pytest
from interleaving_faults import PutBack, put_back
from interleaving_moves import (
    a_day_of_the_loop,
    a_device_gets_a_credential_by_hand,
    a_device_gets_half_way,
    a_person_ends_the_waiver,
    a_person_resumes,
    a_person_starts_a_job,
    a_person_waives_a_device,
    apply_runs,
    days_pass,
    devices_answer,
    devices_begin_to_fail_or_cease_to,
    made,
    minutes_pass,
    the_backend_ceases_to_say_what_it_is,
    the_key_type_changes,
    the_policy_is_renamed,
)
from interleaving_recovery import REMEDIES
from interleaving_small_world import ON_PLANT_CA, OTHER_KEY
from interleaving_world import ARNS, rule

from controller.reconcile.rollout import waves
from controller.reconcile.schedule.backoff import MAX_FAILURES

IT_FAILS = (apply_runs, devices_begin_to_fail_or_cease_to)
ANOTHER_TAKES_ITS_PLACE = (a_person_waives_a_device, a_day_of_the_loop, a_day_of_the_loop)
BOTH_ARE_TRIED = (a_person_ends_the_waiver, a_day_of_the_loop, a_day_of_the_loop, a_person_resumes)
BOTH_ARE_WAIVED = (a_person_waives_a_device, partial(a_person_waives_a_device, at=1))
RESUMED = (*IT_FAILS, *ANOTHER_TAKES_ITS_PLACE, *BOTH_ARE_TRIED)

SIZES, GATHER = waves.cumulative_sizes, waves.gather


def one_more(*given):
    return tuple(size + 1 for size in SIZES(*given))


def one_more_is_owed(*given, **more):
    found = GATHER(*given, **more)
    return replace(found, owed=found.owed | {"line-a-3"} if found.owed else found.owed)


@pytest.fixture
def world():
    made_of_four = made(4)
    yield made_of_four
    made_of_four.close()


def test_who_was_waived_and_who_took_its_place_may_be_tried_again_on_one_day(world):
    for step in RESUMED:
        step(world)
    assert not world.judge.faults
    assert set(list(world.jobs().values())[-1].executions) == {"line-a-1", "line-a-2"}


def test_a_job_that_a_person_resumed_is_withdrawn_once_one_of_its_devices_needs_nothing(world):
    world.change("line-a", rollout=world.documents.policies["line-a"]["rollout"] | {"waves": ["100%"]})
    for step in (a_person_resumes, partial(a_device_gets_a_credential_by_hand, at=2), apply_runs):
        step(world)
    [job] = world.jobs().values()
    assert (job.status, len(job.executions)) == ("CANCELED", 4)
    assert not world.judge.faults


def test_a_policy_that_gets_its_name_back_starts_with_a_first_wave_of_its_own(world):
    before = (apply_runs, the_policy_is_renamed, apply_runs, the_key_type_changes, apply_runs)
    for step in (*before, partial(the_key_type_changes, key="ECDSA-P256"), the_policy_is_renamed, apply_runs):
        step(world)
    asked = [sorted(job.executions) for job in world.jobs().values()]
    assert asked[0] != asked[-1], "who was asked before and did not answer gives way"
    assert len(asked[-1]) == 1
    assert not world.judge.faults


@pytest.mark.parametrize(
    ("before", "then", "fault"),
    [
        ((), IT_FAILS, ("cumulative_sizes", one_more)),
        (IT_FAILS, (a_person_waives_a_device, apply_runs, minutes_pass, apply_runs), ("cumulative_sizes", one_more)),
        ((*RESUMED, *BOTH_ARE_WAIVED), (a_day_of_the_loop, a_day_of_the_loop), ("cumulative_sizes", one_more)),
        (RESUMED[:-1], RESUMED[-1:], ("gather", one_more_is_owed)),
    ],
    ids=["at first", "one takes another's place", "both are waived", "beside those that are tried again"],
)
def test_a_first_wave_that_asks_one_too_many_is_found(world, before, then, fault, monkeypatch):
    for step in before:
        step(world)
    assert not world.judge.faults
    with put_back(monkeypatch, PutBack("", [(waves, *fault)], "", "", ())):
        for step in then:
            step(world)
    assert world.judge.broken() == {"a change starts with its first wave"}


def test_a_credential_put_there_by_hand_does_not_make_a_rotation_in_vain_a_healthy_one():
    world = made(**ON_PLANT_CA)
    for step in (OTHER_KEY, the_key_type_changes, apply_runs, devices_answer, minutes_pass):
        step(world)
    a_device_gets_a_credential_by_hand(world)
    world.pass_time(hours=25)
    started = [device["name"] for job in world.plan().json["jobs"] for device in job["devices"]]
    world.close()
    assert len(started) == 1, "its wave is asked once more, of as many as before"


def test_whoever_resumes_under_a_backend_that_does_not_say_what_it_is_is_told_what_else_is_needed():
    world = made(**ON_PLANT_CA)
    the_backend_ceases_to_say_what_it_is(world)
    world.pass_time(days=90)
    refused = world.apply("--override", "resume=line-a")
    assert refused.err.splitlines()[-1] == "→ --override resume=line-a --override deployment=plant-ca"
    REMEDIES["resumed"](world)
    world.close()
    assert not world.judge.faults


def test_a_device_that_goes_on_failing_is_given_up_though_a_wave_that_only_a_person_resumes_holds_it_up():
    """Of that wave the one device finished after its job had timed out: it counts as failed, and needs nothing."""
    world = made(4, rollout={"waves": ["1", "2", "100%"]}, certificate=rule(authority="plant-ca"), authority=ARNS[0])
    second_times_out = (a_day_of_the_loop, apply_runs, partial(a_device_gets_half_way, at=1), days_pass, devices_answer)
    for step in (*second_times_out, a_person_starts_a_job, devices_answer):
        step(world)
    REMEDIES["resumed"](world)
    world.close()
    assert not world.judge.faults
    assert world.judge.failures == {"line-a-1": MAX_FAILURES}
