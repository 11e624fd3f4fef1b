"""May this plan be applied here and now? Pure: a plan file comes from elsewhere and from earlier."""

from __future__ import annotations

from datetime import datetime, timedelta

from controller.errors import PlanError
from controller.reconcile.plan import Plan
from controller.reconcile.policy import DesiredState

OLD_AFTER = timedelta(hours=24)


def check_plan(plan: Plan, desired: DesiredState, now: datetime) -> tuple[str, ...]:
    """Raise PlanError unless the plan is for this fleet at this commit; returns warnings, as sentences."""
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
    age = now - plan.created_at
    if age < -timedelta(minutes=5):
        raise PlanError(
            f"the plan was made at {plan.created_at:%Y-%m-%d %H:%M}Z, which is after now ({now:%Y-%m-%d %H:%M}Z)",
            "set this machine's clock, or plan again",
        )
    if age > OLD_AFTER:
        hours = int(age.total_seconds() // 3600)
        return (f"the plan is {hours} hours old; devices that changed since then are skipped",)
    return ()


def _short(commit: str | None) -> str:
    return commit[:12] if commit else "none (not a repository)"
