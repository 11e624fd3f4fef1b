"""Waves, one after another: what stops a rollout, what does not, and how it goes on."""

from __future__ import annotations

from collections import Counter

import pytest

from sandbox.edge.faults import Direction, Fault, rewrite

POLICY = """\
---
apiVersion: certfleet/v1
kind: RotationPolicy
metadata: {{name: {group}}}
spec:
  thingGroup: {group}
  certificate: {{maxAge: 90d, keyType: ECDSA-P256, csrSigningAlgorithm: ECDSA-WITH-SHA256, authority: aws-iot}}
  rollout:
    waves: ["2", "6", "100%"]
    soak: 2h
    maximumPerMinute: 1000
    retries: 0
    abort: [{{failureType: FAILED, thresholdPercentage: 25, minNumberOfExecutedThings: 2}}]
"""


def devices(group: str, count: int) -> dict:
    return {"prefix": f"{group}-", "count": count, "groups": [group], "age": "200d", "keyType": "ECDSA-P256"}


@pytest.fixture
def factory(build):
    made = build(["line-a", "line-b"], [devices("line-a", 12), devices("line-b", 12)])
    made.declare("fleet", FLEET + POLICY.format(group="line-a") + POLICY.format(group="line-b"))
    return made


FLEET = """\
apiVersion: certfleet/v1
kind: Fleet
metadata: {name: factory}
spec: {account: "123456789012", region: eu-west-1, guardrails: {maxChangePercent: 100}}
"""


def rotated(factory, group: str) -> list[str]:
    """Devices of a group that hold another certificate than in the beginning."""
    built, holds = factory.world.built_with, factory.world.credential_of
    return [name for name in sorted(built) if name.startswith(group) and holds(name) != built[name]]


def fail_every_rotation(factory, group: str) -> None:
    """What a proxy does that spoils the certificates which come back."""
    for name in factory.world.devices:
        if name.startswith(group):
            topic = f"awslabs/things/{name}/certificate/create/accepted"
            spoil = rewrite(lambda _payload: b'{"certificatePem": "spoilt"}')
            factory.world.faults.add(Fault(topic, spoil, Direction.TO_DEVICE))


def test_second_wave_that_fails_stops_there_alone_and_goes_on_once_the_cause_is_fixed(factory, from_records):
    factory.apply()
    assert Counter(n[:6] for n in rotated(factory, "line")) == {"line-a": 2, "line-b": 2}

    factory.apply()
    assert len(rotated(factory, "line")) == 4, "both first waves soak"
    assert factory.wave("line-a")["status"] == "soaking"

    fail_every_rotation(factory, "line-a")
    factory.advance(hours=3)
    factory.apply()
    assert len(rotated(factory, "line-a")) == 2, "the second wave failed"
    assert len(rotated(factory, "line-b")) == 6, "and that of the other policy did not"

    jobs = factory.jobs()
    for _ in range(3):
        factory.advance(hours=3)
        factory.apply()
    assert [job for job in set(factory.jobs()) - set(jobs) if job.startswith("cf-line-a-")] == [], "nothing more starts"
    assert len(rotated(factory, "line-b")) == 12, "the other policy's rollout went on to its end"
    halted = factory.wave("line-a")
    assert (halted["status"], halted["wave"], halted["of"]) == ("halted", 2, 3)
    assert "25 % FAILED" in halted["message"]
    assert "remove the cause" in halted["remedy"]
    assert "--override resume=line-a" in halted["remedy"]
    assert "resume=line-a" in factory.run("plan").out, "a person reads the same"

    factory.world.faults.clear()
    factory.advance(hours=3)
    factory.apply()
    assert len(rotated(factory, "line-a")) == 2, "that it is fixed is for a person to say"
    factory.apply("--override", "resume=line-a")
    for _ in range(6):
        factory.advance(hours=3)
        factory.apply()
    assert len(rotated(factory, "line-a")) == 12
    assert factory.is_whole()
    assert factory.run("plan").code == 0
    assert all(factory.executions(name)["SUCCEEDED"] == 1 for name in factory.world.devices)
    assert from_records.total() >= 12, "looks after the larger waves have believed the backend's records"
