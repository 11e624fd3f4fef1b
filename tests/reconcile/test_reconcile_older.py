"""No way back unasked: a commit that does not contain the one applied last is refused."""

from __future__ import annotations

from datetime import timedelta

import pytest

from controller.reconcile.values import Baseline, parse_overrides

LAST, NEXT = "a" * 40, "b" * 40
HOUR = timedelta(hours=1)


def refused(make, *overrides, last=LAST, applied=-HOUR, commit=NEXT, committed=timedelta(0), ancestors=None):
    """What the guardrail says of a commit, and the exact override; a span of None: that date is not known."""
    instants = [None if span is None else make.now + span for span in (applied, committed)]
    baseline = None if last is None else Baseline({}, commit=last or None, committed_at=instants[0])
    desired = make.desired(commit=commit, committed_at=instants[1], ancestors=ancestors)
    given = parse_overrides(overrides)
    plan = make.plan([], desired, make.state(baseline=baseline), overrides=given)
    return [(refusal.message, refusal.override) for refusal in plan.refusals if refusal.guardrail == "older"]


@pytest.mark.parametrize(
    "case",
    [
        {"last": None},
        {"last": ""},
        {"commit": None},
        {"commit": LAST, "committed": -2 * HOUR},
        {"ancestors": frozenset({LAST, NEXT}), "committed": -2 * HOUR},
        {},
        {"applied": None, "committed": -2 * HOUR},
        {"committed": None},
    ],
    ids=[
        "nothing is recorded",
        "what was applied last was no commit",
        "it is no commit",
        "it is the one applied last",
        "it contains the one applied last, whatever its date",
        "nobody knows what it contains, and it is later",
        "nobody knows when the last one was made",
        "nobody knows when it was made",
    ],
)
def test_a_commit_is_applied_if(make, case):
    assert refused(make, **case) == []


@pytest.mark.parametrize(
    "case",
    [{"ancestors": frozenset({NEXT})}, {"committed": -HOUR}, {"committed": -2 * HOUR}],
    ids=["it does not contain the one applied last", "it is of the same second", "it is older"],
)
def test_a_commit_is_refused_with_its_override_if(make, case):
    [(message, override)] = refused(make, **case)
    assert message.startswith(f"commit {NEXT[:12]} does not follow {LAST[:12]}, which was applied last")
    assert override == f"--override older={NEXT[:12]}"


@pytest.mark.parametrize(
    ("overrides", "is_refused"),
    [
        ([f"older={NEXT[:12]}"], False),
        ([f"older={NEXT}"], False),
        ([f"older={NEXT[:11]}"], True),
        ([f"older={LAST[:12]}"], True),
        ([f"older={LAST[:12]}", f"older={NEXT[:12]}"], False),
        ([f"older={NEXT}b"], True),
    ],
    ids=["twelve characters", "all", "eleven could be another's", "of another", "of two one", "longer than it is"],
)
def test_the_override_names_the_commit(make, overrides, is_refused):
    assert bool(refused(make, *overrides, ancestors=frozenset())) is is_refused
