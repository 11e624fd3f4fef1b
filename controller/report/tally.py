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
        self._key_types: Counter[str] = Counter()
        self._authorities: Counter[str] = Counter()
        self._ages: dict[str, AgeCounts] = {}
        self._max_ages = {policy.name: policy.certificate.max_age for policy in desired.policies}
        self._passing: tuple[str, timedelta] | None = None  # the last device counted, and its certificate's age
        self._kept: list[Assessment] = []
        self._governed: Counter[str | None] = Counter()
        self._in_sync: Counter[str | None] = Counter()
        self._health: dict[str | None, set[Health]] = {}

    def devices(self, devices: Iterable[Device]) -> Iterator[Device]:
        """Count devices on their way to the checks."""
        for device in devices:
            for attachment in device.attachments:
                certificate = attachment.certificate
                if certificate.status is not CertificateStatus.ACTIVE:
                    continue
                self._key_types[certificate.key_type or "unparseable"] += 1
                self._authorities[certificate.authority or "unknown"] += 1
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
        self._governed[policy] += 1
        if assessment.sync is Sync.IN_SYNC:
            self._in_sync[policy] += 1
        self._health.setdefault(policy, set()).add(assessment.health)
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
        drifted = [(found.policy, found.outcome) for found in kept if found.sync is not Sync.IN_SYNC]
        outcomes = Counter(outcome for _policy, outcome in drifted if outcome is not None)
        by_policy = Counter(drifted)
        blocked = (found for found in kept if found.outcome is Outcome.BLOCKED and found.sync is not Sync.IN_SYNC)
        left_out = Counter(found.policy for found in blocked if leading(found).is_decided)
        return FleetReport(
            desired=self._desired,
            state=state,
            policies=tuple(self._policy(policy, by_policy, left_out[policy.name]) for policy in self._desired.policies),
            assessments=tuple(kept),
            governed=self._governed.total(),
            in_sync=self._in_sync.total(),
            outcomes=outcomes,
            left_out=left_out.total(),
            reasons=Counter(reason for found in kept for reason in {finding.reason for finding in found.findings}),
            inventory=InventoryCounts(self._key_types, self._authorities, self._ages),
            plan=plan,
            expected=expected,
            quiet=tuple(self._quiet or ()),
        )

    def _policy(
        self, policy: Policy, outcomes: Counter[tuple[str | None, Outcome | None]], left_out: int
    ) -> PolicyReport:
        name = policy.name
        governed, in_sync = self._governed[name], self._in_sync[name]
        healths = self._health.get(name, {Health.HEALTHY})
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
