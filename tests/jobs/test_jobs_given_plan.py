"""Whether a plan may be applied here and now."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.errors import PlanError
from controller.reconcile.planning import check_plan
from controller.reconcile.values import DesiredState, Fleet, JobStep, Policy, Source, TargetKind

THINGS = TargetKind.THINGS
DESIRED = DesiredState(Fleet("factory", "123456789012", "eu-west-1", Source("fleet.yaml", 1)), {}, ())

REFUSED = {
    "made for another fleet": ({"fleet": "other"}, "is for fleet other, the desired state demands factory"),
    "made for another account": ({"account": "999999999999"}, "is for account 999999999999"),
    "made for another region": ({"region": "us-east-1"}, "is for region us-east-1"),
    "made from another commit": ({"commit": "b" * 40}, "was made from commit bbbbbbbbbbbb"),
    "made outside a repository": ({"commit": None}, "was made from commit none"),
}


@pytest.mark.parametrize(("changes", "message"), REFUSED.values(), ids=REFUSED.keys())
def test_a_plan_is_refused_that_was(kit, changes, message):
    with pytest.raises(PlanError, match=message) as caught:
        check_plan(kit.plan(**changes), replace(DESIRED, commit=kit.COMMIT), kit.NOW)
    assert "plan again" in caught.value.remedy


def test_a_plan_from_the_future_is_refused(kit):
    with pytest.raises(PlanError, match="after now"):
        check_plan(kit.plan(), replace(DESIRED, commit=kit.COMMIT), kit.NOW - timedelta(hours=1))


def test_a_plan_ends(kit):
    desired = replace(DESIRED, commit=kit.COMMIT)
    check_plan(kit.plan(valid_until=kit.later(hours=72)), desired, kit.later(hours=71))
    for until in (kit.later(hours=72), kit.later(days=400), None):  # a date that was put off counts for nothing
        with pytest.raises(PlanError, match="the plan ended at") as caught:
            check_plan(kit.plan(valid_until=until), desired, kit.later(hours=73))
        assert "plan again" in caught.value.remedy


FOREIGN = {
    "a job of no policy of ours": (lambda k: k.job("line-z", 1, THINGS, k.devices("a")), None, "which git does not"),
    "a foreign thing group": (
        lambda k: k.job("line-a", 1, TargetKind.GROUP, k.devices("a"), "everything"), None, "a foreign one"),
    "a foreign job to cancel": (None, JobStep("other-job", "cancel", "because"), "not a job of certfleet's to cancel"),
    "a thing group to remove": (None, JobStep("line-a", "remove-cohort", ""), "to remove-cohort"),
}  # fmt: skip


@pytest.mark.parametrize(("job", "step", "message"), FOREIGN.values(), ids=FOREIGN)
def test_a_plan_that_names_what_no_plan_of_ours_can_name_is_refused(kit, job, step, message):
    policy = Policy("line-a", "line-a", Source("policies.yaml", 1))
    desired = replace(DESIRED, commit=kit.COMMIT, policies=(policy,))
    plan = kit.plan(*([job(kit)] if job else []), steps=[step] if step else [])
    with pytest.raises(PlanError, match=message):
        check_plan(plan, desired, kit.NOW)
