"""How a plan counts the devices of a policy, and in which order it takes them."""

from __future__ import annotations

from collections import Counter
from datetime import timedelta

import pytest

from controller.reconcile.checks import Governance
from controller.reconcile.planning.tally import order_of, planned_device, tally_of
from controller.reconcile.rollout.history import read_rollout

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
OLD = 200 * DAY
JOB = "cf-line-a-w1-abcdef0000000001"


def tallied(make, devices, policy=None, jobs=(), begun=frozenset()):
    desired, state = make.desired(policy or make.policy()), make.state(*jobs)
    rollout = read_rollout("line-a", "abcdef", jobs, make.now)
    governance = Governance(desired, state, make.now)
    return tally_of(make.assess_all(devices, desired, state), governance, {"line-a": rollout}, begun).policies["line-a"]


def asked(m, status, since):
    return m.device(age=OLD, executions=(m.execution(JOB, status, since),))


NOBODY = {"in_sync": 0, "rotating": 0, "begun": 0, "waiting": 0, "shut": 0, "offline": 0, "blocked": 0}
COUNTED = {
    "is near its date": (lambda m: m.device(age=178 * DAY), {}, {"in_sync": 1}),
    "meets a closed window": (
        lambda m: m.device(age=OLD), {"windows": lambda m: [m.window()]}, {"waiting": 1, "shut": 1}),
    "has not answered for long": (lambda m: asked(m, "QUEUED", 30 * HOUR), {}, {"waiting": 1, "offline": 1}),
    "is at work": (lambda m: asked(m, "IN_PROGRESS", HOUR), {}, {"rotating": 1}),
    "shares its certificate": (lambda m: m.device(age=OLD, shared=("other",)), {}, {"blocked": 1, "suspended": 0}),
    "is suspended": (
        lambda m: m.device(age=OLD), {"suspend": lambda m: m.suspension()}, {"blocked": 1, "suspended": 1}),
    "would begin": (lambda m: m.answered(m.device(age=OLD)), {}, {"fit": 1}),
    "would fail": (
        lambda m: m.answered(m.device(age=OLD), "disk"), {}, {"blocked": 1, "unfit": Counter({"disk": 1})}),
}  # fmt: skip


@pytest.mark.parametrize("who", COUNTED)
def test_one_is_counted_once_and_as_what_it_is_who(make, who):
    build, policy, expected = COUNTED[who]
    found = tallied(make, [build(make)], make.policy(**{name: value(make) for name, value in policy.items()}))
    expected = NOBODY | {"suspended": 0, "fit": 0, "unfit": Counter()} | expected
    told = {name: getattr(found, name) for name in expected} | {"suspended": len(found.suspended)}
    assert (found.governed, told) == (1, expected)


def test_who_was_begun_before_counts_until_it_is_seen_to_rotate(make):
    devices = [*(make.device(name, age=OLD) for name in "abc"), asked(make, "IN_PROGRESS", HOUR)]
    assert tallied(make, devices, begun=frozenset({"a", "b", devices[3].name})).begun == 2


def test_only_those_whom_a_job_names_are_its_members(make):
    jobs = [make.job(JOB, {"a": make.execution(JOB, "SUCCEEDED")}, status="COMPLETED")]
    found = tallied(make, [make.device("a"), make.device("b")], jobs=jobs)
    assert list(found.members) == ["a"]


def test_a_planned_device_tells_how_often_it_will_have_been_tried(make):
    failures = tuple(make.execution("by-hand", "FAILED", n * DAY) for n in (4, 3))
    assessment = make.assess(make.device(age=OLD, failures=failures), make.desired())
    assert planned_device(assessment).attempt == 3


@pytest.mark.parametrize(("deadline", "soonest"), [(None, 0), (-1, -1), (1, 0)])
def test_what_must_be_done_before_it_is_due_comes_as_soon_as_it_must_be_done(make, deadline, soonest):
    assessment = make.assess(make.device(age=OLD), make.desired())
    due = assessment.timing.due
    timing = assessment.timing._replace(deadline=None if deadline is None else due + deadline * DAY)
    assert order_of(assessment._replace(timing=timing))[2] == (due + soonest * DAY).timestamp()
