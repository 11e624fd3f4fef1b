"""Deployments of a configuration: what the component rejects fails and changes nothing, what it accepts is in force."""

from __future__ import annotations

import pytest
from integration_bench import COMPONENT_NAME, openssl

from protocol.algorithms import CsrSigningAlgorithm, KeyType, matching_csr_algorithms

pytestmark = pytest.mark.portable
STARTS_COLD = True

PAIRS = [(key_type, algorithm) for key_type in KeyType for algorithm in CsrSigningAlgorithm]
WRONG_PAIRS = [pair for pair in PAIRS if pair[1] not in matching_csr_algorithms(pair[0])]
WRONG = {
    "a key type that does not exist": ({"keyAlgorithm": "RSA-1024"}, "keyAlgorithm"),
    "a CSR algorithm that does not exist": ({"signingAlgorithm": "MD5WITHRSA"}, "signingAlgorithm"),
    "a setting that does not exist": ({"keyAlgoritm": "RSA-2048"}, "no such setting"),
    "a limit below its least": ({"stepTimeLimitSeconds": 1}, "stepTimeLimitSeconds"),
    "a limit above its most": ({"reconnectTimeLimitSeconds": 999_999}, "reconnectTimeLimitSeconds"),
    "a limit that is not a number": ({"resendIntervalSeconds": "soon"}, "resendIntervalSeconds"),
    "a resend after the time limit": ({"resendIntervalSeconds": 40, "stepTimeLimitSeconds": 30}, "nothing is ever"),
    "a command that is not a list": ({"restartCommand": "reboot"}, "restartCommand"),
}


def deploy(bench, merge):
    endings = bench.deploy(merge=merge).values()
    return {ending.status for ending in endings}, [ending.reason for ending in endings]


def assert_rejected(bench, merge, *words):
    before = {thing: bench.configuration_of(thing) for thing in bench.things}
    statuses, reasons = deploy(bench, merge)
    assert statuses == {"FAILED"}
    assert all(word in reason for word in words for reason in reasons), reasons
    assert {thing: bench.configuration_of(thing) for thing in bench.things} == before


@pytest.mark.parametrize(("key_type", "algorithm"), WRONG_PAIRS, ids=[f"{k.value} {a.value}" for k, a in WRONG_PAIRS])
def test_a_pair_that_does_not_match_is_rejected(bench, key_type, algorithm):
    merge = {"keyAlgorithm": key_type.value, "signingAlgorithm": algorithm.value}
    assert_rejected(bench, merge, key_type.value, algorithm.value)


@pytest.mark.parametrize(("merge", "word"), WRONG.values(), ids=WRONG)
def test_rejected_is(bench, merge, word):
    assert_rejected(bench, merge, word)


def test_an_accepted_configuration_decides_what_jobs_leave_open(bench):
    merge = {"keyAlgorithm": "ECDSA-P384", "signingAlgorithm": "ECDSA-WITH-SHA384"}
    statuses, reasons = deploy(bench, merge)
    assert statuses == {"SUCCEEDED"}, reasons
    before = bench.registry()
    bench.assert_rotated(bench.rotate(), before)

    for thing in bench.things:
        assert "secp384r1" in openssl("x509", "-noout", "-text", text=bench.pem(thing))


@pytest.mark.parametrize(
    ("merge", "status"),
    [({"keyAlgorithm": "RSA-1024"}, "FAILED"), ({"stepTimeLimitSeconds": 45}, "SUCCEEDED")],
    ids=["what the component rejects", "what it accepts"],
)
def test_the_job_of_a_deployment_ends_as_the_component_decided_for(bench, merge, status):
    greengrass = bench.aws("greengrassv2")
    deploy(bench, merge)
    arn = bench.aws("iot").describe_thing_group(thingGroupName=bench.group)["thingGroupArn"]
    [latest] = greengrass.list_deployments(targetArn=arn, historyFilter="LATEST_ONLY")["deployments"]
    made = greengrass.get_deployment(deploymentId=latest["deploymentId"])
    executions = bench.aws("iot").list_job_executions_for_job(jobId=made["iotJobId"])["executionSummaries"]
    ended = {e["thingArn"].rsplit("/", 1)[-1]: e["jobExecutionSummary"]["status"] for e in executions}
    assert ended == dict.fromkeys(bench.things, status)


def test_the_cloud_lists_the_core_devices_and_the_component_that_runs_on_each(bench):
    greengrass = bench.aws("greengrassv2")
    listed = {core["coreDeviceThingName"]: core["status"] for core in greengrass.list_core_devices()["coreDevices"]}
    for thing in bench.things:
        assert listed[thing] == "HEALTHY"
        installed = greengrass.list_installed_components(coreDeviceThingName=thing)["installedComponents"]
        found = {component["componentName"]: component["lifecycleState"] for component in installed}
        assert found[COMPONENT_NAME] == "RUNNING"
