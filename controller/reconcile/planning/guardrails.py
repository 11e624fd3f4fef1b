"""The limits of a plan. Each refusal has the numbers in it, and the exact override.

The guardrails hold whatever the rest of the planner thinks: they look at finished jobs and at counts,
not at how these came about. The one on orphans stands in ``orphans``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.reconcile.values import Refusal, count_text, instant_text, percent_text

if TYPE_CHECKING:
    from datetime import datetime

    from controller.reconcile.values import DesiredState, FleetState, Guardrails, Overrides, Plan

MAX_CHANGE = "maxChangePercent"


@dataclass(frozen=True, slots=True)
class ChangeCount:
    """The changes of a plan at once in one policy, or in the whole fleet (policy None)."""

    policy: str | None
    governed: int
    starting: int  # devices of the plan's waves, or asked ahead of them; stragglers that wait do not count
    rotating: int  # in flight already
    begun: int = 0  # of those that the same apply has started before: they have ended

    @property
    def at_once(self) -> int:
        """All that counts against the limit: what one apply may start in total is bounded like one plan."""
        return self.starting + self.rotating + self.begun


@dataclass(frozen=True, slots=True)
class Late:
    """Devices that cannot be rotated by their deadline at the given rates."""

    policy: str
    devices: int
    deadline: datetime
    finish: datetime | None  # None: no open time is left for it
    why: str


def too_much_at_once(change: ChangeCount, guardrails: Guardrails, overrides: Overrides) -> Refusal | None:
    """Refuse by maxChangePercent, for a policy or fleet of at least minExisting devices; None lets it pass."""
    limit = guardrails.max_change_percent if overrides.max_change_percent is None else overrides.max_change_percent
    if not change.starting or change.governed < guardrails.min_existing:
        return None
    percent = 100 * change.at_once / change.governed
    if percent <= limit:
        return None
    of = f"policy {change.policy}" if change.policy else "the fleet"
    needed = -(-100 * change.at_once // change.governed)
    before = f" and {change.begun} that this run started before" if change.begun else ""
    return Refusal(
        guardrail=MAX_CHANGE,
        policy=change.policy,
        message=(
            f"the plan rotates {count_text(change.starting, 'device')} of {of} with {change.rotating} in flight{before}"
            f", {percent_text(percent)} % of {change.governed:,} at once; {percent_text(limit)} % are allowed"
        ),
        override=f"--override maxChangePercent={needed}",
    )


def too_late(late: Late, overrides: Overrides) -> Refusal | None:
    """Refuse deadlines that the given rates, waves and windows cannot meet; None if all can be met."""
    if late.devices <= overrides.late_devices:
        return None
    done = f"the last would be done at {instant_text(late.finish)}" if late.finish else "no open time is left for it"
    return Refusal(
        guardrail="deadline",
        policy=late.policy,
        message=(
            f"{count_text(late.devices, 'device')} of policy {late.policy} must be rotated by "
            f"{instant_text(late.deadline)}, but {done}: {late.why}"
        ),
        override=f"--override lateDevices={late.devices}",
    )


def changed_groups(plan: Plan, desired: DesiredState, state: FleetState, overrides: Overrides) -> tuple[Refusal, ...]:
    """Return groups whose size changed since the plan by more than the guardrail.

    Asked before a plan file is applied.
    """
    guardrails = desired.fleet.guardrails
    limit = guardrails.max_change_percent if overrides.group_change_percent is None else overrides.group_change_percent
    refusals = []
    for group, planned in sorted(plan.group_sizes.items()):
        found = state.group_sizes.get(group, 0)
        if max(planned, found) < guardrails.min_existing or planned == found:
            continue
        percent = 100 * abs(found - planned) / max(planned, 1)
        if percent <= limit:
            continue
        message = (
            f"thing group {group} had {planned:,} things when the plan was made and has {found:,} now: "
            f"{percent_text(percent)} % changed, {percent_text(limit)} % are allowed"
        )
        refusals.append(Refusal("groupChangePercent", None, message, _group_override(percent)))
    return tuple(refusals)


def _group_override(percent: float) -> str:
    """Return the override; none is offered above 100 %, because such a plan is simply out of date."""
    needed = int(-(-percent // 1))
    return f"--override groupChangePercent={needed}" if needed <= 100 else "none: plan again"  # noqa: PLR2004 - per cent
