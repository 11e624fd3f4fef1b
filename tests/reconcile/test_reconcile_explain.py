"""A device at every state: what explain says of it is what the plan does with it."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.reconcile.outlook import explain
from controller.reconcile.values import Mode, WaveStatus

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
OLD = 200 * DAY

# sentence → (desired state, device under question, verdict, whether the plan starts it)
STATES = {
    "in sync": (lambda m: m.desired(), lambda m: m.device(), "is in sync", False),
    "due": (lambda m: m.desired(), lambda m: m.device(age=OLD), "is to be rotated", True),
    "waived": (
        lambda m: m.desired(waivers=(m.waiver("gateway-1"),)), lambda m: m.device(age=OLD),
        "is left out, as somebody has decided", False),
    "suspended": (
        lambda m: m.desired(m.policy(suspend=m.suspension())), lambda m: m.device(age=OLD),
        "is left out, as somebody has decided", False),
    "reported only": (
        lambda m: m.desired(m.policy(mode=Mode.REPORT)), lambda m: m.device(age=OLD),
        "is only reported: its policy rotates nothing", False),
    "outside its window": (
        lambda m: m.desired(m.policy(windows=[m.window()])), lambda m: m.device(age=OLD), "waits", False),
    "held by its wave": (
        lambda m: m.desired(m.policy(rollout=m.rollout(("1", "100%")))), lambda m: m.device(age=OLD), "waits", False),
    "expired": (lambda m: m.desired(), lambda m: m.device(age=OLD, left=-35 * DAY), "needs a person", False),
    "hit by an incident": (
        lambda m: m.desired(incidents=(m.incident(issued_before=m.now - DAY),)), lambda m: m.device(),
        "is to be rotated", True),
    "of a key that no rotation can make": (
        lambda m: m.desired(m.policy(rule=m.rule(key_type=None))), lambda m: m.device(age=OLD, key_type="RSA-4096"),
        "needs a person", False),
}  # fmt: skip


@pytest.mark.parametrize(("desired", "device", "verdict", "starts"), STATES.values(), ids=STATES)
def test_what_is_explained_is_what_is_planned(make, desired, device, verdict, starts):
    state, asked = desired(make), device(make)
    others = [make.device("a-first", age=OLD + DAY)]
    plan = make.plan([*others, asked], state)
    told = explain(asked, state, make.state(), make.now, plan)
    assert told.verdict == verdict
    assert (asked.name in {d.name for job in plan.jobs for d in job.devices}) is starts
    lines = {line.name: line for line in told.arithmetic}
    assert ("now: nothing holds it back" in lines.get("start", lines["L"]).formula) <= starts
    assert "result" in lines
    assert ("≤" in lines["urgent"].formula) <= (lines["urgent"].value == "yes")


def test_what_a_wave_waits_for_is_explained_in_the_words_of_the_plan(make):
    desired = make.desired(make.policy(rollout=make.rollout(("1", "100%"))))
    asked = make.device(age=OLD)
    plan = make.plan([make.device("a-first", age=OLD + DAY), asked], desired)
    assert plan.waves[0].status is WaveStatus.OPEN
    told = explain(asked, desired, make.state(), make.now, plan)
    assert told.assessment.findings[-1].message == plan.waves[0].message
