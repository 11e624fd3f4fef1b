"""The finds of a first look in each thing group: ages, lives, keys and issuers, and who could rotate today."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from controller.reconcile.values import Assessment, Certificate, Finding, Outcome, Reason


@dataclass(slots=True)
class Obstacle:
    """One reason why devices of a group cannot rotate; ``finding`` is that of ``example``, remedy included."""

    example: str
    finding: Finding
    devices: int = 0


@dataclass(slots=True)
class GroupSurvey:
    """The devices of one thing group in numbers. A device counts under its first obstacle."""

    group: str
    devices: int = 0
    able: int = 0  # could rotate today
    obstacles: dict[Reason, Obstacle] = field(default_factory=dict)
    key_types: Counter[str] = field(default_factory=Counter)
    authorities: Counter[str] = field(default_factory=Counter)  # names of authorities
    strangers: Counter[str] = field(default_factory=Counter)  # issuers (RFC 4514) that no known authority is
    ages: list[timedelta] = field(default_factory=list)
    lives_by: defaultdict[str | None, list[timedelta]] = field(default_factory=lambda: defaultdict(list))
    """notAfter − notBefore of each certificate, by authority; None: issued by no known one."""

    def add(self, assessment: Assessment, now: datetime) -> None:
        """Count one device, which was assessed as if it had to rotate now."""
        self.devices += 1
        obstacle = next((finding for finding in assessment.findings if finding.outcome is Outcome.BLOCKED), None)
        if obstacle is None:
            self.able += 1
        else:
            self.obstacles.setdefault(obstacle.reason, Obstacle(assessment.device, obstacle)).devices += 1
        if assessment.certificate is not None:
            self._describe(assessment.certificate, now)

    def _describe(self, certificate: Certificate, now: datetime) -> None:
        if certificate.key_type is not None:
            self.key_types[certificate.key_type] += 1
        if certificate.authority is not None:
            self.authorities[certificate.authority] += 1
        elif certificate.issuer is not None:
            self.strangers[certificate.issuer] += 1
        if certificate.not_before is not None and certificate.not_after is not None:
            self.ages.append(now - certificate.not_before)
            self.lives_by[certificate.authority].append(certificate.not_after - certificate.not_before)


def survey(assessments: Iterable[Assessment], groups: dict[str, str], now: datetime) -> tuple[GroupSurvey, ...]:
    """Count the devices of each group.

    Args:
        assessments: Of every governed device, under policies that demand a rotation of each.
        groups: The thing group of each policy, by the policy's name.
        now: The instant of the assessments.

    Returns:
        One survey a group, in the order of ``groups``. Devices that two groups of equal depth claim are in none.
    """
    found = {policy: GroupSurvey(group) for policy, group in groups.items()}
    for assessment in assessments:
        if assessment.policy is not None:
            found[assessment.policy].add(assessment, now)
    return tuple(found.values())
