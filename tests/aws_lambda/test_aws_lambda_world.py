"""CI and the function side by side over devices that run the real component."""

from __future__ import annotations

import contextlib
import io
import os
import subprocess
import sys
import time
from collections import Counter
from datetime import UTC, datetime

import yaml

from controller import aws_lambda
from controller.desired import GitRef
from controller.desired.bundle import make_bundle, write_bundle
from controller.desired.limits import DEFAULT_LIMITS
from sandbox.fleet_file import SandboxFleet
from sandbox.world import World

FLEET = """
groups: [{name: line-a}]
devices:
  - {prefix: old-, count: 3, groups: [line-a], age: 200d, keyType: ECDSA-P256}
  - {prefix: young-, count: 1, groups: [line-a], age: 5d, keyType: ECDSA-P256}
"""
BUCKET, REPOSITORY = "certfleet-reconcile", "github.com/acme/fleet"


class LambdaContext:
    def get_remaining_time_in_millis(self):
        return 300_000


def invoke():
    with contextlib.redirect_stdout(io.StringIO()):
        return aws_lambda.handler({}, LambdaContext())["fleets"]["factory"]


def test_ci_and_the_function_bring_a_fleet_into_sync_together_and_every_device_rotates_once(
    site_repository, tmp_path, monkeypatch
):
    world = World(SandboxFleet.model_validate(yaml.safe_load(FLEET)), tmp_path / "world")
    try:
        world.start()
        assert world.wait_until_online() == []
        before = {name: world.credential_of(name) for name in world.devices}
        s3 = world.client("s3")
        s3.create_bucket(Bucket=BUCKET, CreateBucketConfiguration={"LocationConstraint": "eu-west-1"})
        snapshot = GitRef(site_repository / "desired_state", "HEAD").read(DEFAULT_LIMITS)
        bundle = write_bundle(make_bundle(snapshot, datetime.now(UTC), REPOSITORY))
        s3.put_object(Bucket=BUCKET, Key="desired-state.bundle", Body=bundle)
        settings = {"CERTFLEET_BUCKET": BUCKET, "CERTFLEET_REPOSITORY": REPOSITORY}
        for name, value in (world.environment() | settings).items():
            monkeypatch.setenv(name, value)
        command = [sys.executable, "-m", "controller.cli", "apply", "--inventory", str(tmp_path / "ci.sqlite")]
        with subprocess.Popen(command, cwd=site_repository, env=os.environ, stdout=subprocess.PIPE) as ci:
            until = time.monotonic() + 120
            while invoke()["InSync"] < 4:
                assert time.monotonic() < until
            ci.communicate(timeout=120)
        assert ci.returncode == 0
        assert invoke()["JobsCreated"] == 0
        iot = world.client("iot")
        succeeded = Counter(
            item["thingArn"].rpartition("/")[2]
            for job in iot.list_jobs(maxResults=250)["jobs"]
            for item in iot.list_job_executions_for_job(jobId=job["jobId"])["executionSummaries"]
            if item["jobExecutionSummary"]["status"] == "SUCCEEDED"
        )
        assert succeeded == {"old-001": 1, "old-002": 1, "old-003": 1}
        changed = {name for name in before if world.credential_of(name) != before[name]}
        assert changed == {"old-001", "old-002", "old-003"}
    finally:
        world.stop()
