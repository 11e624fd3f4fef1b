"""What one policy's plan makes of its candidates and of the jobs there are."""

from __future__ import annotations

from datetime import timedelta

import pytest
from reconcile_rollouts import OLD, World, names

from controller.reconcile.planning import settle
from controller.reconcile.values import Guardrails, Reason, WaveStatus

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
    assert _asked(world.plan()) == everybody
    assert _asked(world.plan(permitted=permitted)) == expected


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
