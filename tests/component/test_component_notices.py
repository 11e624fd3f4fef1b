"""A job that is announced while the device is busy with one that has ended is not missed."""

from __future__ import annotations

JOBS = "$aws/things/gateway-7/jobs"


def test_a_job_announced_before_the_refusal_of_a_canceled_one_is_begun(world, rotation_document):
    """notify-next for the second job arrives while the first is still thought to run."""
    world.device.switch_on()
    world.run(5)
    world.cloud.create_job("job-1", rotation_document(), notify=False)

    def cancel_and_queue(direction, topic, payload):
        if topic == f"{JOBS}/job-1/update" and world.cloud.status("job-1") == "QUEUED":
            world.cloud.jobs["job-1"][0] = "CANCELED"
            world.cloud.create_job("job-2", rotation_document())  # its announcement overtakes the refusal
        return [(0.0, payload)]

    world.cloud.intercept = cancel_and_queue
    world.cloud.notify()
    world.run(300)
    assert world.cloud.status("job-2") == "SUCCEEDED"
    world.assert_sound()
