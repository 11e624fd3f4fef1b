"""Something is lost at every step of a rotation: the nucleus' connection, the component's, or the component itself.

The real process, the real endpoint. Every message is a step; MQTT is cut so that the message is lost with it, or
right after it; IPC is cut, or the process killed, so that it has sent its message, or never gets the one that comes.
Whatever is lost costs seconds, never the rotation.
"""

from __future__ import annotations

import os
import signal
from datetime import timedelta

import pytest
from component_site import IN_PLACE, KEPT, THING, cut_ipc, files_of, openssl_says_they_match, start_later, wait_for_log

from sandbox.edge import Direction, Fault, Profile

LITE = [Profile.LITE_2_6, Profile.LITE_MAIN]
JOBS, ROTATION = f"$aws/things/{THING}/jobs", f"awslabs/things/{THING}/certificate"
FROM, TO = Direction.FROM_DEVICE, Direction.TO_DEVICE
STEPS = {  # direction, topic, the how-manieth message of a rotation there
    "notify-next": (TO, f"{JOBS}/notify-next", 1),
    "IN_PROGRESS": (FROM, f"{JOBS}/+/update", 1),
    "IN_PROGRESS accepted": (TO, f"{JOBS}/+/update/accepted", 1),
    "create": (FROM, f"{ROTATION}/create", 1),
    "create accepted": (TO, f"{ROTATION}/create/accepted", 1),
    "get after the restart": (FROM, f"{JOBS}/$next/get", 1),
    "get accepted": (TO, f"{JOBS}/$next/get/accepted", 1),
    "commit": (FROM, f"{ROTATION}/commit", 1),
    "commit accepted": (TO, f"{ROTATION}/commit/accepted", 1),
    "SUCCEEDED": (FROM, f"{JOBS}/+/update", 2),
    "SUCCEEDED accepted": (TO, f"{JOBS}/+/update/accepted", 2),
}
CUTS = {
    "MQTT": [
        # An announcement that is lost is asked for within a day; see test_component_notices.py.
        *((step, "lost") for step in STEPS if step != "notify-next"),
        *((step, "passes") for step, (direction, *_) in STEPS.items() if direction is FROM),
    ],
    # What the component has sent, the nucleus sends on; what comes to it then finds nobody.
    "IPC": [(step, "passes") for step in STEPS],
    "process": [(step, "passes") for step in STEPS],
}


class Cut:
    """Ends a connection, or the process, at one message, once."""

    def __init__(self, site, nucleus, connection, step, message):
        self.site, self.nucleus, self.connection, self.passes = site, nucleus, connection, message == "passes"
        direction, topic, self.countdown = STEPS[step]
        self.fault = site.endpoint.faults.add(Fault(topic, self.effect, direction))

    def effect(self, delivery):
        self.countdown -= 1
        if self.countdown:
            return (delivery,)
        if self.connection == "MQTT":
            self.site.endpoint._loop.call(self.site.endpoint._broker.interrupt, THING)
        elif self.connection == "IPC":
            cut_ipc(self.nucleus)
        else:
            os.killpg(self.nucleus.component_pid, signal.SIGKILL)
        return (delivery,) if self.passes else ()


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("connection", CUTS)
@pytest.mark.parametrize("profile", [Profile.CLASSIC, *(pytest.param(lite, marks=pytest.mark.soak) for lite in LITE)])
def test_what_is_lost_at_any_step_costs_seconds_not_the_rotation(start, site, capsys, profile, connection):
    nucleus = start(profile=profile, configuration={"resendIntervalSeconds": 1})
    wait_for_log(nucleus, "job -: ASKING → IDLE")
    for number, (step, message) in enumerate(CUTS[connection]):
        said = len(nucleus.log_file.read_text())
        cut = Cut(site, nucleus, connection, step, message)
        site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"}, f"job-{number}")
        job = site.wait_ended(f"job-{number}")
        wait_for_log(nucleus, "job -: ASKING → IDLE", after=said)
        where = (step, message, nucleus.log_file.read_text()[said:])
        assert cut.countdown <= 0, where
        assert job["status"] == "SUCCEEDED", where
        assert openssl_says_they_match(nucleus.root), where
        (active,) = site.active
        assert (nucleus.root / "thingCert.crt").read_text() == site.pems[active], where
        assert nucleus.wait_connected(), where
        assert site.endpoint.connected_clients() == {THING: active}, where
        assert files_of(nucleus) in (KEPT, IN_PLACE), where
        site.endpoint.faults.clear()
        site.clock.advance(timedelta(hours=1))  # three within an hour, and no nucleus would start it again
    start_later(nucleus)
    assert files_of(nucleus) == IN_PLACE
    assert list((nucleus.root / "certificate-rotator" / "state").iterdir()) == []
    with capsys.disabled():
        print(f"\n{profile}: {connection} lost {len(CUTS[connection])} times, as many rotations completed", end=" ")  # noqa: T201  # how exhaustive


def test_a_get_that_is_throttled_after_the_restart_is_asked_again_and_the_rotation_goes_on(start, site):
    nucleus = start()
    wait_for_log(nucleus, "job -: ASKING → IDLE")
    (first,) = site.active
    site.throttled = 1
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"})
    assert site.wait_ended()["status"] == "SUCCEEDED"
    assert site.throttled == 0
    assert first not in site.active
    assert openssl_says_they_match(nucleus.root)
