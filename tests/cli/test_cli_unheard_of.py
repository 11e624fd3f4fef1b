"""Values that AWS may add: each is one of its own, and holds up the one device that it is about.

Which members of AWS's answers have a list of values is taken from botocore's models, over all that we read.
"""

from __future__ import annotations

import functools
import json
from dataclasses import replace
from typing import Any

import pytest
from shared_fault_proxy import Call, FaultProxy, model_of

from controller.fleet.aws_answers import MEMBERS

ROTATE = {"operation": "ROTATE_CERTIFICATE"}
JOB = "by-hand"


def with_values(operation: str) -> list[str]:
    """The members of an operation's answer that have a list of values, as paths."""
    found = []
    for path in MEMBERS[operation]:
        shape = model_of(operation).output_shape
        for part in path.replace("?", "").split("."):
            shape = shape.members[part]
            shape = shape.member if shape.type_name == "list" else shape
        if getattr(shape, "enum", None):
            found.append(path.replace("?", ""))
    return found


AUTHORITIES = "ListCertificateAuthorities.CertificateAuthorities"
OF_NO_DEVICE = {
    "DescribeJobExecution.execution.status",  # read for what the device said, in a failure
    f"{AUTHORITIES}.Status",  # of CAs that first documents are made of: one in another state is left out
    f"{AUTHORITIES}.CertificateAuthorityConfiguration.KeyAlgorithm",
    # of a CA, which all its devices wait for
    "DescribeCertificateAuthority.CertificateAuthority.Status",
    "DescribeCertificateAuthority.CertificateAuthority.UsageMode",
    "DescribeCertificateAuthority.CertificateAuthority.CertificateAuthorityConfiguration.KeyAlgorithm",
    # of a device that a checkup asks about: what is not known to be allowed is not told as ok
    "TestAuthorization.authResults.authDecision",
    "TestAuthorization.authResults.authInfo.actionType",
    # under a stock backend: what is not known to be carried out leaves the device's setting unknown
    "ListEffectiveDeployments.effectiveDeployments.coreDeviceExecutionStatus",
}
EXPECTED = {
    "ListCertificates.certificates.status": "CertificateInactive",
    "DescribeCertificate.certificateDescription.status": "CertificateInactive",
    "DescribeCertificate.certificateDescription.certificateMode": "Unparseable",
    "ListPrincipalThingsV2.principalThingObjects.thingPrincipalType": "NotExclusive",
    "ListThingPrincipalsV2.thingPrincipalObjects.thingPrincipalType": "NotExclusive",
    "ListJobs.jobs.status": "Rotating",
    "ListJobs.jobs.targetSelection": "Rotating",
    "DescribeJob.job.status": "Rotating",
    "DescribeJob.job.targetSelection": "Rotating",
    "ListJobExecutionsForJob.executionSummaries.jobExecutionSummary.status": "ExecutionUnknown",
}


def test_every_member_with_a_list_of_values_has_its_row():
    found = {f"{operation}.{path}" for operation in MEMBERS for path in with_values(operation)}
    assert found - OF_NO_DEVICE == set(EXPECTED)


def renamed(value: Any, path: list[str], words: tuple[str, ...], *, is_about: bool) -> Any:
    """``value`` with the member at ``path`` set to what nobody knows, in what has one of the words in it."""
    if isinstance(value, list):
        return [
            renamed(one, path, words, is_about=is_about or any(word in json.dumps(one) for word in words))
            for one in value
        ]
    if not path:
        return "UNHEARD_OF" if is_about else value
    return {name: renamed(one, path[1:], words, is_about=is_about) if name == path[0] else one
            for name, one in value.items()}  # fmt: skip


def unheard_of(path: str, words: tuple[str, ...], call: Call) -> Any:
    answer = call.answer()
    is_about = any(word in call.path for word in words)
    body = json.dumps(renamed(json.loads(answer.body), path.split("."), words, is_about=is_about)).encode()
    return replace(answer, body=body, length=len(body))


@pytest.fixture
def line(factory):
    """Three devices that are due; one of them is asked by a job that is not ours, and offline."""
    factory.offline.add("a-1")
    factory.certificate_of_a_1 = [factory.device(f"a-{number}", age=100) for number in range(3)][1]
    return factory


@pytest.mark.parametrize("member", EXPECTED)
def test_a_value_nobody_has_heard_of_holds_up_one_device_and_no_other(line, surroundings, member):
    operation, _, path = member.partition(".")
    if "Job" in operation:
        arn = line.iot.describe_thing(thingName="a-1")["thingArn"]
        line.iot.create_job(jobId=JOB, targets=[arn], document=json.dumps(ROTATE))
    is_type = path.endswith("Type")
    alike = [one.partition(".") for one in EXPECTED if one == member or (is_type and one.endswith("Type"))]
    words = ("a-1", line.certificate_of_a_1, JOB)
    faults = {name: functools.partial(unheard_of, where, words) for name, _, where in alike}
    with FaultProxy(line.cloud.endpoint_url, faults) as proxy:
        surroundings.setenv("AWS_ENDPOINT_URL", proxy.url)
        for _ in range(2 if operation == "ListCertificates" else 1):  # which a first look does not need
            told = line.run("drift", "--format", "json")
            assert told.code == 2, told.err
        applied = line.run("apply")
        assert applied.code in {0, 2}, applied.err
        assert proxy.calls[operation], "the value was seen"

    found = {
        device["device"]: {finding["reason"]: finding["remedy"] for finding in device["findings"]}
        for device in told.json["fleets"][0]["devices"]
    }
    reason = EXPECTED[member]
    assert {"AgeExceeded"} == found["a-0"].keys() == found["a-2"].keys() - {"WaveSoaking"}
    assert reason in found["a-1"]
    assert reason == "Rotating" or found["a-1"][reason], "a person is told what to do"
    asked = {thing["thingArn"].rpartition("/")[2]
             for job in line.jobs() if job != JOB
             for thing in line.iot.list_job_executions_for_job(jobId=job)["executionSummaries"]}  # fmt: skip
    assert asked
    assert "a-1" not in asked
