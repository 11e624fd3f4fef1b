"""Every transition of a rollout, told as the jobs that AWS remembers and the devices that are there."""

from __future__ import annotations

from datetime import timedelta

import pytest
from reconcile_rollouts import OLD, World, names

from controller.reconcile.rollout import read_rollout
from controller.reconcile.rollout.evidence import WaveEvidence, shortened_soak
from controller.reconcile.rollout.waves import cumulative_sizes, exceeded, failure_limit
from controller.reconcile.values import (
    LOOK_BACK,
    CertificateStatus,
    FailureType,
    Mode,
    Overrides,
    TargetKind,
    WaveStatus,
    job_id_for,
    parse_job_id,
)

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


def test_what_is_known_of_a_wave_is_what_its_devices_answered():
    assert WaveEvidence() == WaveEvidence(healthy=0, failed=0, lost=0, silent=0, pending=0, in_vain=0)
    found = WaveEvidence(healthy=4, failed=3, lost=1, silent=7, pending=9)
    assert (found.answered, found.failure_percent) == (8, 50.0)
    assert WaveEvidence(silent=2).failure_percent == 0.0


@pytest.mark.parametrize(("thresholds", "limit"), [((), 5.0), ((30, 20), 20)], ids=["by default", "the lowest"])
def test_the_share_that_may_fail(make, thresholds, limit):
    rollout = make.rollout(abort=tuple(make.abort(percent, 5) for percent in thresholds))
    assert failure_limit(make.policy(rollout=rollout)) == limit


@pytest.mark.parametrize(
    ("evidence", "rule", "is_exceeded"),
    [
        ({"healthy": 8, "failed": 2}, (20, 5, "ALL"), True),
        ({"healthy": 8, "failed": 2}, (20.1, 5, "ALL"), False),
        ({"healthy": 7, "lost": 1, "failed": 2}, (20, 10, "ALL"), True),
        ({"healthy": 7, "lost": 2, "failed": 2}, (20, 5, "ALL"), False),
        ({"healthy": 2, "failed": 2}, (20, 5, "ALL"), False),
        ({"healthy": 5, "failed": 2, "by_type": (("FAILED", 1), ("TIMED_OUT", 1))}, (14, 5, "TIMED_OUT"), True),
        ({"healthy": 5, "failed": 2, "by_type": (("FAILED", 2),)}, (14, 5, "TIMED_OUT"), False),
    ],
    ids=["just reached", "just not", "who is lost has answered", "and has not failed", "too few have answered",
         "of one kind", "of another kind alone"],
)  # fmt: skip
def test_when_an_abort_rule_is_exceeded(make, evidence, rule, is_exceeded):
    percent, least, kind = rule
    abort = make.abort(percent, least, FailureType(kind))
    kinds = tuple((FailureType(name), number) for name, number in evidence.pop("by_type", ()))
    assert exceeded(WaveEvidence(**evidence, by_type=kinds), (abort,)) is (abort if is_exceeded else None)


# sentence → (what happened, wave and number of devices that start, status, part of the message)
TRANSITIONS = {
    "nothing has happened: the canary starts": (
        lambda w: w, (1, 1), WaveStatus.OPEN, "wave 1 of 3 reaches 1 device; 99 devices wait"),
    "the canary is queued": (
        lambda w: w.wave(1, {"g000": "QUEUED"}, ended=HOUR), None, WaveStatus.RUNNING, "1 device to come"),
    "the canary is under way": (
        lambda w: w.wave(1, {"g000": "IN_PROGRESS"}, ended=HOUR), None, WaveStatus.RUNNING, "1 device to come"),
    "the canary's job was made a moment ago and shows no execution": (
        lambda w: w.wave(1, {}, status="IN_PROGRESS"), None, WaveStatus.RUNNING, "1 device to come"),
    "the canary is well and soaks": (
        lambda w: w.wave(1, {"g000": "SUCCEEDED"}, ended=23 * HOUR), None, WaveStatus.SOAKING,
        "soaks 1 day, until 2026-11-23T13:00:00Z"),
    "the canary has soaked: the second wave takes what is left of its cumulative size": (
        lambda w: w.wave(1, {"g000": "SUCCEEDED"}), (2, 9), WaveStatus.OPEN, "wave 1 has soaked healthy"),
    "the canary reported success but holds its old certificate": (
        lambda w: w.wave(1, {"g000": "SUCCEEDED"}, healthy=False), (1, 1), WaveStatus.UNHEALTHY,
        "1 reported success and are not seen with the new certificate"),
    "the canary failed: it alone is tried again": (
        lambda w: w.wave(1, {"g000": "FAILED"}), (1, 1), WaveStatus.UNHEALTHY, "0 rotated, 1 failed"),
    "the canary failed an hour ago and backs off: nobody starts": (
        lambda w: w.wave(1, {"g000": "FAILED"}, ended=MINUTE), None, WaveStatus.UNHEALTHY, "0 rotated, 1 failed"),
    "the canary has been silent for a day: it moves aside and another takes its place": (
        lambda w: w.wave(1, {"g000": "QUEUED"}, ended=25 * HOUR, queued=25 * HOUR), (1, 1), WaveStatus.OPEN,
        "no device of wave 1 of 3 answered: others take its place"),
    "the canary's job was cancelled before it answered: others take its place": (
        lambda w: w.wave(1, {"g000": "CANCELED"}, ended=HOUR, status="CANCELED"), (1, 1), WaveStatus.OPEN,
        "others take its place"),
    "the second wave is well but for one in ten: within the threshold the third opens": (
        lambda w: w.wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR).wave(
            2, names(8, "SUCCEEDED", 1) | {"g009": "FAILED"}), (3, 91), WaveStatus.OPEN, "wave 2 has soaked healthy"),
    "the second wave fails beyond the threshold: it stops there": (
        lambda w: w.wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR).wave(
            2, names(6, "SUCCEEDED", 1) | names(3, "FAILED", 7)), None, WaveStatus.HALTED,
        "wave 2 of 3 stopped: 3 of 9 devices failed, which reaches the threshold of 20 % FAILED"),
    "a halted wave is counted even while others of it still run": (
        lambda w: w.wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR).wave(
            2, names(3, "SUCCEEDED", 1) | names(3, "FAILED", 4) | {"g007": "IN_PROGRESS"}, ended=HOUR), None,
        WaveStatus.HALTED, "3 of 6 devices failed"),
    "too few have answered for the threshold, yet too many failed: the failed are tried again": (
        lambda w: w.wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR).wave(
            2, names(2, "SUCCEEDED", 1) | names(2, "FAILED", 3)), (2, 2), WaveStatus.UNHEALTHY,
        "fewer than 20 % may fail"),
    "silent devices of the second wave hold nobody up": (
        lambda w: w.wave(1, {"g000": "SUCCEEDED"}, ended=90 * HOUR).wave(
            2, names(8, "SUCCEEDED", 1) | {"g009": "QUEUED"}, ended=40 * HOUR, queued=50 * HOUR), (3, 90),
        WaveStatus.OPEN, "wave 2 has soaked healthy"),
    "the last wave is open: whatever becomes due starts at once": (
        lambda w: w.wave(3, names(50, "SUCCEEDED"), ended=MINUTE), (3, 50), WaveStatus.OPEN, "open to every device"),
    "the last wave halts as well": (
        lambda w: w.wave(3, names(6, "SUCCEEDED") | names(4, "FAILED", 6)), None, WaveStatus.HALTED, "4 of 10"),
    "new failures in the last wave are not hidden by the successes of weeks before": (
        lambda w: w.wave(3, names(80, "SUCCEEDED"), ended=10 * DAY).wave(
            3, names(6, "SUCCEEDED", 80) | names(2, "FAILED", 86), tail="0000000002"), None, WaveStatus.HALTED,
        "wave 3 of 3 stopped: 2 of 8 devices failed"),
    "old failures in the last wave are past once a later day went well": (
        lambda w: w.wave(3, names(6, "SUCCEEDED") | names(4, "FAILED", 6), ended=10 * DAY).wave(
            3, names(60, "SUCCEEDED", 10), tail="0000000002"), (3, 34), WaveStatus.OPEN, "open to every device"),
    "the last wave failed weeks ago and stands still since": (
        lambda w: w.wave(3, names(6, "SUCCEEDED") | names(4, "FAILED", 6), ended=30 * DAY), None, WaveStatus.HALTED,
        "4 of 10"),
    "more waves were passed than the policy still has: the last one counts": (
        lambda w: w.wave(7, names(3, "SUCCEEDED"), ended=MINUTE), (3, 97), WaveStatus.OPEN, "wave 3 of 3"),
    "jobs of an earlier policy say nothing about this rollout": (
        lambda w: w.earlier("cf-line-a-w3-ffffff0000000001", {"g001": w.make.execution(status="SUCCEEDED")}),
        (1, 1), WaveStatus.OPEN, "wave 1 of 3"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("asked", "ago", "starts"),
    [(30, 2 * MINUTE, False), (30, 3 * MINUTE, True), (31, 3 * MINUTE, False), (1, timedelta(seconds=59), False)],
)
def test_no_job_is_made_while_another_is_still_handed_out_so_that_rates_do_not_add_up(make, asked, ago, starts):
    world = World(make, waves=("100%",), maximum_per_minute=10)
    plan = world.wave(1, names(asked, "QUEUED"), queued=ago, ended=ago).plan()
    assert bool(plan.jobs) is starts
    assert plan.waves[0].status is (WaveStatus.OPEN if starts else WaveStatus.RUNNING)
    assert ("the job under way asks 10 a minute, until" in plan.waves[0].message) is not starts


@pytest.mark.parametrize("scene", TRANSITIONS.values(), ids=TRANSITIONS)
def test_wave_transition(make, scene):
    happened, expected, status, text = scene
    plan = happened(World(make)).plan()
    waves = [(job.wave, len(job.devices)) for job in plan.jobs if not job.is_standing]
    assert waves == ([expected] if expected else [])
    assert plan.waves[0].status is status
    assert text in plan.waves[0].message
    assert (plan.waves[0].until is not None) is (status is WaveStatus.SOAKING)


def test_who_has_rotated_and_who_has_failed_is_counted_over_all_waves(make):
    world = World(make)
    assert (world.plan().waves[0].done, world.plan().waves[0].failed) == (0, 0)
    world.wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR)
    report = world.wave(2, names(7, "SUCCEEDED", 1) | {"g008": "FAILED", "g009": "QUEUED"}).plan().waves[0]
    assert (report.done, report.failed) == (8, 1)
    halted = World(make).wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR)
    report = halted.wave(2, names(6, "SUCCEEDED", 1) | names(3, "FAILED", 7)).plan().waves[0]
    assert (report.status, report.done, report.failed) == (WaveStatus.HALTED, 7, 3)


def test_a_halted_wave_says_what_to_do_and_leaves_other_policies_alone(make):
    world = World(make).wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR)
    world.wave(2, names(6, "SUCCEEDED", 1) | names(3, "FAILED", 7))
    world.desired = make.desired(world.policy, make.policy("line-b"))
    world.devices["other"] = make.device("other", age=OLD, groups=("line-b",))
    plan = world.plan()
    assert [job.policy for job in plan.jobs] == ["line-b"]
    assert plan.waves[0].remedy is not None
    assert "--override resume=line-a" in plan.waves[0].remedy


def test_a_halted_wave_resumes_with_its_failed_devices_when_told_to(make):
    world = World(make).wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR)
    world.wave(2, names(6, "SUCCEEDED", 1) | names(3, "FAILED", 7))
    plan = world.plan(overrides=Overrides(resume=frozenset({"line-a"})))
    assert [(job.wave, [d.name for d in job.devices]) for job in plan.jobs] == [(2, ["g007", "g008", "g009"])]
    world.wave(2, names(3, "SUCCEEDED", 7), tail="0000000002", ended=25 * HOUR)
    assert [(job.wave, len(job.devices)) for job in world.plan().jobs] == [(3, 90)]


def test_who_failed_comes_before_those_who_would_else_be_first(make):
    world = World(make).wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR)
    world.wave(2, names(6, "SUCCEEDED", 1) | names(3, "FAILED", 90))
    [job] = world.plan(overrides=Overrides(resume=frozenset({"line-a"}))).jobs
    assert [device.name for device in job.devices] == ["g090", "g091", "g092"]


@pytest.mark.parametrize(("wave", "asked", "expected"), [(1, 2, (1, 2)), (2, 8, (2, 8))])
def test_a_wave_that_nobody_answers_is_asked_of_as_many_others(make, wave, asked, expected):
    world = World(make, waves=("2", "10%", "100%"))
    if wave == 2:
        world.wave(1, names(2, "SUCCEEDED"), ended=90 * HOUR)
    world.wave(wave, names(asked, "CANCELED", 10), ended=HOUR, status="CANCELED")
    [job] = world.plan().jobs
    assert (job.wave, len(job.devices)) == expected


@pytest.mark.parametrize(
    ("failed", "status"), [(1, WaveStatus.OPEN), (2, WaveStatus.UNHEALTHY)], ids=["within the limit", "just at it"]
)
def test_a_wave_is_healthy_while_fewer_fail_than_the_limit(make, failed, status):
    """Two of ten are 20 %, the limit; for the rule itself too few have answered."""
    world = World(make, waves=("1", "11", "100%"), abort=(make.abort(20, 50),))
    world.wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR)
    world.wave(2, names(10 - failed, "SUCCEEDED", 1) | names(failed, "FAILED", 11 - failed))
    assert world.plan().waves[0].status is status


@pytest.mark.parametrize(
    ("hours", "status"), [(23.9, WaveStatus.SOAKING), (24, WaveStatus.OPEN)], ids=["not yet", "to the second"]
)
def test_a_soak_ends_when_its_time_is_over(make, hours, status):
    plan = World(make).wave(1, {"g000": "SUCCEEDED"}, ended=hours * HOUR).plan()
    assert plan.waves[0].status is status
    assert [len(job.devices) for job in plan.jobs] == ([9] if status is WaveStatus.OPEN else []), "not urgent alone"


@pytest.mark.parametrize(("hours", "starts"), [(3, False), (5, True)])
def test_a_shortened_soak_leaves_each_wave_to_come_its_share(make, hours, starts):
    """Of 12 hours between answer and end each of three waves has four: one that soaks and two to come."""
    world = World(make, waves=("1", "10%", "100%"), soak=48 * HOUR).wave(1, {"g000": "SUCCEEDED"}, ended=hours * HOUR)
    world.devices["g050"] = make.device("g050", age=OLD, left=(12 - hours) * HOUR)
    assert bool(world.plan().jobs) is starts


def test_the_next_wave_takes_the_place_of_who_never_answered_and_not_of_who_failed(make):
    world = World(make, waves=("10", "20", "100%"))
    told = names(7, "SUCCEEDED") | names(1, "FAILED", 7) | names(2, "CANCELED", 8)
    [job] = world.wave(1, told, queued=54 * HOUR).plan().jobs[:1]
    assert (job.wave, len(job.devices)) == (2, 12)


def test_who_was_asked_for_too_short_a_time_to_answer_has_its_turn_in_the_same_wave(make):
    """A window has closed, or the policy was suspended for a while."""
    world = World(make, waves=("10", "20", "100%"))
    told = names(7, "SUCCEEDED") | names(1, "FAILED", 7) | names(2, "CANCELED", 8)
    [job] = world.wave(1, told, queued=53 * HOUR).plan().jobs[:1]
    assert (job.wave, len(job.devices)) == (1, 2)


@pytest.mark.parametrize(
    ("read", "wave", "expected"),
    [
        ({1: 10, 2: 10}, 3, 10),
        ({2: 10}, 3, 10),
        ({2: 7}, 3, 13),
        ({3: 10}, 4, 60),
        ({3: 7}, 4, 63),  # three of the present wave never answered
        ({2: 7, 3: 10}, 4, 60),  # of wave 2 the first jobs are too old as well
        ({1: 7, 2: 13}, 3, 10),  # three of wave 1 never answered
        ({1: 7, 2: 10}, 2, 3),  # wave 2 has not reached all that it is to reach
        ({2: 13, 3: 7}, 4, 60),
        ({2: 10, 3: 7, 4: 63}, 5, 5),  # three of wave 3 never answered
        ({2: 10, 3: 7, 4: 60}, 4, 3),
    ],
    ids=str,
)
def test_who_was_reached_so_long_ago_that_no_job_of_it_can_be_read_has_been_reached(make, read, wave, expected):
    """Else a wave would reach as many more as the first ones have, in a rollout of months."""
    world, start = World(make, waves=("10", "20", "30", "90", "95", "100%")), 0
    for number, devices in read.items():
        ended = (40 - 2 * number) * 24 * HOUR
        world.wave(number, names(devices, "SUCCEEDED", start), ended=ended, tail=f"000000000{number}")
        start += devices
    [job] = world.plan().jobs
    assert (job.wave, len(job.devices)) == (wave, expected)


def test_what_failed_in_a_wave_halts_the_rollout_though_the_policy_has_fewer_waves_now(make):
    world = World(make, waves=("1", "10", "30", "100%")).wave(1, names(1, "SUCCEEDED"), ended=90 * HOUR)
    world.wave(2, names(9, "SUCCEEDED", 1), ended=60 * HOUR)
    world.wave(3, names(12, "SUCCEEDED", 10) | names(8, "FAILED", 22), tail="0000000003")
    before = world.plan().waves[0]
    world.desired = make.desired(
        make.replace(world.policy, rollout=make.rollout(("1", "100%"), abort=(make.abort(20, 5),)))
    )
    after = world.plan().waves[0]
    assert (before.status, before.wave) == (WaveStatus.HALTED, 3)
    assert (after.status, after.wave, after.remedy) == (WaveStatus.HALTED, 2, before.remedy)


@pytest.mark.parametrize(("most", "rounds"), [(1, 9), (4, 2), (9, 1), (10, 1)])
def test_a_wave_with_more_devices_than_may_be_in_flight_goes_on_until_it_has_reached_them_all(make, most, rounds):
    """Else the next one, which may be all of the fleet, would open once a part of this one is well."""
    world = World(make, max_in_flight=most).wave(1, {"g000": "SUCCEEDED"}, ended=90 * HOUR)
    for number in range(rounds):
        [job] = world.plan().jobs
        assert (job.wave, len(job.devices)) == (2, min(most, 9))
        asked = {device.name: "SUCCEEDED" for device in job.devices}
        world.wave(2, asked, ended=(60 - number) * HOUR, tail=f"00000000{number:02}")
    [rest] = world.plan().jobs
    assert (rest.wave, len(rest.devices)) == ((2, 1) if most == 4 else (3, min(most, 90)))


@pytest.mark.parametrize(
    ("status", "hours", "number"),
    [("IN_PROGRESS", 1, 3), ("SUCCEEDED", 1, 3), ("SUCCEEDED", 30, 3)],
    ids=["while devices are at work", "while it soaks", "when it has soaked"],
)
def test_a_wave_that_has_room_takes_who_waits(make, status, hours, number):
    world = World(make).wave(1, {"g000": "SUCCEEDED"}, ended=90 * HOUR)
    told = names(5, "SUCCEEDED", 1) | {"g006": status}
    plan = world.wave(2, told, ended=hours * HOUR, tail="0000000002").plan()
    assert [(job.wave, len(job.devices)) for job in plan.jobs] == [(2, number)]
    stages = plan.outlooks[0].stages
    assert [(stage.wave, stage.devices) for stage in stages] == [(2, number), (3, 90)]
    assert stages[0].start == make.now


def test_a_wave_takes_nobody_else_while_nobody_knows_whom_its_newest_job_asks(make):
    world = World(make).wave(1, {"g000": "SUCCEEDED"}, ended=90 * HOUR)
    world.wave(2, names(5, "SUCCEEDED", 1), ended=HOUR, tail="0000000002")
    world.wave(2, {}, status="IN_PROGRESS", queued=HOUR / 60, tail="0000000003")
    assert world.plan().jobs == ()


@pytest.mark.parametrize("other", ["SUCCEEDED", "IN_PROGRESS"])
def test_a_wave_that_is_not_healthy_takes_nobody_else_though_it_has_room(make, other):
    world = World(make).wave(1, {"g000": "SUCCEEDED"}, ended=90 * HOUR)
    told = {"g001": "SUCCEEDED", "g002": "SUCCEEDED", "g003": other, "g004": "FAILED"}
    plan = world.wave(2, told, ended=HOUR, tail="0000000002").plan()
    assert [device.name for job in plan.jobs for device in job.devices] == (["g004"] if other == "SUCCEEDED" else [])


def test_a_new_component_version_forgives_what_the_old_one_failed(make):
    world = World(make).wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR)
    world.wave(2, names(6, "SUCCEEDED", 1) | names(3, "FAILED", 7))
    job = world.jobs[-1]
    old = {n: make.replace(e, component_version="1.0.0") for n, e in job.executions.items()}
    world.jobs[-1] = make.replace(job, executions=old)
    for name, device in world.devices.items():
        failures = tuple(make.replace(f, component_version="1.0.0") for f in device.failures)
        world.devices[name] = make.replace(device, component_version="1.1.0", failures=failures)
    plan = world.plan()
    assert plan.waves[0].status is WaveStatus.OPEN
    assert plan.jobs[0].wave == 3
    assert {"g007", "g008", "g009"} <= {device.name for device in plan.jobs[0].devices}


def test_a_canary_that_disappeared_after_success_opens_nothing(make):
    world = World(make).wave(1, {"g000": "SUCCEEDED"})
    del world.devices["g000"]
    plan = world.plan()
    assert [(job.wave, len(job.devices)) for job in plan.jobs] == [(1, 1)]
    assert "others take its place" in plan.waves[0].message


def test_a_canary_deactivated_since_is_not_healthy(make):
    world = World(make).wave(1, {"g000": "SUCCEEDED"})
    world.devices["g000"] = make.device("g000", age=30 * HOUR, status=CertificateStatus.INACTIVE)
    assert world.plan().waves[0].status is WaveStatus.UNHEALTHY


def test_a_canary_not_seen_since_its_rotation_is_not_healthy(make):
    world = World(make).wave(1, {"g000": "SUCCEEDED"})
    world.devices["g000"] = make.device("g000", age=30 * HOUR, last_seen=make.now - 40 * HOUR)
    assert world.plan().waves[0].status is WaveStatus.UNHEALTHY
    world.devices["g000"] = make.device("g000", age=30 * HOUR, last_seen=make.now - HOUR)
    assert world.plan().waves[0].status is WaveStatus.OPEN


def test_a_fleet_in_sync_is_idle(make):
    world = World(make)
    world.devices = {"g000": make.device("g000")}
    plan = world.plan()
    assert (plan.jobs, plan.steps, plan.waves[0].status) == ((), (), WaveStatus.IDLE)


def test_the_smallest_waves_that_reach_nobody_new_are_passed_over(make):
    world = World(make, number=5, waves=("1", "5%", "100%")).wave(1, {"g000": "SUCCEEDED"})
    assert [(job.wave, len(job.devices)) for job in world.plan().jobs] == [(3, 4)]


@pytest.mark.parametrize(
    ("waves", "number", "expected"),
    [
        (("1", "5%", "100%"), 1000, (1, 50, 1000)),
        (("10", "50%", "100%"), 4, (4, 4, 4)),
        (("1%", "100%"), 3, (1, 3)),
        (("100%",), 0, (1,)),
    ],
)
def test_wave_sizes_are_cumulative(make, waves, number, expected):
    assert cumulative_sizes(make.rollout(waves).waves, number) == expected


# ---- in flight, open jobs, windows, rest


def test_no_more_devices_are_in_flight_than_the_policy_allows(make):
    world = World(make, waves=("100%",), max_in_flight=30)
    world.wave(1, names(20, "IN_PROGRESS"), ended=HOUR)
    plan = world.plan()
    assert len(plan.jobs[0].devices) == 10
    assert "20 of at most 30 in flight" in plan.waves[0].message


def test_a_policy_has_no_more_than_two_wave_jobs(make):
    world = World(make, waves=("100%",))
    world.wave(1, {"g000": "IN_PROGRESS"}, ended=HOUR).wave(1, {"g001": "IN_PROGRESS"}, ended=HOUR, tail="0000000002")
    plan = world.plan()
    assert plan.jobs == ()
    assert "2 jobs are under way" in plan.waves[0].message


def test_a_job_that_exists_already_is_not_made_again(make):
    world = World(make, number=3, waves=("100%",))
    job = world.plan().jobs[0]
    world.jobs = [make.job(job.job_id, {})]
    assert world.plan().jobs == ()


def test_the_id_of_a_cancelled_job_is_not_used_again(make):
    world = World(make, number=3, waves=("100%",))
    first = world.plan().jobs[0].job_id
    world.jobs = [make.job(first, {}, status="CANCELED")]
    second = world.plan().jobs[0].job_id
    assert second != first
    assert parse_job_id(second).digest[:6] == parse_job_id(first).digest[:6] == world.family


def test_a_failed_device_is_asked_again_under_another_id(make):
    planned = World(make).plan().jobs[0].devices
    again = tuple(make.replace(device, attempt=2) for device in planned)
    ids = {job_id_for("line-a", 1, "abcdef", devices, ended=frozenset(), now=make.now) for devices in (planned, again)}
    assert len(ids) == 2


def test_a_job_that_ended_too_long_ago_to_be_known_does_not_stand_in_the_way_of_another(make):
    world, later = World(make, number=3, waves=("100%",)), make.now + LOOK_BACK
    ids = [
        make.plan(list(world.devices.values()), world.desired, now=now).jobs[0].job_id
        for now in (make.now, make.now + HOUR, later)
    ]
    assert ids[0] == ids[1] != ids[2]


PAUSES = {
    "the last job ended just within what counts": ([(90 * DAY, 45 * DAY)], 2),
    "it ended longer ago": ([(90 * DAY, 45 * DAY + MINUTE)], 0),
    "it goes on": ([(90 * DAY, None)], 2),
    "another was made after a long pause, by a run that did not come to its end": (
        [(90 * DAY, 60 * DAY), (HOUR, None)],
        1,
    ),
    "after a pause that is short enough": ([(90 * DAY, 45 * DAY + HOUR), (HOUR, None)], 2),
    "a longer one goes on meanwhile": ([(99 * DAY, None), (90 * DAY, 60 * DAY), (HOUR, None)], 2),
    "a longer one had ended late": ([(99 * DAY, 2 * DAY), (90 * DAY, 60 * DAY), (HOUR, None)], 2),
}


@pytest.mark.parametrize(("jobs", "reached"), PAUSES.values(), ids=PAUSES)
def test_a_rollout_starts_anew_after_a_long_pause_though_its_jobs_can_be_read(make, jobs, reached):
    """Each is when a job was made and when it ended; the newest is of the first wave where there are several."""
    found = []
    for number, (made, ended) in enumerate(jobs, 1):
        wave = 1 if number == len(jobs) > 1 else 2
        job = make.job(
            f"cf-line-a-w{wave}-abcdef000000000{number}", {}, age=made, status="COMPLETED" if ended else "IN_PROGRESS"
        )
        found.append(make.replace(job, completed_at=make.now - ended if ended else None))
    assert read_rollout("line-a", "abcdef", found, make.now).reached == reached


@pytest.mark.parametrize("change", [{"mode": Mode.REPORT}, {"suspend": "yes"}], ids=["report mode", "suspended"])
def test_a_policy_that_rests_plans_nothing_and_cancels_what_still_asks(make, change):
    fields = {"suspend": make.suspension()} if "suspend" in change else change
    world = World(make, policy=make.policy(**fields)).wave(1, {"g000": "QUEUED"}, ended=HOUR)
    plan = world.plan()
    assert plan.jobs == ()
    assert [(step.job_id, step.action) for step in plan.steps] == [(world.job_id(1), "cancel")]


def test_a_changed_policy_withdraws_the_jobs_of_its_former_self(make):
    world = World(make)
    world.jobs = [make.job("cf-line-a-w2-ffffff0000000001", {"g001": make.execution()})]
    plan = world.plan()
    assert [(step.job_id, step.reason) for step in plan.steps] == [
        (
            "cf-line-a-w2-ffffff0000000001",
            "the policy's rollout has begun anew since: its certificate rule or its name is another",
        )
    ]


def test_jobs_that_still_ask_are_withdrawn_when_the_window_closes(make):
    policy = make.policy(windows=[make.window()])
    world = World(make, policy=policy).wave(1, {"g000": "QUEUED", "g001": "IN_PROGRESS"}, ended=HOUR)
    world.wave(1, {"g002": "IN_PROGRESS"}, ended=HOUR, tail="0000000002")
    world.wave(1, {"g003": "SUCCEEDED"}, ended=HOUR, tail="0000000003")
    plan = world.plan()
    jobs = [world.job_id(1), world.job_id(1, "0000000002")]  # AWS IoT would ask who is at work again, should it fail
    assert [(step.job_id, step.reason) for step in plan.steps] == [
        (job, "no maintenance window is open") for job in jobs
    ]
    assert plan.jobs == ()


def test_jobs_with_urgent_devices_go_on_when_the_window_closes(make):
    policy = make.policy(windows=[make.window()])
    world = World(make, policy=policy)
    world.devices["g000"] = make.device("g000", age=OLD, left=DAY)
    world.wave(1, {"g000": "QUEUED"}, ended=HOUR)
    assert world.plan().steps == ()


# ---- stragglers


def test_a_wave_whose_last_devices_are_silent_is_closed_and_they_wait_in_the_standing_job(make):
    world = World(make, number=10, waves=("100%",))
    world.wave(1, names(8, "SUCCEEDED") | names(2, "QUEUED", 8), ended=20 * HOUR, queued=30 * HOUR)
    plan = world.plan()
    assert [(step.job_id, step.action) for step in plan.steps] == [(world.job_id(1), "cancel")]
    assert "the last 2 devices have not answered for 30 hours" in plan.steps[0].reason
    (standing,) = plan.jobs
    assert standing.is_standing
    assert standing.target_kind is TargetKind.COHORT
    assert standing.target_group == standing.job_id
    assert [device.name for device in standing.devices] == ["g008", "g009"]
    assert parse_job_id(standing.job_id).wave is None


@pytest.mark.parametrize(("hours", "steps"), [(23, []), (30, ["cancel"])])
def test_a_device_in_a_status_nobody_knows_holds_up_its_wave_no_longer_than_a_silent_one(make, hours, steps):
    world = World(make, number=10, waves=("100%",))
    world.wave(1, names(9, "SUCCEEDED") | names(1, "PAUSED", 9), ended=20 * HOUR, queued=hours * HOUR)
    plan = world.plan()
    assert [step.action for step in plan.steps] == steps
    assert plan.jobs == (), "what it does is not known, so nobody asks it anew"


def test_who_was_asked_in_window_after_window_without_an_answer_is_a_straggler_too(make):
    world = World(make, number=3, waves=("100%",))
    world.wave(1, {"g000": "CANCELED"}, queued=50 * HOUR, ended=46 * HOUR, status="CANCELED")
    world.wave(1, {"g000": "CANCELED"}, queued=26 * HOUR, ended=22 * HOUR, status="CANCELED", tail="0000000002")
    plan = world.plan()
    assert {job.is_standing: [d.name for d in job.devices] for job in plan.jobs} == {
        True: ["g000"],
        False: ["g001", "g002"],
    }


def test_who_answered_since_is_no_straggler(make):
    world = World(make, number=3, waves=("100%",))
    world.wave(1, {"g000": "CANCELED"}, queued=70 * HOUR, ended=66 * HOUR, status="CANCELED")
    world.wave(1, {"g000": "FAILED"}, queued=50 * HOUR, ended=49 * HOUR, tail="0000000002")
    world.policy = make.replace(world.policy, rollout=make.rollout(("100%",)))
    world.desired = make.desired(world.policy)
    assert [job.is_standing for job in world.plan().jobs] == [False]


def test_who_holds_a_newer_certificate_than_it_was_asked_for_is_no_straggler(make):
    world = World(make, number=1, waves=("100%",), policy=make.policy(rule=make.rule(max_age=DAY)))
    world.wave(1, {"g000": "CANCELED"}, queued=90 * HOUR, ended=80 * HOUR, status="CANCELED")
    world.devices["g000"] = make.device("g000", age=50 * HOUR)  # rotated by hand since, and due again
    assert [job.is_standing for job in world.plan().jobs] == [False]


def _standing(world, statuses, **fields):
    fields = {"status": "IN_PROGRESS", "is_continuous": True} | fields
    return world.wave(None, statuses, ended=2 * HOUR, queued=40 * HOUR, **fields)


def test_stragglers_that_wait_already_change_nothing(make):
    world = _standing(World(make, number=2, waves=("100%",)), names(2, "QUEUED"))
    plan = world.plan()
    assert (plan.jobs, plan.steps) == ((), ())


def test_a_straggler_joins_the_standing_job_there_is_under_its_own_document(make):
    world = _standing(World(make, number=3, waves=("100%",)), {"g000": "QUEUED"}, commit="d" * 40)
    world.wave(1, {"g001": "QUEUED", "g002": "SUCCEEDED"}, ended=30 * HOUR, queued=30 * HOUR)
    (standing,) = world.plan().jobs
    assert standing.job_id == world.job_id(None)
    assert [device.name for device in standing.devices] == ["g000", "g001"]
    assert standing.document.commit == "d" * 40


def test_who_is_in_sync_leaves_the_standing_job(make):
    world = _standing(World(make, number=2, waves=("100%",)), names(2, "QUEUED"))
    world.devices["g000"] = make.replace(make.device("g000"), executions=world.devices["g000"].executions)
    (standing,) = world.plan().jobs
    assert [device.name for device in standing.devices] == ["g001"]


def test_who_is_at_work_in_the_standing_job_stays_in_it_whatever_it_holds_meanwhile(make):
    world = _standing(World(make, number=3, waves=("100%",)), {"g000": "IN_PROGRESS", "g001": "QUEUED"})
    execution = world.jobs[-1].executions["g000"]
    both = (make.certificate(OLD, name="g000"), make.certificate(timedelta(0), name="new"))
    world.devices["g000"] = make.device("g000", certificates=both, executions=(execution,))
    leak = make.incident(issued_before=make.now - DAY)
    world.desired = make.desired(world.policy, incidents=(leak,))
    world.wave(1, {"g002": "QUEUED"}, ended=25 * HOUR, queued=25 * HOUR)

    [standing] = [job for job in world.plan().jobs if job.is_standing]

    assert standing.job_id == world.job_id(None)
    assert [device.name for device in standing.devices] == ["g001", "g002"]
    assert standing.stays == ("g000",)


def test_the_standing_job_ends_when_nobody_waits(make):
    world = _standing(World(make, number=2, waves=("100%",)), names(2, "SUCCEEDED"))
    plan = world.plan()
    assert plan.jobs == ()
    assert [(step.action, step.reason) for step in plan.steps] == [("cancel", "nobody waits in it any more")]


def test_who_comes_back_to_a_standing_job_that_has_done_with_it_gets_a_new_one(make):
    world = _standing(World(make, number=2, waves=("100%",)), {"g000": "QUEUED", "g001": "SUCCEEDED"})
    world.devices["g001"] = make.device("g001", age=OLD)
    world.wave(1, {"g001": "QUEUED"}, ended=25 * HOUR, queued=25 * HOUR)
    plan = world.plan()
    assert [step.job_id for step in plan.steps] == [world.job_id(1), world.job_id(None)]
    (standing,) = plan.jobs
    assert standing.job_id != world.job_id(None)
    assert [device.name for device in standing.devices] == ["g000", "g001"]


def test_the_standing_job_rests_while_its_windows_are_closed(make):
    policy = make.policy(windows=[make.window()])
    world = _standing(World(make, number=2, policy=policy), names(2, "QUEUED"))
    plan = world.plan()
    assert plan.jobs == ()
    assert [step.reason for step in plan.steps] == ["no maintenance window is open"]
    assert plan.waves[0].status is WaveStatus.CLOSED
    assert "the next opens at 2026-11-24T02:00:00Z" in plan.waves[0].message


def test_a_standing_job_that_has_ended_is_history(make):
    world = _standing(World(make, number=2, waves=("100%",)), {"g000": "SUCCEEDED"}, status="CANCELED")
    assert [(job.is_standing, [d.name for d in job.devices]) for job in world.plan().jobs] == [(False, ["g001"])]


def test_of_two_standing_jobs_the_older_stays(make):
    world = World(make, number=2, waves=("100%",))
    _standing(world, {"g000": "QUEUED"})
    world.wave(None, {"g001": "QUEUED"}, ended=HOUR, queued=30 * HOUR, status="IN_PROGRESS", tail="0000000002")
    assert [step.job_id for step in world.plan().steps] == [world.job_id(None, "0000000002")]


def test_a_quiet_job_gives_up_its_slot_when_it_is_wanted(make):
    world = World(make, number=4, waves=("100%",))
    world.wave(1, {"g000": "QUEUED"}, ended=3 * HOUR, queued=3 * HOUR)
    world.wave(1, {"g001": "IN_PROGRESS"}, ended=HOUR, tail="0000000002")
    plan = world.plan()
    assert [step.job_id for step in plan.steps] == [world.job_id(1)]
    assert {job.is_standing: [d.name for d in job.devices] for job in plan.jobs} == {
        True: ["g000"],
        False: ["g002", "g003"],
    }


# ---- urgency


def test_urgent_devices_shorten_the_soak_to_meet_their_deadline(make):
    world = World(make, soak=48 * HOUR).wave(1, {"g000": "SUCCEEDED"}, ended=8 * HOUR)
    world.devices["g050"] = make.device("g050", age=OLD, left=12 * HOUR)
    plan = world.plan()
    assert [[d.name for d in job.devices] for job in plan.jobs] == [["g050"]]
    assert "urgent devices alone" in plan.waves[0].message


@pytest.mark.parametrize(("hours", "started"), [(2, []), (3, [["g050"]])])
def test_a_silent_canary_holds_urgent_devices_for_a_share_of_their_time_only(make, hours, started):
    """The share: half of a third of the 12 hours that are left and those that it has been asked for."""
    world = World(make).wave(1, {"g000": "QUEUED"}, ended=hours * HOUR, queued=hours * HOUR)
    world.devices["g050"] = make.device("g050", age=OLD, left=12 * HOUR)
    assert [[d.name for d in job.devices] for job in world.plan().jobs] == started


def test_a_soak_never_grows_and_never_goes_below_nought(make):
    now = make.now
    assert shortened_soak(DAY, now, None, 2) == DAY
    assert shortened_soak(DAY, now, now + 30 * DAY, 2) == DAY
    assert shortened_soak(DAY, now, now + 3 * HOUR, 2) == HOUR
    assert shortened_soak(DAY, now, now - HOUR, 2) == timedelta(0)


@pytest.mark.parametrize("kind", [FailureType.TIMED_OUT, FailureType.REJECTED, FailureType.ALL])
def test_abort_rules_count_their_own_kind(make, kind):
    world = World(make, waves=("100%",), abort=(make.abort(20, 5, kind),))
    world.wave(1, names(4, "SUCCEEDED") | names(3, "FAILED", 4))
    halted = world.plan().waves[0].status is WaveStatus.HALTED
    assert halted is (kind is FailureType.ALL)


def test_a_halted_rollout_asks_nobody_until_it_is_resumed(make):
    world = World(make)
    world.wave(1, {"g000": "SUCCEEDED"}, ended=90 * HOUR)
    world.wave(2, names(3, "SUCCEEDED", 1) | names(3, "FAILED", 4) | {"g007": "QUEUED"}, ended=5 * HOUR)
    world.wave(None, {"g050": "QUEUED", "g051": "QUEUED"}, queued=40 * HOUR, tail="0000000009", is_continuous=True)
    world.wave(2, {"g060": "QUEUED"}, queued=30 * HOUR, tail="0000000002")  # by now a straggler
    plan = world.plan()
    assert plan.waves[0].status is WaveStatus.HALTED
    assert plan.jobs == ()
    assert {(step.action, step.reason[:22]) for step in plan.steps} == {("cancel", "the rollout has halted")}
    assert sorted(step.job_id for step in plan.steps) == sorted(
        [world.job_id(2), world.job_id(2, "0000000002"), world.job_id(None, "0000000009")]
    )
    resumed = world.plan(overrides=Overrides(resume=frozenset({"line-a"})))
    assert resumed.waves[0].status is not WaveStatus.HALTED
    assert world.job_id(None, "0000000009") not in {step.job_id for step in resumed.steps}
