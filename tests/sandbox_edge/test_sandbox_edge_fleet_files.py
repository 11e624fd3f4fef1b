"""Fleets as the field has them: long names, colons, authorities of their own, and a clock that is ahead."""

from __future__ import annotations

import json
import time
from datetime import timedelta

import pytest
from cryptography import x509

from sandbox.clock import SandboxClock
from sandbox.edge import Profile
from sandbox.fleet_file import FleetFileError, SandboxFleet, load_fleet_file
from sandbox.world import World

AHEAD = timedelta(days=30)
LONG = "plant-of-the-north-with-a-long-name/".strip("/") * 3
FLEET = {
    "authorities": [
        {
            "name": "my-own-ca",
            "arn": "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c0aa",
            "validity": "90d",
        }
    ],
    "groups": [{"name": "plant:a"}],
    "devices": [
        {"prefix": "plant:a:gw-", "processes": 1, "nucleus": "lite-2.6"},
        {"prefix": "plant:a:in-"},
        {"prefix": f"{LONG}-gw-", "processes": 1},
        {"prefix": f"{LONG}:failed-", "misfit": "RepeatedlyFailed"},
    ],
}
ROTATION_SECONDS = 60


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    devices = [{"groups": ["plant:a"], "age": "400d", "keyType": "ECDSA-P256", **entry} for entry in FLEET["devices"]]
    fleet = SandboxFleet.model_validate({**FLEET, "devices": devices})
    world = World(fleet, tmp_path_factory.mktemp("world"), SandboxClock(offset=AHEAD))
    world.start()
    yield world
    world.stop()


@pytest.mark.parametrize("thing", ["plant:a:gw-001", "plant:a:in-001", f"{LONG}-gw-001", f"{LONG}:failed-001"])
def test_a_device_of_any_name_rotates_to_the_fleet_files_own_authority_a_month_ahead(world, thing):
    assert world.devices[thing].wait_connected(60)
    before = world.credential_of(thing)
    document = {"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256", "certificateAuthority": "my-own-ca"}
    iot = world.client("iot")
    job = f"job-{FLEET_NUMBER[thing]}"
    arn = f"arn:aws:iot:eu-west-1:123456789012:thing/{thing}"
    iot.create_job(jobId=job, targets=[arn], document=json.dumps(document))
    until = time.monotonic() + ROTATION_SECONDS
    while (execution := iot.describe_job_execution(jobId=job, thingName=thing)["execution"])["status"] in PENDING:
        assert time.monotonic() < until, execution
        time.sleep(0.1)
    assert execution["status"] == "SUCCEEDED", execution["statusDetails"]
    after = world.credential_of(thing)
    assert after != before
    certificate = x509.load_pem_x509_certificate(after.certificate_pem)
    assert certificate.issuer == world.authority_certificates()[1].subject
    assert certificate.not_valid_after_utc > world.clock.now() + timedelta(days=89)


PENDING = ("QUEUED", "IN_PROGRESS")
FLEET_NUMBER = {"plant:a:gw-001": 1, "plant:a:in-001": 2, f"{LONG}-gw-001": 3, f"{LONG}:failed-001": 4}


def test_each_entry_may_choose_its_nucleus_and_how_long_a_restart_takes():
    entry = {"prefix": "a-", "groups": ["plant:a"], "age": "1d", "processes": 1}
    chosen = {"nucleus": "lite-2.6", "restartTakes": "30s"}
    fleet = SandboxFleet.model_validate({**FLEET, "devices": [entry | chosen, entry | {"prefix": "b-"}]})
    assert [(d.nucleus, d.restart_takes.total_seconds()) for d in fleet.devices] == [
        (Profile.LITE_2_6, 30),
        (Profile.CLASSIC, 0),
    ]
    with pytest.raises(ValueError, match="set nucleus to classic"):
        SandboxFleet.model_validate({**FLEET, "devices": [entry | {"nucleus": "lite-main", "storage": "softhsm"}]})


def test_a_name_that_aws_would_refuse_is_refused_with_its_length(tmp_path):
    file = tmp_path / "fleet.yaml"
    file.write_text(f"groups: [{{name: g}}]\ndevices: [{{prefix: {'x' * 126}, groups: [g], age: 1d}}]\n")
    with pytest.raises(FleetFileError, match="has 129 characters; a thing name has at most 128"):
        load_fleet_file(file)
