"""A whole rotation, and a whole rollback, on virtual time."""

from __future__ import annotations

import logging

import pytest

from component.certificate_rotator.store_files import FileStore


def test_a_queued_job_ends_with_a_new_credential_and_the_old_one_gone(world, rotation_document):
    world.device.switch_on()
    world.run(1)
    world.cloud.create_job(document=rotation_document())
    world.run(60)

    assert world.cloud.status() == "SUCCEEDED"
    assert world.device.certificate_in_place() != world.first_certificate
    assert world.cloud.registry == {world.device.certificate_in_place()}
    assert world.device.restarts == 1
    world.start_later()
    assert world.device.leftovers() == []
    world.assert_sound()


def test_a_new_certificate_that_cannot_connect_is_rolled_back_and_the_job_says_why(world, rotation_document):
    world.cloud.refuse_connection = lambda certificate: certificate != world.first_certificate
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(600)

    assert world.cloud.status() == "FAILED"
    assert "no connection with the new certificate" in world.cloud.details()["DeviceFailureReason"]
    assert world.device.certificate_in_place() == world.first_certificate
    world.assert_sound()


def test_the_log_has_one_line_for_each_transition_with_the_jobs_id(world, rotation_document, caplog):
    caplog.set_level(logging.INFO)
    world.device.switch_on()
    world.run(1)
    world.cloud.create_job("spring-clean", rotation_document())
    world.run(60)
    assert transitions(caplog) == [
        "job -: ASKING → IDLE on NOT_OURS",
        "job spring-clean: IDLE → PREPARING on NOTIFIED",
        "job spring-clean: PREPARING → CREATING on UPDATE_ACCEPTED",
        "job spring-clean: CREATING → INSTALLING on CREATE_ACCEPTED",
        "job spring-clean: INSTALLING → RESTARTING on DONE",
        "job spring-clean: CONNECTING → COMMITTING on IN_PROGRESS",
        "job spring-clean: COMMITTING → REPORTING on COMMIT_ACCEPTED",
        "job spring-clean: REPORTING → ASKING on UPDATE_ACCEPTED",
        "job -: ASKING → IDLE on NOT_OURS",
    ]


def test_where_a_rotation_is_given_up_the_line_says_why(world, rotation_document, caplog):
    caplog.set_level(logging.INFO)
    world.cloud.refuse_connection = lambda certificate: certificate != world.first_certificate
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(600)
    (line,) = (line for line in transitions(caplog) if "CONNECTING → SWITCHING" in line)
    assert line == f"job job-1: CONNECTING → SWITCHING on TIME_LIMIT: {world.cloud.details()['DeviceFailureReason']}"


def transitions(caplog):
    return [record.getMessage() for record in caplog.records if " → " in record.getMessage()]


def starts(world, number, seconds):
    for _ in range(number):
        world.device.switch_on()
        world.run(seconds)


def test_a_new_credential_is_given_up_by_the_time_it_was_tried_and_not_by_the_number_of_starts(
    world, rotation_document
):
    """The sum stands in the journal; no clock is asked."""
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(0.5)
    world.cloud.connect = lambda _device: False
    new = world.device.certificate_in_place()
    assert new != world.first_certificate
    starts(world, 30, 0.5)
    assert world.device.certificate_in_place() == new
    starts(world, 3, 35)
    assert world.device.certificate_in_place() == new
    starts(world, 4, 35)
    assert world.device.certificate_in_place() == world.first_certificate


def test_a_component_that_dies_at_every_start_with_the_new_credential_goes_back_to_the_old_one(
    world, rotation_document
):
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document())
    world.run(0.5)
    world.cloud.connect = lambda _device: False
    starts(world, 200, 0.1)
    assert world.device.certificate_in_place() == world.first_certificate


LIBRARIES = [
    ("preflight", ValueError("curve secp112r1 is not supported")),
    ("prepare", RuntimeError("out of entropy")),
    ("request", TypeError("no name")),
    ("new_public_key", KeyError("rsa")),
    ("install", UnicodeDecodeError("ascii", b"\xff", 0, 1, "no")),
]


@pytest.mark.parametrize(("method", "error"), LIBRARIES, ids=[method for method, _ in LIBRARIES])
def test_an_exception_of_any_library_fails_the_job_with_a_reason_and_the_process_lives(
    world, rotation_document, monkeypatch, method, error
):
    def broken(*_arguments, **_options):
        raise error

    world.device.switch_on()
    world.run(5)
    monkeypatch.setattr(FileStore, method, broken)
    world.cloud.create_job(document=rotation_document())
    world.run(600)
    assert world.cloud.status() == "FAILED"
    assert type(error).__name__ in world.cloud.details()["DeviceFailureReason"]
    assert world.device.certificate_in_place() == world.first_certificate
    monkeypatch.undo()
    world.cloud.create_job("job-2", rotation_document())
    world.run(600)
    assert world.cloud.status("job-2") == "SUCCEEDED"
    world.assert_sound()


def put_off(rotator, deployment="d-1"):
    """How long a deployment is made to wait that asks again each time, in seconds."""
    waited = []
    while (seconds := rotator.deferral(deployment)) > 0:
        waited.append(seconds)
    return sum(waited)


def test_a_deployment_is_put_off_while_a_rotation_is_under_way_but_no_longer_than_its_limits_together(
    world, rotation_document
):
    world.device.switch_on()
    world.run(1)
    assert put_off(world.device.rotator) == 0
    world.cloud.intercept = lambda _, topic, payload: [] if topic.endswith("/create") else [(0.0, payload)]
    world.cloud.create_job(document=rotation_document())
    world.run(1)
    assert put_off(world.device.rotator) == 3 * 30 + 2 * 180
    assert put_off(world.device.rotator) == 0
    assert put_off(world.device.rotator, "d-2") > 0
    world.run(600)
    assert world.cloud.status() == "FAILED"
    assert put_off(world.device.rotator, "d-3") == 0
