"""A report of one fleet in the making: devices and assessments, counted as they pass.

Kept are the counts of all and the assessments of those that have something to report; a fleet in sync costs no memory.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from datetime import datetime, timedelta

from controller.reconcile.planning import settle
from controller.reconcile.values import (
    Assessment,
    CertificateStatus,
    DesiredState,
    Device,
    FleetState,
    Health,
    Outcome,
    Plan,
    Policy,
    Sync,
)

from .groups import leading
from .model import AGE_BUCKET_DAYS, AgeCounts, FleetReport, InventoryCounts, PolicyReport


class Tally:
    """Counts devices and assessments as they pass; ``finish`` makes the report."""

    def __init__(self, desired: DesiredState, now: datetime, *, names_all: bool = False) -> None:
        """Count under ``desired``; ``names_all`` keeps the names of devices without a finding, too, for the page."""
        self._desired, self._now = desired, now
        self._quiet: list[tuple[str, str]] | None = [] if names_all else None
        self._held: Counter[tuple[str | None, str | None]] = Counter()  # active certificates, by key type and authority
        self._ages: dict[str, AgeCounts] = {}
        self._max_ages = {policy.name: policy.certificate.max_age for policy in desired.policies}
        self._passing: tuple[str, timedelta] | None = None  # the last device counted, and its certificate's age
        self._kept: list[Assessment] = []
        self._verdicts: Counter[tuple[str | None, Sync, Health]] = Counter()  # all devices, by policy

    def devices(self, devices: Iterable[Device]) -> Iterator[Device]:
        """Count devices on their way to the checks."""
        for device in devices:
            for attachment in device.attachments:
                certificate = attachment.certificate
                if certificate.status is not CertificateStatus.ACTIVE:
                    continue
                self._held[certificate.key_type, certificate.authority] += 1
                if certificate.not_before is not None:
                    self._passing = device.name, self._now - certificate.not_before
            yield device

    def assessments(self, assessments: Iterable[Assessment]) -> Iterator[Assessment]:
        """Count assessments on their way to the planner."""
        for assessment in assessments:
            self.add(assessment)
            yield assessment

    def add(self, assessment: Assessment) -> None:
        """Count one assessment."""
        policy = assessment.policy
        self._verdicts[policy, assessment.sync, assessment.health] += 1
        if assessment.findings:
            self._kept.append(assessment)
        elif self._quiet is not None:
            self._quiet.append((assessment.device, policy or ""))
        if policy is not None and self._passing is not None and self._passing[0] == assessment.device:
            self._count_age(policy, self._passing[1])

    def _count_age(self, policy: str, age: timedelta) -> None:
        counts = self._ages.get(policy)
        if counts is None:
            counts = self._ages[policy] = AgeCounts()
        bucket = max(0, age.days // AGE_BUCKET_DAYS)
        counts.devices[bucket] += 1
        max_age = self._max_ages[policy]
        if max_age is not None and age > max_age:
            counts.too_old[bucket] += 1

    def finish(self, state: FleetState, plan: Plan | None = None, *, expected: Plan | None = None) -> FleetReport:
        """Return the report of everything that passed; what the plan's waves hold back is waiting, not to rotate.

        A report of no plan (``plan`` is None) is counted by the ``expected`` one, which apply would make now: the same
        state has the same numbers in every report.
        """
        counted = plan or expected
        kept = sorted(self._kept if counted is None else settle(self._kept, counted), key=lambda found: found.device)
        drifted = [(found, found.outcome) for found in kept if found.sync is not Sync.IN_SYNC]
        by_policy = Counter((found.policy, outcome) for found, outcome in drifted)
        outcomes = Counter(outcome for _found, outcome in drifted if outcome is not None)
        blocked = (found for found, outcome in drifted if outcome is Outcome.BLOCKED)
        left_out = Counter(found.policy for found in blocked if leading(found).is_decided)
        key_types: Counter[str] = Counter()
        authorities: Counter[str] = Counter()
        for (key_type, authority), number in self._held.items():
            key_types[key_type or "unparseable"] += number
            authorities[authority or "unknown"] += number
        return FleetReport(
            desired=self._desired,
            state=state,
            policies=tuple(self._policy(policy, by_policy, left_out[policy.name]) for policy in self._desired.policies),
            assessments=tuple(kept),
            governed=self._verdicts.total(),
            in_sync=sum(number for (_, sync, _), number in self._verdicts.items() if sync is Sync.IN_SYNC),
            outcomes=outcomes,
            left_out=left_out.total(),
            reasons=Counter(reason for found in kept for reason in {finding.reason for finding in found.findings}),
            inventory=InventoryCounts(key_types, authorities, self._ages),
            plan=plan,
            expected=expected,
            quiet=tuple(self._quiet or ()),
        )

    def _policy(
        self, policy: Policy, outcomes: Counter[tuple[str | None, Outcome | None]], left_out: int
    ) -> PolicyReport:
        name = policy.name
        own = {verdict[1:]: number for verdict, number in self._verdicts.items() if verdict[0] == name}
        governed = sum(own.values())
        in_sync = sum(number for (sync, _), number in own.items() if sync is Sync.IN_SYNC)
        healths = {health for _, health in own} or {Health.HEALTHY}
        worst = next(health for health in _WORST_FIRST if health in healths)
        return PolicyReport(
            policy,
            governed,
            in_sync,
            rotate=outcomes[name, Outcome.ROTATE],
            waiting=outcomes[name, Outcome.WAITING],
            blocked=outcomes[name, Outcome.BLOCKED],
            left_out=left_out,
            sync=Sync.IN_SYNC if in_sync == governed else Sync.OUT_OF_SYNC,
            health=worst,
        )


_WORST_FIRST = (Health.MISSING, Health.DEGRADED, Health.SUSPENDED, Health.PROGRESSING, Health.HEALTHY)
