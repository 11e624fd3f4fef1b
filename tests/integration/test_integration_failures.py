"""What goes wrong between device and backend leaves the device with its old credential, or with the new one.

Each failure is brought about by a lever that an operator of the real backend has.
"""

from __future__ import annotations

import json

import pytest
from integration_bench import COMMIT, CREATE, TERMINAL

pytestmark = pytest.mark.portable
FAST = {"keyAlgorithm": "ECDSA-P256", "signingAlgorithm": "ECDSA-WITH-SHA256"}


@pytest.fixture(scope="module", autouse=True)
def brisk(bench):
    """Limits under which a device gives up soon."""
    assert {ending.status for ending in bench.deploy(merge=bench.pace.limits).values()} == {"SUCCEEDED"}


@pytest.fixture
def before(bench):
    return bench.registry()


def assert_failed(bench, job, *words):
    for ending in bench.endings(job).values():
        assert ending.status == "FAILED", ending
        assert all(word in ending.reason for word in words), ending


def assert_still_works(bench):
    """The next rotation succeeds: nothing is left that stands in its way."""
    before = bench.registry()
    bench.assert_rotated(bench.rotate(FAST), before)


def test_without_create_the_job_fails_and_nothing_has_changed(bench, before):
    with bench.rule_off(CREATE):
        job = bench.rotate(FAST)
        assert_failed(bench, job, "no certificate came in time", "check the backend's rules")
    bench.assert_unchanged(before)
    assert_still_works(bench)


def test_without_commit_the_device_returns_to_its_old_certificate(bench, before):
    with bench.rule_off(COMMIT):
        job = bench.rotate(FAST)
        assert_failed(bench, job, "no answer to the commit", "rolled back")
    bench.assert_unchanged(before)
    assert_still_works(bench)


def test_a_new_certificate_that_is_deactivated_before_it_connects_is_given_up(bench, before):
    iot = bench.aws("iot")
    with bench.holding_create_answers():
        job = bench.rotate(FAST)
        for thing in bench.things:
            [new] = bench.until(
                lambda thing=thing: set(bench.certificates(thing)) - set(before[thing]), f"{thing} is given one"
            )
            iot.update_certificate(certificateId=new, newStatus="INACTIVE")
    assert_failed(bench, job, "no connection with the new certificate in time", "rolled back")
    bench.assert_unchanged(before)
    assert_still_works(bench)


def test_a_function_that_is_throttled_for_a_moment_costs_a_moment(bench, before):
    with bench.throttled(CREATE):
        job = bench.rotate(FAST)
        iot = bench.aws("iot")
        for thing in bench.things:
            bench.until(
                lambda thing=thing: (
                    iot.describe_job_execution(jobId=job, thingName=thing)["execution"]["status"] != "QUEUED"
                ),
                f"{thing} has begun",
            )
    bench.assert_rotated(job, before)


@pytest.mark.parametrize("function", [CREATE, COMMIT])
def test_a_function_that_stays_throttled_fails_the_job_and_its_late_runs_do_no_harm(bench, before, function):
    with bench.throttled(function):
        job = bench.rotate(FAST)
        assert_failed(bench, job, "in time")
        bench.assert_unchanged(before)  # what AWS holds back runs once the end is handled; before it, both would stay
    assert_still_works(bench)
    for thing in bench.things:
        assert [held.status for held in bench.certificates(thing).values()] == ["ACTIVE"]


def test_an_end_that_is_handled_late_removes_the_old_certificate_late(bench, before):
    with bench.throttled(TERMINAL):
        job = bench.rotate(FAST)
        assert {ending.status for ending in bench.endings(job).values()} == {"SUCCEEDED"}
        assert {len(bench.certificates(thing)) for thing in bench.things} == {2}
    bench.assert_rotated(job, before)


def test_an_end_that_nobody_hears_of_is_made_up_for_by_the_next_rotation(bench, before):
    with bench.rule_off(TERMINAL):
        job = bench.rotate(FAST)
        assert {ending.status for ending in bench.endings(job).values()} == {"SUCCEEDED"}
    left_behind = bench.registry()
    assert {len(held) for held in left_behind.values()} == {2}
    job = bench.rotate(FAST)
    assert {ending.status for ending in bench.endings(job).values()} == {"SUCCEEDED"}
    for thing in bench.things:
        bench.until(lambda thing=thing: len(bench.certificates(thing)) == 1, f"one is left of {thing}")
        assert not set(bench.certificates(thing)) & set(left_behind[thing])
        bench.until(lambda thing=thing: not any(map(bench.exists, left_behind[thing])), "both of them are removed")


def test_an_authority_that_the_deployment_does_not_have_is_refused_by_name(bench, before):
    job = bench.rotate(FAST, certificateAuthority="no-such-ca")
    assert_failed(bench, job, "UnknownAuthority", "no-such-ca")
    bench.assert_unchanged(before)


def test_a_private_ca_that_cannot_be_reached_fails_the_job_and_nothing_has_changed(bench, before):
    authorities = bench.authorities()
    gone = {
        name: {**entry, "arn": entry["arn"][:-12] + "ffffffffffff"} for name, entry in authorities.items()
    }  # fmt: skip

    with bench.environment(CREATE, AUTHORITIES=json.dumps(gone)):
        job = bench.rotate(FAST, certificateAuthority=next(iter(gone)))
        assert_failed(bench, job)
    bench.assert_unchanged(before)
    assert_still_works(bench)


def test_a_job_that_is_canceled_while_it_waits_never_reaches_the_device(bench, before):
    iot = bench.aws("iot")
    with bench.rule_off(CREATE):
        job = bench.rotate(FAST)
        iot.cancel_job(jobId=job, force=True)
        assert {ending.status for ending in bench.endings(job).values()} == {"CANCELED"}
    bench.assert_unchanged(before)
    assert_still_works(bench)
