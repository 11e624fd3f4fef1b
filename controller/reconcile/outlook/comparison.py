"""What a change of the desired state does to the fleet: two refs over the same inventory.

The answer for the pull request, per policy: who is due now that was not, who no longer is, what kind
of certificate changes, and what carrying it out takes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from controller.reconcile.checks import Governance, assess
from controller.reconcile.rollout import cumulative_sizes, finish_at
from controller.reconcile.values import Mode, Outcome, Reason

from .changes import DocumentChange, FieldChange, changes_between, documents_changed
from .forecasting import Forecaster

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.reconcile.checks import Governed
    from controller.reconcile.values import Assessment, DesiredState, Device, FleetState

HORIZON = timedelta(days=90)  # over which the peak per day is taken
NAMES_KEPT = 8  # of the newly due, as examples
WORTH_TELLING = timedelta(minutes=15)  # by which a start or an end is another one

CALLS_PER_ROTATION = 16  # of AWS IoT, by the backend, where the certificate has one IoT policy: see docs/backend.md


@dataclass(frozen=True, slots=True)
class Span:
    """When devices rotate at the given rates, waves and windows; None: no window is open for it."""

    start: datetime | None  # when the first may begin
    finish: datetime | None  # when the last has rotated


@dataclass(frozen=True, slots=True)
class Moved:
    """Devices that must rotate with and without the change, but at another time."""

    devices: int
    base: Span
    head: Span


@dataclass(frozen=True, slots=True)
class PolicyComparison:
    """One policy under two refs. Counts are of devices governed by it under head (no longer due: under either)."""

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
    span: Span  # of all that are due under head
    reasons: dict[Reason, int]  # of the newly due
    examples: tuple[str, ...]  # names of the newly due, the first few
    moved: Moved | None = None

    @property
    def remote_actions(self) -> int:
        """Calls to AWS IoT that rotating the newly due takes; each device is also restarted once."""
        return self.newly_due * CALLS_PER_ROTATION

    @property
    def has_effect(self) -> bool:
        """Whether the change does anything to this policy's devices."""
        counts_differ = self.governed_base != self.governed_head
        return bool(self.newly_due or self.no_longer_due or self.left_alone or self.moved or counts_differ)

    @property
    def makes_rotate(self) -> bool:
        """Whether a device rotates because of the change, or at another time than without it."""
        return bool(self.newly_due or self.moved)


@dataclass(frozen=True, slots=True)
class Comparison:
    """Base and head, policy by policy in name order."""

    base_commit: str | None
    head_commit: str | None
    policies: tuple[PolicyComparison, ...]
    documents: tuple[DocumentChange, ...] = ()  # of the other kinds, that differ

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
    still_due: int = 0
    authority: int = 0
    key_type: int = 0
    due: int = 0
    reasons: dict[Reason, int] = field(default_factory=dict)
    examples: list[str] = field(default_factory=list)


def compare(
    devices: Iterable[Device], base: DesiredState, head: DesiredState, state: FleetState, now: datetime
) -> Comparison:
    """Compare; ``devices`` must carry the groups that the policies of either name."""
    before, forecaster = Governance(base, state, now), Forecaster(head, state, now, HORIZON)
    after = forecaster.governance
    counts = {name: _Counts() for name in sorted({*before.policies, *after.policies})}
    for device in devices:
        forecaster.add(device)
        _count(counts, _verdict(device, before), _verdict(device, after))
    peaks: dict[str, dict[object, int]] = {}
    for row in forecaster.result().rows:
        days = peaks.setdefault(row.policy, {})
        days[row.day] = days.get(row.day, 0) + row.rotations
    return Comparison(
        base.commit,
        head.commit,
        tuple(
            _policy(name, of, before, after, max(peaks.get(name, {}).values(), default=0))
            for name, of in counts.items()
        ),
        documents_changed(base, head),
    )


@dataclass(frozen=True, slots=True)
class _Verdict:
    """One device under one of the refs."""

    assessment: Assessment | None  # None: no policy governs it
    is_due: bool  # it rotates now, or as soon as a window opens: the hour of the comparison makes no difference


def _verdict(device: Device, governance: Governance) -> _Verdict:
    assessment = assess(device, governance)
    if assessment is None or assessment.policy is None:
        return _Verdict(assessment, is_due=False)
    is_enforced = governance.policies[assessment.policy].policy.mode is Mode.ENFORCE
    outcomes = [(finding.outcome, finding.reason) for finding in assessment.findings]
    others = [reason for outcome, reason in outcomes if outcome is not Outcome.ROTATE]
    is_due = len(others) < len(outcomes) and all(reason is Reason.OUTSIDE_WINDOW for reason in others)
    return _Verdict(assessment, is_due=is_enforced and is_due)


def _count(counts: dict[str, _Counts], base: _Verdict, head: _Verdict) -> None:
    was, now = base.assessment, head.assessment
    if was is not None and was.policy is not None:
        counts[was.policy].governed_base += 1
        counts[was.policy].left_alone += now is None
        counts[was.policy].no_longer_due += base.is_due and not head.is_due
    if now is None or now.policy is None:
        return
    of = counts[now.policy]
    of.governed_head += 1
    of.due += head.is_due
    of.still_due += base.is_due and head.is_due and was is not None and was.policy == now.policy
    if not head.is_due or base.is_due:
        return
    of.newly_due += 1
    if len(of.examples) < NAMES_KEPT:
        of.examples.append(now.device)
    reasons = [finding.reason for finding in now.findings if finding.outcome is Outcome.ROTATE]
    of.authority += Reason.AUTHORITY_MISMATCH in reasons
    of.key_type += Reason.KEY_TYPE_MISMATCH in reasons
    for reason in reasons:
        of.reasons[reason] = of.reasons.get(reason, 0) + 1


def _policy(name: str, of: _Counts, before: Governance, after: Governance, peak: int) -> PolicyComparison:
    old, new = before.policies.get(name), after.policies.get(name)
    jobs = _jobs(new, of) if new else []
    return PolicyComparison(
        policy=name,
        changes=changes_between(old.policy if old else None, new.policy if new else None),
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
        span=_span(new, of.due, of.governed_head, after.now),
        reasons=dict(sorted(of.reasons.items())),
        examples=tuple(of.examples),
        moved=_moved(old, new, of, after.now),
    )


def _moved(old: Governed | None, new: Governed | None, of: _Counts, now: datetime) -> Moved | None:
    base = _span(old, of.still_due, of.governed_base, now)
    head = _span(new, of.still_due, of.governed_head, now)
    is_moved = of.still_due and (_differ(base.start, head.start) or _differ(base.finish, head.finish))
    return Moved(of.still_due, base, head) if is_moved else None


def _differ(one: datetime | None, other: datetime | None) -> bool:
    """Whether by so much that it is worth telling."""
    return one != other and (one is None or other is None or abs(one - other) >= WORTH_TELLING)


def _span(governed: Governed | None, devices: int, population: int, now: datetime) -> Span:
    if governed is None:
        return Span(None, None)
    start = max(governed.opens.start, now) if governed.opens else None
    return Span(start, finish_at(governed.policy, governed.open_time, devices, population, now, is_urgent=False))


def _jobs(governed: Governed, of: _Counts) -> list[int]:
    """Devices of each job: one per wave that reaches anyone; more where the in-flight limit splits a wave."""
    rollout = governed.policy.rollout
    jobs: list[int] = []
    sizes = cumulative_sizes(rollout.waves, max(1, of.governed_head))
    for size in (*sizes[:-1], max(sizes[-1], of.due)):
        left = min(size, of.due) - sum(jobs)
        while left > 0:
            jobs.append(min(left, rollout.max_in_flight))
            left -= jobs[-1]
    return jobs
