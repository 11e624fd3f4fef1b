"""The outlook for each policy's devices, from what its plan has found: one Outlook, for all that look ahead."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING

from controller.reconcile.rollout import is_open
from controller.reconcile.schedule import dates_of, in_order
from controller.reconcile.values import NO_OVERRIDES, Mode, Outlook, Stage, parse_job_id

from .guardrails import ChangeCount, too_much_at_once

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from controller.reconcile.checks import Governance, Governed
    from controller.reconcile.values import Assessment, Policy, Refusal, RotationJob

    from .policy_plan import PolicyPlan
    from .tally import FleetTally, PolicyTally

RISKS_SHOWN = 100  # devices at risk that a plan names, the nearest to their end first


def outlooks_of(
    tally: FleetTally, plans: Mapping[str, PolicyPlan], whole: ChangeCount, governance: Governance
) -> tuple[Outlook, ...]:
    """Return one outlook for each policy; ``whole`` is what the plan changes in the fleet now."""
    found = [
        _outlook(governance.policies[name], plan, tally.policies[name], governance) for name, plan in plans.items()
    ]
    return _asked_of_the_fleet(found, whole, governance)


def _outlook(governed: Governed, plan: PolicyPlan, tally: PolicyTally, governance: Governance) -> Outlook:
    return _with_risks(_of_the_rest(governed, plan, tally, governance), plan, tally, governance)


def _with_risks(found: Outlook, plan: PolicyPlan, tally: PolicyTally, governance: Governance) -> Outlook:
    """Add the devices that connect so rarely that their certificates may end before they are seen again."""
    if not tally.risks:
        return found
    waves = {name: wave for wave, job in _asking(found.policy, governance) for name in job.executions}
    waves |= {d.name: job.wave for job in plan.jobs if not job.is_standing for d in job.devices}
    waves |= {name: 0 for job in plan.jobs for name in job.early}
    risks = in_order(tally.risks, waves, plan.report.of)
    at_risk = [risk for risk in risks if risk.is_at_risk]
    unknown = sum(risk.is_away and risk.absence is None for risk in risks)
    return replace(
        found, at_risk=tuple(at_risk[:RISKS_SHOWN]), more_at_risk=len(at_risk[RISKS_SHOWN:]), away_unknown=unknown
    )


def _asking(policy: str, governance: Governance) -> Iterator[tuple[int, RotationJob]]:
    """Yield the policy's open jobs, each with its wave; a standing job comes before any."""
    for job in governance.state.jobs:
        parsed = parse_job_id(job.job_id)
        if parsed is not None and parsed.policy == policy and is_open(job):
            yield parsed.wave or 0, job


def _of_the_rest(governed: Governed, plan: PolicyPlan, tally: PolicyTally, governance: Governance) -> Outlook:
    policy, now = governed.policy, governance.now
    offline = tally.offline + plan.late
    if policy.mode is Mode.REPORT:
        return Outlook(policy.name, reported=len(tally.candidates) + tally.shut, offline=offline)
    devices = len(plan.waiting) - plan.late + tally.shut + len(tally.suspended)
    found = Outlook(policy.name, devices, reached=plan.reached, offline=offline)
    if not devices or plan.ahead is None:
        return found
    if plan.ahead.opening.is_stuck:
        return replace(found, obstacle=plan.ahead.opening.message)
    start = policy.suspend.until if governed.is_suspended and policy.suspend is not None else now
    urgent = sum(a.timing is not None and a.timing.is_urgent for a in plan.waiting)
    urgent += sum(_hurries(assessment, policy, start) for assessment in tally.suspended)
    stages = tuple(
        replace(stage, asks=_asks(policy.name, tally.governed, _at_once(stage, governed), governance))
        if stage.start > now
        else stage
        for stage in plan.ahead.stages(devices, start, urgent=urgent, deadline=plan.deadline)
    )
    told = sum(stage.devices for stage in stages)
    return replace(found, stages=stages, obstacle=None if told == devices else "no maintenance window is open for it")


def _hurries(assessment: Assessment, policy: Policy, then: datetime) -> bool:
    """Return whether the device will not wait for a window at that later time."""
    dates = dates_of(policy, assessment.certificate) if assessment.certificate else None
    is_urgent = assessment.timing is not None and assessment.timing.is_urgent
    return is_urgent or (dates is not None and dates.urgent_from <= then)


def _asked_of_the_fleet(outlooks: Iterable[Outlook], whole: ChangeCount, governance: Governance) -> tuple[Outlook, ...]:
    """Return the outlooks, with the hours in which the fleet's own guardrail may ask although no policy's does."""
    now = governance.now
    together: Counter[datetime] = Counter()
    for outlook in outlooks:
        for stage in outlook.stages:
            together[_hour(stage)] += _at_once(stage, governance.policies[outlook.policy])

    def asked(stage: Stage) -> Stage:
        if stage.asks is not None or stage.start <= now:
            return stage
        return replace(stage, asks=_asks(None, whole.governed, together[_hour(stage)], governance))

    return tuple(replace(outlook, stages=tuple(map(asked, outlook.stages))) for outlook in outlooks)


def _asks(policy: str | None, governed: int, starting: int, governance: Governance) -> Refusal | None:
    """Return the refusal of a later run, which the overrides of this run do not help; None if it may start so many."""
    guardrails = governance.desired.fleet.guardrails
    return too_much_at_once(ChangeCount(policy, governed, starting, rotating=0), guardrails, NO_OVERRIDES)


def _at_once(stage: Stage, governed: Governed) -> int:
    """Return how many of the stage one plan starts."""
    return min(stage.devices, governed.policy.rollout.max_in_flight)


def _hour(stage: Stage) -> datetime:
    return stage.start.replace(minute=0, second=0, microsecond=0)
