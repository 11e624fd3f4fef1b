"""Every way in which AWS IoT ends an execution, before and after the commit, as its own events tell it."""

from __future__ import annotations

import json
import uuid
from datetime import timedelta

import pytest

DOCUMENT = json.dumps({"operation": "ROTATE_CERTIFICATE"})


def failed(world, device):
    device.report("FAILED", "no connection after the restart")


def rejected(world, device):
    device.report("REJECTED")


def timed_out(world, device):
    world.clock.advance(timedelta(minutes=5, seconds=1))


def execution_canceled(world, device):
    world.client("iot").cancel_job_execution(jobId=device.job, thingName=device.name, force=True)


def job_canceled(world, device):
    world.client("iot").cancel_job(jobId=device.job, force=True)


def execution_deleted(world, device):
    world.client("iot").delete_job_execution(jobId=device.job, thingName=device.name, executionNumber=1, force=True)


def job_deleted(world, device):
    world.client("iot").delete_job(jobId=device.job, force=True)


# REMOVED comes to queued executions only, which have no certificate yet.
ENDINGS = {
    "failed": ("FAILED", failed),
    "rejected": ("REJECTED", rejected),
    "timed-out": ("TIMED_OUT", timed_out),
    "execution-canceled": ("CANCELED", execution_canceled),
    "job-canceled": ("CANCELED", job_canceled),
    "execution-deleted": ("DELETED", execution_deleted),
    "job-deleted": ("DELETED", job_deleted),
}


@pytest.fixture
def told(world):
    """What the operator has been told."""
    sqs, sns = world.client("sqs"), world.client("sns")
    url = sqs.create_queue(QueueName="operator")["QueueUrl"]
    queue = sqs.get_queue_attributes(QueueUrl=url, AttributeNames=["QueueArn"])["Attributes"]["QueueArn"]
    topic = world.stack.outputs["NotificationTopicArn"]
    subscription = sns.subscribe(TopicArn=topic, Protocol="sqs", Endpoint=queue)["SubscriptionArn"]

    def read(job):
        messages = sqs.receive_message(QueueUrl=url, MaxNumberOfMessages=10).get("Messages", [])
        return [text for m in messages if job in (text := json.loads(m["Body"])["Message"])]

    yield read
    sns.unsubscribe(SubscriptionArn=subscription)
    sqs.delete_queue(QueueUrl=url)


@pytest.fixture
def created(world, device):
    """A device whose rotation has come to its new certificate."""
    device.job = f"ends-{uuid.uuid4().hex}"
    world.client("iot").create_job(
        jobId=device.job,
        targets=[f"arn:aws:iot:eu-west-1:123456789012:thing/{device.name}"],
        document=DOCUMENT,
        timeoutConfig={"inProgressTimeoutInMinutes": 5},
    )
    device.report("IN_PROGRESS")
    device.create()
    assert device.answer()[0] == "create/accepted"
    [device.new] = set(device.certificates()) - {device.old}
    return device


BY_THE_CLOUD = {name: how for name, how in ENDINGS.items() if name != "failed"}


def test_if_the_device_fails_before_the_commit_the_new_certificate_goes_and_the_operator_is_told(world, created, told):
    failed(world, created)
    assert world.stack.drain(20)
    assert list(created.certificates()) == [created.old]
    iot = world.client("iot")
    with pytest.raises(iot.exceptions.ResourceNotFoundException):
        iot.describe_certificate(certificateId=created.new)
    [text] = told(created.job)
    assert f"FAILED before the commit: the new certificate {created.new} is removed" in text
    assert 'The device writes: "no connection after the restart".' in text


@pytest.mark.parametrize(("ending", "end"), BY_THE_CLOUD.values(), ids=BY_THE_CLOUD)
def test_if_the_cloud_ends_the_job_before_the_commit_both_stay_and_a_later_commit_counts(
    world, created, told, ending, end
):
    end(world, created)
    assert world.stack.drain(20)
    assert set(created.certificates()) == {created.old, created.new}
    [text] = told(created.job)
    assert f"{ending} before the commit: both certificates stay" in text

    world.clock.advance(timedelta(seconds=2))
    created.principal = created.new
    created.commit()
    assert created.answer() == ("commit/accepted", {"jobId": created.job})
    assert world.stack.drain(20)
    assert list(created.certificates()) == [created.new]


@pytest.mark.parametrize(("ending", "end"), ENDINGS.values(), ids=ENDINGS)
def test_after_the_commit_both_stay_until_the_new_one_connects(world, created, told, ending, end):
    created.principal = created.new
    created.commit()
    assert created.answer() == ("commit/accepted", {"jobId": created.job})
    end(world, created)
    assert world.stack.drain(20)
    assert set(created.certificates()) == {created.old, created.new}
    [text] = told(created.job)
    assert f"{ending} after the commit: both certificates stay" in text
    assert ("somebody else holds a copy" in text) is (ending == "FAILED")

    world.clock.advance(timedelta(seconds=2))
    world.cloud.registry.connected(created.new, created.name)
    assert world.stack.drain(20)
    if ending == "FAILED":
        assert set(created.certificates()) == {created.old, created.new}
        return
    assert list(created.certificates()) == [created.new]
    [text] = told(created.job)
    assert f"the old certificate {created.old} is removed" in text
