"""The view of one run, as one value: the source of every format.

A ``Tally`` makes it of devices and assessments as they pass; values alone stand here, which cost little to import.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import TYPE_CHECKING

from controller.errors import ExitCode
from controller.reconcile.values import (
    NO_OVERRIDES,
    Assessment,
    DesiredState,
    FleetState,
    Health,
    Outcome,
    Overrides,
    Plan,
    Policy,
    Reason,
    Source,
    Sync,
    place_of,
)

if TYPE_CHECKING:
    from controller.reconcile.outlook import Forecast

    from .trend import TrendRecord

AGE_BUCKET_DAYS = 30


@dataclass(frozen=True, slots=True)
class PolicyReport:
    """One policy's devices in numbers; every governed device is counted once in ``in_sync`` … ``blocked``."""

    policy: Policy
    governed: int
    in_sync: int
    rotate: int
    waiting: int
    blocked: int
    left_out: int  # of the blocked: those that a person has waived or suspended
    sync: Sync
    health: Health

    @property
    def needs_person(self) -> int:
        """Blocked devices that nobody has decided about yet."""
        return self.blocked - self.left_out


@dataclass(slots=True)
class AgeCounts:
    """One policy's devices by the age of their certificates, in buckets of AGE_BUCKET_DAYS."""

    devices: Counter[int] = field(default_factory=Counter)
    too_old: Counter[int] = field(default_factory=Counter)  # of these, above the policy's maxAge


@dataclass(frozen=True, slots=True)
class InventoryCounts:
    """Governed devices' active certificates, counted for the charts."""

    key_types: Mapping[str, int] = field(default_factory=dict)
    authorities: Mapping[str, int] = field(default_factory=dict)
    ages: Mapping[str, AgeCounts] = field(default_factory=dict)  # by policy


@dataclass(frozen=True)
class FleetReport:
    """One fleet at one moment. ``assessments`` are those with findings, in name order."""

    desired: DesiredState
    state: FleetState
    policies: tuple[PolicyReport, ...]
    assessments: tuple[Assessment, ...]
    governed: int
    in_sync: int
    outcomes: Mapping[Outcome, int]
    left_out: int  # of the blocked: those that a person has waived or suspended
    reasons: Mapping[Reason, int]  # devices with that reason
    inventory: InventoryCounts = InventoryCounts()
    plan: Plan | None = None
    expected: Plan | None = None  # the plan that apply would make now, where the report is of none: what holds it up
    overrides: Overrides = NO_OVERRIDES  # with which the plan was made
    forecast: Forecast | None = None  # where the command was asked for one
    quiet: tuple[tuple[str, str], ...] = ()  # devices without a finding and their policy, where a report names them all
    trend: tuple[TrendRecord, ...] = ()  # of past reports and this one, oldest first
    sites: Mapping[str, str] = field(default_factory=dict)  # by device, where the Fleet names their attribute

    @property
    def is_in_sync(self) -> bool:
        """Whether every governed device is as git demands."""
        return self.in_sync == self.governed

    @property
    def needs_person(self) -> int:
        """Blocked devices that nobody has decided about yet."""
        return self.outcomes.get(Outcome.BLOCKED, 0) - self.left_out

    @property
    def next_plan(self) -> Plan | None:
        """The report's own plan, else the one that apply would make now; None if nobody has planned."""
        return self.plan or self.expected

    @property
    def notices(self) -> tuple[str, ...]:
        """Sentences on facts that the plan was made without, and on documents that name nothing on this fleet."""
        return self.next_plan.notices if self.next_plan else ()

    @property
    def has_changes(self) -> bool:
        """Whether the plan would do anything."""
        return self.plan is not None and bool(self.plan.jobs or self.plan.steps)

    def of(self, outcome: Outcome) -> tuple[Assessment, ...]:
        """Return the assessments out of sync that have this outcome."""
        return tuple(self._by_outcome.get(outcome, ()))

    @cached_property
    def _by_outcome(self) -> dict[Outcome | None, list[Assessment]]:
        found: dict[Outcome | None, list[Assessment]] = {}
        for assessment in self.assessments:
            if assessment.sync is not Sync.IN_SYNC:
                found.setdefault(assessment.outcome, []).append(assessment)
        return found

    @property
    def coming(self) -> tuple[Assessment, ...]:
        """In sync, but with something to report: drift that is coming."""
        return tuple(assessment for assessment in self.assessments if assessment.sync is Sync.IN_SYNC)

    def where(self, assessment: Assessment) -> str | None:
        """Return ``path:line`` of the policy field that the first finding departs from; None if there is none."""
        if not assessment.findings:
            return None
        return place_of(self.desired, assessment.policy, assessment.findings[0])


@dataclass(frozen=True, slots=True)
class FleetFailure:
    """A fleet that could not be looked at; the others are reported all the same."""

    fleet: str
    message: str
    remedy: str | None
    exit_code: ExitCode
    source: Source  # the Fleet document


@dataclass(frozen=True, slots=True)
class Report:
    """All fleets of one run."""

    created_at: datetime
    fleets: tuple[FleetReport, ...]
    failures: tuple[FleetFailure, ...] = ()


def place(source: Source, policy_field: str) -> tuple[str, int]:
    """Return the file, from the repository's root as annotations want it, and the line of a policy field."""
    path, _, line = source.at(policy_field).rpartition(":")
    return path, int(line)
