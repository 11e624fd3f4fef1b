"""What one policy's plan makes of its candidates and of the jobs there are."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest
from reconcile_rollouts import OLD, World, names

from controller.reconcile.planning import part_of, settle
from controller.reconcile.values import Guardrails, Reason, TargetKind, WaveStatus
from protocol.deployment import EXCLUSIVE, NON_EXCLUSIVE, DeployedBackend

DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def _asked(plan):
    return {(job.is_standing, device.name) for job in plan.jobs for device in job.devices}


@pytest.mark.parametrize("kept", ["nobody", "one of each", "all", "under an older certificate"])
def test_of_whom_a_plan_made_before_named_nobody_else_rotates(make, kept):
    """A straggler (g000, g001: asked for two days) waits in the standing job, the others rotate in the wave's."""
    world = World(make, number=4, waves=("100%",))
    world.wave(1, names(2, "CANCELED"), queued=50 * HOUR, ended=46 * HOUR, status="CANCELED")
    certificates = {name: device.attachments[0].certificate.certificate_id for name, device in world.devices.items()}
    everybody = {(True, "g000"), (True, "g001"), (False, "g002"), (False, "g003")}
    permitted, expected = {
        "nobody": ({}, set()),
        "one of each": ({n: certificates[n] for n in ("g001", "g002")}, {(True, "g001"), (False, "g002")}),
        "all": (certificates, everybody),
        "under an older certificate": (dict.fromkeys(certificates, "f" * 64), set()),
    }[kept]
    plan = world.plan()
    assert _asked(plan) == everybody
    assert [(outlook.devices, outlook.offline) for outlook in plan.outlooks] == [(2, 2)]
    assert _asked(world.plan(permitted=permitted)) == expected


def test_a_halt_is_no_obstacle_of_a_rollout_for_which_nobody_waits(make):
    world = World(make, number=10, abort=(make.abort(20, 5),)).wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR)
    world.wave(2, names(6, "SUCCEEDED", 1) | names(3, "FAILED", 7), ended=HOUR / 6, queued=HOUR)
    plan = world.plan()
    assert plan.waves[0].status is WaveStatus.HALTED
    assert (plan.outlooks[0].devices, plan.outlooks[0].obstacle) == (0, None), "those that failed back off"


@pytest.mark.parametrize(("hours", "starts"), [(1, 0), (0, 4), (-1, 4)])
def test_a_suspension_holds_until_its_end(make, hours, starts):
    suspended = make.policy(suspend=make.suspension(until=make.now + hours * HOUR))
    plan = World(make, number=4, policy=suspended).plan()
    assert sum(len(job.devices) for job in plan.jobs) == starts
    assert plan.outlooks[0].stages[0].start == make.now + max(0, hours) * HOUR


def test_who_may_rotate_and_was_not_named_before_is_not_said_to_wait_for_its_wave(make):
    world = World(make, number=2, waves=("100%",))
    plan = world.plan(permitted={})
    assessments = make.assess_all(world.devices.values(), world.desired, make.state())
    assert {a.device: make.reasons(a) for a in settle(assessments, plan)} == {n: ["AgeExceeded"] for n in world.devices}


@pytest.mark.parametrize(
    ("status", "begins", "ends"),
    [
        (None, "wave 1 of 2 reaches 1 device; 3 devices wait", "; the last is done by 2026-11-24T12:10:03Z"),
        ("FAILED", "wave 1 of 2 is not healthy: 0 rotated, 1 failed", "; 3 devices wait"),
    ],
    ids=["which goes on", "of which nobody can tell"],
)
def test_a_device_that_its_wave_holds_is_told_what_for_and_until_when(make, status, begins, ends):
    world = World(make, number=4, waves=("1", "100%"))
    if status:
        world.wave(1, {"g000": status})
    assessments = make.assess_all(world.devices.values(), world.desired, make.state())
    told = [a.findings[-1] for a in settle(assessments, world.plan()) if a.device != "g000"]
    assert [finding.reason for finding in told] == [Reason.WAVE_SOAKING] * 3
    assert all(finding.message.startswith(begins) and finding.message.endswith(ends) for finding in told), told


def test_a_job_that_asks_for_something_else_than_its_devices_need_by_now_is_taken_back_and_they_are_asked_anew(make):
    world = World(make, number=2, waves=("100%",), policy=make.policy(rule=make.rule(key_type=None)))
    world.wave(1, names(2, "QUEUED"), ended=HOUR)
    assert world.plan().steps == (), "they hold what they held"
    other = make.certificate(OLD, name="g001", key_type="ECDSA-P384")  # by hand, of the same age
    world.devices["g001"] = make.replace(
        world.devices["g001"], attachments=make.device(certificates=(other,)).attachments
    )
    world.wave(1, {}, status="COMPLETED", tail="0000000002")
    plan = world.plan()
    assert [(step.job_id, step.action, step.reason) for step in plan.steps] == [
        (world.job_id(1), "cancel", "it asks for something else than its devices need now")
    ]


def test_of_many_that_hurry_the_first_end_shortens_the_soak(make):
    """12 hours after its answer one ends: the wave soaks for half of that, whatever the others' time."""
    world = World(make, waves=("1", "100%"), soak=48 * HOUR)
    world.wave(1, {"g000": "SUCCEEDED"}, ended=7 * HOUR)
    for name, hours in (("g050", 5), ("g051", 200)):
        world.devices[name] = make.device(name, age=OLD, left=hours * HOUR)
    [job] = world.plan().jobs
    assert [device.name for device in job.devices] == ["g050", "g051"]
    del world.devices["g050"]
    assert world.plan().waves[0].status is WaveStatus.SOAKING
    world.devices["g050"] = make.device("g050", age=OLD, left=199 * DAY)  # does not hurry: its end shortens nothing
    assert world.plan().waves[0].status is WaveStatus.SOAKING


@pytest.mark.parametrize("begun", [0, 4])
def test_what_the_same_apply_has_started_before_counts_for_the_whole_fleet_too(make, begun):
    """Of twenty devices in two policies two start: with four begun before, the fleet is at its limit of 25 %."""
    rollout = make.rollout(("1", "100%"))
    policies = [make.policy(name, rollout=rollout) for name in ("line-a", "line-b")]
    devices = [make.device(f"{p.name}-{n}", age=OLD, groups=(p.name,)) for p in policies for n in range(3)]
    devices += [make.device(f"{p.name}-{n}", groups=(p.name,)) for p in policies for n in range(3, 10)]
    desired = make.desired(*policies, guardrails=Guardrails(25, 20))
    names_begun = frozenset(f"{p.name}-{n}" for p in policies for n in range(9, 9 - begun // 2, -1))
    plan = make.plan(devices, desired, begun=names_begun)
    assert [refusal.policy for refusal in plan.refusals] == ([None] if begun else [])


def test_a_device_that_the_same_apply_starts_again_counts_once_against_the_limit(make):
    """All ten have been started, and four failed: a limit that permits all of them permits the four again."""
    devices = [make.device(f"g{n}", age=OLD if n < 4 else 10 * DAY) for n in range(10)]
    desired = make.desired(guardrails=Guardrails(100, 10))
    assert make.plan(devices, desired, begun=frozenset(f"g{n}" for n in range(10))).refusals == ()


def test_an_incident_that_keeps_to_windows_shortens_no_soak(make):
    world = World(make, waves=("1", "100%"), soak=48 * HOUR).wave(1, {"g000": "SUCCEEDED"}, ended=7 * HOUR)
    for gentle, status in ((False, WaveStatus.OPEN), (True, WaveStatus.SOAKING)):
        leak = make.incident(issued_before=make.now - DAY, deadline=make.now + 5 * HOUR, ignore_windows=not gentle)
        world.desired = make.desired(world.policy, incidents=(leak,))
        assert world.plan().waves[0].status is status


def test_of_a_halted_rollout_everybody_who_must_rotate_waits(make):
    world = World(make, number=20, waves=("1", "10", "100%")).wave(1, {"g000": "SUCCEEDED"}, ended=60 * HOUR)
    [report] = world.wave(2, names(6, "SUCCEEDED", 1) | names(3, "FAILED", 7)).plan().waves
    assert (report.status, report.held) == (WaveStatus.HALTED, 13)


def _of_two_kinds(make, number):
    """A world in which every other device holds a key of its own type, which its policy lets it keep."""
    rollout = make.rollout(("100%",), maximum_per_minute=9)
    world = World(make, number=number, policy=make.policy(rule=make.rule(key_type=None), rollout=rollout))
    for name in list(world.devices)[::2]:
        world.devices[name] = make.device(name, age=OLD, key_type="ECDSA-P384")
    return world


def test_jobs_of_two_kinds_share_the_rate(make):
    plan = _of_two_kinds(make, 3).plan()
    told = [[(t.devices, t.before.key_type, t.after.key_type) for t in job.transitions] for job in plan.jobs]
    assert told == [[(2, "ECDSA-P384", "ECDSA-P384")], [(1, "ECDSA-P256", "ECDSA-P256")]]
    assert [(len(job.devices), job.rollout.maximum_per_minute) for job in plan.jobs] == [(2, 6), (1, 3)]


def test_a_job_of_one_device_beside_many_asks_one_a_minute(make):
    world = _of_two_kinds(make, 20)
    for name in list(world.devices)[2:]:
        world.devices[name] = make.device(name, age=OLD)
    told = [(len(job.devices), job.rollout.maximum_per_minute) for job in world.plan().jobs]
    assert sorted(told) == [(1, 1), (19, 8)]


def test_a_job_under_way_leaves_room_for_one_more_whatever_kinds_are_needed(make):
    world = _of_two_kinds(make, 5).wave(1, {"g001": "IN_PROGRESS"}, ended=HOUR)
    assert len(world.plan().jobs) == 1


@pytest.mark.parametrize(("hours", "is_standing"), [(23.9, False), (24, True)])
def test_who_was_asked_for_as_long_as_stragglers_after_is_one(make, hours, is_standing):
    world = World(make, number=1, waves=("100%",))
    world.wave(1, {"g000": "CANCELED"}, queued=hours * HOUR, ended=20 * HOUR, status="CANCELED")
    assert [job.is_standing for job in world.plan().jobs] == [is_standing]


@pytest.mark.parametrize(("limit", "starts", "is_told"), [(19, 0, True), (20, 0, True), (24, 4, True), (25, 5, False)])
def test_who_is_in_flight_leaves_room_for_the_rest_alone(make, limit, starts, is_told):
    world = World(make, number=25, waves=("100%",), max_in_flight=limit).wave(1, names(20, "IN_PROGRESS"), ended=HOUR)
    plan = world.plan()
    assert sum(len(job.devices) for job in plan.jobs) == starts
    assert (f"20 of at most {limit} in flight" in plan.waves[0].message) is is_told


@pytest.mark.parametrize("wave", [1, 2])
def test_a_standing_job_is_of_the_wave_that_was_reached_and_says_what_its_devices_become(make, wave):
    world = World(make, number=20, waves=("1", "10", "100%"))
    world.wave(wave, {"g000": "QUEUED"}, ended=30 * HOUR, queued=30 * HOUR)
    [standing] = [job for job in world.plan().jobs if job.is_standing]
    assert (standing.wave, [t.devices for t in standing.transitions]) == (wave, [1])


def test_a_job_that_is_withdrawn_leaves_its_slot_to_the_next(make):
    world = World(make, number=4, waves=("100%",)).wave(1, {"g000": "QUEUED"}, ended=HOUR)
    world.wave(1, {"g001": "QUEUED"}, ended=HOUR, tail="0000000002")
    world.desired = make.desired(world.policy, waivers=(make.waiver("g000", "g001"),))
    plan = world.plan()
    assert [step.job_id for step in plan.steps] == [world.job_id(1), world.job_id(1, "0000000002")]
    assert _asked(plan) == {(False, "g002"), (False, "g003")}


@pytest.mark.parametrize("governs", ["another", "two alike", "none"])
@pytest.mark.parametrize("status", ["QUEUED", "IN_PROGRESS"])
def test_a_job_is_withdrawn_if_it_asks_a_device_that_its_policy_no_longer_governs(make, governs, status):
    world = World(make, number=4, waves=("3", "100%")).wave(1, {"g000": status, "g001": "QUEUED"}, ended=HOUR)
    other = make.policy("line-b", priority=5 if governs == "another" else world.policy.priority)
    world.desired = make.desired(world.policy, other)
    groups = {"another": ("line-a", "line-b"), "two alike": ("line-a", "line-b"), "none": ()}[governs]
    if governs == "none":
        del world.devices["g000"]
    else:
        world.devices["g000"] = replace(world.devices["g000"], groups=groups)
    told = [step.reason for step in world.plan().steps]
    assert told == (
        ["a device that it asks is no longer this policy's; the others are asked anew"] if status == "QUEUED" else []
    )


def test_once_the_only_job_is_withdrawn_nothing_waits_to_be_rotated(make):
    world = World(make, number=1, waves=("100%",)).wave(1, {"g000": "QUEUED"}, ended=HOUR)
    world.desired = make.desired(world.policy, waivers=(make.waiver("g000"),))
    plan = world.plan()
    assert ([step.job_id for step in plan.steps], plan.waves[0].status) == ([world.job_id(1)], WaveStatus.IDLE)


def test_nobody_joins_a_standing_job_that_is_withdrawn(make):
    world = World(make, number=3, waves=("100%",))
    world.wave(None, names(2, "QUEUED"), ended=2 * HOUR, queued=40 * HOUR, status="IN_PROGRESS", is_continuous=True)
    world.wave(1, {"g002": "CANCELED"}, ended=20 * HOUR, queued=30 * HOUR, status="CANCELED", tail="0000000002")
    world.desired = make.desired(world.policy, waivers=(make.waiver("g000"),))
    plan = world.plan()
    assert [(step.job_id, step.reason[:8]) for step in plan.steps] == [(world.job_id(None), "a waiver")]
    [standing] = plan.jobs
    assert standing.job_id != world.job_id(None)
    assert _asked(plan) == {(True, "g002")}, "g001 is asked anew once the job has ended"


def test_a_standing_job_that_has_ended_does_not_lend_its_id_to_the_next(make):
    """The same device, under the same certificate, is asked anew."""
    world = World(make, number=1, waves=("100%",))
    world.wave(1, {"g000": "CANCELED"}, queued=50 * HOUR, ended=46 * HOUR, status="CANCELED")
    [first] = world.plan().jobs
    world.jobs.append(
        make.job(first.job_id, {"g000": make.execution(first.job_id, "CANCELED", queued=30 * HOUR)}, status="CANCELED")
    )
    [second] = world.plan().jobs
    assert first.is_standing
    assert second.is_standing
    assert second.job_id != first.job_id


def test_a_plan_of_one_policy_says_nothing_of_the_others_nor_of_the_fleet(make):
    """Of two policies and an incident; both would be asked about by their own guardrail and by the fleet's."""
    rollout = make.rollout(("1", "100%"))
    policies = [make.policy(name, rollout=rollout) for name in ("line-a", "line-b")]
    devices = [make.device(f"{p.name}-{n}", age=OLD, groups=(p.name,)) for p in policies for n in range(20)]
    leak = make.incident(issued_before=make.now - 300 * DAY, authority="plant-ca")
    desired = make.desired(*policies, guardrails=Guardrails(10, 10), incidents=(leak,))
    gone = make.job("cf-line-z-w1-0000000000000000", {})
    begun = frozenset(f"{p.name}-{n}" for p in policies for n in range(1, 3))
    drills = tuple(make.drill(f"{p.name}-0", name=f"drill-of-{p.name}", policy=p.name) for p in policies)
    plan = make.plan(devices, replace(desired, drills=drills), make.state(gone, cas_unknown=("unread",)), begun=begun)
    assert {refusal.policy for refusal in plan.refusals} == {"line-a", "line-b", None}
    assert plan.steps
    assert plan.incidents
    assert plan.notices
    assert len(plan.jobs) == 2
    part = part_of(plan, "line-b")
    for of in (part.jobs, part.refusals, part.policies, part.waves, part.outlooks, part.drills):
        assert {one.policy for one in of} == {"line-b"}
    assert (part.steps, part.incidents, part.notices) == ((), (), ())
    assert part.jobs[0] == plan.jobs[1]


@pytest.mark.parametrize(("least", "whole", "part"), [(10, ["line-a", "line-b"], "line-b"), (30, [None] * 2, None)])
def test_a_plan_of_one_policy_tells_of_its_later_waves_what_its_own_guardrail_will_ask(make, least, whole, part):
    """Two policies of twenty: of thirty devices and more, the fleet's guardrail asks for both together."""
    rollout = make.rollout(("1", "100%"))
    policies = [make.policy(name, rollout=rollout) for name in ("line-a", "line-b")]
    devices = [make.device(f"{p.name}-{n}", age=OLD, groups=(p.name,)) for p in policies for n in range(20)]
    plan = make.plan(devices, make.desired(*policies, guardrails=Guardrails(25, least)))
    asked = [stage.asks for outlook in plan.outlooks for stage in outlook.stages if stage.asks]
    assert [one.policy for one in asked] == whole
    [outlook] = part_of(plan, "line-b").outlooks
    assert [stage.asks.policy for stage in outlook.stages if stage.asks] == ([part] if part else [])


def test_a_plan_names_the_attachments_that_its_devices_may_have(make):
    for deployment in (None, DeployedBackend("1", attachments=frozenset({EXCLUSIVE, NON_EXCLUSIVE}))):
        plan = make.plan([make.device(age=OLD)], make.desired(), make.state(deployment=deployment))
        assert set(plan.attachments) == ({EXCLUSIVE} if deployment is None else {EXCLUSIVE, NON_EXCLUSIVE})


def test_one_urgent_device_keeps_its_job_open_when_the_window_closes(make):
    world = World(make, policy=make.policy(windows=[make.window()]))
    world.devices["g001"] = make.device("g001", age=OLD, left=DAY)
    assert world.wave(1, names(3, "QUEUED"), ended=HOUR).plan().steps == ()


@pytest.mark.parametrize(
    ("windows", "closes"),
    [([], None), (["0 10 * * *"], 2 * HOUR), (["0 2 * * *"], None)],
    ids=["none", "one that is open for two hours", "one that is closed: who is urgent starts"],
)
def test_a_job_says_when_the_window_closes_in_which_its_devices_start(make, windows, closes):
    """One device starts with the wave, one waits in the standing job."""
    world = World(make, policy=make.policy(windows=[make.window(cron) for cron in windows]), number=1)
    world.devices |= {name: make.device(name, age=OLD, left=DAY) for name in ("g001", "g002")}
    world.wave(1, {"g001": "CANCELED"}, queued=50 * HOUR, ended=46 * HOUR, status="CANCELED")
    plan = world.plan()
    assert {job.is_standing for job in plan.jobs} == {False, True}
    assert {job.closes for job in plan.jobs} == {make.now + closes if closes else None}


def test_a_policy_whose_window_is_closed_says_what_its_rollout_has_done_so_far(make):
    world = World(make, number=6, waves=("100%",), policy=make.policy(windows=[make.window()]))
    world.wave(1, names(3, "SUCCEEDED") | names(2, "FAILED", 3), ended=30 * HOUR)
    del world.devices["g005"]
    [report] = world.plan().waves
    assert (report.status, report.done, report.failed) == (WaveStatus.CLOSED, 3, 2)


def test_a_job_of_which_only_one_device_is_of_a_drill_asks_nobody_who_joins_the_group(make):
    world = World(make, number=3, waves=("100%",))
    assert [job.target_kind for job in world.plan().jobs] == [TargetKind.GROUP]
    world.desired = make.desired(world.policy, drills=(make.drill("g001"),))
    assert [job.target_kind for job in world.plan().jobs] == [TargetKind.THINGS]
