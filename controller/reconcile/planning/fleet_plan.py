"""Make the plan: what ``apply`` will do, from a stream of assessments and the jobs there are.

Deterministic: the same desired state, fleet and moment give the same plan, byte for byte, whatever
the order of the assessments. A run that dies leaves nothing that the next one has to know.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from controller.reconcile.checks import Governance
from controller.reconcile.rollout import asked_by_others, is_open, read_rollout
from controller.reconcile.schedule import LEAST_GAPS
from controller.reconcile.values import (
    NO_OVERRIDES,
    VALID_FOR,
    Finding,
    JobStep,
    Outcome,
    Overrides,
    Plan,
    Reason,
    Refusal,
    count_text,
    instant_text,
    parse_job_id,
)

from .deadlines import late_devices
from .deployed import changes_unasked, departures, refused
from .drill_reports import Drilled
from .guardrails import ChangeCount, too_late, too_much_at_once
from .incidents import report_incidents
from .older import goes_back
from .orphans import NO_BASELINE, LostJobs, lost_jobs, orphans
from .outlooks import outlooks_of
from .plan_file import digest_of
from .policy_plan import plan_policy
from .preflights import told_of_preflights
from .tally import tally_of
from .unseen import Unseen

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from controller.reconcile.rollout import RolloutHistory
    from controller.reconcile.values import Assessment, DesiredState, FleetState, Outlook

    from .policy_plan import PolicyPlan
    from .tally import PolicyTally


def make_plan(
    assessments: Iterable[Assessment],
    desired: DesiredState,
    state: FleetState,
    now: datetime,
    *,
    overrides: Overrides = NO_OVERRIDES,
    permitted: Mapping[str, str] | None = None,
    begun: frozenset[str] = frozenset(),
) -> Plan:
    """Plan one fleet. ``assessments`` are those of ``assess_fleet`` for the same state and moment.

    ``permitted`` are the devices, with their certificates, among which the plan may choose: those of a plan that was
    made before. ``begun`` are those that the same apply has started in its rounds before.

    The stream is read once, and only devices that matter to a job are kept. A plan with refusals is
    complete all the same, so that a report can show what was refused.
    """
    governance = Governance(desired, state, now, overrides)

    def history_of(name: str, since: datetime | None = None) -> RolloutHistory:
        governed = governance.policies[name]
        waves = len(governed.policy.rollout.waves)
        return read_rollout(name, governed.family, state.jobs, now, last=waves, since=since)

    rollouts = {name: history_of(name) for name in governance.policies}
    lost = lost_jobs(desired, state)
    unseen = Unseen.of(governance)
    drilled = Drilled.of(governance)
    taken_over = _TakenOver(asked_by_others(state.jobs, governance.policies))
    watched = lost.watch(unseen.watch(drilled.watch(taken_over.watch(assessments))))
    tally = tally_of(watched, governance, rollouts, begun)
    for name, since in taken_over.since.items():
        rollouts[name] = history_of(name, since)
    plans = {
        name: plan_policy(governed, rollouts[name], tally.policies[name], governance, permitted)
        for name, governed in governance.policies.items()
    }
    changes = [_change(name, tally.policies[name], plan, begun) for name, plan in plans.items()]
    whole = ChangeCount(
        policy=None,
        governed=sum(change.governed for change in changes) + tally.tied.total(),
        starting=sum(change.starting for change in changes),
        rotating=sum(change.rotating for change in changes),
        begun=sum(change.begun for change in changes),
    )
    outlooks = outlooks_of(tally, plans, whole, governance)
    plan = Plan(
        fleet=desired.fleet.name,
        account=desired.fleet.account,
        region=desired.fleet.region,
        commit=desired.commit,
        created_at=now,
        jobs=tuple(job for plan in plans.values() for job in plan.jobs),
        steps=(*_forgotten(governance), *(step for plan in plans.values() for step in plan.steps)),
        refusals=_refusals(governance, plans, lost, (*changes, whole)),
        policies=tuple(tally.policies[name].summary(name) for name in plans),
        digest="",
        group_sizes=dict(sorted(state.group_sizes.items())),
        notices=(
            *_notices(state),
            *unseen.notices(tally),
            *tally.shared.notices(state),
            *_away(outlooks),
            *told_of_preflights(tally.policies, rollouts, plans, is_stock=state.backend_is_stock),
        ),
        waves=tuple(plan.report for plan in plans.values()),
        valid_until=now + VALID_FOR,
        committed_at=min(desired.committed_at, now) if desired.committed_at else None,
        resumed=tuple(sorted(overrides.resume & plans.keys())),
        halts={name: plan.halt for name, plan in plans.items() if plan.halt is not None},
        attachments=tuple(sorted(state.rotatable)),
        outlooks=outlooks,
        incidents=report_incidents(tally.incidents, governance, plans),
        drills=drilled.reports(),
    )
    return replace(plan, digest=digest_of(plan))


@dataclass(slots=True)
class _TakenOver:
    """Devices that policies asked which are gone: the policy that has them now is another one since then."""

    asked: Mapping[str, datetime]
    since: dict[str, datetime] = field(default_factory=dict)  # by policy: when one that is gone last asked a device

    def watch(self, assessments: Iterable[Assessment]) -> Iterable[Assessment]:
        """Pass the assessments on; whoever was asked shows its policy of today."""
        return self._watched(assessments) if self.asked else assessments

    def _watched(self, assessments: Iterable[Assessment]) -> Iterator[Assessment]:
        for assessment in assessments:
            asked, policy = self.asked.get(assessment.device), assessment.policy
            if asked is not None and policy is not None:
                self.since[policy] = max(self.since.get(policy, asked), asked)
            yield assessment


def part_of(plan: Plan, policy: str) -> Plan:
    """Return what a plan shows of one policy, if only its devices were assessed: nothing of the fleet as a whole."""
    return replace(
        plan,
        jobs=tuple(job for job in plan.jobs if job.policy == policy),
        steps=(),
        refusals=tuple(refusal for refusal in plan.refusals if refusal.policy == policy),
        policies=tuple(summary for summary in plan.policies if summary.policy == policy),
        waves=tuple(wave for wave in plan.waves if wave.policy == policy),
        outlooks=tuple(_by_itself(outlook) for outlook in plan.outlooks if outlook.policy == policy),
        incidents=(),
        notices=(),
        drills=tuple(drill for drill in plan.drills if drill.policy == policy),
    )


def _by_itself(outlook: Outlook) -> Outlook:
    stages = (stage if stage.asks and stage.asks.policy else replace(stage, asks=None) for stage in outlook.stages)
    return replace(outlook, stages=tuple(stages))


def _notices(state: FleetState) -> tuple[str, ...]:
    """Return a sentence for each fact that was not known when the plan was made."""
    told = [] if state.baseline is not None else [NO_BASELINE]
    return (*told, *([state.deployment_unknown] if state.deployment_unknown else []), *state.cas_unknown)


def _away(outlooks: Iterable[Outlook]) -> Iterator[str]:
    """Yield, policy by policy, how many devices are away of which nobody knows whether they come back in time."""
    for outlook in outlooks:
        if outlook.away_unknown:
            devices = count_text(outlook.away_unknown, "device")
            yield (
                f"policy {outlook.policy}: {devices} away, with fewer than {LEAST_GAPS} absences known: nobody "
                "knows whether a certificate ends before the device is seen again"
            )


def settle(assessments: Iterable[Assessment], plan: Plan) -> Iterator[Assessment]:
    """Yield the assessments as they stand once the plan is known.

    A device with drift that its wave holds back gets the finding WaveSoaking, which shows what the
    wave waits for, and until when the last of the policy's devices has rotated; the others pass as they are.
    """
    planned = {device.name for job in plan.jobs for device in job.devices}
    held = {report.policy: report for report in plan.waves if report.held}
    ends = {outlook.policy: outlook.finish for outlook in plan.outlooks}
    for assessment in assessments:
        report = held.get(assessment.policy or "")
        if report is None or assessment.outcome is not Outcome.ROTATE or assessment.device in planned:
            yield assessment
            continue
        end = ends.get(report.policy)
        message = f"{report.message}; the last is done by {instant_text(end)}" if end else report.message
        finding = Finding(Reason.WAVE_SOAKING, Outcome.WAITING, message, "spec.rollout.waves")
        yield assessment._replace(findings=(*assessment.findings, finding))


def _forgotten(governance: Governance) -> Iterator[JobStep]:
    """Yield steps that cancel open jobs of policies that git no longer has; the guardrail on orphans comes before."""
    for job in sorted(governance.state.jobs, key=lambda job: job.job_id):
        parsed = parse_job_id(job.job_id)
        if parsed is not None and parsed.policy not in governance.policies and is_open(job):
            yield JobStep(job.job_id, "cancel", f"no policy {parsed.policy} exists any more")


def _refusals(
    governance: Governance,
    plans: Mapping[str, PolicyPlan],
    lost: LostJobs,
    changes: Iterable[ChangeCount],
) -> tuple[Refusal, ...]:
    guardrails, overrides = governance.desired.fleet.guardrails, governance.overrides
    desired, state = governance.desired, governance.state
    found: list[Refusal | None] = [goes_back(desired, state, overrides)]
    jobs = [job for plan in plans.values() for job in plan.jobs]
    found += [*refused(departures(desired, state, governance.now, jobs), overrides)]
    found += [orphans(desired, state, lost, overrides)]
    found += [too_much_at_once(change, guardrails, overrides) for change in changes]
    found += [changes_unasked(governance.policies[n].policy, plan.jobs, overrides) for n, plan in plans.items()]
    for plan in plans.values():
        late = late_devices(plan, governance.now)
        if late is not None:
            found.append(too_late(late, overrides))
    return tuple(refusal for refusal in found if refusal is not None)


def _change(name: str, tally: PolicyTally, plan: PolicyPlan, begun: frozenset[str]) -> ChangeCount:
    """Count what a policy's plan changes; a device that the same apply starts again counts once."""
    starting = [one for job in plan.jobs for one in (job.early if job.is_standing else (d.name for d in job.devices))]
    again = len(begun.intersection(starting))
    return ChangeCount(name, tally.governed, len(starting), tally.rotating, tally.begun - again)
