"""Backoff and quarantine, and what starts them afresh."""

from __future__ import annotations

from datetime import timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reconcile.schedule import share_of
from controller.reconcile.schedule.backoff import counted_failures, delay_after
from controller.reconcile.values import family_of

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


@given(count=st.integers(1, 2000), name=st.text("abcdef", min_size=1))
def test_the_pause_doubles_up_to_32_hours_and_is_spread_over_its_upper_half(count, name):
    step = min(HOUR * 2 ** min(count - 1, 20), 32 * HOUR)
    assert step / 2 <= delay_after(count, "line-a", name) <= step


def test_the_pause_is_half_of_its_step_and_the_devices_share_of_the_other_half():
    share = share_of("line-a", "a certificate", "3")
    assert delay_after(3, "line-a", "a certificate") == 4 * HOUR * (0.5 + share / 2)


def test_a_failure_in_the_second_in_which_the_certificate_came_counts(make):
    desired = make.desired()
    device = _failing(make, [200 * DAY], desired)
    [failure] = device.failures
    certificate = make.replace(device.attachments[0].certificate, created_at=failure.last_updated_at)
    family = family_of(desired.policies[0], desired.authorities)
    assert counted_failures(device, certificate, "line-a", family) == (failure,)
    later = make.replace(certificate, created_at=failure.last_updated_at + timedelta(seconds=1))
    assert counted_failures(device, later, "line-a", family) == ()


def _failing(make, ages, desired, *, job=None, version=None, **fields):
    job_id = job or f"cf-line-a-w1-{family_of(desired.policies[0], desired.authorities)}0000000001"
    failures = tuple(
        make.execution(job_id, "FAILED", queued=age + MINUTE, updated=age, reason=f"disk full {n}", version=version)
        for n, age in enumerate(ages)
    )
    return make.device(age=200 * DAY, failures=failures, **fields)


@pytest.mark.parametrize(
    ("sentence", "ages", "reasons"),
    [
        ("no failure", [], ["AgeExceeded"]),
        ("one failure a minute ago", [MINUTE], ["AgeExceeded", "BackingOff"]),
        ("one failure an hour ago", [HOUR], ["AgeExceeded"]),
        ("two failures an hour and a half ago at most two hours' pause",
         [9 * HOUR, 30 * MINUTE], ["AgeExceeded", "BackingOff"]),
        ("four failures two days ago", [100 * HOUR, 90 * HOUR, 80 * HOUR, 48 * HOUR], ["AgeExceeded"]),
        ("five failures", [100 * HOUR, 90 * HOUR, 80 * HOUR, 60 * HOUR, 48 * HOUR],
         ["AgeExceeded", "RepeatedlyFailed"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_failures_hold_a_device_back(make, sentence, ages, reasons):
    desired = make.desired()
    assert make.reasons(make.assess(_failing(make, ages, desired), desired)) == reasons, sentence


def test_quarantine_tells_the_reasons_that_the_device_gave(make):
    desired = make.desired()
    device = _failing(make, [10 * HOUR, 9 * HOUR, 8 * HOUR, 7 * HOUR, 6 * HOUR], desired)
    device = make.replace(device, failures=(*device.failures, make.execution("by-hand", "TIMED_OUT", updated=HOUR)))
    finding = make.assess(device, desired).findings[1]
    assert finding.message.startswith("6 rotations failed, the last 1 hour ago: disk full 0 (1×); disk full 1 (1×)")
    assert finding.message.endswith("no reason given (TIMED_OUT) (1×)")


def test_backing_off_tells_the_last_reason_and_the_next_try(make):
    desired = make.desired()
    finding = make.assess(_failing(make, [MINUTE], desired), desired).findings[1]
    assert finding.message.startswith("1 rotation failed, last: disk full 0; tried again from 2026-11-23T12:")
    silent = make.device(age=200 * DAY, failures=(make.execution("by-hand", "TIMED_OUT", updated=MINUTE),))
    assert "no reason given (TIMED_OUT)" in make.assess(silent, desired).findings[1].message


@pytest.mark.parametrize(
    ("sentence", "fields", "held"),
    [
        ("the same version failed", {"version": "1.0.0", "component_version": "1.0.0"}, True),
        ("another version runs now", {"version": "1.0.0", "component_version": "1.1.0"}, False),
        ("the version that failed is not known", {"component_version": "1.1.0"}, True),
        ("the policy has changed since", {"job": "cf-line-a-w1-ffffff0000000001"}, False),
        ("another policy governed then", {"job": "cf-line-b-w1-ffffff0000000001"}, False),
        ("someone rotated by hand", {"job": "by-hand"}, True),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_what_changed_starts_afresh(make, sentence, fields, held):
    desired = make.desired()
    device = _failing(make, [MINUTE], desired, **fields)
    assert ("BackingOff" in make.reasons(make.assess(device, desired))) is held, sentence


def test_failures_of_the_former_certificate_are_forgotten(make):
    desired = make.desired(make.policy(rule=make.rule(max_age=HOUR)))
    failure = make.execution("by-hand", "FAILED", queued=3 * DAY, updated=3 * DAY)
    assert make.assess(make.device(age=2 * DAY, failures=(failure,)), desired).failures == 0
