"""Of a thing that people have cut off the backend makes nothing, takes nothing, and removes nothing in use."""

from __future__ import annotations

import pytest
from backend_aws import KilledError
from boto3.dynamodb.types import TypeSerializer

from protocol.quarantine import PARTITION, Quarantined, key_of

serialize = TypeSerializer().serialize


def cut_off(device, **deactivated):
    record = Quarantined(device.name, since=device.aws.now, deactivated=deactivated, version=1).to_record()
    device.aws.items[record["thingName"], record["record"]] = {name: serialize(v) for name, v in record.items()}


def function_dies():
    raise KilledError


def lift(device):
    key = key_of(device.name)
    del device.aws.items[key["thingName"], key["record"]]


def test_no_certificate_is_made_for_it_and_the_next_one_when_it_is_lifted(device):
    cut_off(device)
    assert device.create() == {"status": "rejected", "code": "Quarantined"}
    device.assert_code("Quarantined")
    device.assert_only(device.old)
    lift(device)
    assert device.create()["status"] == "accepted"


@pytest.mark.parametrize("moment", ["CreateCertificateFromCsr", "AttachThingPrincipal"])
def test_a_certificate_that_is_made_as_it_is_cut_off_is_handed_to_nobody(device, moment):
    device.aws.after_call[f"iot:{moment}"] = lambda: cut_off(device)
    assert device.create() == {"status": "rejected", "code": "Quarantined"}
    device.assert_only(device.old)
    assert all("certificatePem" not in payload for _, payload in device.aws.published)


def test_a_commit_is_not_taken_and_counts_for_nothing(device):
    device.create()
    cut_off(device)
    assert device.commit() == {"status": "rejected", "code": "Quarantined"}
    device.ended("SUCCEEDED")
    assert set(device.attached) == {device.old, device.new}
    assert "committedAt" not in device.record


@pytest.mark.parametrize("heard", ["its end", "a connection", "the sweep", "a rejected commit"])
def test_nothing_that_is_heard_of_it_removes_a_certificate_until_it_is_lifted(device, heard):
    device.create()
    new = device.new
    device.connected(new)
    device.commit()
    device.aws.tick(seconds=30)
    cut_off(device)
    device.ended("SUCCEEDED" if heard == "its end" else "CANCELED")
    device.aws.tick(minutes=20)
    {
        "its end": lambda: None,
        "a connection": lambda: device.connected(new),
        "the sweep": device.sweep,
        "a rejected commit": device.commit,
    }[heard]()
    device.sweep()
    assert set(device.attached) == {device.old, new}
    lift(device)
    device.connected(new)
    device.sweep()
    device.assert_only(new)


def test_one_of_two_certificates_that_is_deactivated_by_quarantine_is_no_persons_decision(device):
    device.create()
    device.connected(device.new)
    device.ended("TIMED_OUT")
    cut_off(device)
    device.aws.certificates[device.old].status = "INACTIVE"
    device.aws.tick(days=2)
    device.sweep()
    assert set(device.attached) == {device.old, device.new}
    lift(device)
    device.aws.certificates[device.old].status = "ACTIVE"
    device.sweep()
    assert set(device.attached) == {device.old, device.new}


def test_one_that_comes_back_as_the_sweep_looks_at_it_is_no_persons_decision(device):
    device.create()
    device.connected(device.new)
    device.ended("TIMED_OUT")
    device.aws.tick(days=2)
    device.sweep()
    cut_off(device)
    both, old = {device.old, device.new}, device.aws.certificates[device.old]
    old.status = "INACTIVE"

    def comes_back():
        old.status = "ACTIVE"
        lift(device)

    device.aws.after_call["iot:DescribeCertificate"] = comes_back
    device.sweep()
    assert both == set(device.attached)
    assert both <= set(device.aws.certificates)


def test_a_removal_that_broke_off_goes_on_when_it_is_lifted(device):
    device.create()
    new = device.new
    device.connected(new)
    device.commit()
    device.aws.before_call["iot:DeleteCertificate"] = function_dies
    with pytest.raises(KilledError):
        device.ended("SUCCEEDED")
    cut_off(device)
    device.aws.tick(minutes=20)
    device.sweep()
    assert device.old in device.aws.certificates
    lift(device)
    device.aws.tick(minutes=20)
    device.sweep()
    device.assert_only(new)


def test_one_device_does_not_end_anothers(device, make_device):
    other = make_device(device.aws, "gw-2")
    cut_off(other)
    assert device.create()["status"] == "accepted"
    for client, thing in (("gw-2", "gw-2"), ("gw-1", "gw-2")):
        assert device.create(thingName=thing, clientId=client)["status"] == "rejected"
    assert [key for key in device.aws.items if key[0] == PARTITION] == [tuple(key_of("gw-2").values())]
