"""One failure at every call that the functions make to AWS, through rules, Lambda's repeats and the registry.

``tests/backend`` does the same to the handlers alone, with more kinds of failure and more ways to an end.
"""

from __future__ import annotations

import itertools
import queue
from datetime import timedelta

import pytest
from botocore.exceptions import ClientError

from sandbox.stack.invocations import RetryDelays

FEWEST_CALLS = 20  # of a rotation


class Saboteur:
    """Makes the n-th call from now fail, before it is made or after it took effect; throttled, as AWS would."""

    def __init__(self, clients):
        self.left, self.after, self.calls = None, False, []
        for client in clients:
            client.meta.events.register("before-call", lambda **event: self._meet(event, after=False))
            client.meta.events.register("after-call", lambda **event: self._meet(event, after=True))

    def arm(self, at, *, after):
        self.left, self.after, self.calls = at, after, []

    def _meet(self, event, *, after):
        if self.left is None or after is not self.after:
            return
        operation = event["model"].name
        self.calls.append(operation)
        self.left -= 1
        if self.left < 0:
            self.left = None
            status = 500 if after else 429  # what is refused for its pace has not been done
            answer = {"Error": {"Code": "ThrottlingException"}, "ResponseMetadata": {"HTTPStatusCode": status}}
            raise ClientError(answer, operation)


def ask(device, send):
    """Send until there is an answer, as the component does; None where the backend stays silent."""
    for _ in range(3):
        send()
        assert device.world.stack.drain(20)
        try:
            return device.answers.get_nowait()[0].rpartition("/")[2]
        except queue.Empty:
            device.world.clock.advance(timedelta(seconds=30))  # a create that died is waited for so long
    return None


def rotate(device, authority):
    device.start_job(f"job-{device.name}"[:64], {"operation": "ROTATE_CERTIFICATE", "certificateAuthority": authority})
    outcome = ask(device, device.create)
    if outcome == "accepted":
        [device.principal] = set(device.certificates()) - {device.old}
        outcome = ask(device, device.commit)
    device.report("SUCCEEDED" if outcome == "accepted" else "FAILED")
    assert device.world.stack.drain(20)


def account(world):
    pages = world.client("iot").get_paginator("list_certificates").paginate()
    return {c["certificateId"]: c["status"] for page in pages for c in page["certificates"]}


@pytest.mark.parametrize(("authority", "after"), [("plant-ca", False), ("aws-iot", True)], ids=["refused", "lost"])
def test_a_rotation_survives_any_one_call_that_is(world, make_device, authority, after):
    world.stack.unkindness.waits = RetryDelays(retries=(0.0,))
    rotate(make_device(), authority)  # makes every client
    saboteur = Saboteur(world.stack._clients._made.values())
    for at in itertools.count():
        device = make_device()
        before = account(world)
        saboteur.arm(at, after=after)
        rotate(device, authority)
        reached = saboteur.left is None
        saboteur.left = None

        [(kept, association)] = device.certificates().items()
        assert association == "EXCLUSIVE_THING", saboteur.calls
        others = {k: v for k, v in before.items() if k != device.old}
        assert account(world) == {**others, kept: "ACTIVE"}, saboteur.calls
        arn = f"arn:aws:iot:eu-west-1:123456789012:cert/{kept}"
        policies = world.client("iot").list_attached_policies(target=arn)["policies"]
        assert [policy["policyName"] for policy in policies] == ["device"], saboteur.calls
        if not reached:  # every call has failed once
            assert at >= len(saboteur.calls) > FEWEST_CALLS  # one more if an event comes in the same second
            break
