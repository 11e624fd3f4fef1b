"""A job is not missed, though its announcement came at a bad moment or never."""

from __future__ import annotations

import pytest
from component_world import CLASSIC, LITE

from component.certificate_rotator.ports import MessagesError

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


@pytest.mark.parametrize("nucleus", [CLASSIC, LITE], ids=["classic", "lite"])
@pytest.mark.parametrize("cut", [6, 8 * 3600], ids=["six seconds", "a night"])
def test_a_job_announced_during_a_cut_is_taken_within_five_minutes_of_the_return(
    make_world, memory_folder, rotation_document, nucleus, cut
):
    """The nucleus runs on, in a session that keeps nothing for it."""
    world = make_world(memory_folder, nucleus=nucleus)
    world.device.switch_on()
    world.run(5)
    world.cloud.device = None
    world.cloud.create_job(document=rotation_document(), notify=False)
    world.run(cut)
    world.device.connect()
    world.run(300)
    assert world.cloud.status() != "QUEUED"
    world.run(60)
    assert world.cloud.status() == "SUCCEEDED"
    assert world.device.restarts == 1
    world.assert_sound()


def test_a_device_whose_subscriptions_died_in_silence_is_subscribed_again(world, rotation_document):
    """Seen on nucleus lite when its IoT core service restarts, whoever restarts it."""
    world.device.switch_on()
    world.run(5)
    world.device.handlers = {}
    world.cloud.create_job(document=rotation_document())
    world.run(360)
    assert world.cloud.status() == "SUCCEEDED"
    world.assert_sound()


def test_a_nucleus_that_refuses_subscriptions_for_an_hour_is_asked_again(world, rotation_document):
    """Offline since its start, or its access control not yet merged: no reason to end the process."""
    subscribe, refused = world.device.subscribe, [0]

    def refuse(topic_filter, handler):
        if world.loop.time < 3600:
            refused[0] += 1
            raise MessagesError("cannot subscribe: ServiceError")
        subscribe(topic_filter, handler)

    world.device.subscribe = refuse
    world.device.switch_on()
    world.cloud.create_job(document=rotation_document(), notify=False)
    world.run(3600)
    assert 5 < refused[0] < 100
    world.run(360)
    assert world.cloud.status() == "SUCCEEDED"
    world.assert_sound()


def test_one_subscription_that_dies_is_noticed_where_the_other_answers_come(world, rotation_document):
    """Of all answers only that to create is missing: it is repeated, and subscribed to again, in time."""
    del_filter = next(f for f in iter_filters(world) if f.endswith("certificate/create/accepted"))
    world.device.switch_on()
    world.run(5)
    del world.device.handlers[del_filter]
    world.cloud.create_job(document=rotation_document())
    world.run(300)
    assert world.cloud.status() == "SUCCEEDED"
    world.assert_sound()


def iter_filters(world):
    world.device.switch_on()
    world.run(1)
    return list(world.device.handlers)


def test_devices_that_start_together_do_not_ask_together():
    from component.certificate_rotator.rotator import _share_of

    shares = sorted(_share_of(f"gateway-{number}") for number in range(1000))
    assert 0 <= shares[0] < 0.01
    assert 0.99 < shares[-1] < 1
    assert all(later - earlier < 0.02 for earlier, later in zip(shares, shares[1:]))
