"""The planner's memory of a stream of assessments: counts of all, values of those that matter to a job."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import cache
from typing import TYPE_CHECKING

from controller.reconcile.values import Assessment, Health, Outcome, PlannedDevice, PolicySummary, Reason, Sync

from .shared import SharedCertificates

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from controller.reconcile.checks import Governance
    from controller.reconcile.rollout import RolloutHistory
    from controller.reconcile.values import OfflineRisk


@dataclass(slots=True)
class PolicyTally:
    """One policy's devices. ``candidates`` may rotate now; ``members`` are named by jobs of the rollout."""

    governed: int = 0
    in_sync: int = 0
    rotating: int = 0
    begun: int = 0  # started by the same apply before, and not rotating any more
    waiting: int = 0
    blocked: int = 0
    shut: int = 0  # of the waiting: whom a closed window alone keeps from rotating
    suspended: list[Assessment] = field(default_factory=list)  # of the blocked: likewise by the policy's suspension
    offline: int = 0  # of the waiting: who were asked for long, and have not answered
    fit: int = 0  # who have answered that this rotation would begin
    unfit: Counter[str] = field(default_factory=Counter)  # who have answered that it would fail, by what they say
    candidates: list[Assessment] = field(default_factory=list)
    members: dict[str, Assessment] = field(default_factory=dict)
    risks: list[OfflineRisk] = field(default_factory=list)  # of devices that connect rarely, at risk or not

    def summary(self, policy: str) -> PolicySummary:
        """Return the numbers, as the plan has them."""
        return PolicySummary(
            policy=policy,
            governed=self.governed,
            in_sync=self.in_sync,
            rotating=self.rotating,
            to_rotate=len(self.candidates),
            waiting=self.waiting,
            blocked=self.blocked,
        )

    def add(self, assessment: Assessment) -> None:
        """Count a device that has findings."""
        outcome, answer = assessment.outcome, assessment.preflight
        if assessment.risk is not None and assessment.health is not Health.SUSPENDED:  # else a person has decided
            self.risks.append(assessment.risk)
        if answer is not None and answer.reason is None:
            self.fit += 1
        elif answer is not None:
            self.unfit[str(answer.reason)] += 1
        if outcome is Outcome.BLOCKED:
            self.blocked += 1
            if assessment.is_kept_by(Reason.SUSPENDED, Reason.OUTSIDE_WINDOW):
                self.suspended.append(assessment)
        elif assessment.is_rotating:
            self.rotating += 1
        elif outcome is Outcome.ROTATE:
            self.candidates.append(assessment)
        elif assessment.sync is Sync.IN_SYNC:
            self.in_sync += 1
        else:
            self.waiting += 1
            self.shut += assessment.is_kept_by(Reason.OUTSIDE_WINDOW)
            self.offline += any(finding.reason is Reason.STRAGGLER for finding in assessment.findings)


@dataclass(slots=True)
class IncidentTally:
    """Devices that still match an incident, by policy; None stands for those that several policies claim."""

    remaining: Counter[str | None] = field(default_factory=Counter)
    blocked: Counter[str | None] = field(default_factory=Counter)
    accepted: int = 0


@dataclass(slots=True)
class FleetTally:
    """Everything the planner needs of the assessments."""

    policies: dict[str, PolicyTally]
    incidents: dict[str, IncidentTally]
    shared: SharedCertificates
    tied: Counter[str] = field(default_factory=Counter)  # devices that several policies claim, by these


def tally_of(
    assessments: Iterable[Assessment],
    governance: Governance,
    rollouts: Mapping[str, RolloutHistory],
    begun: frozenset[str] = frozenset(),
) -> FleetTally:
    """Read the stream once; ``begun`` are the devices that the same apply has started before."""
    fleet = FleetTally(
        {name: PolicyTally() for name in governance.policies},
        {incident.name: IncidentTally() for incident in governance.desired.incidents},
        SharedCertificates(governance.state.shared),
    )
    shared = fleet.shared
    accepted = {incident.name: incident.accepted_losses for incident in governance.desired.incidents}
    told = {name: (fleet.policies[name], rollout.members()) for name, rollout in rollouts.items()}
    for assessment in assessments:
        if assessment.findings or shared.listed:
            shared.look_at(assessment)
        if assessment.policy is None:
            fleet.tied[str(assessment.findings[0].values["policies"])] += 1
            _count_incidents(assessment, fleet.incidents, accepted)
            continue
        policy, named = told[assessment.policy]
        policy.governed += 1
        if begun:
            policy.begun += assessment.device in begun and not assessment.is_rotating
        if named and assessment.device in named:
            policy.members[assessment.device] = assessment
        if not assessment.findings:
            policy.in_sync += 1
            if assessment.risk is not None:
                policy.risks.append(assessment.risk)
            continue
        policy.add(assessment)
        if accepted:
            _count_incidents(assessment, fleet.incidents, accepted)
    return fleet


def planned_device(assessment: Assessment) -> PlannedDevice:
    """Return a device as a plan names it; it must have a certificate and a timing."""
    certificate, timing = assessment.certificate, assessment.timing
    assert certificate is not None and timing is not None  # noqa: S101, PT018 - holds of every device with a demand
    reasons = tuple([f.reason for f in assessment.findings if f.outcome is Outcome.ROTATE])
    return PlannedDevice(
        assessment.device,
        certificate.certificate_id,
        _shared(reasons),
        timing.due,
        timing.is_urgent,
        assessment.failures + 1,
    )


@cache
def _shared(reasons: tuple[Reason, ...]) -> tuple[Reason, ...]:
    """Return one tuple for all devices that have these reasons."""
    return reasons


def order_of(assessment: Assessment) -> tuple[bool, bool, float, str]:
    """Return the key to sort by: tainted first, then urgent, then what must be done soonest, then by name."""
    timing = assessment.timing
    assert timing is not None  # noqa: S101 - holds of every device with a demand
    is_tainted = assessment.findings[0].reason is Reason.AUTHORITY_TAINTED  # the first demand there is
    soonest = timing.due if timing.deadline is None else min(timing.due, timing.deadline)
    return not is_tainted, not timing.is_urgent, soonest.timestamp(), assessment.device


def _count_incidents(
    assessment: Assessment, incidents: Mapping[str, IncidentTally], accepted: Mapping[str, frozenset[str]]
) -> None:
    names = next((str(f.values["incidents"]) for f in assessment.findings if "incidents" in f.values), "")
    for name in filter(None, names.split(",")):
        tally = incidents[name]
        if assessment.device in accepted[name]:
            tally.accepted += 1
            continue
        tally.remaining[assessment.policy] += 1
        tally.blocked[assessment.policy] += assessment.outcome is Outcome.BLOCKED
