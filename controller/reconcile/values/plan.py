"""The plan: which devices rotate together, in which job, and why. Values only; ``planning`` makes them.

A plan is written as JSON with ``format_version``; its digest covers commit, policy and each
device's certificate id, so equal situations give equal plans and equal job ids. ``planning.plan_file`` builds
its reader from the annotations here: their types must be importable at run time.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum

from protocol.deployment import EXCLUSIVE
from protocol.job_document import JobDocument

from .absence import OfflineRisk
from .device import Halt
from .policy import Reason, Rollout
from .result import HoldingChange

FORMAT_VERSION = 2
VALID_FOR = timedelta(days=3)  # long enough for a reviewer's weekend


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
    attempt: int = 1  # one more than the failures that count against this certificate


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
    transitions: tuple[HoldingChange, ...] = ()  # what the devices hold, and will hold
    stays: tuple[str, ...] = ()  # of a standing job that goes on: who is at work in it, and must not be taken out
    early: tuple[str, ...] = ()  # of a standing job: who is asked ahead of its wave, from this plan on
    closes: datetime | None = None  # when the window does in which its devices may start, but for the urgent ones

    @property
    def starts(self) -> int:
        """How many devices it starts, as guardrails count them: stragglers are not among them."""
        return len(self.early) if self.is_standing else len(self.devices)


@dataclass(frozen=True, slots=True)
class Refusal:
    """A guardrail that forbids the plan: the numbers, and the exact override."""

    guardrail: str
    policy: str | None  # None: the fleet's
    message: str
    override: str


@dataclass(frozen=True, slots=True)
class JobStep:
    """An act on a job that already exists (cancel, close a wave, clean up its cohort)."""

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


class WaveStatus(StrEnum):
    """Where a policy's rollout stands; ``rollout.waves`` derives it from jobs and devices."""

    IDLE = "idle"  # nothing to rotate, nothing in flight
    OPEN = "open"  # this plan starts devices of the wave, or may
    RUNNING = "running"  # executions of the wave have not ended
    SOAKING = "soaking"  # all ended well; the soak has not passed
    UNHEALTHY = "unhealthy"  # the wave's devices do not show what the next wave needs; failed ones are retried
    HALTED = "halted"  # an abort threshold is exceeded: nothing starts until a person says so
    CLOSED = "closed"  # outside the policy's windows


@dataclass(frozen=True, slots=True)
class WaveReport:
    """One policy's rollout at planning time: a sentence with the numbers, and what to do if a person must act."""

    policy: str
    wave: int  # the wave reached, from 1; 0 before the first
    of: int
    status: WaveStatus
    message: str
    until: datetime | None = None  # end of the soak
    held: int = 0  # devices with drift that this plan does not start
    remedy: str | None = None
    done: int = (
        0  # devices that the rollout has rotated, over all its waves; of the last wave, those of its newest jobs
    )
    failed: int = 0  # likewise, and not rotated since


@dataclass(frozen=True, slots=True)
class Stage:
    """So many devices that rotate in one wave, from now on or later, if all goes well."""

    wave: int
    devices: int
    start: datetime
    end: datetime  # when the last of them has rotated
    asks: Refusal | None = None  # by which guardrail a run will be stopped then, until a person allows it


@dataclass(frozen=True, slots=True)
class Outlook:
    """The outlook for the devices of one policy that must rotate as things stand.

    One value for all that look ahead: the numbers of plan and preview, of forecast and explanation are its numbers.
    """

    policy: str
    devices: int = 0  # that must rotate; whom waves, closed windows and a suspension keep from it are among them
    stages: tuple[Stage, ...] = ()  # in order; they reach all the devices unless something stands in the way
    obstacle: str | None = None  # why nobody can tell when the rest rotates
    reached: int = 0  # the highest wave that this rollout ever started; 0: it begins with its first
    reported: int = 0  # devices that would have to rotate, and do not because the policy only reports
    offline: int = 0  # devices that were asked for long and have not answered: they rotate when they come back
    at_risk: tuple[OfflineRisk, ...] = ()  # who will expire before it is likely to be seen again: the first of them …
    more_at_risk: int = 0  # … and how many more
    away_unknown: int = 0  # devices that are away, of whom too little is known to tell when they come back

    @property
    def start(self) -> datetime | None:
        """When the first may begin; None if nobody does."""
        return self.stages[0].start if self.stages else None

    @property
    def finish(self) -> datetime | None:
        """When the last has rotated; None if that cannot be known, or nobody does."""
        return self.stages[-1].end if self.stages and self.obstacle is None else None

    @property
    def asks(self) -> tuple[Stage, ...]:
        """The stages at which a person will be asked."""
        return tuple(stage for stage in self.stages if stage.asks is not None)


@dataclass(frozen=True, slots=True)
class IncidentReport:
    """How far an incident is: counted over the devices that policies govern, or claim without agreeing."""

    incident: str
    deadline: datetime
    remaining: int  # governed devices still matching, accepted losses not counted
    blocked: int  # of the remaining: those that do not rotate unless a person acts
    accepted: int  # still matching, listed as accepted losses
    finish: datetime | None  # when the last can be rotated at the given rates; None if it cannot be told
    message: str

    @property
    def title(self) -> str:
        """The name of it in a report."""
        return f"incident {self.incident}"

    @property
    def is_finished(self) -> bool:
        """Whether no device of a policy matches but the accepted losses."""
        return self.remaining == 0

    @property
    def needs_person(self) -> bool:
        """Whether the deadline is missed, or will be, if nobody acts."""
        is_late = self.finish is None or self.finish > self.deadline
        return not self.is_finished and (is_late or self.blocked > 0)


@dataclass(frozen=True, slots=True)
class Estimate:
    """How long all devices of a policy take, from the decision to the last that is there, by what a drill measured."""

    devices: int
    about: timedelta
    least: timedelta
    most: timedelta
    assumptions: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DrillReport:
    """The result of a drill. Each device that its document names is counted once, in ``rotated`` … ``left``."""

    drill: str
    policy: str
    since: datetime
    deadline: datetime
    devices: int  # that the document names
    rotated: int  # since the decision; who was offline when it was asked is not among them
    returned: int  # rotated likewise, but offline when asked
    offline: int  # asked, and has not begun since
    blocked: int  # a person keeps them out, or must act
    remaining: int  # neither asked in vain nor done yet
    replaced: int  # hold another certificate since, of which no rotation is known
    left: int  # that the policy does not govern any more
    message: str
    is_over: bool = False  # nobody is left to ask, or the deadline has passed
    failures: int = 0  # rotations that did not succeed
    asked_at: datetime | None = None  # the first of them
    rotated_at: datetime | None = None  # the last of ``rotated``
    returned_at: datetime | None = None  # the last of ``returned``
    durations: tuple[timedelta, ...] = ()  # of ``rotated``, from the begin to the end: least, middle, most
    estimate: Estimate | None = None  # of the whole policy, once it is over

    @property
    def title(self) -> str:
        """The name of it in a report."""
        return f"drill {self.drill}"

    @property
    def is_finished(self) -> bool:
        """Whether it has come to its end, so that nothing of it is to be waited for."""
        return self.is_over


@dataclass(frozen=True, slots=True)
class Plan:
    """The acts of the next ``apply``."""

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
    waves: tuple[WaveReport, ...] = ()
    outlooks: tuple[Outlook, ...] = ()  # by policy, in the order of ``policies``
    incidents: tuple[IncidentReport, ...] = ()
    drills: tuple[DrillReport, ...] = ()
    notices: tuple[str, ...] = ()  # what the plan could not be made with, as sentences
    valid_until: datetime | None = None  # a plan file is good for nothing after that
    committed_at: datetime | None = None  # of the commit, or the moment of planning where its date is still to come
    resumed: tuple[str, ...] = ()  # policies whose rollout a person tries again with this plan
    halts: dict[str, Halt] = field(default_factory=dict)  # by policy: rollouts that have stopped, as apply records them
    attachments: tuple[str, ...] = (EXCLUSIVE,)  # the types of attachment from which the backend rotates

    @property
    def incidents_and_drills(self) -> tuple[IncidentReport | DrillReport, ...]:
        """Each has a title, a deadline and a sentence."""
        return (*self.incidents, *self.drills)
