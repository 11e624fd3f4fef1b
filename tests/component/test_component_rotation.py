"""A whole rotation, and a whole rollback, on virtual time."""

from __future__ import annotations


def test_a_queued_job_ends_with_a_new_credential_and_the_old_one_gone(world, rotation_document):
    world.device.switch_on()
    world.run(1)
    world.cloud.create_job(document=rotation_document())
    world.run(60)

    assert world.cloud.status() == "SUCCEEDED"
    assert world.device.certificate_in_place() != world.first_certificate
    assert world.cloud.registry == {world.device.certificate_in_place()}
    assert world.device.restarts == 1
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
