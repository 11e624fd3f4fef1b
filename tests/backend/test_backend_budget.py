"""One device that asks wrongly, or too often, costs the others nothing: it is counted, refused, and rings once."""

from __future__ import annotations

from collections import Counter

import pytest
from backend_aws import JOB
from cryptography.hazmat.primitives.asymmetric import ec

from backend.functions import budget

SCARCE = ("iot:", "iot-jobs-data:")


def scarce(device):
    return [call for call in device.aws.calls if call.startswith(SCARCE)]


def fresh(csr_of):
    return csr_of(ec.generate_private_key(ec.SECP256R1()))


def test_two_hundred_wrong_creates_of_one_device_cost_as_many_scarce_calls_as_its_budget_allows(
    device, csr_of, name_of
):
    wrong = csr_of(device.new_key, name_of("somebody else"))
    codes = [device.create(csr=wrong)["code"] for _ in range(200)]
    assert codes[: budget.REQUESTS_PER_JOB] == ["CsrWrongSubject"] * budget.REQUESTS_PER_JOB
    assert set(codes[budget.REQUESTS_PER_JOB :]) == {"OverBudget"}
    assert len(scarce(device)) == 3 * budget.REQUESTS_PER_JOB


def test_a_device_over_its_budget_writes_nothing_any_more(device, csr_of, name_of):
    wrong = csr_of(device.new_key, name_of("somebody else"))
    for _ in range(budget.REQUESTS_PER_JOB + 1):
        device.create(csr=wrong)
    device.aws.calls.clear()
    device.create(csr=wrong)
    assert set(device.aws.calls) == {"dynamodb:GetItem", "iot-data:Publish"}


def test_a_client_of_another_thing_that_asks_on_and_on_writes_no_more_than_a_budget(device):
    """It holds the thing's certificate, so each request is evidence; the thing's own budget is not touched."""
    device.create()
    for _ in range(3 * budget.REQUESTS_PER_JOB):
        device.aws.tick()
        device.commit(principal=device.old, clientId="sensor/77", jobId="another")
    answers = Counter(message.get("errorCode") for _, message in device.aws.published)
    assert answers["ClientIdMismatch"] == budget.REQUESTS_PER_JOB
    assert answers["OverBudget"] == 2 * budget.REQUESTS_PER_JOB
    device.aws.calls.clear()
    device.commit(principal=device.old, clientId="sensor/77", jobId="another")
    assert "dynamodb:PutItem" not in device.aws.calls
    assert device.commit()["status"] == "accepted"


def test_what_names_another_certificate_in_place_is_counted(device):
    device.create()
    for _ in range(budget.REQUESTS_PER_JOB):
        device.aws.tick()
        device.create(certificateId="0" * 64)
    device.aws.tick()
    device.aws.calls.clear()
    device.create(certificateId="0" * 64)
    assert set(device.aws.calls) == {"dynamodb:GetItem", "iot-data:Publish"}


def issued_to(device, csr_of, tries, *, before=lambda: None):
    """How many certificates a device gets that asks with a new key each time, and then fails."""
    issued = 0
    for _ in range(tries):
        before()
        device.start_job()
        issued += device.create(csr=fresh(csr_of))["status"] == "accepted"
        device.aws.tick(seconds=20)
        device.ended("FAILED")
        device.aws.tick(seconds=20)
    return issued


def test_fifty_keys_under_one_job_get_at_most_five_certificates(device, csr_of):
    assert issued_to(device, csr_of, 50) == budget.CERTIFICATES_PER_JOB
    device.assert_only(device.old)


def test_new_jobs_get_a_device_more_certificates_until_the_days_are_used_up(device, csr_of):
    def ask(job):
        device.start_job(job)
        answer = device.create(jobId=job, csr=fresh(csr_of))
        device.aws.tick(seconds=20)
        device.ended("FAILED", jobId=job)
        device.aws.tick(seconds=20)
        return answer.get("code", answer["status"])

    answers = [ask(f"job-{number}") for number in range(budget.CERTIFICATES_PER_DAY + 1)]
    assert answers == ["accepted"] * budget.CERTIFICATES_PER_DAY + ["OverBudget"]
    device.aws.tick(days=1)
    assert ask("tomorrow") == "accepted"


def test_a_rotation_with_every_repeat_that_a_component_makes_stays_within_its_budget(device):
    for attempt in range(3):
        device.start_job()
        for _ in range(3):
            assert device.create()["status"] in {"accepted", "not answered"}, attempt
            device.aws.tick(seconds=10)
        for _ in range(3):
            assert device.commit()["status"] == "accepted"
            device.aws.tick(seconds=10)


@pytest.mark.parametrize("client", ["gw-1", "gw-1#2", "gw-10"])
def test_only_a_devices_own_client_uses_up_its_budget(device, client):
    device.create(clientId=client, jobId="no-such-job")
    found = device.aws.items.get(("gw-1", "budget"))
    assert (found is not None) is (client != "gw-10")


def lines(caplog):
    return [(r.code, r.distinct) for r in caplog.records if getattr(r, "decision", None) == "rejected"]


def test_a_device_without_a_job_rings_once_a_day_for_each_cause(device, caplog):
    for _ in range(5):
        device.create(jobId="no-such-job")
    device.create(csr="hello")
    found = lines(caplog)
    assert [code for code, distinct in found if distinct == "yes"] == ["NoExecution", "CsrUnreadable"]
    assert len(found) == 6
    device.aws.tick(days=1)
    device.create(jobId="no-such-job")
    assert lines(caplog)[-1] == ("NoExecution", "yes")


def test_of_a_sender_that_nothing_identifies_each_refusal_counts(device, caplog):
    for _ in range(2):
        device.create(clientId="gw-10", principal=None)
    assert [distinct for _, distinct in lines(caplog)] == ["yes", "yes"]


def test_another_device_rings_for_itself(device, make_device, caplog):
    for each in (device, make_device(device.aws, "gw-2")):
        each.create(jobId="no-such-job")
        each.create(jobId="no-such-job")
    assert [distinct for _, distinct in lines(caplog)] == ["yes", "no", "yes", "no"]


def test_the_refusal_of_another_job_is_no_reason_for_this_ones_end(device):
    device.create(jobId="no-such-job")
    device.create()
    device.aws.tick(seconds=5)
    device.ended("FAILED")
    assert "last refusal" not in device.aws.notices[-1]
    assert device.refusals == []


def test_a_rotation_that_was_refused_is_told_with_the_reason_whatever_the_device_writes(device, csr_of, name_of):
    device.create(csr=csr_of(device.new_key, name_of("somebody else")))
    device.ended("FAILED", statusDetails={})
    [notice] = device.aws.notices
    assert f"job {JOB}: FAILED: no certificate was created" in notice
    assert "last refusal under this job was CsrWrongSubject" in notice
    assert [(r.job_id, r.code, r.ending) for r in device.refusals] == [(JOB, "CsrWrongSubject", "FAILED")]


def test_nor_do_they_get_more_when_requests_under_another_job_come_between(device, csr_of):
    issued = issued_to(device, csr_of, 20, before=lambda: device.create(jobId="no-such-job"))
    assert issued == budget.CERTIFICATES_PER_JOB


@pytest.mark.parametrize("wrong", [{"jobId": None}, {"clientId": "gw-10"}], ids=["no job", "another's client id"])
def test_a_device_that_asks_wrongly_in_any_way_rings_once_a_day(device, caplog, wrong):
    for _ in range(5):
        device.create(**wrong)
    assert [distinct for _, distinct in lines(caplog)] == ["yes", "no", "no", "no", "no"]


@pytest.mark.parametrize("is_rotating", [False, True])
def test_wrong_commits_are_counted_as_well(device, is_rotating):
    """Over the old certificate each of them is evidence, and would be written down."""
    if is_rotating:
        device.create()
        device.aws.tick(seconds=5)
    codes = [device.commit(principal=device.old)["code"] for _ in range(budget.REQUESTS_PER_JOB + 1)]
    assert codes[0] == ("OldCertificate" if is_rotating else "NoRotation")
    assert codes[-1] == "OverBudget"
    device.aws.calls.clear()
    device.commit(principal=device.old)
    assert set(device.aws.calls) == {"dynamodb:GetItem", "iot-data:Publish"}
