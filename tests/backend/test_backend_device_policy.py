"""The shipped AWS IoT policy for devices: what a gateway needs for itself, and nothing of anybody else's."""

from __future__ import annotations

import json

import pytest

from protocol import topics
from protocol.names import DEFAULT_STACK_NAME
from sandbox.aws.iot.policy_language import allows
from sandbox.builder import device_policy

ACCOUNT, REGION = "123456789012", "eu-west-1"
MAX_CHARACTERS = 2048  # of a policy document of AWS IoT, without white space
POLICY = device_policy(ACCOUNT, REGION)
OWN, OTHER = "gw-1", "gw-10"
CREATE, COMMIT = topics.create(OWN), topics.commit(OWN)

CASES = {
    # action, resource, whether it is allowed
    "connecting under its name": ("Connect", f"client/{OWN}", True),
    "a further connection of the nucleus": ("Connect", f"client/{OWN}#2", True),
    "connecting as one whose name begins with its own": ("Connect", f"client/{OTHER}", False),
    "connecting as one with a suffix of its own making": ("Connect", f"client/{OWN}-2", False),
    "asking for a certificate": ("Publish", f"topic/{CREATE}", True),
    "committing it": ("Publish", f"topic/{COMMIT}", True),
    "answering in the backend's name": ("Publish", f"topic/{CREATE}/accepted", False),
    "committing in the backend's name": ("Publish", f"topic/{COMMIT}/accepted", False),
    "rejecting in the backend's name": ("Publish", f"topic/{COMMIT}/rejected", False),
    "asking for another's certificate": ("Publish", f"topic/{topics.create(OTHER)}", False),
    "asking which job is next": ("Publish", f"topic/{topics.jobs_get_next(OWN)}", True),
    "reporting on a job": ("Publish", f"topic/{topics.jobs_update(OWN, 'j')}", True),
    "reporting on another's job": ("Publish", f"topic/{topics.jobs_update(OTHER, 'j')}", False),
    "announcing a job to itself": ("Publish", f"topic/{topics.jobs_notify_next(OWN)}", False),
    "answering itself in the jobs service's name": (
        "Publish", f"topic/{topics.jobs_update_outcome(OWN, 'j', 'accepted')}", False,
    ),
    "reporting on a deployment": (
        "Publish", f"topic/$aws/things/{OWN}/shadow/name/AWSManagedGreengrassV2Deployment/update", True,
    ),
    "publishing the nucleus' health": ("Publish", f"topic/$aws/things/{OWN}/greengrassv2/health/json", True),
    "an event of AWS IoT": ("Publish", "topic/$aws/events/jobExecution/j/failed", False),
    "hearing the answer": ("Receive", f"topic/{CREATE}/accepted", True),
    "hearing of a job": ("Receive", f"topic/{topics.jobs_notify_next(OWN)}", True),
    "hearing another's answer": ("Receive", f"topic/{topics.create(OTHER)}/accepted", False),
    "listening for the answer": ("Subscribe", f"topicfilter/{CREATE}/accepted", True),
    "listening for jobs": ("Subscribe", f"topicfilter/{topics.jobs_get_outcome(OWN, 'accepted')}", True),
    "listening to everybody": ("Subscribe", "topicfilter/awslabs/things/+/certificate/create/accepted", False),
    "listening to everything": ("Subscribe", "topicfilter/#", False),
}  # fmt: skip


@pytest.mark.parametrize(("action", "resource", "expected"), CASES.values(), ids=CASES)
def test_a_device_may(action, resource, expected):
    variables = {"iot:Connection.Thing.ThingName": OWN}
    arn = f"arn:aws:iot:{REGION}:{ACCOUNT}:{resource}"
    assert allows([POLICY], f"iot:{action}", arn, variables) is expected


def test_a_certificate_that_is_attached_to_no_thing_may_nothing():
    assert not allows([POLICY], "iot:Connect", f"arn:aws:iot:{REGION}:{ACCOUNT}:client/{OWN}", {})


def test_it_fits_into_a_policy_of_aws_iot():
    longest = device_policy(ACCOUNT, "ap-southeast-2")
    assert len(json.dumps(longest, separators=(",", ":"))) <= MAX_CHARACTERS


def test_a_device_cannot_write_the_public_view_unless_it_may_write_its_shadows():
    """It may, because Greengrass' deployments need it: the reason why the backend decides nothing from it."""
    topic = f"topic/$aws/things/{OWN}/shadow/name/{DEFAULT_STACK_NAME}/update"
    arn = f"arn:aws:iot:{REGION}:{ACCOUNT}:{topic}"
    assert allows([POLICY], "iot:Publish", arn, {"iot:Connection.Thing.ThingName": OWN})
