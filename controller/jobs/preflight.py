"""May this plan be applied here and now? Pure: a plan file comes from elsewhere and from earlier."""

from __future__ import annotations

from datetime import datetime, timedelta

from controller.errors import PlanError
from controller.reconcile.planning import require_own
from controller.reconcile.values import VALID_FOR, DesiredState, Plan


def check_plan(plan: Plan, desired: DesiredState, now: datetime) -> None:
    """Raise PlanError unless the plan is for this fleet at this commit, and has not ended."""
    fleet = desired.fleet
    for what, planned, found in (
        ("fleet", plan.fleet, fleet.name),
        ("account", plan.account, fleet.account),
        ("region", plan.region, fleet.region),
    ):
        if planned != found:
            raise PlanError(
                f"the plan is for {what} {planned}, the desired state says {found}",
                "choose the fleet with --fleet, or plan again",
            )
    if plan.commit != desired.commit:
        raise PlanError(
            f"the plan was made from commit {_short(plan.commit)}, the desired state is at {_short(desired.commit)}",
            f"plan again, or apply what was planned with --ref {_short(plan.commit)}",
        )
    require_own(plan, desired)
    age = now - plan.created_at
    if age < -timedelta(minutes=5):
        raise PlanError(
            f"the plan was made at {plan.created_at:%Y-%m-%d %H:%M}Z, which is after now ({now:%Y-%m-%d %H:%M}Z)",
            "set this machine's clock, or plan again",
        )
    ends = min(plan.valid_until or plan.created_at, plan.created_at + VALID_FOR)
    if now > ends:
        raise PlanError(f"the plan ended at {ends:%Y-%m-%d %H:%M}Z", "plan again: the fleet has gone on since")


def _short(commit: str | None) -> str:
    return commit[:12] if commit else "none (not a repository)"
