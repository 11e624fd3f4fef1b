"""A rotation that the stock backend has begun goes on with ours, where shadow and registry agree."""

from __future__ import annotations

from datetime import timedelta

import pytest
from backend_aws import JOB, VARIABLES, certify, subject

from backend.functions import services

STOCK_END = {"CertificateRotator": "true"}


@pytest.fixture
def begun(device):
    """The stock backend has issued, attached and noted it in the shadow; no record of ours knows of it."""
    issued = device.aws.register(certify(device.new_key.public_key(), subject(), device.aws.now))
    device.aws.certificates[issued].things = {device.name: "EXCLUSIVE_THING"}
    device.aws.certificates[issued].policies = ["device"]
    device.issued = issued
    device.aws.shadows[device.name] = {
        "progress": "created", "oldCertificateId": device.old, "newCertificateId": issued,
    }  # fmt: skip
    device.aws.tick(seconds=30)
    return device


def test_its_commit_is_accepted_and_the_old_certificate_goes_with_the_jobs_end(begun):
    assert begun.commit(principal=begun.issued) == {"status": "accepted"}
    begun.aws.tick()
    begun.ended("SUCCEEDED", statusDetails=STOCK_END)
    begun.assert_only(begun.issued)
    assert begun.record["authority"]["S"] == "of the backend before"


def test_a_stack_of_another_name_goes_on_with_it_too(begun):
    begun.aws.stack, begun.aws.stack_before = "Certfleet", VARIABLES["STACK_NAME"]
    variables = VARIABLES | {"STACK_NAME": "Certfleet", "REPLACES": VARIABLES["STACK_NAME"]}
    with services.running(services.build(variables, begun.aws.client, lambda: begun.aws.now)):
        assert begun.commit(principal=begun.issued) == {"status": "accepted"}
        begun.aws.tick()
        begun.ended("SUCCEEDED", statusDetails=STOCK_END)
    begun.assert_only(begun.issued)


@pytest.mark.parametrize("progress", ["created", "committed"])
def test_its_failure_takes_no_certificate_that_the_device_may_be_connected_with(begun, progress):
    """While the stock backend heard, nobody listened to connections. A component that was replaced fails, too."""
    begun.aws.shadows[begun.name]["progress"] = progress
    begun.ended("FAILED", statusDetails={})
    assert len(begun.attached) == 2
    assert "FAILED before the commit: both certificates stay" in begun.aws.notices[-1]
    begun.aws.tick(minutes=20)
    begun.connected(begun.issued)
    begun.aws.tick(minutes=20)
    begun.sweep()
    assert len(begun.attached) == 2


def test_its_failure_removes_the_new_certificate_once_the_device_is_seen_with_the_old_one(begun):
    begun.ended("FAILED", statusDetails={})
    begun.aws.tick(seconds=30)
    begun.connected(begun.old)
    begun.aws.tick(minutes=16)
    begun.sweep()
    begun.assert_only(begun.old)


def test_its_timeout_leaves_both_and_is_told(begun):
    begun.ended("TIMED_OUT", statusDetails={})
    assert len(begun.attached) == 2
    assert "TIMED_OUT before the commit: both certificates stay" in begun.aws.notices[-1]


def test_a_commit_that_only_the_shadow_knows_of_is_not_believed(begun):
    begun.aws.shadows[begun.name]["progress"] = "committed"
    begun.ended("SUCCEEDED", statusDetails=STOCK_END)
    assert len(begun.attached) == 2


def another_thing(device):
    device.aws.certificates[device.issued].things["gw-9"] = "EXCLUSIVE_THING"


def shared(device):
    device.aws.certificates[device.issued].things[device.name] = "NON_EXCLUSIVE_THING"


def detached(device):
    device.aws.certificates[device.issued].things = {}


def swapped(device):
    view = device.aws.shadows[device.name]
    view["oldCertificateId"], view["newCertificateId"] = view["newCertificateId"], view["oldCertificateId"]


def older(device):
    device.aws.certificates[device.issued].created = device.aws.certificates[device.old].created - timedelta(days=1)


def finished(device):
    device.aws.shadows[device.name]["progress"] = "rotated"


def odd(device):
    device.aws.shadows[device.name] = {"progress": "created", "oldCertificateId": 7}


def no_shadow(device):
    device.aws.shadows.clear()


def no_rotation(device):
    device.start_job(document={"operation": "REBOOT"})


@pytest.mark.parametrize(
    "contradicts", [shared, detached, swapped, older, finished, odd, no_shadow, no_rotation], ids=lambda f: f.__name__
)
def test_nothing_is_taken_over_that_the_registry_or_the_job_contradicts(begun, contradicts):
    contradicts(begun)
    before = {i: (c.status, dict(c.things)) for i, c in begun.aws.certificates.items()}
    begun.commit(principal=begun.issued)
    begun.assert_code("NotARotation" if contradicts is no_rotation else "NoRotation")
    begun.ended("FAILED", statusDetails={})
    assert {i: (c.status, dict(c.things)) for i, c in begun.aws.certificates.items()} == before
    assert (begun.name, "current") not in begun.aws.items


def test_a_certificate_that_another_thing_has_too_is_not_removed(begun):
    another_thing(begun)
    begun.ended("FAILED", statusDetails={})
    assert begun.aws.certificates[begun.issued].status == "ACTIVE"


def test_the_old_one_cannot_commit(begun):
    begun.commit(principal=begun.old)
    begun.assert_code("OldCertificate")


def test_the_end_of_a_job_of_another_kind_costs_a_look_at_the_shadow_and_touches_nothing(begun):
    begun.aws.executions[begun.name, "firmware-7"] = {"status": "FAILED", "jobDocument": '{"operation":"UPDATE"}'}
    begun.ended("FAILED", jobId="firmware-7", statusDetails={})
    assert len(begun.attached) == 2
    begun.start_job()
    assert begun.commit(principal=begun.issued) == {"status": "accepted"}


def test_what_was_taken_over_and_is_done_is_not_taken_over_again(begun):
    begun.commit(principal=begun.issued)
    begun.aws.tick()
    begun.ended("SUCCEEDED", statusDetails=STOCK_END)
    begun.ended("FAILED", jobId=JOB, statusDetails={})
    begun.assert_only(begun.issued)
