"""``certfleet sandbox up`` out of the wheel alone, and the AWS CLI against what it writes into ``sandbox.env``."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import boto3
import pytest

CA_ARN = "arn:aws:acm-pca:eu-west-1:123456789012:certificate-authority/5f0c9a52-3d0f-4f6f-9a53-b1d1e6a9c001"
FLEET = f"""\
authorities: [{{name: own-ca, arn: "{CA_ARN}", validity: 365d}}]
groups: [{{name: line-a-gateways}}, {{name: own}}]
devices:
  - {{prefix: gw-, count: 2, groups: [line-a-gateways], age: 400d, processes: 1}}
  - {{prefix: own-, count: 1, groups: [own], age: 400d}}
"""
DOCUMENTS = f"""\
apiVersion: certfleet/v1
kind: Fleet
metadata: {{name: laptop}}
spec: {{account: "123456789012", region: eu-west-1, guardrails: {{minExisting: 100}}}}
---
apiVersion: certfleet/v1
kind: CertificateAuthority
metadata: {{name: own-ca}}
spec: {{type: PrivateCA, arn: "{CA_ARN}", signingAlgorithm: SHA256WITHECDSA, validity: 365d}}
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {{name: own}}
spec:
  thingGroup: own
  certificate: {{authority: own-ca, keyType: ECDSA-P256}}
  rollout: {{waves: ["1", "100%"]}}
"""
THING = "arn:aws:iot:eu-west-1:123456789012:thing/gw-001"
TEMPLATE = "arn:aws:iot:eu-west-1:123456789012:jobtemplate/AWSLabsCertificateRotator"
CERTFLEET = [sys.executable, "-P", "-m", "controller.cli"]
READY_SECONDS = 90
ROTATION_SECONDS = 60


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory, installed):
    """The environment of a running sandbox, as other folders read it; nothing of the checkout is in it."""
    folder = tmp_path_factory.mktemp("sandbox-up")
    (folder / "fleet.yaml").write_text(FLEET)
    command = [*CERTFLEET, "sandbox", "up", "--fleet", "fleet.yaml", "--folder", "world"]
    environment = {**os.environ, "PYTHONPATH": str(installed)}
    with subprocess.Popen(command, cwd=folder, env=environment, stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        assert process.poll() is None, lines
        text = (folder / "sandbox.env").read_text()
        yield environment | dict(line.split("=", 1) for line in shlex.split(text))
        process.send_signal(signal.SIGTERM)
        assert process.wait(READY_SECONDS) == 0
    assert not (folder / "sandbox.env").exists()


def aws(sandbox, *arguments):
    command = [str(Path(sys.executable).with_name("aws")), *arguments, "--output", "json"]
    done = subprocess.run(command, env=sandbox, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


def test_a_job_from_the_template_rotates_a_device_and_the_cli_sees_it(sandbox, monkeypatch):
    for name, value in sandbox.items():
        monkeypatch.setenv(name, value)
    before = aws(sandbox, "iot", "list-thing-principals-v2", "--thing-name", "gw-001")[1]["thingPrincipalObjects"]
    create = ("iot", "create-job", "--job-id", "by-hand-1", "--targets", THING, "--job-template-arn", TEMPLATE)
    assert aws(sandbox, *create)[1]["jobId"] == "by-hand-1"

    iot = boto3.client("iot")  # to wait with: the command line needs a second for each look
    until = time.monotonic() + ROTATION_SECONDS
    named = {"jobId": "by-hand-1", "thingName": "gw-001"}
    while iot.describe_job_execution(**named)["execution"]["status"] in ("QUEUED", "IN_PROGRESS"):
        assert time.monotonic() < until
        time.sleep(0.1)
    describe = ("iot", "describe-job-execution", "--job-id", "by-hand-1", "--thing-name", "gw-001")
    execution = aws(sandbox, *describe)[1]["execution"]
    assert execution["status"] == "SUCCEEDED"
    assert execution["statusDetails"]["detailsMap"]["CertificateRotator"]

    shadow = ("iot-data", "get-thing-shadow", "--thing-name", "gw-001", "--shadow-name", "AWSLabsCertificateRotator")
    assert aws(sandbox, *shadow, "/dev/stdout")[0] == 0
    while len(iot.list_thing_principals_v2(thingName="gw-001")["thingPrincipalObjects"]) > 1:
        assert time.monotonic() < until
        time.sleep(0.1)
    after = aws(sandbox, "iot", "list-thing-principals-v2", "--thing-name", "gw-001")[1]["thingPrincipalObjects"]
    assert after[0]["thingPrincipalType"] == "EXCLUSIVE_THING"
    assert after != before


def test_an_own_fleet_has_its_first_rotation_by_an_own_authority(sandbox, tmp_path):
    (tmp_path / "desired_state").mkdir()
    (tmp_path / "desired_state" / "laptop.yaml").write_text(DOCUMENTS)
    identity = ("-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "commit.gpgsign=false")
    for git in (["init", "-q"], ["add", "-A"], [*identity, "commit", "-qm", "first"]):
        subprocess.run(["git", *git], cwd=tmp_path, check=True)

    def certfleet(*arguments):
        command = [*CERTFLEET, *arguments, "--inventory", str(tmp_path / "inventory.sqlite")]
        return subprocess.run(command, cwd=tmp_path, env=sandbox, capture_output=True, text=True, check=False)

    applied = certfleet("apply", "--wait", "--timeout", "120s")
    assert applied.returncode == 0, applied.stdout + applied.stderr
    assert "1 job made · 1 device rotated" in applied.stdout
    assert certfleet("drift").returncode == 0


def test_the_endpoint_that_aws_iot_names_serves_both_data_planes_over_tls(sandbox, monkeypatch):
    for name, value in sandbox.items():
        if name.startswith("AWS_") and name != "AWS_ENDPOINT_URL":
            monkeypatch.setenv(name, value)
    monkeypatch.delenv("AWS_ENDPOINT_URL", raising=False)
    address = aws(sandbox, "iot", "describe-endpoint", "--endpoint-type", "iot:Data-ATS")[1]["endpointAddress"]
    data = boto3.client("iot-data", endpoint_url=f"https://{address}")
    data.update_thing_shadow(thingName="gw-002", payload=b'{"state": {"reported": {"a": 1}}}')["payload"].read()
    assert json.loads(data.get_thing_shadow(thingName="gw-002")["payload"].read())["state"] == {"reported": {"a": 1}}
    jobs = boto3.client("iot-jobs-data", endpoint_url=f"https://{address}")
    assert jobs.get_pending_job_executions(thingName="gw-002")["queuedJobs"] == []


def test_a_call_that_the_sandbox_does_not_have_is_refused_by_name(sandbox):
    code, _, said = aws(sandbox, "iot", "list-billing-groups")
    assert code != 0
    assert "ListBillingGroups" in said
