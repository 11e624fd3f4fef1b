"""A planned job as the parameters of CreateJob. Pure: the limits are those of AWS IoT's API reference."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from controller.reconcile.planning import PlannedCheck
from controller.reconcile.values import Plan, PlannedJob, Rollout, count_text, instant_text

MANAGED_BY = "certfleet"
_MAX_DESCRIPTION = 2028


def job_request(plan: Plan, job: PlannedJob, targets: Sequence[str]) -> dict[str, Any]:
    """Return what CreateJob takes; ``targets`` are ARNs. Equal plans and targets give equal requests."""
    request: dict[str, Any] = {
        "jobId": job.job_id,
        "targets": list(targets),
        "document": job.document.to_json(),
        "description": describe(plan, job),
        "targetSelection": "CONTINUOUS" if job.is_standing else "SNAPSHOT",
        "jobExecutionsRolloutConfig": {"maximumPerMinute": job.rollout.maximum_per_minute},
        "timeoutConfig": {"inProgressTimeoutInMinutes": max(1, math.ceil(job.rollout.timeout.total_seconds() / 60))},
        "tags": _listed(tags_of(job.policy, plan.commit)),
    }
    if job.rollout.retries:
        criteria = {"failureType": "ALL", "numberOfRetries": job.rollout.retries}
        request["jobExecutionsRetryConfig"] = {"criteriaList": [criteria]}
    request["abortConfig"] = {"criteriaList": _abort_criteria(job.rollout)}
    return request


def check_request(check: PlannedCheck, commit: str | None, now: datetime) -> dict[str, Any]:
    """Return what CreateJob takes for a pre-flight, without its targets.

    The job has an end time, at which AWS IoT ends it even if no run comes any more.
    """
    return {
        "jobId": check.job_id,
        "document": check.document.to_json(),
        "description": f"{MANAGED_BY}: {check.policy}, pre-flight, {count_text(len(check.devices), 'device')}",
        "targetSelection": "SNAPSHOT",
        "jobExecutionsRolloutConfig": {"maximumPerMinute": check.maximum_per_minute},
        "schedulingConfig": {"endTime": instant_text(now + check.lasts), "endBehavior": "FORCE_CANCEL"},
        "tags": _listed(tags_of(check.policy, commit)),
    }


def describe(plan: Plan, job: PlannedJob) -> str:
    """Return one line for a person who finds the job, or its cohort group, in the console."""
    part = "standing job" if job.is_standing else f"wave {job.wave}"
    commit = f", commit {plan.commit[:12]}" if plan.commit else ""
    devices = count_text(len(job.devices), "device")
    return f"{MANAGED_BY}: {job.policy}, {part}, {devices}, plan {plan.digest[:16]}{commit}"[:_MAX_DESCRIPTION]


def tags_of(policy: str, commit: str | None) -> dict[str, str]:
    """Return the tags, of a policy and a commit, for a job and its cohort group."""
    return {"managed-by": MANAGED_BY, "certfleet-policy": policy, **({"certfleet-commit": commit} if commit else {})}


def _listed(tags: Mapping[str, str]) -> list[dict[str, str]]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


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
