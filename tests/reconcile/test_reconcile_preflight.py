"""What a device has answered before its rotation: what it keeps from happening, and who is asked."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.reconcile.checks import Governance
from controller.reconcile.planning import is_to_ask, plan_checks
from controller.reconcile.values import NO_OVERRIDES, Reason, parse_job_id, policy_in
from protocol.algorithms import KeyType
from protocol.job_document import is_check

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
OLD = 200 * DAY
WHY = "the disk is full"


def is_kept(make, device, desired=None, **state):
    found = make.assess(device, desired or make.desired(), make.state(**state))
    return Reason.PREFLIGHT_FAILED in make.reasons(found)


def test_a_device_that_would_fail_is_left_out_with_its_reason_and_a_remedy_until_it_answers_otherwise(make):
    device = make.answered(make.device(age=OLD), WHY)
    finding = make.assess(device, make.desired()).findings[-1]
    assert WHY in finding.message
    assert "certfleet preflight --policy line-a --wait" in finding.remedy
    assert not make.plan([device], make.desired()).jobs
    assert make.plan([make.answered(device)], make.desired()).jobs


NOTHING_SAID = {
    "it asks for another key": lambda m: m.answered(m.device(age=OLD), WHY, key_type=KeyType.ECDSA_P384),
    "it asks for another issuer": lambda m: m.answered(m.device(age=OLD), WHY, certificate_authority="aws-iot"),
    "the certificate is newer": lambda m: m.answered(m.device(age=OLD), WHY, ago=OLD + DAY),
    "a rotation has failed since": lambda m: m.answered(
        m.device(age=OLD, failures=(m.execution("by-hand", "FAILED", 2 * DAY, DAY),)), WHY, ago=3 * DAY),
    "the certificate is about to expire": lambda m: m.answered(m.device(age=OLD, left=2 * DAY), WHY),
    "nothing is wrong with it": lambda m: m.answered(m.device(), WHY),
    "it would begin": lambda m: m.answered(m.device(age=OLD)),
}  # fmt: skip


@pytest.mark.parametrize("why", NOTHING_SAID)
def test_an_answer_keeps_nobody_from_rotating_if(make, why):
    assert not is_kept(make, NOTHING_SAID[why](make))


def test_who_wrote_the_question_and_when_makes_no_difference(make):
    assert is_kept(make, make.answered(make.device(age=OLD), WHY, policy=None, commit=None))


def test_a_person_may_let_the_device_try_all_the_same(make):
    device = make.answered(make.device(age=OLD), WHY)
    tried = make.plan([device], make.desired(), overrides=replace(NO_OVERRIDES, again=frozenset({device.name})))
    assert [one.name for job in tried.jobs for one in job.devices] == [device.name]


# What the plan says ------------------------------------------------------------------------------


def told(make, *devices, jobs=(), **state):
    plan = make.plan(devices, make.desired(), make.state(*jobs, **state))
    return [notice for notice in plan.notices if "certfleet preflight" in notice]


def test_a_first_wave_that_nobody_has_asked_is_told_with_the_command(make):
    (notice,) = told(make, make.device(age=OLD))
    assert notice.endswith("would fail: certfleet preflight --policy line-a --wait")


def test_who_would_fail_is_counted_with_the_most_frequent_reason(make):
    devices = [make.answered(make.device(f"a-{n}", age=OLD), WHY if n < 2 else "no token" if n < 3 else None)
               for n in range(50)]  # fmt: skip
    (notice,) = told(make, *devices)
    assert f"3 of 50 devices would fail, 2 of them because {WHY}; put that right" in notice


def test_nothing_is_told_if_there_is_nothing_to_do(make):
    assert not told(make, make.device())
    assert not told(make, make.answered(make.device(age=OLD)))
    assert not told(make, make.device(age=OLD), backend_is_stock=True)


# Who is asked ------------------------------------------------------------------------------------


def asked(make, *devices, desired=None, **state):
    desired, known = desired or make.desired(), make.state(**state)
    found = [make.assess(device, desired, known) for device in devices]
    governance = Governance(desired, known, make.now, NO_OVERRIDES)
    return plan_checks([one for one in found if is_to_ask(one)], governance)


ASKED = {
    "must rotate": lambda m: (m.device(age=OLD), None),
    "must rotate once a window opens": lambda m: (m.device(age=OLD), m.desired(m.policy(windows=[m.window()]))),
    "is suspended": lambda m: (m.device(age=OLD), m.desired(m.policy(suspend=m.suspension()))),
    "would have failed before": lambda m: (m.answered(m.device(age=OLD), WHY), None),
    "failed a moment ago": lambda m: (
        m.device(age=OLD, failures=(m.execution("by-hand", "FAILED", HOUR / 6, HOUR / 7),)), None),
}  # fmt: skip
LEFT = {
    "is in sync": lambda m: (m.device(), None),
    "rotates": lambda m: (m.device(age=OLD, executions=(m.execution("by-hand", "IN_PROGRESS", HOUR),)), None),
    "shares its certificate": lambda m: (m.device(age=OLD, shared=("other",)), None),
    "is waived": lambda m: (m.device(age=OLD), m.desired(waivers=(m.waiver("gateway-1"),))),
}


@pytest.mark.parametrize(("which", "is_asked"), [*((n, True) for n in ASKED), *((n, False) for n in LEFT)])
def test_a_device_is_asked_or_not_if_it(make, which, is_asked):
    device, desired = (ASKED | LEFT)[which](make)
    assert bool(asked(make, device, desired=desired)) is is_asked


def test_a_check_asks_exactly_about_the_rotation_that_would_come_and_is_none(make):
    device = make.device(age=OLD)
    (check,) = asked(make, device)
    (job,) = make.plan([device], make.desired()).jobs
    wanted = check.document.to_wire()
    assert is_check(wanted)
    assert {**wanted, "operation": "ROTATE_CERTIFICATE"} == job.document.to_wire()
    assert (policy_in(check.job_id), parse_job_id(check.job_id)) == ("line-a", None)
    assert check.devices == (device.name,)


def test_each_rotation_is_asked_about_by_a_job_of_its_own_and_every_device_once_the_soonest_due_first(
    make,
):
    desired = make.desired(make.policy(rule=make.rule(key_type=None)))
    devices = [make.device("a", age=OLD), make.device("b", age=OLD, key_type="RSA-2048")]
    devices.append(make.device("c", age=OLD + DAY))
    assert sorted(check.devices for check in asked(make, *devices, desired=desired)) == [("b",), ("c", "a")]


def test_who_is_being_asked_is_not_asked_again_and_no_id_is_used_twice(make):
    device = make.device(age=OLD)
    (first,) = asked(make, device)
    same = make.job(first.job_id, {device.name: make.execution(first.job_id, "QUEUED", HOUR)})
    assert not asked(make, device, checks=(same,))
    ended = make.job(first.job_id, {device.name: make.execution(first.job_id, "CANCELED", HOUR)}, status="CANCELED")
    (second,) = asked(make, device, checks=(ended,))
    assert second.job_id != first.job_id
    assert asked(make, device) == (first,)


def test_a_check_lasts_until_the_last_was_reached_and_had_its_time(make):
    slow = make.desired(make.policy(rollout=replace(make.rollout(), maximum_per_minute=2)))
    (check,) = asked(make, *(make.device(f"a-{n}", age=OLD) for n in range(5)), desired=slow)
    assert check.lasts == HOUR + timedelta(minutes=3)
