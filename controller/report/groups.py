"""Assessments that say the same, told once: what makes a report of ten thousand devices readable."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from controller.reconcile.finding import Assessment, Finding, Outcome, Reason


@dataclass(frozen=True, slots=True)
class Group:
    """Devices of one policy that share their leading reason; ``finding`` is the first device's."""

    reason: Reason
    policy: str | None
    finding: Finding
    devices: tuple[str, ...]


def leading(assessment: Assessment) -> Finding:
    """The finding that decides the outcome: the first of the assessment's outcome."""
    decisive = assessment.outcome
    return next(finding for finding in assessment.findings if finding.outcome is decisive)


def by_reason(assessments: Iterable[Assessment]) -> list[Group]:
    """Group by reason and policy; reasons in the order of the enum, policies by name."""
    found: dict[tuple[Reason, str], tuple[Finding, str | None, list[str]]] = {}
    for assessment in assessments:
        finding = leading(assessment)
        key = (finding.reason, assessment.policy or "")
        found.setdefault(key, (finding, assessment.policy, []))[2].append(assessment.device)
    order = {reason: number for number, reason in enumerate(Reason)}
    return [
        Group(reason, policy, finding, tuple(devices))
        for (reason, _), (finding, policy, devices) in sorted(found.items(), key=lambda i: (order[i[0][0]], i[0][1]))
    ]


TITLES = {
    Outcome.ROTATE: "To rotate",
    Outcome.WAITING: "Waiting",
    Outcome.BLOCKED: "Needs a person",
}
