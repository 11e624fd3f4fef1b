"""How the devices of a wave fared: what counts, since when, and until when."""

from __future__ import annotations

from datetime import timedelta

import pytest
from reconcile_rollouts import OLD, World, names

from controller.reconcile.values import CLOCK_GRAIN, Baseline, WaveStatus, parse_overrides

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
LAST = {"waves": ("1", "100%")}


@pytest.mark.parametrize(
    ("sentence", "earlier", "soak", "status"),
    [
        ("a failure of the day before its newest job counts", 23 * HOUR, HOUR, WaveStatus.HALTED),
        ("one of exactly a day before counts", 24 * HOUR, HOUR, WaveStatus.HALTED),
        ("one of a day and an hour before is past", 25 * HOUR, HOUR, WaveStatus.OPEN),
        ("a longer soak looks back as far as it is long", 47 * HOUR, 48 * HOUR, WaveStatus.HALTED),
        ("and no further", 49 * HOUR, 48 * HOUR, WaveStatus.OPEN),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_the_last_wave_is_judged_by_its_latest_day(make, sentence, earlier, soak, status):
    world = World(make, **LAST, soak=soak).wave(1, {"g000": "SUCCEEDED"}, ended=90 * DAY)
    world.wave(2, names(6, "FAILED", 1), queued=10 * HOUR + earlier, ended=9 * HOUR + earlier)
    world.wave(2, names(4, "SUCCEEDED", 10), queued=10 * HOUR, ended=9 * HOUR, tail="0000000002")
    assert world.plan().waves[0].status is status, sentence


def test_a_wave_before_the_last_is_judged_by_all_of_its_jobs(make):
    world = World(make, waves=("20", "100%")).wave(1, names(6, "FAILED", 1), queued=90 * HOUR, ended=89 * HOUR)
    world.wave(1, names(4, "SUCCEEDED", 10), queued=10 * HOUR, ended=9 * HOUR, tail="0000000002")
    assert world.plan().waves[0].status is WaveStatus.HALTED


@pytest.mark.parametrize(
    ("seen", "wave"),
    [(None, 2), (-CLOCK_GRAIN, 2), (-2 * CLOCK_GRAIN, 1)],
    ids=["nobody looks", "since then, as far as clocks agree", "not since then"],
)
def test_who_is_in_sync_through_a_rotation_that_timed_out_is_healthy_once_it_was_seen(make, seen, wave):
    world = World(make, waves=("1", "100%")).wave(1, {"g000": "TIMED_OUT"}, ended=30 * HOUR)
    made = 30 * HOUR + 30 * MINUTE
    world.devices["g000"] = make.device("g000", age=made, last_seen=seen and make.now - made + seen)
    assert world.plan().waves[0].wave == wave


def test_who_rotated_well_before_its_job_let_it_go_does_not_count_as_lost(make):
    world = World(make, waves=("2", "100%")).wave(1, {"g000": "SUCCEEDED", "g001": "CANCELED"}, ended=30 * HOUR)
    executions = world.jobs[0].executions
    executions["g001"] = make.replace(executions["g001"], started_at=make.now - 31 * HOUR)
    world.devices["g001"] = make.device("g001", age=30 * HOUR)
    assert world.plan().waves[0].status is WaveStatus.OPEN


@pytest.mark.parametrize("order", [(30, 10), (10, 30)], ids=["the last answer last", "the last answer first"])
def test_a_wave_soaks_from_its_last_answer_on(make, order):
    world = World(make, waves=("2", "100%"))
    for number, hours in enumerate(order):
        world.wave(1, {f"g{number:03}": "SUCCEEDED"}, ended=hours * HOUR, queued=40 * HOUR, tail=f"{number:010}")
    [report] = world.plan().waves
    assert (report.status, report.until) == (WaveStatus.SOAKING, make.now + 14 * HOUR)


@pytest.mark.parametrize(
    ("looked", "status"),
    [(-HOUR, WaveStatus.HALTED), (timedelta(0), WaveStatus.HALTED), (HOUR, WaveStatus.OPEN)],
    ids=["before they failed", "in the same second: nobody can tell", "after it"],
)
def test_what_a_person_has_looked_at_halts_no_more(make, looked, status):
    world = World(make).wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR)
    world.wave(2, names(6, "SUCCEEDED", 1) | names(3, "FAILED", 7), ended=30 * HOUR)
    baseline = Baseline({"line-a": 100}, resumed={"line-a": make.now - 30 * HOUR + looked})
    state = make.state(*world.jobs, group_sizes={"line-a": 100}, baseline=baseline)
    assert make.plan(list(world.devices.values()), world.desired, state).waves[0].status is status


@pytest.mark.parametrize("order", ["made last", "made first"])
def test_a_job_that_was_made_a_moment_ago_is_under_way_whatever_the_others_of_its_wave_say(make, order):
    world = World(make, waves=("2", "100%")).wave(1, {"g000": "SUCCEEDED"}, ended=30 * HOUR)
    at = {"made last": HOUR / 60, "made first": 90 * HOUR}[order]
    world.wave(1, {}, status="IN_PROGRESS", queued=at, tail="0000000002")
    assert world.plan().waves[0].status is WaveStatus.RUNNING


@pytest.mark.parametrize(
    ("ago", "reason", "status"),
    [(timedelta(0), "Rotating", WaveStatus.RUNNING), (14 * MINUTE, "Rotating", WaveStatus.RUNNING),
     (15 * MINUTE, "ExtraCertificate", WaveStatus.UNHEALTHY)],
    ids=["a moment ago", "a quarter of an hour ago, nearly", "a quarter of an hour ago"],
)  # fmt: skip
def test_who_has_just_rotated_holds_both_certificates_until_the_backend_has_removed_the_old_one(
    make, ago, reason, status
):
    """A job says SUCCEEDED before that: nobody is to be called for it, nor any rollout to be held up."""
    world = World(make, waves=("10", "100%")).wave(1, names(10, "SUCCEEDED"), ended=ago, queued=ago + HOUR)
    for name in names(10, ""):
        held = (make.certificate(OLD, name=name), make.certificate(ago + MINUTE, name=f"new {name}"))
        world.devices[name] = make.device(name, certificates=held)
    leak = make.incident(issued_before=make.now - DAY)
    for incidents in ((), (leak,)):  # which taints the old one
        world.desired = make.desired(world.policy, incidents=incidents, waivers=(make.waiver("g000"),))
        [report] = world.plan().waves
        assert (report.status, report.remedy is None) == (status, status is WaveStatus.RUNNING)
        found = make.assess(world.devices["g000"], world.desired, make.state(*world.jobs))
        assert reason in make.reasons(found)
        assert found.is_rotating is (reason == "Rotating")
        assert not found.needs_rotation or incidents


def test_two_certificates_that_no_rotation_has_brought_are_one_too_many_whatever_has_just_rotated(make):
    world = World(make, number=1, waves=("100%",)).wave(1, {"g000": "SUCCEEDED"}, ended=MINUTE, queued=HOUR)
    for ages in ((OLD, 2 * HOUR), (OLD, 2 * MINUTE, 2 * MINUTE)):
        held = tuple(make.certificate(age, name=f"{number}") for number, age in enumerate(ages))
        found = make.assess(make.device("g000", certificates=held), world.desired, make.state(*world.jobs))
        assert make.reasons(found) == ["ExtraCertificate"]


def _halted(make):
    """Three of the nine of the second wave failed 30 hours ago: the rollout has halted."""
    world = World(make).wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR)
    return world.wave(2, names(6, "SUCCEEDED", 1) | names(3, "FAILED", 7), ended=30 * HOUR)


@pytest.mark.parametrize(
    ("failed_with", "has_now", "status"),
    [
        ("1.0.0", "1.1.0", WaveStatus.OPEN),
        ("1.0.0", "1.0.0", WaveStatus.HALTED),
        (None, "1.1.0", WaveStatus.HALTED),
        ("1.0.0", None, WaveStatus.HALTED),
    ],
    ids=["another version", "the same", "not known with which", "not known what it has"],
)
def test_only_a_component_that_is_another_now_is_forgiven_its_failure(make, failed_with, has_now, status):
    world = _halted(make)
    job = world.jobs[-1]
    failed = {n: make.replace(e, component_version=failed_with) for n, e in job.executions.items()}
    world.jobs[-1] = make.replace(job, executions=failed)
    for name, device in world.devices.items():
        world.devices[name] = make.replace(device, component_version=has_now, failures=())
    assert world.plan().waves[0].status is status


@pytest.mark.parametrize(
    ("after", "status"),
    [(-3 * HOUR, WaveStatus.HALTED), (-HOUR / 2, WaveStatus.OPEN), (HOUR, WaveStatus.OPEN)],
    ids=["before it began", "while it was under way", "after it failed"],
)
def test_a_certificate_of_after_the_failure_settles_it(make, after, status):
    world = _halted(make)
    for name in ("g007", "g008", "g009"):
        world.devices[name] = make.device(name, age=30 * HOUR - after)
    assert world.plan().waves[0].status is status


@pytest.mark.parametrize(
    ("created", "seen", "status"),
    [
        (timedelta(0), timedelta(0), WaveStatus.SOAKING),
        (-CLOCK_GRAIN, -CLOCK_GRAIN, WaveStatus.SOAKING),
        (-2 * CLOCK_GRAIN, timedelta(0), WaveStatus.UNHEALTHY),
        (timedelta(0), -2 * CLOCK_GRAIN, WaveStatus.UNHEALTHY),
    ],
    ids=["as it was asked", "a clock's grain before", "a certificate of before", "not seen since"],
)
def test_a_success_is_borne_out_by_what_the_registry_shows_since_the_device_was_asked(make, created, seen, status):
    world = World(make).wave(1, {"g000": "SUCCEEDED"}, ended=2 * HOUR, queued=3 * HOUR)
    asked = make.now - 3 * HOUR
    world.devices["g000"] = make.device("g000", age=3 * HOUR - created, last_seen=asked + seen)
    assert world.plan().waves[0].status is status


@pytest.mark.parametrize(
    ("created", "status"),
    [(-HOUR / 2, WaveStatus.HALTED), (CLOCK_GRAIN, WaveStatus.HALTED), (2 * CLOCK_GRAIN, WaveStatus.OPEN)],
    ids=["of the rotation", "of it, by another clock", "put there since"],
)
def test_a_rotation_answers_for_its_own_certificate_alone(make, created, status):
    """The job asked for another key type than the device holds now."""
    document = make.plan([make.device(age=OLD)], make.desired()).jobs[0].document.to_json()
    world = World(make, policy=make.policy(rule=make.rule(key_type=None), rollout=make.rollout(("1", "100%"))))
    world.wave(1, {"g000": "SUCCEEDED"}, ended=2 * HOUR, queued=3 * HOUR, document=document)
    held = make.certificate(2 * HOUR - created, name="g000", key_type="ECDSA-P384")
    world.devices["g000"] = make.device("g000", certificates=(held,))
    assert world.plan().waves[0].status is status


@pytest.mark.parametrize(
    ("created", "status"),
    [(OLD, WaveStatus.UNHEALTHY), (2.5 * HOUR, WaveStatus.HALTED)],
    ids=["it is the old one: the rotation failed", "the rotation brought it before its job timed out"],
)
def test_a_key_that_the_job_did_not_ask_for_halts_only_if_the_rotation_brought_it(make, created, status):
    world = World(make, waves=("1", "100%"))
    document = make.plan([make.device(age=OLD)], make.desired()).jobs[0].document.to_json()
    world.wave(1, {"g000": "TIMED_OUT"}, ended=2 * HOUR, queued=3 * HOUR, document=document)
    failures = world.devices["g000"].failures
    held = {"created_at": make.now - created, "key_type": "RSA-2048", "failures": failures}
    world.devices["g000"] = make.device("g000", age=created, **held)
    assert world.plan().waves[0].status is status


@pytest.mark.parametrize(("hours", "status"), [(23.9, WaveStatus.RUNNING), (24, WaveStatus.OPEN)])
def test_a_wave_waits_for_who_is_silent_until_stragglers_after(make, hours, status):
    world = World(make).wave(1, {"g000": "QUEUED"}, ended=hours * HOUR, queued=hours * HOUR)
    assert world.plan().waves[0].status is status


@pytest.mark.parametrize(("overrides", "failed"), [((), 2), (("resume=line-a",), 0)], ids=["as it is", "resumed"])
def test_the_report_counts_who_failed_and_who_is_lost_until_a_person_has_looked(make, overrides, failed):
    world = World(make).wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR)
    world.wave(2, {"g001": "SUCCEEDED", "g003": "FAILED"})
    world.wave(2, {"g002": "SUCCEEDED"}, healthy=False, tail="0000000002")
    [report] = world.plan(overrides=parse_overrides(overrides)).waves
    assert (report.done, report.failed) == (2, failed)


def test_a_failure_after_a_rotation_in_vain_is_a_failure(make):
    """What came before it has been looked at, or its job is not read any more."""
    world = World(make, waves=("1", "100%")).wave(1, {"g000": "FAILED"}, ended=HOUR)
    vain = make.execution(world.job_id(1, "0000000002"), "SUCCEEDED", queued=30 * HOUR, updated=28 * HOUR)
    held = make.certificate(29 * HOUR, name="g000", key_type="RSA-2048")
    world.devices["g000"] = make.device("g000", certificates=(held,), failures=world.devices["g000"].failures)
    world.jobs.insert(0, make.job(vain.job_id, {"g000": vain}, status="COMPLETED", age=31 * HOUR))
    assert make.assess(world.devices["g000"], world.desired, make.state(*world.jobs)).is_in_vain
    assert world.plan().waves[0].status is WaveStatus.UNHEALTHY
