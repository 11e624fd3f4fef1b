"""A whole rotation, and a whole rollback, on virtual time."""

from __future__ import annotations

import logging


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
        "job spring-clean: COMMITTING → CONCLUDING on COMMIT_ACCEPTED",
        "job spring-clean: CONCLUDING → ASKING on UPDATE_ACCEPTED",
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
