"""One model of what will happen: plan, preview, forecast and simulation say the same of the same days."""

from __future__ import annotations

import json
import re
from argparse import Namespace
from datetime import timedelta
from pathlib import Path

import jsonschema
import pytest

from controller.commands.drift import RENDERERS as DRIFT
from controller.commands.plan import RENDERERS as PLAN
from controller.commands.simulate import RENDERERS, Simulations, chance_of
from controller.reconcile.outlook import compare, forecast, simulate
from controller.reconcile.outlook.simulation import Course
from controller.reconcile.outlook.virtual_fleet import NO_MISHAPS, Life
from controller.reconcile.planning.tally import order_of
from controller.reconcile.values import (
    NO_OVERRIDES,
    Baseline,
    Guardrails,
    Mode,
    WindowKind,
    family_of,
    parse_overrides,
)
from controller.report.change import Comparisons, FleetChange
from controller.report.comparison import RENDERERS as COMPARISON
from controller.report.formats import Format, TextStyle
from controller.report.model import Report
from controller.report.planned import drifted, planned
from controller.report.tally import Tally

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
SCHEMA = Path(__file__).parents[2] / "docs" / "report.schema.json"
SPAN, EVERY = 20 * DAY, 5 * MINUTE


def _policy(make, name="line-a", waves=("1", "10%", "100%"), *, group="line-a", rule=None, windows=(), **fields):
    rollout = {"soak": DAY} | fields.pop("rollout", {})
    return make.policy(
        name, thing_group=group, rule=rule, windows=windows, rollout=make.rollout(waves, **rollout), **fields
    )


def _devices(make, number, *, rotated=0, **fields):
    """So many devices that must rotate, but for the first few, which have just done so."""
    return [
        make.device(f"g{n:03}", age=HOUR / 2 if n < rotated else 200 * DAY + n * MINUTE, **fields)
        for n in range(number)
    ]


def _history(make, policy, desired, wave=1, rotated=1, status="SUCCEEDED"):
    """The wave's job that has rotated the first few an hour ago."""
    family = family_of(policy, desired.authorities)
    job_id = f"cf-{policy.name}-w{wave}-{family}0000abcdef"
    done = {f"g{n:03}": make.execution(job_id, status, HOUR, HOUR / 3) for n in range(rotated)}
    return make.job(job_id, done, status="COMPLETED", policy=policy.name, wave=wave)


SCENES = {
    "three waves": {},
    "one wave": {"waves": ("100%",)},
    "a soak of a week": {"rollout": {"soak": 7 * DAY}},
    "windows at night": {"windows": [("0 2 * * *", 4 * HOUR)]},
    "a window a week": {"windows": [("0 2 * * 6", 4 * HOUR)], "rollout": {"soak": HOUR}},
    "five at a time": {"rollout": {"max_in_flight": 5, "soak": HOUR}},
    "two a minute": {"rollout": {"maximum_per_minute": 2, "soak": HOUR}},
    "the first wave has rotated and soaks": {"rotated": 1},
    "suspended for two days": {"suspended": 2 * DAY},
    "suspended, and windows at night": {"suspended": 2 * DAY, "windows": [("0 2 * * *", 4 * HOUR)]},
}


def _scene(make, rotated=0, windows=(), suspended=None, **fields):
    suspend = make.suspension(make.now + suspended) if suspended else None
    policy = _policy(make, windows=[make.window(*window) for window in windows], suspend=suspend, **fields)
    desired = make.desired(policy)
    state = make.state(*([_history(make, policy, desired, rotated=rotated)] if rotated else []))
    return policy, desired, state, _devices(make, 40, rotated=rotated)


@pytest.mark.unmeasured
@pytest.mark.parametrize("scene", SCENES)
def test_the_planner_itself_run_after_run_rotates_when_the_outlook_says(make, scene):
    policy, desired, state, devices = _scene(make, **SCENES[scene])
    (outlook,) = make.plan(devices, desired, state).outlooks
    course = Course(policy, desired, state, {device.name: Life(device) for device in devices}, NO_MISHAPS)
    course.play(make.now, make.now + SPAN, EVERY)
    rotated = sorted(when for _name, when in course.fleet.record.rotated)
    assert len(rotated) == outlook.devices == sum(stage.devices for stage in outlook.stages)
    late = timedelta(0)
    for stage in outlook.stages:
        jobs = -(-stage.devices // policy.rollout.max_in_flight)
        late += jobs * EVERY  # what is to start does so with the first run of the loop after its time
        of_stage, rotated = rotated[: stage.devices], rotated[stage.devices :]
        assert stage.start <= of_stage[0]
        assert of_stage[-1] <= stage.end + late, stage


INCIDENTS = {
    "a soak longer than the deadline": {},
    "a soak of a week": {"rollout": {"soak": 7 * DAY}, "hours": 72},
    "two waves, the first of some": {"waves": ("10", "100%"), "rollout": {"soak": 7 * DAY}, "hours": 72},
    "a first wave of all": {"waves": ("40", "100%"), "rollout": {"soak": 7 * DAY}, "hours": 72},
    "one wave": {"waves": ("100%",), "hours": 72},
}


@pytest.mark.unmeasured
@pytest.mark.parametrize("scene", INCIDENTS)
@pytest.mark.parametrize("away", ["nobody", "one of the first wave", "one of the last wave"])
def test_what_will_meet_an_incidents_deadline_is_not_refused_on_the_way(make, scene, away):
    fields = {"hours": 8} | INCIDENTS[scene]
    span = fields.pop("hours") * HOUR
    deadline, every = make.now + span, span / 96
    closed = [make.window("0 2 * * *", HOUR)]  # it is noon
    policy = _policy(make, windows=closed, rule=make.rule(authority="aws-iot"), **fields)
    desired = make.desired(policy, incidents=(make.incident(authority="plant-ca", deadline=deadline),))
    lives = {device.name: Life(device) for device in _devices(make, 40)}
    order = [a.device for a in sorted(make.assess_all(_devices(make, 40), desired, make.state()), key=order_of)]
    lost = {"nobody": set(), "one of the first wave": set(order[:1]), "one of the last wave": set(order[-1:])}[away]
    for name in lost:
        lives[name].away_until = make.now + 90 * DAY
    course = Course(policy, desired, make.state(), lives, NO_MISHAPS)
    now = make.now
    while now < deadline - policy.rollout.timeout - every:  # who is left then cannot be done in time
        devices = [life.device for life in lives.values()]
        plan = make.plan(devices, desired, make.state(*course.fleet.jobs.values(), now=now), now)
        assert plan.refusals == (), now
        (report,) = plan.incidents
        assert report.remaining == len(lives) - len(course.fleet.record.rotated)
        assert report.is_finished or "the deadline will be met" in report.message, (now, report.message)
        course.run(now)
        now += every
    assert {name for name, _when in course.fleet.record.rotated} == lives.keys() - lost


def test_an_incident_that_keeps_to_windows_shortens_no_soak_and_its_estimate_knows(make):
    policy = _policy(make, rule=make.rule(authority="aws-iot"))
    leak = make.incident(authority="plant-ca", deadline=make.now + 8 * HOUR, ignore_windows=False)
    desired = make.desired(policy, incidents=(leak,))
    plan = make.plan(_devices(make, 40), desired)
    assert [(refusal.guardrail, refusal.override) for refusal in plan.refusals] == [
        ("deadline", "--override lateDevices=39")
    ]
    course = Course(policy, desired, make.state(), {d.name: Life(d) for d in _devices(make, 40)}, NO_MISHAPS)
    course.play(make.now, make.now + SPAN, EVERY)
    last = max(when for _name, when in course.fleet.record.rotated)
    (report,) = plan.incidents
    assert "the deadline will be missed" in report.message
    assert abs(report.finish - last) <= 3 * EVERY


@pytest.mark.parametrize("scene", SCENES)
def test_the_forecast_has_the_outlooks_days(make, scene):
    _of, desired, state, devices = _scene(make, **SCENES[scene])
    plan = make.plan(devices, desired, state)
    (outlook,) = plan.outlooks
    days = forecast(devices, desired, state, make.now, horizon=SPAN, plan=plan).per_day
    assert sum(days.values()) == outlook.devices
    assert min(days) == outlook.start.date()
    assert max(days) == outlook.finish.date()
    for stage in outlook.stages:
        within = sum(n for day, n in days.items() if stage.start.date() <= day <= stage.end.date())
        assert within >= stage.devices


def test_a_guardrail_that_will_be_met_later_is_known_now(make):
    desired = make.desired(_policy(make), guardrails=Guardrails(30, 10))
    (outlook,) = make.plan(_devices(make, 110), desired).outlooks
    assert [(stage.wave, stage.devices) for stage in outlook.stages] == [(1, 1), (2, 10), (3, 99)]
    assert [(stage.wave, stage.asks.guardrail, stage.asks.override) for stage in outlook.asks] == [
        (3, "maxChangePercent", "--override maxChangePercent=90")
    ]


def test_the_fleets_guardrail_asks_where_several_policies_together_start_too_many_in_the_same_hour(make):
    policies = [_policy(make, f"line-{letter}", ("1", "100%"), group=f"line-{letter}") for letter in "ab"]
    devices = [
        make.device(f"{group}-{n:03}", age=(200 if n < limit else 10) * DAY, groups=(group,))
        for group, limit in (("line-a", 31), ("line-b", 31))
        for n in range(100)
    ]

    def asked(percent):
        plan = make.plan(devices, make.desired(*policies, guardrails=Guardrails(percent, 10)))
        return [(stage.asks.policy, stage.wave) for outlook in plan.outlooks for stage in outlook.asks]

    assert asked(29) == [("line-a", 2), ("line-b", 2)]
    assert asked(30) == []
    tied = [make.device(f"tied-{n}", groups=("line-a", "line-b")) for n in range(3)]
    assert make.plan(devices + tied, make.desired(*policies, guardrails=Guardrails(30, 10))).refusals == ()
    larger = [make.device(f"c-{n:03}", groups=("line-c",)) for n in range(10)]
    policies.append(_policy(make, "line-c", ("100%",), group="line-c"))
    devices += [make.replace(device, name=f"x{device.name}") for device in larger]
    assert asked(28) == [("line-a", 2), ("line-b", 2)]


@pytest.mark.parametrize(
    ("sentence", "fields", "expected"),
    [
        ("a policy that only reports", {"mode": Mode.REPORT}, {"devices": 0, "reported": 4, "stages": ()}),
        ("windows that never open", {"never": True}, {"devices": 4, "stages": ()}),
    ],
)
def test_what_does_not_come_by_itself_is_told_apart(make, sentence, fields, expected):
    fields = dict(fields)
    never = fields.pop("never", False)
    windows = [make.window("0 0 * * *", 25 * HOUR, kind=WindowKind.DENY)] if never else []
    (outlook,) = make.plan(_devices(make, 4), make.desired(_policy(make, windows=windows, **fields))).outlooks
    assert {name: getattr(outlook, name) for name in expected} == expected, sentence
    assert outlook.finish is None
    assert (outlook.obstacle is None) == (outlook.devices == 0)


def test_a_rollout_that_has_stopped_is_an_obstacle_and_an_incident_under_it_will_not_be_met(make):
    policy = _policy(make)
    desired = make.desired(policy, incidents=(make.incident(authority="plant-ca", issued_before=make.now),))
    state = make.state(_history(make, policy, desired, rotated=4, status="FAILED"))
    devices = _devices(make, 40)
    plan = make.plan(devices, desired, state)
    (outlook,) = plan.outlooks
    assert (outlook.stages, outlook.finish) == ((), None)
    assert "stopped" in outlook.obstacle
    (incident,) = plan.incidents
    assert incident.needs_person
    assert f"the deadline will be missed unless a person acts: {outlook.obstacle}" in incident.message
    days = forecast(devices, desired, state, make.now, horizon=SPAN, plan=plan)
    assert (days.total, days.blocked) == (0, 40)


def test_devices_that_do_not_answer_are_counted_apart(make):
    policy = _policy(make, waves=("100%",))
    job_id = f"cf-line-a-w1-{family_of(policy, make.desired().authorities)}0000abcdef"
    silent = make.execution(job_id, "QUEUED", 30 * HOUR)
    devices = [make.device("away", age=200 * DAY, executions=(silent,)), *_devices(make, 2)]
    state = make.state(make.job(job_id, {"away": silent}, age=30 * HOUR))
    (outlook,) = make.plan(devices, make.desired(policy), state).outlooks
    assert (outlook.devices, outlook.offline) == (2, 1)


# ---- the preview


def _preview(make, devices, base, head, state=None):
    found = compare(lambda: devices, base, head, state or make.state(), make.now)
    return {policy.policy: policy for policy in found.policies}, found


def _starts_now(make, devices, desired, state):
    return sum(len(job.devices) for job in make.plan(devices, desired, state).jobs)


def test_a_policy_that_is_renamed_while_a_wave_soaks_starts_anew_and_the_preview_says_so(make):
    old, new = _policy(make, "line-a"), _policy(make, "line-a-gateways")
    base, head = make.desired(old), make.desired(new)
    state, devices = make.state(_history(make, old, base)), _devices(make, 20, rotated=1)
    assert (_starts_now(make, devices, base, state), _starts_now(make, devices, head, state)) == (0, 1)
    policies, found = _preview(make, devices, base, head, state)
    of = policies["line-a-gateways"]
    assert found.makes_rotate
    assert (of.newly_due, of.due, of.first_wave) == (0, 19, 1)
    assert (of.moved.devices, of.moved.head.start) == (19, make.now)
    assert of.moved.base.start > make.now + 23 * HOUR  # its soak would have gone on until then
    assert policies["line-a"].gives == {"line-a-gateways": 20}


def test_a_policy_that_is_renamed_while_its_first_device_is_asked_makes_another_rotate(make):
    """The old name would make that job five minutes later: a preview must not say that no device rotates."""
    waves, quick = ("1", "100%"), {"soak": 0 * DAY, "timeout": 5 * MINUTE}
    old, new = (_policy(make, name, waves, rollout=quick) for name in ("line-a", "line-c"))
    base, head = make.desired(old), make.desired(new)
    job = _history(make, old, base)
    asked = make.execution(job.job_id, "QUEUED", 0 * DAY)
    state = make.state(make.replace(job, status="IN_PROGRESS", created_at=make.now, executions={"g000": asked}))
    devices = _devices(make, 2)
    devices[0] = make.replace(devices[0], executions=(asked,))
    assert (_starts_now(make, devices, base, state), _starts_now(make, devices, head, state)) == (0, 1)
    policies, found = _preview(make, devices, base, head, state)
    of = policies["line-c"]
    assert (of.newly_due, of.moved, of.first_wave) == (0, None, 1)
    assert found.makes_rotate


def test_a_policy_that_is_split_while_a_wave_soaks_starts_anew_in_the_new_one_alone(make):
    """The old one goes on with its soak; the new one begins with its first wave, whatever the old one has reached."""
    whole, part = _policy(make, group="plant"), _policy(make, "line-b", group="line-b", priority=5)
    base, head = make.desired(whole), make.desired(whole, part)
    state, devices = make.state(_history(make, whole, base)), _devices(make, 20, rotated=1, groups=("plant",))
    devices[10:] = [make.replace(device, groups=("plant", "line-b")) for device in devices[10:]]
    assert _starts_now(make, devices, base, state) == 0
    [job] = make.plan(devices, head, state).jobs
    assert (job.policy, job.wave, len(job.devices)) == ("line-b", 1, 1)
    policies, found = _preview(make, devices, base, head, state)
    of = policies["line-b"]
    assert found.makes_rotate
    assert (of.newly_due, of.due, of.first_wave) == (0, 10, 1)
    assert (of.moved.devices, of.moved.head.start) == (10, make.now)
    assert of.moved.base.start > make.now + 23 * HOUR  # the old one's soak would have gone on until then
    assert policies["line-a"].gives == {"line-b": 10}


def test_devices_that_move_to_a_new_policy_are_told_as_lost_by_the_old_one(make):
    one = _policy(make, "line-a", group="plant")
    other = _policy(make, "line-b", group="line-b", priority=5)
    devices = [make.device(f"g{n:02}", groups=("plant", "line-b") if n < 40 else ("plant",)) for n in range(60)]
    policies, found = _preview(make, devices, make.desired(one), make.desired(one, other))
    assert (policies["line-a"].governed_base, policies["line-a"].governed_head) == (60, 20)
    assert policies["line-a"].gives == {"line-b": 40}
    assert policies["line-a"].has_effect
    assert not found.makes_rotate


def test_a_rule_that_is_changed_and_reverted_starts_with_its_first_wave_each_time(make):
    p256, longer = make.rule(), make.rule(max_age=100 * DAY)
    before, after = _policy(make, rule=p256), _policy(make, rule=longer)
    base, head = make.desired(before), make.desired(after)
    # The change has rotated some under the new rule; the old rule's own waves were all done long before.
    jobs = [make.replace(_history(make, before, base, wave=wave), created_at=make.now - 9 * DAY) for wave in (1, 2, 3)]
    state = make.state(*jobs, _history(make, after, head))
    devices = _devices(make, 20, rotated=1)
    policies, _found = _preview(make, devices, head, base, state)  # git revert
    assert policies["line-a"].first_wave == _starts_now(make, devices, base, state) == 1


def test_a_rollout_that_a_person_has_resumed_is_previewed_as_apply_goes_on_with_it(make):
    base, head = (make.desired(_policy(make, waves=("1", second, "100%"))) for second in ("10%", "20%"))
    policy = base.policies[0]
    failed = _history(make, policy, base, status="FAILED")
    devices = _devices(make, 20)
    devices[0] = make.replace(devices[0], failures=tuple(failed.executions.values()))
    for resumed, is_stuck in (({}, True), ({"line-a": make.now - HOUR / 4}, False)):
        state = make.state(failed, baseline=Baseline({"line-a": 20}, resumed=resumed, commit="a" * 40))
        policies, found = _preview(make, devices, base, head, state)
        (outlook,) = make.plan(devices, head, make.replace(state, baseline=Baseline({}, resumed=resumed))).outlooks
        told = policies["line-a"]
        assert (told.obstacle, told.span.finish) == (outlook.obstacle, outlook.finish)
        assert (told.obstacle is not None) is is_stuck
        assert found.refusals == (), "what was applied last is no matter of the change"


def test_the_last_wave_that_will_be_refused_is_in_the_preview(make):
    base = make.desired(_policy(make), guardrails=Guardrails(30, 10))
    head = make.desired(_policy(make, rule=make.rule(max_age=100 * DAY)), guardrails=Guardrails(30, 10))
    devices = [make.device(f"g{n:03}", age=150 * DAY) for n in range(110)]
    policies, found = _preview(make, devices, base, head)
    (stage,) = policies["line-a"].asks
    assert (stage.wave, stage.devices, stage.asks.guardrail) == (3, 99, "maxChangePercent")
    assert found.refusals == ()  # not now: the first wave has one device
    assert [str(one) for one in policies["line-a"].transitions] == [
        "110 × ECDSA-P256 / plant-ca → ECDSA-P256 / plant-ca / 365 d"
    ]


def test_what_a_closed_window_will_let_out_at_once_is_refused_in_the_preview_as_it_will_be_by_apply(make):
    nightly = {"waves": ("100%",), "windows": [make.window("0 2 * * *", HOUR)]}
    base = make.desired(_policy(make, **nightly), guardrails=Guardrails(30, 10))
    head = make.desired(_policy(make, rule=make.rule(max_age=100 * DAY), **nightly), guardrails=Guardrails(30, 10))
    devices = [make.device(f"g{n:03}", age=150 * DAY) for n in range(20)]
    _policies, found = _preview(make, devices, base, head)
    assert [(refusal.policy, refusal.override) for refusal in found.refusals] == [
        ("line-a", "--override maxChangePercent=100"),
        (None, "--override maxChangePercent=100"),
    ]


# ---- the simulation


@pytest.mark.parametrize(
    ("failures", "offline", "told"),
    [
        (0.0, 0.0, "as plan and forecast have it: every attempt goes well, every device is there"),
        (
            2.5,
            10.0,
            "by chance 2.5 % of attempts fail and 10 % of devices are away (seed 7): plan and forecast know of",
        ),
    ],
)
def test_a_simulation_says_what_it_adds_by_chance(make, failures, offline, told):
    chance = chance_of(Namespace(failures=failures, offline=offline, seed=7))
    desired, devices = make.desired(), _devices(make, 2)
    result = simulate(devices, desired, make.state(), make.now, span=DAY)
    found = Simulations(DAY, chance, ((desired, result),))
    text = " ".join(RENDERERS[Format.TEXT](found, TextStyle(200)).split())
    assert text.startswith(f"demo 1d from now, {told}")
    assert json.loads(RENDERERS[Format.JSON](found, TextStyle(200)))["chance"] == chance


def _planned(make, devices, desired, *, overrides=NO_OVERRIDES):
    tally = Tally(desired, make.now)
    assessments = tally.assessments(make.assess_all(devices, desired, make.state()))
    return planned(tally, assessments, desired, make.state(), make.now, overrides=overrides)[0]


def _drifted(make, devices, desired):
    tally = Tally(desired, make.now)
    assessments = tally.assessments(make.assess_all(devices, desired, make.state()))
    return drifted(tally, assessments, desired, make.state(), make.now)


NEED_A_PERSON = {
    "two policies tie": (
        lambda m: (m.desired(m.policy("line-a")), m.desired(m.policy("line-a"), m.policy("line-b"))),
        lambda m: [m.device(f"g{n}", groups=("line-a", "line-b")) for n in range(10)],
        "10 devices become blocked and need a person (PolicyConflict 10)",
        "give one of them a higher priority",
    ),
    "nobody knows the result of a rotation": (
        lambda m: (m.desired(m.policy("line-b")), m.desired(m.policy(rule=m.rule(key_type=None)))),
        lambda m: [m.device("odd", age=200 * DAY, key_type="RSA-4096")],
        "1 device becomes blocked and needs a person (ResultUnknown 1)",
        "name keyType in the policy",
    ),
    "an incident that will not be met": (
        lambda m: (m.desired(), m.desired(incidents=(m.incident(issued_before=m.now - DAY),))),
        lambda m: [m.device("two", certificates=[m.certificate(20 * DAY, name=name) for name in "ab"]), m.device()],
        "incident leak will not be met by itself",
        "1 device blocked: a person must act, or list what is lost in acceptedLosses",
    ),
}


@pytest.mark.parametrize(("refs", "devices", "headline", "remedy"), NEED_A_PERSON.values(), ids=NEED_A_PERSON)
def test_what_a_change_leaves_to_a_person_stands_in_its_headline_as_in_the_plans(make, refs, devices, headline, remedy):
    (base, head), devices = refs(make), devices(make)
    found = compare(lambda: devices, base, head, make.state(), make.now)
    changes = Comparisons("main", (FleetChange(head, found, make.now, found.refusals, found.known),))
    told = {name: render(changes, TextStyle(400)) for name, render in COMPARISON.items()}
    comment, text = told[Format.MARKDOWN], " ".join(told[Format.TEXT].split())
    assert comment.splitlines()[0].startswith(f"## 🛑 demo: {headline}")
    assert text.startswith(f"demo {headline}")
    assert remedy in comment.partition("<details>")[0], "it is not folded away"
    assert "1. Decide what is to become of what needs a person" in comment
    assert "Merge when you like" not in comment
    assert remedy in text
    assert "::error " in told[Format.GITHUB]
    jsonschema.validate(json.loads(told[Format.JSON]), json.loads(SCHEMA.read_text(encoding="utf-8")))
    [fleet] = json.loads(told[Format.JSON])["fleets"]
    plan, drift = _planned(make, devices, head), _drifted(make, devices, head)
    assert plan.needs_person == drift.needs_person == fleet["needs_person"] + _planned(make, devices, base).needs_person
    assert sum(group["devices"] for group in fleet["blocked"]) == fleet["needs_person"]
    assert [one["message"] for one in fleet["incidents"]] == [one.message for one in plan.plan.incidents]


def test_an_incident_that_is_missed_without_the_change_as_well_is_a_warning_and_not_the_headline(make):
    refs, devices, _headline, _remedy = NEED_A_PERSON["an incident that will not be met"]
    head, listed = refs(make)[1], devices(make)
    found = compare(lambda: listed, head, head, make.state(), make.now)
    comment = COMPARISON[Format.MARKDOWN](Comparisons("main", (FleetChange(head, found, make.now),)), TextStyle())
    assert comment.startswith("## ✅ demo: no device rotates earlier or later at once\n")
    assert "> - without this change as well, incident leak: 2 devices to go by" in comment


def test_of_a_plan_that_is_refused_twice_every_report_prints_the_one_command_that_passes(make):
    """Followed to the letter: what the run was given already is needed as well."""
    policy = _policy(make, waves=("4", "100%"))
    late = make.incident(issued_before=make.now - DAY, deadline=make.now + 2 * HOUR, ignore_windows=False)
    desired = make.desired(policy, guardrails=Guardrails(10, 10), incidents=(late,))
    devices = _devices(make, 20)
    assert [refusal.guardrail for refusal in make.plan(devices, desired).refusals] == [
        *["maxChangePercent"] * 2,
        "deadline",
    ]
    given = parse_overrides(["maxChangePercent=20"])
    plan, again = _planned(make, devices, desired), _planned(make, devices, desired, overrides=given)
    reports = [(PLAN, name, one) for name in (Format.TEXT, Format.MARKDOWN, Format.GITHUB) for one in (plan, again)]
    drift = _drifted(make, devices, desired)
    reports += [(DRIFT, name, drift) for name in (Format.TEXT, Format.MARKDOWN, Format.JSON)]
    for renderers, name, report in reports:
        text = renderers[name](Report(make.now, (report,)), TextStyle(400))
        printed = [options for line in text.splitlines() if (options := re.findall(r"--override ([\w=.]+)", line))]
        assert printed, name
        for options in printed:
            assert not make.plan(devices, desired, overrides=parse_overrides(options)).refusals, (name, options)
        if name in {Format.TEXT, Format.MARKDOWN}:
            assert len(printed) == 1, "it is printed once"
