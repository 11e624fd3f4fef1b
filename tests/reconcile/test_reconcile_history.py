"""What is read out of the jobs that AWS remembers: which count, since when, and how long they can be read."""

from __future__ import annotations

from datetime import timedelta

import pytest
from reconcile_rollouts import World, names

from controller.reconcile.outlook import simulate
from controller.reconcile.rollout.history import asked_by_others, broken_off_of, read_rollout
from controller.reconcile.values import LOOK_BACK

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
FAMILY, OTHER = "abcdef", "fedcba"


@pytest.fixture
def job(make):
    def job(
        part="w1", *, asked, ended=None, family=FAMILY, policy="line-a", status="SUCCEEDED", tail="01", devices="a"
    ):
        """A job that asked its devices and, unless it is open, has ended, so long ago."""
        job_id = f"cf-{policy}-{part}-{family}00000000{tail}"
        executions = {name: make.execution(job_id, status, asked, ended) for name in devices}
        completed = None if ended is None else make.now - ended
        state = "IN_PROGRESS" if ended is None else "COMPLETED"
        return make.job(job_id, executions, status=state, age=asked, completed_at=completed)

    return job


def read(make, *jobs, since=None):
    return read_rollout("line-a", FAMILY, jobs, make.now, since=since)


def test_what_has_come_of_a_rollout_can_be_read_until_the_first_of_its_ended_jobs_is_too_old(make, job):
    first, last = job(asked=9 * DAY, ended=8 * DAY), job(asked=3 * DAY, ended=2 * DAY, tail="02")
    for jobs, until in (
        ([first, last], LOOK_BACK - 8 * DAY),
        ([first, job("standing", asked=9 * DAY, ended=9 * DAY, tail="02")], LOOK_BACK - 9 * DAY),
        ([first, job(asked=20 * DAY, status="QUEUED", tail="02")], LOOK_BACK - 8 * DAY),
        ([job(asked=20 * DAY, status="QUEUED")], LOOK_BACK),
        ([], LOOK_BACK),
    ):
        assert read(make, *jobs).known_until(make.now) == make.now + until


def test_a_standing_job_counts_for_a_wave_from_its_end_on(make, job):
    """It was made long before; ``since`` asks for what has ended since then."""
    failed = job("standing", asked=9 * DAY, ended=2 * DAY, status="FAILED", tail="02")
    found = read(make, job(asked=DAY, status="QUEUED"), failed)
    for since, status in ((None, "FAILED"), (2 * DAY, "FAILED"), (2 * DAY - HOUR, "QUEUED")):
        counted = found.outcomes(1, None if since is None else make.now - since)
        assert counted["a"].status.value == status


@pytest.mark.parametrize(
    ("wave", "since", "devices"),
    [(1, None, "a"), (2, None, "bcd"), (2, 8 * DAY, "bcd"), (2, 4 * DAY, "cd"), (2, 3 * DAY, "d")],
    ids=[
        "a wave before",
        "the wave reached",
        "from the second of its job on",
        "up to the second of its answer",
        "since then",
    ],
)
def test_who_was_asked_ahead_of_its_wave_counts_with_the_wave_reached_once_it_has_answered(
    make, job, wave, since, devices
):
    """One of whom waves have asked (a), or who has not answered (e), does not come to it by that."""
    found = read(
        make,
        job("w1", asked=9 * DAY, ended=9 * DAY, devices="a"),
        job("w2", asked=8 * DAY, ended=8 * DAY, tail="02", devices="b"),
        job("standing", asked=7 * DAY, ended=4 * DAY, tail="03", devices="ac"),
        job("standing", asked=3 * DAY, ended=2 * DAY, tail="04", devices="d"),
        job("standing", asked=DAY, status="QUEUED", tail="05", devices="e"),
    )
    assert "".join(sorted(found.outcomes(wave, since and make.now - since))) == devices


@pytest.mark.parametrize(
    ("status", "has_started", "is_retry", "is_broken_off"),
    [("CANCELED", True, False, True), ("REMOVED", True, False, True), ("REMOVED", False, True, True),
     ("CANCELED", False, False, False), ("SUCCEEDED", True, False, False), ("FAILED", False, True, False)],
)  # fmt: skip
def test_a_rotation_is_broken_off_if_it_was_taken_back_when_it_had_begun(
    make, job, status, has_started, is_retry, is_broken_off
):
    [first, last] = (job(asked=n * DAY, ended=n * DAY, status=status, tail=f"0{n}") for n in (2, 1))
    for one in (first, last):
        begun = {"started_at": make.now if has_started else None, "first_queued_at": make.now if is_retry else None}
        one.executions["a"] = make.replace(one.executions["a"], **begun)
    assert broken_off_of([last, first]) == ({"a": last.executions["a"]} if is_broken_off else {})


def test_a_policy_that_is_gone_has_asked_a_device_when_it_made_its_last_job(make, job):
    jobs = [
        job(asked=n * DAY, policy=policy, devices="ab"[:n]) for n, policy in ((1, "gone"), (2, "gone"), (1, "here"))
    ]
    assert asked_by_others(jobs, {"here"}) == {"a": make.now - DAY, "b": make.now - 2 * DAY}


def test_a_rollout_that_goes_on_after_what_a_policy_that_is_gone_has_asked_has_no_past(make, job):
    jobs = [job(asked=3 * DAY, ended=3 * DAY), job(asked=DAY, ended=DAY, tail="02")]
    for days, is_past, waves in ((4, False, 2), (2, False, 1), (1, True, 0)):
        found = read(make, *jobs, since=make.now - days * DAY)
        assert (found.past is not None, len(found.waves.get(1, ()))) == (is_past, waves)


def test_a_device_is_asked_without_an_answer_since_the_first_of_the_jobs_that_ask_it(make, job):
    found = read(make, *(job(asked=n * HOUR, status="QUEUED", tail=f"0{n}") for n in (2, 5, 3)))
    created = make.now - 9 * DAY
    assert found.first_asked({"a": created, "b": created}) == {"a": make.now - 5 * HOUR}
    assert found.first_asked({"a": make.now - 4 * HOUR}) == {"a": make.now - 3 * HOUR}
    assert found.first_asked({}) == {}


def test_neither_a_job_of_another_policy_nor_one_by_hand_is_of_the_rollout(make, job):
    by_hand = make.job("by-hand", {"a": make.execution("by-hand", "SUCCEEDED", HOUR)}, status="COMPLETED")
    found = read(make, by_hand, job(asked=HOUR, ended=HOUR, policy="line-b"))
    assert (found.waves, found.standing, found.stood, found.retired, found.ended) == ({}, (), (), (), frozenset())


@pytest.mark.parametrize(
    ("other", "reached"),
    [(30, 2), (55, 2), (70, 2), (None, 2), (10, 0)],
    ids=["between", "in the pause", "before the pause", "none", "after all"],
)
def test_a_rollout_begins_after_the_last_pause_and_after_the_last_job_of_another_rule(make, job, other, reached):
    """Days ago: wave 3 until 80, a pause of more than 45, wave 2 at 20. Another rule may have had a job at any time."""
    jobs = [job("w3", asked=90 * DAY, ended=80 * DAY), job("w2", asked=20 * DAY, ended=19 * DAY, tail="02")]
    jobs += [] if other is None else [job(asked=other * DAY, ended=other * DAY, family=OTHER, tail="03")]
    assert read(make, *jobs).reached == reached


@pytest.fixture
def rollout(make):
    """The first wave has soaked; since then a policy that git has no more has asked a device of this one."""

    def rollout(of="SUCCEEDED", **fields):
        world = World(make, waves=("1", "100%"), **fields)
        world.wave(1, {"g000": of}, ended=30 * HOUR)
        other = make.execution("cf-line-z-w1-0123456789abcdef", "CANCELED", HOUR)
        world.earlier(other.job_id, {"g001": other})
        return world

    return rollout


def test_a_policy_that_gets_its_name_back_starts_with_its_first_wave(rollout):
    """So does one that gets the devices of a policy that is gone: the rollout is told to begin, and simulated so."""
    world = rollout()
    [report], [job] = world.plan().waves, world.plan().jobs
    assert (report.wave, report.status.value, job.wave, len(job.devices)) == (1, "open", 1, 1)
    state = world.make.state(*world.jobs)
    hour = simulate(list(world.devices.values()), world.desired, state, world.make.now, span=HOUR, every=HOUR)
    assert hour.rotations == 1
    world.jobs = world.jobs[:1]
    assert len(world.plan().jobs[0].devices) == 99


def test_the_last_that_a_policy_that_is_gone_has_asked_ends_the_rollout(rollout):
    world = rollout()
    before = world.make.execution("cf-line-z-w1-fedcba9876543210", "CANCELED", 40 * HOUR)
    world.jobs.insert(0, world.make.job(before.job_id, {"g099": before}, status="COMPLETED", age=40 * HOUR))
    assert len(world.plan().jobs[0].devices) == 1


def test_a_policy_that_is_there_still_ends_no_rollout_of_another(rollout):
    world = rollout()
    world.desired = world.make.desired(world.policy, world.make.policy("line-z"))
    assert len(world.plan().jobs[0].devices) == 99


def test_a_halt_outlasts_what_a_policy_that_is_gone_has_asked(rollout):
    world = rollout()
    world.jobs = world.jobs[1:]
    world.wave(1, names(5, "FAILED"), ended=30 * HOUR)
    [report] = world.plan().waves
    assert (report.status.value, world.plan().jobs) == ("halted", ())
