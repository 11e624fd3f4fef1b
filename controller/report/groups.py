"""Assessments that are the same, reported once: what makes a report of ten thousand devices readable."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import timedelta

from controller.reconcile.values import Assessment, Finding, Outcome, Reason

from . import words


@dataclass(frozen=True, slots=True)
class ReasonGroup:
    """Devices of one policy that share their leading reason; ``finding`` is the first device's.

    ``names`` are the devices as a report names them: a straggler never without the time since it was seen.
    """

    reason: Reason
    policy: str | None
    finding: Finding
    devices: tuple[str, ...]
    names: tuple[str, ...]

    @property
    def is_decided(self) -> bool:
        """Whether a person has decided already that these devices are left out."""
        return self.finding.is_decided


def leading(assessment: Assessment) -> Finding:
    """Return the finding that decides the outcome: the first of the assessment's outcome.

    Of a device that only waits for its wave it is why the device must rotate: the rollouts show where the wave stands.
    """
    outcome = assessment.outcome
    decisive = [finding for finding in assessment.findings if finding.outcome is outcome]
    if all(finding.reason is Reason.WAVE_SOAKING for finding in decisive):
        return next((each for each in assessment.findings if each.outcome is Outcome.ROTATE), decisive[0])
    return decisive[0]


def by_reason(assessments: Iterable[Assessment]) -> list[ReasonGroup]:
    """Group by reason and policy; reasons in the order of the enum, policies by name, the longest unseen first."""
    found: dict[tuple[Reason, str, bool], list[tuple[Finding, Assessment]]] = {}
    for assessment in assessments:
        finding = leading(assessment)
        key = finding.reason, assessment.policy or "", finding.is_decided
        found.setdefault(key, []).append((finding, assessment))
    order = {reason: number for number, reason in enumerate(Reason)}
    return [_group(found[key]) for key in sorted(found, key=lambda key: (order[key[0]], *key[1:]))]


def told_apart(blocked: Iterable[Assessment]) -> tuple[list[ReasonGroup], list[ReasonGroup]]:
    """Return groups of blocked devices: those that need a person, and those that a person has decided."""
    groups = by_reason(blocked)
    return [group for group in groups if not group.is_decided], [group for group in groups if group.is_decided]


def size(groups: Iterable[ReasonGroup]) -> int:
    """Return devices in all of them."""
    return sum(len(group.devices) for group in groups)


def _group(members: list[tuple[Finding, Assessment]]) -> ReasonGroup:
    if members[0][0].reason is Reason.STRAGGLER:
        members = sorted(members, key=lambda member: -_hours_unseen(member[0]))
    finding, first = members[0]
    devices = tuple(assessment.device for _finding, assessment in members)
    names = tuple(_named(finding, assessment.device) for finding, assessment in members)
    return ReasonGroup(finding.reason, first.policy, finding, devices, names)


def _hours_unseen(finding: Finding) -> float:
    """Return the hours since the device was last seen; infinite if no connection is known."""
    hours = finding.values.get("hoursSinceSeen")
    return math.inf if hours is None else float(hours)


def _named(finding: Finding, device: str) -> str:
    if finding.reason is not Reason.STRAGGLER:
        return device
    hours = _hours_unseen(finding)
    if math.isinf(hours):
        return f"{device} (last connection not known)"
    return f"{device} (seen {words.duration(timedelta(hours=hours))} ago)"


DECIDED_TITLE = "Waived, suspended or quarantined"
TITLES = {
    Outcome.ROTATE: "To rotate",
    Outcome.WAITING: "Waiting",
    Outcome.BLOCKED: "Needs a person",
}
