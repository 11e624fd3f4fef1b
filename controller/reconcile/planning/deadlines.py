"""Whether everything that must rotate can be, in time, at the given rates, waves and windows."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.reconcile.rollout import rate_per_minute
from controller.reconcile.values import Reason, percent_text

from .guardrails import Late

if TYPE_CHECKING:
    from datetime import datetime

    from controller.reconcile.rollout import Ahead
    from controller.reconcile.values import Assessment

    from .policy_plan import PolicyPlan

SAMPLES = 200  # deadlines looked at in one policy, evenly spread; the count of late devices is rounded up to them


def late_devices(plan: PolicyPlan, now: datetime) -> Late | None:
    """Return the devices whose deadline is still ahead and cannot be met; None if all can.

    The deadline is an incident's, or the end of the certificate; that of a drill refuses no plan. Windows are
    ignored, because the devices will be urgent by then; only an incident may keep to windows, and then it shortens no
    soak either.
    """
    if plan.ahead is None:
        return None
    in_windows: list[Assessment] = []
    freely: list[Assessment] = []
    for assessment in plan.waiting:
        (in_windows if _keeps_to_windows(assessment) else freely).append(assessment)
    found = (_late(plan.ahead, in_windows, now, is_urgent=False), _late(plan.ahead, freely, now, is_urgent=True))
    late = [one for one in found if one is not None]
    return replace(late[0], devices=sum(one.devices for one in late)) if late else None


def _late(ahead: Ahead, devices: list[Assessment], now: datetime, *, is_urgent: bool) -> Late | None:
    deadlines = sorted(deadline for a in devices if (deadline := _deadline(a)) is not None and deadline > now)
    step = max(1, len(deadlines) // SAMPLES)
    number = 0
    worst: tuple[datetime, datetime | None] | None = None
    for last in range(step - 1, len(deadlines), step):
        deadline = deadlines[last]
        finish = ahead.finish(last + 1, now, is_urgent=is_urgent, deadline=deadline if is_urgent else None)
        if finish is None or finish > deadline:
            number += step
            worst = worst or (deadline, finish)
    if worst is None:
        return None
    rollout = ahead.policy.rollout
    why = (
        f"{percent_text(rate_per_minute(rollout))} devices a minute (maximumPerMinute {rollout.maximum_per_minute}, "
        f"maxInFlight {rollout.max_in_flight}) in {len(rollout.waves)} waves"
    )
    return Late(ahead.policy.name, number, worst[0], worst[1], why)


def _deadline(assessment: Assessment) -> datetime | None:
    reasons = [finding.reason for finding in assessment.findings]
    if Reason.DRILLED in reasons and Reason.AUTHORITY_TAINTED not in reasons:
        return assessment.certificate.not_after if assessment.certificate else None
    return assessment.timing.deadline if assessment.timing else None


def _keeps_to_windows(assessment: Assessment) -> bool:
    is_urgent = assessment.timing is not None and assessment.timing.is_urgent
    return not is_urgent and Reason.AUTHORITY_TAINTED in [finding.reason for finding in assessment.findings]
