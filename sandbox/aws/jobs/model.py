"""The values of jobs: a job, its executions, and how both count."""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.aws.paging import SortedNames

PENDING = ("QUEUED", "IN_PROGRESS")
TERMINAL = ("SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "REMOVED", "CANCELED")
EXECUTED = ("SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED")  # what abort percentages count
CONFIGURATION = (
    "description", "presignedUrlConfig", "jobExecutionsRolloutConfig", "abortConfig", "timeoutConfig",
    "jobExecutionsRetryConfig",
)  # fmt: skip
"""Members of CreateJob that a template can hold, UpdateJob can change and DescribeJob answers as they are."""


@dataclass(slots=True, eq=False)
class ExecutionAttempt:
    """One attempt of one thing at one job."""

    job_id: str
    thing: str
    number: int
    queued_at: datetime
    updated_at: datetime
    status: str = "QUEUED"
    retry_attempt: int = 0
    version: int = 1
    details: dict[str, str] = field(default_factory=dict)
    started_at: datetime | None = None
    timeout_at: datetime | None = None  # of the whole execution
    step_timeout_at: datetime | None = None  # set by the device
    force_canceled: bool = False

    @property
    def is_pending(self) -> bool:
        """Whether it can still change."""
        return self.status in PENDING

    def deadline(self) -> datetime | None:
        """Return when it times out, if nothing happens."""
        return min((d for d in (self.timeout_at, self.step_timeout_at) if d), default=None)

    def summary(self) -> dict[str, Any]:
        """``jobExecutionSummary`` of the control plane."""
        return {
            "status": self.status,
            "queuedAt": self.queued_at,
            "startedAt": self.started_at,
            "lastUpdatedAt": self.updated_at,
            "executionNumber": self.number,
            "retryAttempt": self.retry_attempt,
        }


@dataclass(slots=True, eq=False)
class Job:
    """One job. ``executions`` holds the latest of each thing; earlier attempts live with the thing only."""

    job_id: str
    arn: str
    targets: list[str]
    selection: str  # SNAPSHOT or CONTINUOUS
    document: str
    created_at: datetime
    updated_at: datetime
    configuration: dict[str, Any]
    template_arn: str | None = None
    scheduling: dict[str, Any] | None = None
    for_nucleus: bool = False  # a Greengrass deployment: in a namespace that job topics do not show
    status: str = "IN_PROGRESS"
    completed_at: datetime | None = None
    reason_code: str | None = None
    comment: str | None = None
    force_canceled: bool = False
    waiting: deque[str] = field(default_factory=deque)  # things that the rollout has not reached
    window_started_at: datetime | None = None  # the rollout's current minute
    window_left: float = 0  # things that may still be notified in it
    notified: int = 0
    executions: dict[str, ExecutionAttempt] = field(default_factory=dict)
    by_status: dict[str, SortedNames] = field(default_factory=dict)

    @property
    def is_active(self) -> bool:
        """Whether it still hands out executions."""
        return self.status in ("IN_PROGRESS", "SCHEDULED")

    def count(self, *statuses: str) -> int:
        """Return how many things have their latest execution in one of these statuses."""
        return sum(len(self.by_status.get(status, ())) for status in statuses)

    def put(self, execution: ExecutionAttempt) -> None:
        """Take an execution as its thing's latest."""
        old = self.executions.get(execution.thing)
        if old is not None:
            self.by_status[old.status].discard(old.thing)
        self.executions[execution.thing] = execution
        self.by_status.setdefault(execution.status, SortedNames()).add(execution.thing)

    def drop(self, execution: ExecutionAttempt) -> None:
        """Forget an execution that is deleted."""
        if self.executions.get(execution.thing) is execution:
            self.by_status[execution.status].discard(execution.thing)
            del self.executions[execution.thing]

    def move(self, execution: ExecutionAttempt, status: str) -> None:
        """Change the status of an execution, and the counts with it."""
        if self.executions.get(execution.thing) is execution:
            self.by_status[execution.status].discard(execution.thing)
            self.by_status.setdefault(status, SortedNames()).add(execution.thing)
        execution.status = status

    def process_details(self) -> dict[str, Any]:
        """``jobProcessDetails``."""
        names = {
            "numberOfCanceledThings": "CANCELED", "numberOfSucceededThings": "SUCCEEDED",
            "numberOfFailedThings": "FAILED", "numberOfRejectedThings": "REJECTED", "numberOfQueuedThings": "QUEUED",
            "numberOfInProgressThings": "IN_PROGRESS", "numberOfRemovedThings": "REMOVED",
            "numberOfTimedOutThings": "TIMED_OUT",
        }  # fmt: skip
        return {name: self.count(status) for name, status in names.items()}

    def retries_allowed(self, status: str) -> int:
        """Return how often an execution that ended so is tried again."""
        criteria = self.configuration.get("jobExecutionsRetryConfig", {}).get("criteriaList", [])
        return max((int(c["numberOfRetries"]) for c in criteria if c["failureType"] in (status, "ALL")), default=0)

    def rate_per_minute(self) -> float:
        """Return how many things the rollout may notify in a minute now; infinite without a configuration."""
        rollout = self.configuration.get("jobExecutionsRolloutConfig", {})
        ceiling = float(rollout.get("maximumPerMinute", "inf"))
        exponential = rollout.get("exponentialRate")
        if not exponential:
            return ceiling
        criteria = exponential["rateIncreaseCriteria"]
        notified, succeeded = criteria.get("numberOfNotifiedThings"), criteria.get("numberOfSucceededThings")
        steps = self.notified // notified if notified else self.count("SUCCEEDED") // succeeded if succeeded else 0
        grown: float = exponential["baseRatePerMinute"] * exponential["incrementFactor"] ** min(steps, 100)
        return min(int(grown), ceiling)
