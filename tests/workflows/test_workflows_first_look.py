"""A first look that is longer than a job may be: several runs of reconcile.yml, each cut off, until all is read.

The steps are the workflow's own, with the time limit and the quotas that stand in them; only that the quotas are
waited for takes no time (``shared_virtual_time``). The small account has quotas that are smaller by as much.
"""

from __future__ import annotations

import sys
from collections import Counter

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from shared_plant import keys_folder
from shared_virtual_time import VARIABLE
from workflows_factory import FLEET_FILE, repository

from controller.present import AHEAD
from sandbox.aws import Cloud
from sandbox.bus import Bus
from sandbox.clock import SandboxClock

DOCUMENTS = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: factory}
spec: {account: "123456789012", region: eu-west-1}
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {name: line-a}
spec:
  thingGroup: line-a
  certificate: {maxAge: 3650d, keyType: ECDSA-P256, authority: aws-iot}
"""
SOONEST = 75 * 60 * 10 * 0.8  # things that one run may ask for what they hold
KEPT = "Keep what is known, however far this run came"
SIZES = [(60, 40 / SOONEST), pytest.param(100_000, 1, marks=pytest.mark.soak)]  # certificates; quotas, times AWS's


@pytest.fixture
def cloud():
    made = Cloud("123456789012", "eu-west-1", SandboxClock(), Bus(), keys_folder())
    made.start()
    made.seed.group("line-a")
    template = {"jobTemplateId": "AWSLabsCertificateRotator", "document": "{}", "description": "certfleet"}
    made.services["iot"].call("CreateJobTemplate", template)
    yield made
    made.stop()


def calls_of(cloud):
    """What AWS IoT is asked from now on."""
    calls, api = Counter(), cloud.services["iot"]
    find = api._method

    def method(operation):
        calls[operation] += 1
        return find(operation)

    api._method = method
    return calls


@pytest.mark.parametrize(("devices", "quotas"), SIZES)
def test_a_first_look_longer_than_a_job_is_finished_by_several_runs(tmp_path, cloud, github, devices, quotas):
    key = ec.generate_private_key(ec.SECP256R1()).public_key()
    for number in range(devices):
        cloud.seed.thing(f"device-{number:06}", ["line-a"])
        cloud.seed.attach(f"device-{number:06}", cloud.seed.certificate(key).certificate_id)
    calls = calls_of(cloud)
    factory = repository(tmp_path / "factory", cloud, github)
    sha = factory.origin.push({FLEET_FILE: DOCUMENTS})
    factory.environment["CERTFLEET_QUOTA_FACTOR"] = str(quotas)
    told, before = [], 0
    while not told or told[-1][0] != "success":
        assert len(told) < 9, told
        factory.environment[VARIABLE] = "2400" if len(told) == 1 else "on"  # the second is killed at its 40th minute
        factory.environment[AHEAD] = str(75 * 60 * len(told))
        plan = factory.run("reconcile.yml", "schedule", sha=sha)["plan"]
        read, before = calls["ListThingPrincipalsV2"] - before, calls["ListThingPrincipalsV2"]
        told.append((plan.result, read))
        assert plan.steps[KEPT] == "success"
        assert ("the time limit is over" in plan.log) == (len(told) != 2 and plan.result == "failure"), plan.log
        assert plan.result == "success" or 0 < read < devices, plan.log
    sys.stdout.write(f"{devices:,} certificates: {told}, {calls.total():,} calls: {dict(calls)}\n")
    kept = max(factory.caches.glob("*/*.sqlite"), key=lambda path: path.stat().st_mtime)
    sys.stdout.write(f"the cache that is kept: {kept.stat().st_size / 1e6:,.1f} MB\n")
    killed = 64 * (1 + len(told))
    assert calls["DescribeCertificate"] <= devices + killed
    again = len(told) * (devices / 150 + 1)  # each run looks after a slice of what is known, so that all is in a week
    assert calls["ListThingPrincipalsV2"] <= devices + killed + again
