"""The component's process on every nucleus: three errors an hour, restarts of 30 s, and what each nucleus does to it.

What the nuclei do stands in ``docs/nuclei.md``. Hours are hours of the world's clock; nobody waits for them.
"""

from __future__ import annotations

import asyncio
import threading
from datetime import timedelta

import pytest
from component_site import (
    IN_PLACE,
    RESTART_TAKES,
    THING,
    files_of,
    openssl_says_they_match,
    start_later,
    wait_for,
    wait_for_log,
)
from component_world import CLASSIC, RESTART_SECONDS, STARTS, Nucleus
from component_world import LITE as LITE_NUCLEUS
from test_component_losses import LITE, STEPS

from sandbox.edge import NO_INDEX, Fault, LifecycleState, Profile
from sandbox.edge.nucleus import traits

QUICK = {"resendIntervalSeconds": 1}
IDLE = "job -: ASKING → IDLE"


def rotate(site, nucleus, job_id, *, timeout=60):
    """One rotation to a P-256 key that succeeds, after which the device is connected with what it brought."""
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"}, job_id)
    succeeded(site, nucleus, job_id, timeout=timeout)


def succeeded(site, nucleus, job_id, *, timeout=60):
    job = site.wait_ended(job_id, timeout)
    log = nucleus.log_file.read_text()[-3000:]
    assert job["status"] == "SUCCEEDED", (job, log)
    (active,) = site.active
    assert (nucleus.root / "thingCert.crt").read_text() == site.pems[active], log
    assert openssl_says_they_match(nucleus.root), log
    wait_for(lambda: site.endpoint.connected_clients() == {THING: active})


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("profile", Profile)
def test_it_rotates_again_and_again_without_an_error(start, site, profile):
    nucleus = start(profile=profile, configuration=QUICK)
    wait_for_log(nucleus, IDLE)
    for number in range(4):
        rotate(site, nucleus, f"job-{number}")
    assert nucleus.component_state is LifecycleState.RUNNING
    assert nucleus.component_starts == (5 if profile is Profile.CLASSIC else 1)


@pytest.mark.parametrize("profile", Profile)
def test_launched_offline_for_an_hour_it_waits_in_one_process_and_then_does_its_job(start, site, profile):
    nucleus = start(profile=profile, configuration=QUICK, online=False)
    wait_for(lambda: nucleus.asked("SubscribeToIoTCore") >= 3)
    for _ in range(12):
        site.clock.advance(timedelta(minutes=5))
    assert (nucleus.component_state, nucleus.component_starts) == (LifecycleState.RUNNING, 1)
    nucleus.connect()
    rotate(site, nucleus, "job-1", timeout=120)
    assert nucleus.component_starts == (2 if profile is Profile.CLASSIC else 1)


def test_the_nuclei_on_virtual_time_are_those_of_the_table():
    """They stand apart because the tests over them run on Pythons that the sandbox does not."""
    for profile, nucleus in zip(Profile, (CLASSIC, LITE_NUCLEUS, LITE_NUCLEUS), strict=True):
        outlived = traits.RESTART_KEEPS_COMPONENT.on(profile)
        assert nucleus == Nucleus(outlived=outlived, reconnect=traits.RECONNECT_SECONDS.on(profile))
        assert traits.MAX_COUNTED.on(profile) == STARTS
    assert timedelta(seconds=RESTART_SECONDS) == RESTART_TAKES


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("profile", Profile)
def test_no_package_index_is_needed_at_any_launch(start, site, profile):
    nucleus = start(profile=profile, configuration=QUICK, environment=NO_INDEX)
    wait_for_log(nucleus, IDLE)
    for number in range(3):
        rotate(site, nucleus, f"job-{number}")
        said = len(nucleus.log_file.read_text())
        site.clock.advance(timedelta(hours=1))  # where every start counts, more than three an hour would
        nucleus.restart()  # every launch installs again
        wait_for_log(nucleus, IDLE, after=said)
    assert nucleus.component_installs >= 4
    assert nucleus.wait_component(LifecycleState.RUNNING)


@pytest.mark.parametrize("profile", Profile)
def test_an_upgrade_in_the_middle_of_a_rotation_costs_neither_the_rotation_nor_the_device(
    start, site, next_version, profile
):
    """On lite the new version is installed while the old one still runs."""
    nucleus = start(profile=profile, configuration=QUICK)
    wait_for_log(nucleus, IDLE)
    site.deaf.add("create")
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"})
    wait_for_log(nucleus, "→ CREATING")
    nucleus.upgrade(next_version)
    site.deaf.clear()
    succeeded(site, nucleus, "job-1")
    assert (nucleus.component_state, nucleus.recipe.version) == (LifecycleState.RUNNING, "1.2.4")
    rotate(site, nucleus, "job-2")


def test_on_classic_a_deployment_waits_until_a_rotation_that_it_comes_into_is_over(start, site):
    """Over the restart of the nucleus, too: what would replace the component is asked for once more."""
    nucleus = start(configuration=QUICK)
    wait_for_log(nucleus, IDLE)
    site.deaf.add("create")
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"})
    wait_for_log(nucleus, "→ CREATING")
    waits, is_over = [], threading.Event()

    async def sleep(span):
        waits.append(span.total_seconds())
        await asyncio.to_thread(is_over.wait)

    deployment = threading.Thread(target=nucleus.ask_before_update, args=("deployment-7", 60.0, sleep))
    deployment.start()
    wait_for_log(nucleus, "deployment deployment-7 waits for 5 s")
    site.deaf.clear()
    succeeded(site, nucleus, "job-1")
    wait_for_log(nucleus, IDLE, after=len(nucleus.log_file.read_text().partition("COMMITTING → REPORTING")[0]))
    assert deployment.is_alive()
    is_over.set()
    deployment.join()
    assert waits == [5.0]


@pytest.mark.parametrize("profile", LITE)
def test_ten_rotations_within_an_hour_harm_no_component_that_depends_on_the_token_exchange(start, site, profile):
    nucleus = start(profile=profile, configuration=QUICK)
    dependent = nucleus.add_dependent("com.example.Uploader")
    wait_for_log(nucleus, IDLE)
    for number in range(10):
        rotate(site, nucleus, f"job-{number}")
    assert site.clock.ahead < timedelta(hours=1)
    assert (dependent.is_running, dependent.starts) == (True, 1)


class IotCoreRestarts:
    """Somebody restarts the IoT core service at one message of a rotation, once; the message gets through or not."""

    def __init__(self, site, nucleus, step, passes):
        self.nucleus, self.passes = nucleus, passes
        direction, topic, self.countdown = STEPS[step]
        site.endpoint.faults.add(Fault(topic, self.effect, direction))

    def effect(self, delivery):
        self.countdown -= 1
        if self.countdown:
            return (delivery,)
        self.nucleus._loop.call(lambda: asyncio.ensure_future(self.nucleus._restart_unit("ggl.core.iotcored.service")))
        return (delivery,) if self.passes else ()


@pytest.mark.parametrize(
    ("profile", "passes"),
    [
        pytest.param(Profile.LITE_2_6, False, id="lost-lite-2.6"),
        pytest.param(Profile.LITE_2_6, True, id="passes-lite-2.6", marks=pytest.mark.soak),
        pytest.param(Profile.LITE_MAIN, False, id="lost-lite-main", marks=pytest.mark.soak),
        pytest.param(Profile.LITE_MAIN, True, id="passes-lite-main", marks=pytest.mark.soak),
    ],
)
def test_iotcored_restarted_at_any_message_costs_seconds_not_the_rotation(start, site, profile, passes):
    nucleus = start(profile=profile, configuration=QUICK)
    wait_for_log(nucleus, IDLE)
    for number, step in enumerate(STEPS):
        if step == "notify-next":
            continue  # an announcement that is lost is asked for: see below
        cut = IotCoreRestarts(site, nucleus, step, passes)
        rotate(site, nucleus, f"job-{number}", timeout=120)
        assert cut.countdown <= 0, step
        site.endpoint.faults.clear()
        assert nucleus.component_state is LifecycleState.RUNNING, step
    assert nucleus.component_starts == 1


@pytest.mark.usefixtures("warm")
@pytest.mark.parametrize("profile", Profile)
@pytest.mark.soak
@pytest.mark.timeout(900)
def test_a_year_of_rotations_needs_no_package_index_and_nobody_on_site(start, site, profile, capsys):
    """One in four weeks, with a launch of everything after each; nothing is left over at the end."""
    nucleus = start(profile=profile, configuration=QUICK, environment=NO_INDEX)
    wait_for_log(nucleus, IDLE)
    for number in range(13):
        rotate(site, nucleus, f"job-{number}")
        site.clock.advance(timedelta(days=28) - timedelta(hours=2))
        start_later(nucleus)
        assert files_of(nucleus) == IN_PLACE
    assert nucleus.component_state is LifecycleState.RUNNING
    counted = f"13 rotations, {nucleus.component_installs} installs, {nucleus.component_starts} starts"
    with capsys.disabled():
        print(f"\n{profile}: {counted}", end=" ")  # noqa: T201  # how much of a year it was


@pytest.mark.parametrize("profile", LITE)
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_job_announced_after_iotcored_was_restarted_by_somebody_is_taken_within_five_minutes(start, site, profile):
    nucleus = start(profile=profile)
    wait_for_log(nucleus, IDLE)
    nucleus._loop.run(nucleus._restart_unit("ggl.core.iotcored.service"))
    assert nucleus.wait_connected(connections=2)
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"})
    taken_within_five_minutes(site, nucleus)


@pytest.mark.parametrize("profile", Profile)
@pytest.mark.soak
@pytest.mark.timeout(600)
def test_a_job_announced_while_the_device_is_cut_off_is_taken_within_five_minutes_of_its_return(start, site, profile):
    nucleus = start(profile=profile)
    wait_for_log(nucleus, IDLE)
    nucleus.disconnect()
    site.create_job({"operation": "ROTATE_CERTIFICATE", "keyAlgorithm": "ECDSA-P256"})
    nucleus.connect()
    assert nucleus.wait_connected(connections=2)
    taken_within_five_minutes(site, nucleus)


def taken_within_five_minutes(site, nucleus):
    wait_for(lambda: site.jobs["job-1"]["status"] != "QUEUED", timeout=300)
    succeeded(site, nucleus, "job-1")
