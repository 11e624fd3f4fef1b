"""A drill: an incident that is practised on a sample, what it has measured, and what follows for the whole."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from reconcile_rollouts import World

from controller.reconcile.outlook import Luck, draw, with_estimates
from controller.reconcile.outlook.drill_estimates import MOST_PLAYED
from controller.reconcile.outlook.simulation import Course
from controller.reconcile.outlook.virtual_fleet import Life
from controller.reconcile.planning import plan_from_json, plan_to_json
from controller.reconcile.values import (
    DrillSample,
    Mode,
    Reason,
    Stratum,
    TargetKind,
)

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)


def fleet(make, number=40, **fields):
    return [make.device(f"g{n:03d}", **fields) for n in range(number)]


def starting(plan):
    return {device.name for job in plan.jobs for device in job.devices}


def test_its_devices_rotate_and_no_other(make):
    desired = make.desired(drills=(make.drill("g003", "g007"),))
    plan = make.plan(fleet(make), desired)
    assert starting(plan) == {"g003", "g007"}
    assert {device.reasons for job in plan.jobs for device in job.devices} == {(Reason.DRILLED,)}


@pytest.mark.parametrize(
    "fields",
    [{"since": -HOUR}, {"since": 9 * HOUR}, {"policy": "line-b"}, {"devices": frozenset({"nobody"})}],
    ids=["before it was decided", "after its deadline", "of another policy", "of devices that are gone"],
)
def test_it_asks_nobody(make, fields):
    plan = make.plan(fleet(make), make.desired(drills=(make.drill("g003", **fields),)))
    assert starting(plan) == set()


def test_of_many_devices_that_have_nothing_to_say_the_sample_is_still_asked(make):
    """A fleet of two hundred alike is where the shortcut for devices in sync sets in."""
    plan = make.plan(fleet(make, 200), make.desired(drills=(make.drill("g199"),)))
    assert starting(plan) == {"g199"}


def test_a_device_that_holds_something_newer_is_not_rotated_again(make):
    devices = [make.device("g001", age=HOUR / 2), make.device("g002")]
    assert starting(make.plan(devices, make.desired(drills=(make.drill("g001", "g002"),)))) == {"g002"}


def test_a_device_that_was_just_rotated_is_left_alone_as_for_any_reason_but_an_incident(make):
    world = World(make, number=10, waves=("100%",)).wave(1, {"g001": "SUCCEEDED"}, ended=2 * HOUR)
    world.devices |= {name: make.device(name) for name in world.devices if name != "g001"}
    world.desired = replace(world.desired, drills=(make.drill("g001", "g002"),))
    assert starting(world.plan()) == {"g002"}
    incident = make.incident(issued_before=make.now - HOUR)
    world.desired = replace(world.desired, drills=(), incidents=(incident,))
    assert "g001" in starting(world.plan())


def test_what_keeps_an_incident_from_a_device_keeps_a_drill_from_it(make):
    devices, own = fleet(make, 10), make.drill("g001", "g002")
    for fields in (
        {"waivers": (make.waiver("g001", "g002"),)},
        {"quarantines": (make.quarantine("g001", "g002"),)},
        {"policies": (make.policy(suspend=make.suspension()),)},
        {"policies": (make.policy(windows=(make.window(),)),)},
        {"policies": (make.policy(mode=Mode.REPORT),)},
    ):
        assert starting(make.plan(devices, make.desired(**fields, drills=(own,)))) == set(), fields
    in_window = make.desired(make.policy(windows=(make.window(),)), drills=(replace(own, ignore_windows=True),))
    assert starting(make.plan(devices, in_window)) == {"g001", "g002"}


def test_a_halted_rollout_asks_nobody_for_a_drill(make):
    world = World(make, number=10, waves=("100%",), abort=(make.abort(20, 2),))
    world.wave(1, {"g001": "FAILED", "g002": "FAILED", "g003": "FAILED"}, ended=HOUR)
    world.desired = replace(world.desired, drills=(make.drill("g007"),))
    plan = world.plan()
    assert (starting(plan), plan.halts.keys()) == (set(), {"line-a"})


def test_the_guardrail_counts_it(make):
    names = [f"g{n:03d}" for n in range(30)]
    desired = make.desired(guardrails=make.desired().fleet.guardrails.__class__(30, 10), drills=(make.drill(*names),))
    assert [r.guardrail for r in make.plan(fleet(make, 40), desired).refusals] == ["maxChangePercent"] * 2


def test_a_deadline_that_cannot_be_met_refuses_no_plan(make):
    own = make.drill(*(f"g{n:03d}" for n in range(40)), lasts=HOUR + MINUTE, ignore_windows=True)
    assert not make.plan(fleet(make), make.desired(drills=(own,))).refusals
    incident = make.incident(deadline=make.now + MINUTE, issued_before=make.now - HOUR)
    for drills in ((), (own,)):
        assert make.plan(fleet(make), make.desired(incidents=(incident,), drills=drills)).refusals
    assert make.plan(fleet(make, left=MINUTE), make.desired(drills=(own,))).refusals, "a certificate that ends is one"


def test_a_sample_that_is_the_whole_group_is_not_asked_by_the_group(make):
    """Who joins the group between plan and apply would be asked with it."""
    names = [f"g{n:03d}" for n in range(40)]
    state = make.state(group_sizes={"line-a": 40})
    [job] = make.plan(fleet(make), make.desired(drills=(make.drill(*names),)), state).jobs
    assert job.target_kind is TargetKind.THINGS
    incident = make.incident(issued_before=make.now - HOUR)
    [job] = make.plan(fleet(make), make.desired(incidents=(incident,)), state).jobs
    assert job.target_kind is TargetKind.GROUP


@pytest.mark.parametrize("end", ["reverted", "late"])
def test_who_is_still_queued_when_it_ends_is_asked_no_more(make, end):
    world = World(make, number=10, waves=("100%",))
    world.devices = {name: make.device(name) for name in world.devices}
    world.wave(1, {"g001": "QUEUED", "g002": "SUCCEEDED", "g003": "IN_PROGRESS"}, ended=HOUR / 2, queued=HOUR / 2)
    world.desired = replace(world.desired, drills=(make.drill("g001", "g002", "g003"),))
    assert not world.plan().steps
    drills = () if end == "reverted" else (make.drill("g001", "g002", "g003", lasts=HOUR),)
    world.desired = replace(world.desired, drills=drills)
    plan = world.plan()
    assert [step.action for step in plan.steps] == ["cancel"]
    assert starting(plan) == set()


def test_a_job_is_withdrawn_if_one_of_those_who_are_queued_in_it_needs_no_rotation_any_more(make):
    world = World(make, number=10, waves=("100%",))
    world.devices = {name: make.device(name) for name in world.devices}
    world.wave(1, {"g001": "QUEUED", "g002": "QUEUED"}, ended=HOUR / 2, queued=HOUR / 2)
    for devices, steps in ((("g001", "g002"), []), (("g002",), ["others are asked anew"])):
        world.desired = replace(world.desired, drills=(make.drill(*devices),))
        assert [step.reason.rpartition("; ")[2] for step in world.plan().steps] == steps


def test_two_drills_at_once_rotate_a_device_once_each_by_its_own_document(make):
    one, other = make.drill("g001", "g002"), make.drill("g002", "g003", name="winter", since=HOUR / 2)
    plan = make.plan(fleet(make), make.desired(drills=(one, other)))
    assert starting(plan) == {"g001", "g002", "g003"}
    assert len([device for job in plan.jobs for device in job.devices]) == 3


def test_with_an_incident_at_once_the_incident_comes_first(make):
    policy = make.policy(rollout=make.rollout(max_in_flight=1))
    incident = make.incident(authority="aws-iot", ignore_windows=False)
    devices = [*fleet(make, 5), make.device("z", authority="aws-iot")]
    plan = make.plan(devices, make.desired(policy, drills=(make.drill("g001"),), incidents=(incident,)))
    assert starting(plan) == {"z"}


def test_two_runs_at_once_make_the_same_job(make):
    desired = make.desired(drills=(make.drill("g001", "g002"),))
    first, second = (make.plan(devices, desired) for devices in (fleet(make), reversed(fleet(make))))
    assert plan_to_json(first) == plan_to_json(second)
    assert plan_from_json(plan_to_json(first)) == first


def test_yesterdays_plan_asks_nobody_whose_drill_was_reverted(make):
    before = make.plan(fleet(make), make.desired(drills=(make.drill("g001"),)))
    permitted = {device.name: device.certificate_id for job in before.jobs for device in job.devices}
    assert permitted
    assert starting(make.plan(fleet(make), make.desired(), permitted=permitted)) == set()


def test_a_certificate_that_is_dated_back_is_not_rotated_for_ever(make):
    """The device was rotated as asked, and what the CA gave it looks older than the drill."""
    world = World(make, number=3, waves=("100%",))
    world.wave(1, {"g001": "SUCCEEDED"}, ended=HOUR / 2, queued=HOUR / 2)
    held = make.certificate(HOUR / 2, name="g001", not_before=make.now - 3 * DAY)
    world.devices = {"g001": make.device("g001", certificates=(held,))}
    world.desired = replace(world.desired, drills=(make.drill("g001", since=HOUR, lasts=9 * DAY),))
    plan = world.plan()
    assert starting(plan) == set()
    assert [wave.status.value for wave in plan.waves] == ["halted"]


# The draw --------------------------------------------------------------------------------------------------


def test_the_same_draw_is_the_same_sample_and_one_device_less_makes_it_one_smaller_at_most(make):
    devices = fleet(make, 300)
    sample = DrillSample(of=300, count=30)
    first = draw("autumn", sample, devices)
    assert len(first) == 30
    assert first == draw("autumn", sample, reversed(devices))
    assert first != draw("winter", sample, devices)
    others = [device for device in devices if device.name != first[0]]
    assert len(set(first) & set(draw("autumn", sample, others))) == 29


def test_a_stratified_sample_has_of_each_kind_its_share(make):
    devices = [make.device(f"r{n}", key_type="RSA-2048") for n in range(70)]
    devices += [make.device(f"e{n}") for n in range(25)] + [make.device(f"n{n}", certificates=()) for n in range(5)]
    drawn = draw("autumn", DrillSample(of=100, count=10, stratify_by=Stratum.KEY_TYPE), devices)
    kinds = [name[0] for name in drawn]
    assert len(drawn) == 10
    assert (kinds.count("r"), kinds.count("e") + kinds.count("n")) == (7, 3)
    whole = draw("autumn", DrillSample(of=100, group="line-a"), devices)
    assert len(whole) == 100


# What it has measured --------------------------------------------------------------------------------------


def test_each_device_of_the_sample_is_counted_once_and_who_was_offline_apart(make):
    world = World(make, number=20, waves=("100%",))
    world.devices = {name: make.device(name) for name in world.devices}
    world.wave(1, {"g000": "SUCCEEDED", "g001": "SUCCEEDED"}, queued=50 * MINUTE, ended=40 * MINUTE, tail="1")
    world.wave(1, {"g002": "QUEUED"}, queued=50 * MINUTE, ended=50 * MINUTE, tail="2")
    world.wave(1, {"g003": "SUCCEEDED"}, queued=50 * MINUTE, ended=10 * MINUTE, tail="3")
    late = world.jobs[-1].executions["g003"]
    world.jobs[-1].executions["g003"] = replace(late, started_at=make.now - 12 * MINUTE)
    world.devices["g004"] = make.device("g004", age=MINUTE)  # by hand
    world.devices["g005"] = make.device("g005", groups=("line-b",))
    names = [f"g{n:03d}" for n in range(8)]
    world.desired = replace(world.desired, drills=(make.drill(*names, "gone"),), waivers=(make.waiver("g006"),))
    [report] = world.plan().drills
    found = {name: getattr(report, name) for name in report.__slots__ if isinstance(getattr(report, name), int)}
    assert found == {
        "devices": 9, "rotated": 2, "returned": 1, "offline": 1, "blocked": 1, "remaining": 1, "replaced": 1, "left": 2,
        "is_over": False, "failures": 0,
    }  # fmt: skip
    assert report.rotated_at == make.now - 40 * MINUTE
    assert report.durations == (10 * MINUTE,) * 3
    assert (
        "2 of 7 devices rotated, the last 20 minutes after the decision, 10 minutes after the first" in report.message
    )
    assert "2 offline when asked, 1 of them back, the last 50 minutes after the decision" in report.message


def measured(make, asked, *, since=HOUR, lasts=8 * HOUR, others=(), **fields):
    """The report of a drill whose devices were asked so: of each (status, queued, started, ended) as minutes ago."""
    jobs, devices = [], {}
    for name, tries in asked.items():
        devices[name] = make.device(name, age=30 * DAY)
        for number, (status, queued, started, ended) in enumerate(tries):
            one = make.execution(f"by-hand-{name}-{number}", status, queued * MINUTE, ended * MINUTE)
            one = replace(one, started_at=None if started is None else make.now - started * MINUTE)
            jobs.append(make.job(one.job_id, {name: one}, status="COMPLETED", age=queued * MINUTE))
            if status == "SUCCEEDED":
                devices[name] = make.device(name, age=ended * MINUTE)
    drill = make.drill(*asked, *others, since=since, lasts=lasts, **fields)
    plan = make.plan(list(devices.values()), make.desired(drills=(drill,)), make.state(*reversed(jobs)))
    [report] = plan.drills
    return report


def test_a_drill_tells_how_long_each_rotation_took_and_when_the_last_was_done(make):
    takes = {"a": 7, "b": 1, "c": 3, "d": 10, "e": 5}
    asked = {name: [("SUCCEEDED", 40, 30, 30 - takes[name])] for name in takes}
    report = measured(make, asked | {"f": [("SUCCEEDED", 50, 36, 34)]})
    assert report.durations == tuple(minutes * MINUTE for minutes in (1, 5, 10))
    assert report.message == (
        "drill autumn: 6 of 6 devices rotated, the last 40 minutes after the decision, 30 minutes after the first was "
        "asked; it is over"
    )
    assert (report.rotated_at, report.asked_at) == (make.now - 20 * MINUTE, make.now - 50 * MINUTE)


@pytest.mark.parametrize(
    ("tries", "fate", "told"),
    [
        ([("SUCCEEDED", 50, 36, 30)], "rotated", "1 of 1 device rotated"),
        ([("SUCCEEDED", 50, 35, 30)], "returned", "1 offline when asked, 1 of them back, the last 30 minutes after"),
        ([("FAILED", 55, 54, 53), ("SUCCEEDED", 45, 20, 19)], "rotated", "; 1 failed attempt; it is over"),
        (
            [("FAILED", 55, 20, 19), ("TIMED_OUT", 18, 17, 16), ("SUCCEEDED", 15, 14, 13)],
            "returned",
            "2 failed attempts",
        ),
        ([("SUCCEEDED", 50, 49, 48), ("FAILED", 40, 39, 38)], "rotated", "after the first was asked; it is over"),
        ([("QUEUED", 15, None, 15)], "offline", "; 1 offline when asked; it asks until 2026-11-23T19:00:00Z"),
        ([("QUEUED", 14, None, 14)], "remaining", "0 of 1 device rotated; 1 to go; it asks until"),
        ([("CANCELED", 50, None, 20)], "offline", "; 1 offline when asked; it asks until"),
        ([("FAILED", 50, 49, 48)], "remaining", "; 1 to go; 1 failed attempt; it asks until"),
        ([("QUEUED", 60 + 2 / 60, None, 14)], "offline", "1 offline when asked"),
        ([("QUEUED", 60 + 3 / 60, None, 14)], "remaining", "1 to go"),
        ([("SUCCEEDED", 60, 60, 60)], "rotated", "the last 0 seconds after the decision"),
        ([], "remaining", "drill autumn: 0 of 1 device rotated; 1 to go; it asks until 2026-11-23T19:00:00Z"),
    ],
)
def test_what_a_device_was_asked_decides_how_it_is_counted(make, tries, fate, told):
    report = measured(make, {"g001": tries})
    assert [name for name in ("rotated", "returned", "offline", "remaining") if getattr(report, name)] == [fate]
    assert told in report.message
    assert report.is_over is (fate in {"rotated", "returned"})


def test_at_its_deadline_a_drill_is_over_whoever_is_left(make):
    for lasts, is_over in ((HOUR, True), (HOUR + MINUTE, False)):
        report = measured(make, {"g001": [("QUEUED", 50, None, 50)]}, lasts=lasts, others=("gone",))
        assert report.is_over is is_over
        assert report.message == (
            "drill autumn: 0 of 1 device rotated; 1 offline when asked; 1 left the policy; "
            + ("it is over" if is_over else "it asks until 2026-11-23T12:01:00Z")
        )


def test_a_drill_that_has_measured_nothing_says_nothing_of_the_whole(make):
    own = make.drill("g001", since=9 * HOUR)
    plan = make.plan(fleet(make), make.desired(drills=(own,)))
    [report] = with_estimates(plan, make.desired(drills=(own,)), make.state()).drills
    assert report.estimate is None
    assert "nothing follows for the whole: none of its devices rotated" in report.message


# What follows for the whole --------------------------------------------------------------------------------


def practised_and_then_done(make, seed, *, limit):
    """A drill of 100 among 2,000 of which a tenth is offline; then the whole, with other luck. Both in virtual time.

    Returns whom the drill has rotated, the sample, the report, and how long the whole took.
    """
    policy = make.policy(rollout=make.rollout(max_in_flight=limit))
    devices, sample = fleet(make, 2_000), DrillSample(of=2_000, count=100)
    names = frozenset(draw("autumn", sample, devices))
    own = make.drill(*names, since=MINUTE, sample=sample)
    desired = make.desired(policy, drills=(own,))
    lives = {device.name: Life(device) for device in devices}
    luck = Luck(seed, offline_rate=0.1, takes=4 * MINUTE)
    course = Course(policy, desired, make.state(group_sizes={"line-a": 2_000}), lives, luck)
    course.play(make.now, own.deadline, HOUR)
    touched = {name for job in course.fleet.jobs.values() for name in job.executions}

    now = own.deadline
    held = [life.device for life in course.fleet.lives.values()]
    state = make.state(*course.fleet.jobs.values(), now=now, group_sizes={"line-a": 2_000})
    [report] = with_estimates(make.plan(held, desired, state, now), desired, state).drills

    incident = make.incident(deadline=now + 8 * HOUR, issued_before=now, ignore_windows=False)
    lives = {device.name: Life(replace(device, executions=())) for device in held}
    luck = Luck(seed + 1_000, offline_rate=0.1, takes=4 * MINUTE)
    course = Course(policy, make.desired(policy, incidents=(incident,)), state, lives, luck)
    waited, ends, decided = {name for name in lives if not luck.absence(name, 1)}, {}, now
    while not waited <= ends.keys():
        course.run(now)
        ends = dict(course.fleet.record.rotated)
        now += HOUR
    return touched, names, report, max(ends[name] for name in waited) - decided


@pytest.mark.unmeasured
def test_a_drill_of_100_among_2000_with_a_tenth_offline_keeps_to_its_sample_and_foretells_the_whole(make):
    touched, names, report, took = practised_and_then_done(make, 1, limit=500)
    assert touched == names
    assert report.rotated + report.offline + report.returned == len(names) == 100
    assert report.estimate.least <= took <= report.estimate.most, (report.message, took)
    assert report.estimate.most <= 2 * report.estimate.least, "an error that says nothing would always hold"


@pytest.mark.soak
@pytest.mark.parametrize("limit", [200, 500, 2_000])
def test_in_at_least_19_of_20_drills_the_whole_falls_within_the_error_that_is_told(make, limit):
    held = []
    for seed in range(20):
        touched, names, report, took = practised_and_then_done(make, seed, limit=limit)
        assert touched <= names
        held.append(report.estimate.least <= took <= report.estimate.most)
        print(f"{limit} in flight, seed {seed}: took {took}, told {report.estimate.least} to {report.estimate.most}")  # noqa: T201
    assert sum(held) >= 19


def test_of_a_large_policy_the_whole_is_played_smaller(make):
    assert MOST_PLAYED < 100_000
    names = [f"g{n:03d}" for n in range(20)]
    world = World(make, number=20, waves=("100%",), max_in_flight=10_000, maximum_per_minute=1000)
    world.wave(1, dict.fromkeys(names, "SUCCEEDED"), queued=50 * MINUTE, ended=40 * MINUTE)
    world.desired = replace(world.desired, drills=(make.drill(*names, lasts=HOUR),))
    state, plan, about = make.state(*world.jobs), world.plan(), []
    for number in (2_000, 100_000):
        policies = tuple(replace(summary, governed=number) for summary in plan.policies)
        [report] = with_estimates(replace(plan, policies=policies), world.desired, state).drills
        about.append(report.estimate.about)
    assert about[0] < 2 * HOUR < 9 * HOUR < about[1] < 12 * HOUR


def test_what_could_not_be_played_is_said(make):
    world = World(make, number=1, waves=("100%",), max_in_flight=1)
    world.wave(1, {"g000": "SUCCEEDED"}, queued=50 * MINUTE, ended=40 * MINUTE)
    world.desired = replace(world.desired, drills=(make.drill("g000", lasts=HOUR),))
    plan = world.plan()
    for number, why in ((1_000_000, "are too many to play"), (20, "longer than 14 days"), (0, "no device")):
        policies = tuple(replace(summary, governed=number) for summary in plan.policies)
        state = make.state(*world.jobs)
        [report] = with_estimates(replace(plan, policies=policies), world.desired, state, every=DAY).drills
        assert (report.estimate, why in report.message) == (None, True), report.message
