"""Commands against what nobody here wrote: moto's own server, as it is installed, with nothing of the sandbox in it.

moto does not say how a certificate is attached, so every device is one that a person must look at; what it does
is read, planned, applied and recorded.
"""

from __future__ import annotations

import json
import socket
import subprocess
import sys

import boto3
import pytest
import urllib3
from shared_documents import fleet, policy
from shared_repository import Repository

from controller.fleet.baseline import RECORD_GROUP

DOCUMENTS = fleet() + policy("line-a", demands={"authority": "aws-iot"})
ROTATE = {"operation": "ROTATE_CERTIFICATE"}


@pytest.fixture(scope="module")
def server():
    """In a process of its own: what moto keeps is its process', and the sandboxes of other tests are in this one."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    command = [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as process:
        url = f"http://127.0.0.1:{port}"
        urllib3.request("GET", f"{url}/moto-api/", retries=urllib3.Retry(60, backoff_factor=0.1, backoff_max=2.0))
        yield url
        process.terminate()


@pytest.fixture
def moto(surroundings, server):
    for name, value in {"AWS_ENDPOINT_URL": server, "AWS_DEFAULT_REGION": "eu-west-1"}.items():
        surroundings.setenv(name, value)
    surroundings.setenv("AWS_EC2_METADATA_DISABLED", "true")
    urllib3.request("POST", f"{server}/moto-api/reset")
    return boto3.client("iot")


@pytest.fixture
def repository(tmp_path):
    made = Repository(tmp_path / "repository")
    made.write(DOCUMENTS)
    made.commit()
    return made


@pytest.fixture
def line(moto):
    """Three things with a certificate each, a foreign job, and one that rotates by hand."""
    moto.create_job_template(
        jobTemplateId="AWSLabsCertificateRotator", document=json.dumps(ROTATE), description="certfleet: rotate by hand"
    )
    moto.create_thing_group(thingGroupName="line-a")
    for number in range(3):
        thing = moto.create_thing(thingName=f"a-{number}")
        certificate = moto.create_keys_and_certificate(setAsActive=number != 2)
        moto.attach_thing_principal(thingName=f"a-{number}", principal=certificate["certificateArn"])
        moto.add_thing_to_thing_group(thingGroupName="line-a", thingName=f"a-{number}")
    for name, document in {"firmware": {"operation": "UPDATE"}, "by-hand": ROTATE}.items():
        moto.create_job(jobId=name, targets=[thing["thingArn"]], document=json.dumps(document))
    return moto


def test_drift_plan_and_apply_speak_with_a_server_that_is_not_ours(line, repository):
    for _ in range(2):  # cold, and warm
        drift = repository.run("drift", "--format", "json")
        assert drift.code == 2, drift.err
        [fleet] = drift.json["fleets"]
        reasons = {d["device"]: {finding["reason"] for finding in d["findings"]} for d in fleet["devices"]}
        assert set(reasons) == {"a-0", "a-1", "a-2"}
        assert all("NotExclusive" in found for found in reasons.values()), reasons
        assert "CertificateInactive" in reasons["a-2"]

    plan = repository.run("plan", "--plan", "plan.json")
    assert plan.code == 0, plan.err
    applied = repository.run("apply", "--plan", "plan.json")
    assert applied.code == 0, applied.out + applied.err
    record = line.describe_thing_group(thingGroupName=RECORD_GROUP)["thingGroupProperties"]["attributePayload"]
    assert record["attributes"]["groups-1"] == "line-a/3"
    assert repository.run("apply").code == 0, "the record is read, and there is nothing to do"

    told = repository.run("explain", "a-0")
    assert told.code in {0, 2}, told.err
    assert "NON_EXCLUSIVE_THING" in told.out


def test_a_shrunken_desired_state_is_refused_there_too(line, repository):
    assert repository.run("apply").code == 0
    repository.write(DOCUMENTS.replace('"thingGroup": "line-a"', '"thingGroup": "line-b"'))
    repository.commit()
    line.create_thing_group(thingGroupName="line-b")
    assert repository.run("apply").code == 3
