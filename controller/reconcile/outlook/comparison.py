"""The effect of a change of the desired state on the fleet: two refs over the same inventory.

The answer for the pull request, per policy: who is due now that was not, who no longer is, what kind
of certificate changes, and what carrying it out takes. Both refs are planned as ``apply`` would plan them at this
moment, with the history of their jobs; the outlooks of these two plans show when devices rotate.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controller.reconcile.checks import Governance, assess, assess_fleet
from controller.reconcile.planning import MAX_CHANGE, ChangeCount, make_plan, order_of, too_much_at_once
from controller.reconcile.values import (
    NO_OVERRIDES,
    Baseline,
    Mode,
    Outcome,
    Outlook,
    Reason,
    Stage,
    WaveStatus,
    held_by,
    transitions_of,
)

from .changes import DocumentChange, FieldChange, changes_between, documents_changed
from .forecasting import Forecaster
from .moved import Moved, Queue, RotationSpan, Turn, moved_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping

    from controller.reconcile.values import (
        Assessment,
        DesiredState,
        Device,
        FleetState,
        Holding,
        HoldingChange,
        IncidentReport,
        Overrides,
        Plan,
        Policy,
        Refusal,
    )

HORIZON = timedelta(days=90)  # over which the peak per day is taken
NAMES_KEPT = 8  # of the newly due, as examples

CALLS_PER_ROTATION = 16  # of AWS IoT, by the backend, where the certificate has one IoT policy: see docs/backend.md


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """One policy under two refs, counted over its devices under head; ``no_longer_due`` also counts those of base."""

    policy: str
    changes: tuple[FieldChange, ...]
    governed_base: int
    governed_head: int
    left_alone: int  # governed by it under base, and by no policy under head
    newly_due: int
    no_longer_due: int
    authority_changes: int
    key_type_changes: int
    due: int  # all that must rotate under head
    jobs: int
    largest_job: int  # devices that one job starts at once
    peak_per_day: int
    span: RotationSpan  # of all that are due under head
    reasons: dict[Reason, int]  # of the newly due
    examples: tuple[str, ...]  # names of the newly due, the first few
    moved: Moved | None = None
    gives: Mapping[str, int] = field(default_factory=dict)  # devices that go from it to another policy, by that
    stages: tuple[Stage, ...] = ()  # of all that are due under head, wave by wave
    is_new: bool = False  # base has no such policy
    first_wave: int = 0  # devices with which a rollout that had come further begins anew; 0: it goes on
    obstacle: str | None = None  # of head: why nobody can tell when its devices rotate
    reported: int = 0  # devices that would have to rotate under head, and do not because it only reports
    at_risk: int = 0  # devices that will expire before they are likely to be seen again, and are governed by head
    transitions: tuple[HoldingChange, ...] = ()  # of all that are due under head

    @property
    def asks(self) -> tuple[Stage, ...]:
        """Later waves of head at which a person will be asked."""
        return tuple(stage for stage in self.stages if stage.asks is not None)

    @property
    def remote_actions(self) -> int:
        """Calls to AWS IoT that rotating the newly due takes; each device is also restarted once."""
        return self.newly_due * CALLS_PER_ROTATION

    @property
    def has_effect(self) -> bool:
        """Whether the change does anything to this policy's devices."""
        counts_differ = self.governed_base != self.governed_head
        return bool(self.makes_rotate or self.no_longer_due or self.left_alone or self.gives or counts_differ)

    @property
    def makes_rotate(self) -> bool:
        """Whether a device rotates because of the change, at another time, or in a rollout that starts again."""
        return bool(self.newly_due or self.moved or self.first_wave)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Base and head, policy by policy in name order."""

    base_commit: str | None
    head_commit: str | None
    policies: tuple[PolicyComparison, ...]
    documents: tuple[DocumentChange, ...] = ()  # of the other kinds, that differ
    refusals: tuple[Refusal, ...] = ()  # of head's plan, now or as soon as a window opens, that come with the change
    known: tuple[Refusal, ...] = ()  # that the base's plan has as well
    notices: tuple[str, ...] = ()  # of head's plan, that the base's has not
    blocked: tuple[Assessment, ...] = ()  # under head, of devices for which base needs no person
    incidents: tuple[IncidentReport, ...] = ()  # of head's plan
    missed: tuple[IncidentReport, ...] = ()  # of these: they need a person, and do not stand so in the base's plan

    @property
    def newly_due(self) -> int:
        """Devices that rotate because of the change."""
        return sum(policy.newly_due for policy in self.policies)

    @property
    def no_longer_due(self) -> int:
        """Devices that do not rotate because of the change."""
        return sum(policy.no_longer_due for policy in self.policies)

    @property
    def makes_rotate(self) -> bool:
        """Whether a device rotates because of the change, or at another time than without it."""
        return any(policy.makes_rotate for policy in self.policies)

    @property
    def left_alone(self) -> dict[str, int]:
        """Devices that no policy governs any more because of the change, by the policy that did."""
        return {policy.policy: policy.left_alone for policy in self.policies if policy.left_alone}


@dataclass(slots=True)
class _Counts:
    governed_base: int = 0
    governed_head: int = 0
    left_alone: int = 0
    newly_due: int = 0
    no_longer_due: int = 0
    authority: int = 0
    key_type: int = 0
    due: int = 0
    queue_base: list[Turn] = field(default_factory=list)  # who is due under base, and the policy it is due under then
    queue_head: list[Turn] = field(default_factory=list)  # who is due under head, and under base before
    gives: Counter[str] = field(default_factory=Counter)
    reasons: Counter[Reason] = field(default_factory=Counter)
    examples: list[str] = field(default_factory=list)
    becomes: list[tuple[Holding, Holding | None]] = field(default_factory=list)  # what the due hold, and will hold


def compare(
    devices: Callable[[], Iterable[Device]],
    base: DesiredState,
    head: DesiredState,
    state: FleetState,
    now: datetime,
    *,
    overrides: Overrides = NO_OVERRIDES,
) -> Comparison:
    """Compare base with head; each call of ``devices`` streams them, with the groups that either's policies name."""
    before, after = Governance(base, state, now, overrides), Forecaster(head, state, now, HORIZON, overrides)
    counts = {name: _Counts() for name in sorted({*before.policies, *after.governance.policies})}
    blocked: list[Assessment] = []

    def under_base() -> Iterator[Assessment]:
        for device in devices():
            old, new = assess(device, before), after.add(device)
            if new is not None and new.person_needed_for and not (old is not None and old.person_needed_for):
                blocked.append(new)
            _count(counts, old, new, was_due=_is_due(old, before), is_due=_is_due(new, after.governance))
            if old is not None:
                yield old

    was = make_plan(under_base(), base, state, now, overrides=overrides)
    seen = _after(state, {name: of.left_alone for name, of in counts.items() if of.left_alone}, base)
    assessments = assess_fleet(devices(), head, seen, now, overrides)
    will = make_plan(assessments, head, seen, now, overrides=overrides)
    refusals, of_base = _refusals(will, head, overrides), _refusals(was, base, overrides)
    known = tuple(refusal for refusal in refusals if _is_among(refusal, of_base))
    peaks: dict[str, Counter[object]] = {name: Counter() for name in counts}
    for row in after.result(will).rows:
        peaks[row.policy][row.day] += row.rotations
    outlooks, policies = _outlooks(was), _by_name(base)
    queues = {name: _queue(counts[name].queue_base, policy, outlooks[name]) for name, policy in policies.items()}
    refs = _Refs(policies, _by_name(head), outlooks, _outlooks(will), queues)
    return Comparison(
        base.commit,
        head.commit,
        tuple(_policy(name, counts, refs, max(peaks[name].values(), default=0)) for name in counts),
        documents_changed(base, head),
        tuple(refusal for refusal in refusals if refusal not in known),
        known,
        tuple(notice for notice in will.notices if notice not in was.notices),
        tuple(blocked),
        will.incidents,
        tuple(one for one in will.incidents if one.needs_person and one not in was.incidents),
    )


@dataclass(frozen=True, slots=True)
class _Refs:
    """Documents and outlooks of base and head, by policy."""

    base: Mapping[str, Policy]
    head: Mapping[str, Policy]
    was: Mapping[str, Outlook]
    will: Mapping[str, Outlook]
    queues: Mapping[str, Queue]  # of base


def _by_name(desired: DesiredState) -> dict[str, Policy]:
    return {policy.name: policy for policy in desired.policies}


def _outlooks(plan: Plan) -> dict[str, Outlook]:
    return {outlook.policy: outlook for outlook in plan.outlooks}


def _is_due(assessment: Assessment | None, governance: Governance) -> bool:
    if assessment is None or assessment.policy is None:
        return False
    return assessment.is_due and governance.policies[assessment.policy].policy.mode is Mode.ENFORCE


def _count(
    counts: dict[str, _Counts], was: Assessment | None, now: Assessment | None, *, was_due: bool, is_due: bool
) -> None:
    """Count one device; it is None under a ref if no policy governs it."""
    if was is not None and was.policy is not None:
        counts[was.policy].governed_base += 1
        counts[was.policy].left_alone += now is None
        counts[was.policy].no_longer_due += was_due and not is_due
        if was_due:
            after = now.policy if now is not None and is_due else None
            counts[was.policy].queue_base.append((order_of(was), after))
        if now is not None and now.policy is not None and now.policy != was.policy:
            counts[was.policy].gives[now.policy] += 1
    if now is None or now.policy is None:
        return
    of = counts[now.policy]
    of.governed_head += 1
    of.due += is_due
    if not is_due:
        return
    if now.certificate is not None:
        of.becomes.append((held_by(now.certificate), now.result.holding if now.result else None))
    before = was.policy if was is not None and was_due else None
    of.queue_head.append((order_of(now), before))
    if before is not None:
        return
    of.newly_due += 1
    if len(of.examples) < NAMES_KEPT:
        of.examples.append(now.device)
    reasons = [finding.reason for finding in now.findings if finding.outcome is Outcome.ROTATE]
    of.authority += Reason.AUTHORITY_MISMATCH in reasons
    of.key_type += Reason.KEY_TYPE_MISMATCH in reasons
    of.reasons.update(reasons)


def _policy(name: str, counts: Mapping[str, _Counts], refs: _Refs, peak: int) -> PolicyComparison:
    of, head = counts[name], refs.will.get(name, Outlook(name))
    sources = {before for _turn, before in of.queue_head if before} | {name}
    is_anew = bool(head.stages) and not head.reached and any(refs.was[n].reached for n in sources if n in refs.was)
    jobs = _jobs(head, refs.head[name]) if name in refs.head else []
    return PolicyComparison(
        policy=name,
        changes=changes_between(refs.base.get(name), refs.head.get(name)),
        governed_base=of.governed_base,
        governed_head=of.governed_head,
        left_alone=of.left_alone,
        newly_due=of.newly_due,
        no_longer_due=of.no_longer_due,
        authority_changes=of.authority,
        key_type_changes=of.key_type,
        due=of.due,
        jobs=len(jobs),
        largest_job=max(jobs, default=0),
        peak_per_day=peak,
        span=RotationSpan(head.start, head.finish),
        reasons=dict(sorted(of.reasons.items())),
        examples=tuple(of.examples),
        moved=moved_of(name, refs.queues, _queue(of.queue_head, refs.head.get(name), head)),
        gives=dict(sorted(of.gives.items())),
        stages=head.stages,
        is_new=name not in refs.base,
        first_wave=head.stages[0].devices if is_anew else 0,
        obstacle=head.obstacle,
        reported=head.reported,
        at_risk=len(head.at_risk) + head.more_at_risk,
        transitions=transitions_of(of.becomes),
    )


def _queue(turns: list[Turn], policy: Policy | None, outlook: Outlook) -> Queue:
    return Queue(sorted(turns), outlook, policy.rollout.max_in_flight if policy else 0)


def _jobs(outlook: Outlook, policy: Policy) -> list[int]:
    """Return how many devices each job has: one job for each wave with devices, more if maxInFlight splits it."""
    most = policy.rollout.max_in_flight
    return [min(most, stage.devices - number) for stage in outlook.stages for number in range(0, stage.devices, most)]


def _refusals(plan: Plan, desired: DesiredState, overrides: Overrides) -> tuple[Refusal, ...]:
    """Return what ``apply`` would refuse of the plan that it makes now, or as soon as the windows open."""
    rollouts = {policy.name: policy.rollout for policy in desired.policies}
    ready = {report.policy for report in plan.waves if report.status in {WaveStatus.OPEN, WaveStatus.CLOSED}}
    firsts = {one.policy: one.stages[0] for one in plan.outlooks if one.stages and one.policy in ready}
    found = [*plan.refusals, *(stage.asks for stage in firsts.values() if stage.asks is not None)]
    whole = ChangeCount(
        policy=None,
        governed=sum(summary.governed for summary in plan.policies),
        starting=sum(min(stage.devices, rollouts[name].max_in_flight) for name, stage in firsts.items()),
        rotating=sum(summary.rotating for summary in plan.policies),
    )
    together = too_much_at_once(whole, desired.fleet.guardrails, overrides)
    if together is not None and all((one.guardrail, one.policy) != (MAX_CHANGE, None) for one in found):
        found.append(together)
    return tuple(dict.fromkeys(found))


def _after(state: FleetState, lost: Mapping[str, int], base: DesiredState) -> FleetState:
    """Return the state as if the base had been applied; its groups count the devices that the head leaves ungoverned.

    Whether the head follows the commit applied last shows only once it is merged.
    """
    groups = {policy.name: policy.thing_group for policy in base.policies}
    left = {groups[policy]: number for policy, number in lost.items()}
    recorded = state.baseline or Baseline({})
    ungoverned = {**recorded.ungoverned, **dict.fromkeys(groups.values(), 0), **left}
    sizes = {**recorded.group_sizes, **left}
    seen = replace(recorded, group_sizes=sizes, ungoverned=ungoverned, commit=None, committed_at=None)
    return replace(state, baseline=seen)


def _is_among(refusal: Refusal, others: Iterable[Refusal]) -> bool:
    """Return whether the base is refused for the same, and by no smaller number."""
    return any(
        (other.guardrail, other.policy) == (refusal.guardrail, refusal.policy)
        and _size(other) >= _size(refusal)
        and (_size(refusal) or other.message == refusal.message)
        for other in others
    )


def _size(refusal: Refusal) -> float:
    """Return the number in ``--override NAME=NUMBER``; nought if a name stands in its place."""
    try:
        return float(refusal.override.rpartition("=")[2])
    except ValueError:
        return 0.0
