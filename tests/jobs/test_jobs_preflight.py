"""Whether a plan may be applied here and now."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from controller.errors import PlanError
from controller.jobs import check_plan
from controller.reconcile.policy import DesiredState, Fleet, Source

DESIRED = DesiredState(Fleet("factory", "123456789012", "eu-west-1", Source("fleet.yaml", 1)), {}, ())

REFUSED = {
    "made for another fleet": ({"fleet": "other"}, "is for fleet other, the desired state says factory"),
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


def test_an_old_plan_is_applied_with_a_warning(kit):
    desired = replace(DESIRED, commit=kit.COMMIT)
    assert check_plan(kit.plan(), desired, kit.later(hours=23)) == ()
    assert "is 25 hours old" in check_plan(kit.plan(), desired, kit.later(hours=25))[0]
