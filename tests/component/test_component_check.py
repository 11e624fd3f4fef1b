"""The pre-flight on demand: a job that asks what a rotation would fail on, and changes nothing."""

from __future__ import annotations

import pytest
from component_cloud import THING

from component.certificate_rotator.machine import State
from component.certificate_rotator.system import System
from protocol.algorithms import KeyType

CHECK = {"operation": "CHECK_ROTATION", "keyAlgorithm": "ECDSA-P256"}
UPDATE = f"$aws/things/{THING}/jobs/check/update"


@pytest.fixture
def files(world):
    """What lies on the device before anything."""
    world.device.switch_on()
    world.run(5)
    return contents(world)


def contents(world):
    return {path.name: path.read_bytes() for path in world.device.folder.iterdir()}


def asked(world):
    return {topic.split(f"{THING}/")[1] for topic, _ in world.cloud.log} - {"jobs/$next/get"}


def test_a_device_that_could_rotate_says_so_and_nothing_is_changed(world, files):
    world.cloud.create_job("check", CHECK)
    world.run(10)
    assert world.cloud.status("check") == "SUCCEEDED"
    assert world.cloud.details("check").keys() == {"CertificateRotatorCheck"}, "no backend may take it for a rotation"
    assert (contents(world), asked(world)) == (files, {"jobs/check/update"})
    assert world.device.rotator.state is State.IDLE


UNFIT = {
    "a file that cannot be replaced": ({}, "could not be replaced: it is a mount of its own; mount the folder"),
    "algorithms that do not match": ({"signingAlgorithm": "SHA256WITHRSA"}, "cannot sign with SHA256WITHRSA"),
    "a document that is wrong": ({"keyAlgorithm": 7}, "key type 7 is unknown"),
}


@pytest.mark.parametrize("name", UNFIT)
def test_a_device_that_could_not_rotate_says_why_and_takes_what_comes_next(
    world, files, rotation_document, monkeypatch, name
):
    changed, reason = UNFIT[name]
    obstacle = System.obstacle
    if not changed:
        monkeypatch.setattr(System, "obstacle", lambda _self, _path: reason.split(": ", 1)[1])
    world.cloud.create_job("check", {**CHECK, **changed})
    world.run(10)
    assert world.cloud.status("check") == "FAILED"
    assert reason in world.cloud.details("check")["DeviceFailureReason"]
    assert (contents(world), asked(world)) == (files, {"jobs/check/update"})
    monkeypatch.setattr(System, "obstacle", obstacle)
    world.cloud.create_job("job-1", rotation_document())
    world.run(60)
    assert world.cloud.status("job-1") == "SUCCEEDED"


def test_whatever_a_library_raises_the_process_lives(world, files, monkeypatch):
    monkeypatch.setattr(System, "obstacle", lambda _self, _path: 1 / 0)
    world.cloud.create_job("check", CHECK)
    world.run(10)
    assert "ZeroDivisionError" in world.cloud.details("check")["DeviceFailureReason"]
    assert world.device.rotator.state is State.IDLE


def test_a_check_waits_for_the_rotation_at_hand_and_is_done_then(world, files, rotation_document):
    world.cloud.create_job("job-1", rotation_document(KeyType.ECDSA_P384))
    world.cloud.create_job("check", CHECK)
    world.run(60)
    assert (world.cloud.status("job-1"), world.cloud.status("check")) == ("SUCCEEDED", "SUCCEEDED")


@pytest.mark.parametrize("lost", [UPDATE, f"$aws/things/{THING}/jobs/notify-next"], ids=["answer", "announcement"])
def test_a_check_of_which_a_message_is_lost_is_done_within_five_minutes(world, files, lost):
    seen = []

    def lose_the_first(_direction, topic, payload):
        seen.append(topic)
        return [] if topic == lost and seen.count(lost) == 1 else [(0.0, payload)]

    world.cloud.intercept = lose_the_first
    world.cloud.create_job("check", CHECK)
    world.run(300)
    assert world.cloud.status("check") == "SUCCEEDED"
    assert contents(world) == files
