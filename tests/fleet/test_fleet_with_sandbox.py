"""The same refresh against the sandbox's AWS endpoint, over HTTP: paging, recursion, types, jobs, private CA."""

from __future__ import annotations

import json
from contextlib import closing
from datetime import timedelta

import boto3
import pytest
from cryptography.hazmat.primitives.asymmetric import ec

from controller.errors import FleetError
from controller.fleet import ActAs, AwsSession, Inventory, current_certificates, refresh
from controller.reconcile.schedule import risk_of
from controller.reconcile.values import AttachmentType, CertificateStatus
from sandbox.aws import Cloud
from sandbox.bus import Bus
from sandbox.clock import SandboxClock

ACCOUNT, REGION = "123456789012", "eu-west-1"
CA = f"arn:aws:acm-pca:{REGION}:{ACCOUNT}:certificate-authority/11111111-1111-1111-1111-111111111111"
KEY = ec.generate_private_key(ec.SECP384R1()).public_key()


@pytest.fixture
def cloud(tmp_path, now, monkeypatch):
    cloud = Cloud(ACCOUNT, REGION, SandboxClock(frozen_at=now), Bus(), tmp_path / "cloud")
    cloud.start()
    for variable, value in cloud.environment().items():
        monkeypatch.setenv(variable, value)
    yield cloud
    cloud.stop()


@pytest.fixture
def session(cloud, make_desired) -> AwsSession:
    fleet = make_desired("plant").fleet
    return AwsSession(fleet, ActAs.READER, quota_factor=1000, attempts=2)


@pytest.fixture
def iot(cloud):
    """A client of somebody else, who may do what certfleet never does."""
    with closing(boto3.client("iot", region_name=REGION)) as client:
        yield client


def test_a_fleet_with_every_kind_of_device_is_read_as_it_is(cloud, session, iot, make_desired, tmp_path, now):
    seed = cloud.seed
    seed.group("plant")
    seed.group("line-a", parent="plant")
    seed.private_ca(CA)
    held = {}
    for number in range(260):
        thing = f"a-{number:03}"
        seed.thing(thing, ["line-a"])
        held[thing] = seed.certificate(
            KEY, authority=CA if number % 2 else "aws-iot", not_before=now - timedelta(days=number), subject=thing
        ).certificate_id
        seed.attach(thing, held[thing])
    seed.thing("none", ["plant"])
    seed.thing("shared", ["plant"])
    rubbish = seed.unparseable_certificate(status="INACTIVE").certificate_id
    seed.attach("shared", rubbish, exclusive=False)
    seed.thing("stray")
    seed.attach("stray", rubbish, exclusive=False)
    document = json.dumps({"operation": "ROTATE_CERTIFICATE"})
    iot.create_job_template(
        jobTemplateId="AWSLabsCertificateRotator", document=document, description="the stock backend's"
    )
    arn = f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/a-001"
    iot.create_job(jobId="by-hand", targets=[arn], document=document)

    desired = make_desired("plant", private={"plant-ca": CA})
    with Inventory(tmp_path / "inventory.sqlite") as inventory:
        state = refresh(session, inventory, desired, now)
        devices = {device.name: device for device in inventory.devices(desired, state)}
        warm = AwsSession(desired.fleet, ActAs.READER, quota_factor=1000)
        assert refresh(warm, inventory, desired, now).group_sizes == {"plant": 262}

    assert list(devices) == sorted([*held, "none", "shared"])
    assert {
        name: device.attachments[0].certificate.certificate_id for name, device in devices.items() if name in held
    } == held
    even, odd = devices["a-004"].attachments[0], devices["a-007"].attachments[0]
    assert (even.certificate.authority, odd.certificate.authority) == ("aws-iot", "plant-ca")
    assert (odd.certificate.key_type, odd.certificate.not_before) == ("ECDSA-P384", now - timedelta(days=7))
    assert devices["none"].attachments == ()
    (attachment,) = devices["shared"].attachments
    assert (attachment.type, attachment.shared_with) == (AttachmentType.NON_EXCLUSIVE, ("stray",))
    assert attachment.certificate.status is CertificateStatus.INACTIVE
    assert attachment.certificate.parse_error
    assert [execution.job_id for execution in devices["a-001"].executions] == ["by-hand"]
    assert (state.backend_is_stock, state.unmanaged) == (True, ("stray",))
    assert (session.calls["ListCertificates"], warm.calls["ListCertificates"]) == (0, 2)
    assert session.calls["DescribeCertificate"] == 261
    assert warm.calls["DescribeCertificate"] == 0
    assert current_certificates(session, "shared") == ((rubbish, AttachmentType.NON_EXCLUSIVE),)
    assert current_certificates(session, "stranger") is None


def test_group_and_authority_that_do_not_exist_are_named(cloud, session, iot, make_desired, tmp_path, now):
    with Inventory(tmp_path / "inventory.sqlite") as inventory:
        with pytest.raises(FleetError, match=r"policies\.yaml:7: policy 'p-plant' governs thing group 'plant'"):
            refresh(session, inventory, make_desired("plant"), now)
        cloud.seed.group("plant")
        with pytest.raises(FleetError, match="no job template"):
            refresh(session, inventory, make_desired("plant"), now)
        iot.create_job_template(jobTemplateId="AWSLabsCertificateRotator", document="{}", description="certfleet")
        with pytest.raises(FleetError, match="CA certificate of authority 'plant-ca'"):
            refresh(session, inventory, make_desired("plant", private={"plant-ca": CA}), now)
        assert refresh(session, inventory, make_desired("plant"), now).group_sizes == {"plant": 0}


def test_a_device_that_comes_and_goes_at_the_endpoint_is_expected_by_its_own_absences(
    cloud, session, iot, make_desired, tmp_path, now
):
    cloud.seed.group("line-a")
    cloud.seed.thing("boat", ["line-a"])
    held = cloud.seed.certificate(KEY, not_before=now - timedelta(days=300), not_after=now + timedelta(days=30))
    cloud.seed.attach("boat", held.certificate_id)
    document = json.dumps({"operation": "ROTATE_CERTIFICATE"})
    arn = f"arn:aws:iot:{REGION}:{ACCOUNT}:thing/boat"
    iot.create_job_template(jobTemplateId="AWSLabsCertificateRotator", document=document, description="stock")
    iot.create_job(jobId="by-hand", targets=[arn], document=document)
    desired = make_desired("line-a")
    presence = cloud.registry
    with Inventory(tmp_path / "inventory.sqlite") as inventory:

        def look():
            at = cloud.site.clock.now()
            state = refresh(session, inventory, desired, at)
            [device] = inventory.devices(desired, state)
            return device.absences, risk_of(device, at)

        presence.connected(held.certificate_id, "boat")
        for voyage in range(5):
            presence.disconnected(held.certificate_id, "boat")
            for _day in range(2 + voyage):
                cloud.site.clock.advance(timedelta(days=1))
                absences, risk = look()
            assert absences.is_away
            assert risk.absence is None
            presence.connected(held.certificate_id, "boat")
            cloud.site.clock.advance(timedelta(days=1))
            absences, risk = look()
    assert [gap.days for gap in absences.gaps] == [2, 3, 4, 5, 6]
    assert (risk.absence.days, risk.is_at_risk) == (6, True), "five days are left"
