"""A planned job as the parameters of CreateJob. Pure: the limits are those of AWS IoT's API reference."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from controller.reconcile.values import Plan, PlannedJob, Rollout

MANAGED_BY = "certfleet"
MAX_TARGETS = 100  # ARNs of one job
_MAX_DESCRIPTION = 2028


def job_request(plan: Plan, job: PlannedJob, targets: Sequence[str]) -> dict[str, Any]:
    """What CreateJob takes; ``targets`` are ARNs. Equal plans and targets give equal requests."""
    request: dict[str, Any] = {
        "jobId": job.job_id,
        "targets": list(targets),
        "document": job.document.to_json(),
        "description": describe(plan, job),
        "targetSelection": "CONTINUOUS" if job.is_standing else "SNAPSHOT",
        "jobExecutionsRolloutConfig": {"maximumPerMinute": job.rollout.maximum_per_minute},
        "timeoutConfig": {"inProgressTimeoutInMinutes": max(1, math.ceil(job.rollout.timeout.total_seconds() / 60))},
        "tags": [{"Key": key, "Value": value} for key, value in tags(plan, job).items()],
    }
    if job.rollout.retries:
        criteria = {"failureType": "ALL", "numberOfRetries": job.rollout.retries}
        request["jobExecutionsRetryConfig"] = {"criteriaList": [criteria]}
    request["abortConfig"] = {"criteriaList": _abort_criteria(job.rollout)}
    return request


def describe(plan: Plan, job: PlannedJob) -> str:
    """One line for whoever meets the job, or its cohort group, in the console."""
    part = "standing job" if job.is_standing else f"wave {job.wave}"
    commit = f", commit {plan.commit[:12]}" if plan.commit else ""
    count = len(job.devices)
    devices = f"{count} device{'' if count == 1 else 's'}"
    return f"{MANAGED_BY}: {job.policy}, {part}, {devices}, plan {plan.digest[:16]}{commit}"[:_MAX_DESCRIPTION]


def tags(plan: Plan, job: PlannedJob) -> dict[str, str]:
    """Tags of a job and of its cohort group."""
    values = {"managed-by": MANAGED_BY, "certfleet-policy": job.policy}
    if plan.commit:
        values["certfleet-commit"] = plan.commit
    return values


def _abort_criteria(rollout: Rollout) -> list[dict[str, Any]]:
    return [
        {
            "failureType": rule.failure_type.value,
            "action": "CANCEL",
            "thresholdPercentage": rule.threshold_percentage,
            "minNumberOfExecutedThings": rule.min_number_of_executed_things,
        }
        for rule in rollout.brakes
    ]
