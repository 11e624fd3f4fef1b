"""Items as the table held them before there was one table of verdicts: they are read, and nothing in use is removed."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from backend.functions import budget
from backend.functions.rotation import Phase, Rotation
from backend.functions.verdicts import Ending


def earlier(device, phase, **members):
    """The record of a rotation that has come to its new certificate, as the version before wrote it."""
    device.create()
    item = device.aws.items[device.name, "current"]
    item |= {"phase": {"S": phase}} | {name: {"S": value} for name, value in members.items()}
    del device.aws.items[device.name, "budget"]
    device.aws.tick(seconds=60)
    return item


def unresolved(device, ending, **members):
    at = device.aws.now.isoformat()
    item = earlier(device, "unresolved", committedAt=at, unresolvedAt=at, **members)
    line = {"at": {"S": at}, "who": {"S": f"job_execution_terminal: job j {ending}"}, "what": {"S": "unresolved"}}
    item["history"]["L"].append({"M": line})
    return item


def test_a_committed_one_goes_on_to_its_end(device):
    earlier(device, "committed", committedAt=device.aws.now.isoformat())
    new = device.new
    device.ended("SUCCEEDED")
    device.assert_only(new)


def test_a_committed_one_that_has_seen_the_old_certificate_since_keeps_both(device):
    at = device.aws.now.isoformat()
    later = device.aws.now.replace(second=30).isoformat()
    earlier(device, "committed", committedAt=at, seenPrincipal=device.old, seenAt=later)
    device.ended("SUCCEEDED")
    assert len(device.attached) == 2


@pytest.mark.parametrize("ending", ["TIMED_OUT", "CANCELED"])
def test_an_unresolved_one_is_settled_by_the_new_certificate(device, ending):
    unresolved(device, ending)
    new = device.new
    device.connected(new)
    device.assert_only(new)


@pytest.mark.parametrize("ending", ["TIMED_OUT", "FAILED", "SUCCEEDED"])
def test_an_unresolved_one_loses_nothing_to_the_old_certificate(device, ending):
    unresolved(device, ending)
    device.connected(device.old)
    assert len(device.attached) == 2


def test_a_removal_that_was_begun_goes_on(device):
    earlier(device, "removing", removing=device.old, outcome="rotated")
    new = device.new
    device.aws.tick(minutes=16)
    device.sweep()
    device.assert_only(new)


@pytest.mark.parametrize(
    ("who", "ending"),
    [("job_execution_terminal: job j FAILED", Ending.FAILED), ("somebody", Ending.DELETED), ("", Ending.DELETED)],
)
def test_the_end_stands_in_the_evidence_or_is_taken_as_the_clouds(device, who, ending):
    device.create()
    record = Rotation.from_record(
        {
            "thingName": "t", "jobId": "j", "publicKeyDigest": "d", "oldCertificateId": "o", "authority": "a",
            "certificateArnPrefix": "p", "startedAt": "2026-11-23T12:00:00+00:00",
            "leaseUntil": "2026-11-23T12:00:25+00:00", "phase": "unresolved", "version": 3,
            "unresolvedAt": "2026-11-23T12:01:00+00:00",
            "history": [{"at": "x", "who": who, "what": "unresolved"}] if who else [],
        }
    )  # fmt: skip
    assert (record.ending, record.ended_at) == (ending, "2026-11-23T12:01:00+00:00")
    assert record.phase is Phase.UNRESOLVED


def test_the_certificates_of_a_budget_that_only_counted_them_are_counted_on(device, csr_of):
    """Before the jobs of all of a day's certificates were kept, the item held the number of the latest job's."""
    device.create()
    item = device.aws.items[device.name, "budget"]
    del item["issued"]
    item |= {"jobCertificates": {"N": str(budget.CERTIFICATES_PER_JOB - 1)}}
    codes = []
    for _ in range(2):
        device.aws.tick(seconds=20)
        device.ended("FAILED")
        device.start_job()
        device.aws.tick(seconds=20)
        codes.append(device.create(csr=csr_of(ec.generate_private_key(ec.SECP256R1()))).get("code", "accepted"))
    assert codes == ["accepted", "OverBudget"]
