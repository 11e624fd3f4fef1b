"""A job is not missed, though its announcement came at a bad moment or never."""

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


def test_a_job_whose_announcement_reached_nobody_is_found_within_a_day_and_a_half(world, rotation_document):
    """The nucleus runs on, cut off for longer than the cloud keeps messages for it."""
    world.device.switch_on()
    world.run(5)
    world.cloud.device = None
    world.cloud.create_job(document=rotation_document(), notify=False)
    world.run(8 * 3600)
    world.device.connect()
    world.run(28 * 3600)
    assert world.cloud.status() == "SUCCEEDED"
    assert world.device.restarts == 1
    world.assert_sound()


def test_devices_that_start_together_do_not_ask_together():
    from component.certificate_rotator.rotator import _share_of

    shares = sorted(_share_of(f"gateway-{number}") for number in range(1000))
    assert 0 <= shares[0] < 0.01
    assert 0.99 < shares[-1] < 1
    assert all(later - earlier < 0.02 for earlier, later in zip(shares, shares[1:]))
