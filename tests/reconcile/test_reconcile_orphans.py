"""No device falls out of what git speaks of without a person saying so."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.reconcile.values import NO_OVERRIDES, Baseline, Guardrails, parse_overrides

OLD = timedelta(days=200)
COMMIT = "b" * 40


@pytest.fixture
def refusal(make):
    """The refusal of a plan over this situation, None where it may go ahead."""

    def plan(groups=("line-a",), *, before=None, now=None, ungoverned=None, jobs=(), devices=(), overrides=()):
        policies = tuple(make.policy(f"p-{group}", thing_group=group) for group in groups)
        desired = make.desired(guardrails=Guardrails(30, 10), policies=policies)
        baseline = None if before is None else Baseline(before, ungoverned or {}, COMMIT)
        state = make.state(*jobs, group_sizes=now or {}, baseline=baseline)
        found = make.plan(devices, desired, state, overrides=parse_overrides(overrides) if overrides else NO_OVERRIDES)
        refusals = [refusal for refusal in found.refusals if refusal.guardrail == "orphans"]
        return refusals[0] if refusals else None

    return plan


SITUATIONS = [
    ("nothing has changed", ["line-a"], {"line-a": 40}, {"line-a": 40}, {}, 0, ""),
    ("a group has grown", ["line-a"], {"line-a": 40}, {"line-a": 90}, {}, 0, ""),
    ("a group is new", ["line-a", "line-b"], {"line-a": 40}, {"line-a": 40, "line-b": 9}, {}, 0, ""),
    ("a few devices were retired", ["line-a"], {"line-a": 40}, {"line-a": 28}, {}, 0, ""),
    ("more were retired than the guardrail allows at once", ["line-a"], {"line-a": 40}, {"line-a": 27}, {}, 13,
     "line-a had 40 things and has 27"),
    ("a small group lost most", ["line-a"], {"line-a": 9}, {"line-a": 1}, {}, 0, ""),
    ("a small group was emptied", ["line-a"], {"line-a": 9}, {"line-a": 0}, {}, 9, "line-a had 9 things and has 0"),
    ("a group was emptied", ["line-a"], {"line-a": 40}, {}, {}, 40, "line-a had 40 things and has 0"),
    ("it was empty before", ["line-a"], {"line-a": 0}, {"line-a": 0}, {}, 0, ""),
    ("a policy, or the file with it, is gone", ["line-a"], {"line-a": 40, "line-z": 7}, {"line-a": 40}, {"line-z": 6},
     6, "no policy names line-z (6 devices) any more"),
    ("a policy and its group are gone", ["line-a"], {"line-a": 40, "line-z": 7}, {"line-a": 40}, {}, 7,
     "no policy names line-z (7 devices) any more"),
    ("a policy is gone whose devices another one governs", ["line-a"], {"line-a": 40, "line-z": 7}, {"line-a": 40},
     {"line-z": 0}, 0, ""),
    ("a policy was pointed at another group", ["line-b"], {"line-a": 40}, {"line-b": 5}, {"line-a": 38}, 38,
     "no policy names line-a (38 devices) any more"),
    ("one gone and one emptied are summed", ["line-a"], {"line-a": 40, "line-z": 7}, {"line-a": 0}, {"line-z": 7}, 47,
     "no policy names line-z (7 devices) any more; line-a had 40 things and has 0"),
    ("a group of as many as are looked at shrank", ["line-a"], {"line-a": 10}, {"line-a": 6}, {}, 4,
     "line-a had 10 things and has 6"),
    ("no policy is left", [], {"line-a": 40}, {}, {"line-a": 40}, 40, "the desired state has no policy"),
    ("no policy is left, and a person has allowed that once", [], {}, {}, {}, 0, ""),
]  # fmt: skip


@pytest.mark.parametrize(
    ("groups", "before", "now", "ungoverned", "number", "message"),
    [situation[1:] for situation in SITUATIONS],
    ids=[situation[0] for situation in SITUATIONS],
)
def test_what_was_governed_before_is_compared_with_what_is(refusal, groups, before, now, ungoverned, number, message):
    found = refusal(groups, before=before, now=now, ungoverned=ungoverned)
    if not number:
        assert found is None
        return
    assert message in found.message
    assert found.message.endswith(f"{number} devices would be left to themselves (last applied: commit {COMMIT[:12]})")
    assert found.override == f"--override orphans={number}"
    override = found.override.removeprefix("--override ")
    assert refusal(groups, before=before, now=now, ungoverned=ungoverned, overrides=[override]) is None
    fewer = [f"orphans={number - 1}"]
    assert refusal(groups, before=before, now=now, ungoverned=ungoverned, overrides=fewer) is not None


# ---- jobs as evidence


def _job(make, count=5, **fields):
    asked = {f"g{n}": make.execution() for n in range(count)}
    return make.job("cf-gone-w1-0123456789abcdef", asked, **fields)


def test_a_policy_that_vanished_while_its_jobs_run_is_refused_and_then_its_jobs_are_withdrawn(make):
    job = _job(make)
    state = make.state(job, baseline=Baseline({}))
    plan = make.plan([], make.desired(), state)
    assert "there are jobs of policies that are gone (gone): 5 devices" in plan.refusals[0].message
    assert plan.refusals[0].override == "--override orphans=5"
    allowed = make.plan([], make.desired(), state, overrides=parse_overrides(["orphans=5"]))
    assert allowed.refusals == ()
    assert [(step.job_id, step.action) for step in allowed.steps] == [(job.job_id, "cancel")]


def test_a_policy_that_was_renamed_while_its_jobs_run_leaves_nobody_behind(make, refusal):
    devices = [make.device(f"g{n}") for n in range(5)]
    assert refusal(before={"line-a": 5}, now={"line-a": 5}, jobs=[_job(make)], devices=devices) is None
    partly = refusal(before={"line-a": 5}, now={"line-a": 5}, jobs=[_job(make)], devices=devices[:3])
    assert partly.override == "--override orphans=2"


def test_a_job_of_a_vanished_policy_that_does_not_say_yet_whom_it_asks_is_refused(make, refusal):
    assert refusal(before={}, jobs=[_job(make, 0)]).override == "--override orphans=1"


@pytest.mark.parametrize(("before", "is_refused"), [(None, True), ({"line-a": 5}, False)])
def test_jobs_that_have_ended_stand_in_where_nothing_was_recorded(make, refusal, before, is_refused):
    ended = _job(make, status="COMPLETED")
    found = refusal(before=before, now={"line-a": 5}, jobs=[ended])
    assert (found is not None) is is_refused


def test_where_nothing_was_recorded_the_plan_says_so(make):
    (notice,) = make.plan([make.device()], make.desired()).notices
    assert "nothing is recorded of what was governed before" in notice
    state = make.state(baseline=Baseline({"line-a": 3}))
    assert make.plan([make.device()], make.desired(), state).notices == ()


def test_an_empty_desired_state_is_refused_even_where_nothing_was_recorded(make, refusal):
    found = refusal([])
    assert "the desired state has no policy: 1 device would be left to themselves" in found.message
    assert found.override == "--override orphans=1"


def test_a_job_by_hand_is_of_no_policy_and_orphans_nobody(make, refusal):
    by_hand = make.job("rotate-by-hand", {"g1": make.execution()})
    assert refusal(before={}, jobs=[by_hand]) is None
