"""Ask devices by an AWS IoT job what their rotation would fail on."""

from __future__ import annotations

from datetime import datetime

from controller.reconcile.planning import PlannedCheck

from .cohorts import MAX_TARGETS, cohort_of
from .iot_jobs import IotJobs
from .requests import check_request, tags_of


def ask(check: PlannedCheck, iot: IotJobs, commit: str | None, now: datetime) -> dict[str, str]:
    """Make the job, or leave the one of that id as it is; returns, by name, why devices in rotation are left out."""
    busy = iot.in_flight(besides=check.job_id)
    left = {name: f"it rotates in job {busy[name]}" for name in check.devices if name in busy}
    things = [name for name in check.devices if name not in busy]
    if things and iot.job(check.job_id) is None:
        request = check_request(check, commit, now)
        targets = [iot.thing_arn(name) for name in sorted(things)]
        if len(things) > MAX_TARGETS:
            targets = [cohort_of(iot, check.job_id, things, request["description"], tags_of(check.policy, commit))]
        iot.create_job({**request, "targets": targets})
    return left
