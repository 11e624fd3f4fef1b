"""The plan: which devices rotate together, in which job, and why. Values only; ``planner`` makes them.

A plan is written as JSON with ``format_version``; its digest covers commit, policy and each
device's certificate id, so equal situations give equal plans and equal job ids.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from protocol.job_document import JobDocument

    from .finding import Reason
    from .policy import Rollout

FORMAT_VERSION = 1


class TargetKind(StrEnum):
    """How a job addresses its devices."""

    GROUP = "group"  # the policy's group itself: the wave is the whole group
    THINGS = "things"  # up to 100 thing ARNs
    COHORT = "cohort"  # a thing group made for the wave and removed after it


@dataclass(frozen=True, slots=True)
class PlannedDevice:
    """One device of a wave. ``certificate_id`` is the precondition that ``apply`` re-checks."""

    name: str
    certificate_id: str
    reasons: tuple[Reason, ...]
    due: datetime
    is_urgent: bool = False


@dataclass(frozen=True, slots=True)
class PlannedJob:
    """One wave: one AWS IoT job."""

    job_id: str
    policy: str
    wave: int  # from 1
    target_kind: TargetKind
    target_group: str | None  # the group, or the cohort's name; None for THINGS
    devices: tuple[PlannedDevice, ...]
    document: JobDocument
    rollout: Rollout
    is_standing: bool = False  # the policy's continuous job for stragglers


@dataclass(frozen=True, slots=True)
class Refusal:
    """A guardrail that forbids the plan: the numbers, and the exact override."""

    guardrail: str
    policy: str | None  # None: the fleet's
    message: str
    override: str


@dataclass(frozen=True, slots=True)
class JobStep:
    """What must happen to a job that already exists (cancel, close a wave, clean up its cohort)."""

    job_id: str
    action: str  # "cancel", "remove-cohort"
    reason: str


@dataclass(frozen=True, slots=True)
class PolicySummary:
    """Numbers of one policy in one plan."""

    policy: str
    governed: int
    in_sync: int
    rotating: int
    to_rotate: int
    waiting: int
    blocked: int


@dataclass(frozen=True, slots=True)
class Plan:
    """What ``apply`` will do."""

    fleet: str
    account: str
    region: str
    commit: str | None
    created_at: datetime
    jobs: tuple[PlannedJob, ...]
    steps: tuple[JobStep, ...]
    refusals: tuple[Refusal, ...]
    policies: tuple[PolicySummary, ...]
    digest: str
    group_sizes: dict[str, int]  # at planning time: apply refuses a group that changed too much
