"""``certfleet sandbox up`` as a process, and the AWS CLI against what it writes into ``sandbox.env``."""

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

FLEET = """\
groups: [{name: line-a-gateways}]
devices:
  - {prefix: gw-, count: 2, groups: [line-a-gateways], age: 400d, processes: 1}
"""
THING = "arn:aws:iot:eu-west-1:123456789012:thing/gw-001"
TEMPLATE = "arn:aws:iot:eu-west-1:123456789012:jobtemplate/AWSLabsCertificateRotator"
READY_SECONDS = 90
ROTATION_SECONDS = 60


@pytest.fixture(scope="module")
def sandbox(tmp_path_factory):
    """The environment of a running sandbox."""
    folder = tmp_path_factory.mktemp("sandbox-up")
    (folder / "fleet.yaml").write_text(FLEET)
    command = [sys.executable, "-m", "controller.cli", "sandbox", "up", "--fleet", "fleet.yaml"]
    with subprocess.Popen(command, cwd=folder, stderr=subprocess.PIPE, text=True) as process:
        lines = []
        for line in process.stderr:
            lines.append(line)
            if "Ctrl-C" in line:
                break
        assert process.poll() is None, lines
        text = (folder / "sandbox.env").read_text()
        yield os.environ | dict(line.split("=", 1) for line in shlex.split(text))
        process.send_signal(signal.SIGTERM)
        assert process.wait(READY_SECONDS) == 0
    assert not (folder / "sandbox.env").exists()


def aws(sandbox, *arguments):
    command = [str(Path(sys.executable).with_name("aws")), *arguments, "--output", "json"]
    done = subprocess.run(command, env=sandbox, capture_output=True, text=True, timeout=60, check=False)
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


def test_a_job_from_the_template_rotates_a_device_and_the_cli_sees_it(sandbox):
    before = aws(sandbox, "iot", "list-thing-principals-v2", "--thing-name", "gw-001")[1]["thingPrincipalObjects"]
    create = ("iot", "create-job", "--job-id", "by-hand-1", "--targets", THING, "--job-template-arn", TEMPLATE)
    assert aws(sandbox, *create)[1]["jobId"] == "by-hand-1"

    describe = ("iot", "describe-job-execution", "--job-id", "by-hand-1", "--thing-name", "gw-001")
    until = time.monotonic() + ROTATION_SECONDS
    while (execution := aws(sandbox, *describe)[1]["execution"])["status"] in ("QUEUED", "IN_PROGRESS"):
        assert time.monotonic() < until, execution
    assert execution["status"] == "SUCCEEDED"
    assert execution["statusDetails"]["detailsMap"]["CertificateRotator"]

    shadow = ("iot-data", "get-thing-shadow", "--thing-name", "gw-001", "--shadow-name", "AWSLabsCertificateRotator")
    assert aws(sandbox, *shadow, "/dev/stdout")[0] == 0
    while (
        len(
            after := aws(sandbox, "iot", "list-thing-principals-v2", "--thing-name", "gw-001")[1][
                "thingPrincipalObjects"
            ]
        )
        > 1
    ):
        assert time.monotonic() < until, after
    assert after[0]["thingPrincipalType"] == "EXCLUSIVE_THING"
    assert after != before


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
