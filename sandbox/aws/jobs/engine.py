"""The state machine of jobs: rollout, execution, timeout, retry, abort, completion, group changes.

All methods run inside a transaction of the site. Executions end in one place (``finish``), from
which events, retries, abort and completion follow, in this order.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from typing import Any

from sandbox.aws.iot.groups import Groups
from sandbox.aws.iot.settings import EventConfigurations
from sandbox.aws.iot.things import Things
from sandbox.aws.site import Site, epoch_seconds, new_id

from .model import EXECUTED, ExecutionAttempt, Job

MINUTE = timedelta(minutes=1)
RETRY_NEWS = timedelta(seconds=1)
"""A retry is announced this much after the failure: a device that hears of it in the same instant is deaf to it."""
_GROUP_ARN = ":thinggroup/"


class JobEngine:
    """All jobs and executions, and what happens to them."""

    def __init__(self, site: Site, things: Things, groups: Groups, events: EventConfigurations) -> None:
        self.site = site
        self._things = things
        self._groups = groups
        self._events = events
        self.jobs: dict[str, Job] = {}
        self._of_thing: dict[str, dict[tuple[str, int], ExecutionAttempt]] = {}
        self._pending: dict[str, dict[tuple[str, int], ExecutionAttempt]] = {}
        self.on_nucleus_queued: list[Callable[[ExecutionAttempt], None]] = []
        self._announced: dict[str, tuple[str, int]] = {}  # the next execution that a thing was last told of
        groups.on_joined.append(self._joined)
        groups.on_left.append(self._left)
        things.on_deleted.append(self._thing_deleted)

    # -- reading

    def executions_of(self, thing: str) -> list[ExecutionAttempt]:
        """Return every execution of a thing, oldest first."""
        return list(self._of_thing.get(thing, {}).values())

    def pending_of(self, thing: str) -> list[ExecutionAttempt]:
        """Return those that can still change: in progress by start, then queued by queueing."""
        found = self._pending.get(thing, {}).values()
        return sorted(found, key=lambda e: (e.status != "IN_PROGRESS", e.started_at or e.queued_at, e.number))

    def next_of(self, thing: str) -> ExecutionAttempt | None:
        """Return what ``$next`` means now."""
        return next(iter(self.pending_of(thing)), None)

    def find(self, thing: str, job_id: str, number: int | None = None) -> ExecutionAttempt | None:
        """Return the latest execution of a thing in a job, or the one of this number."""
        if number is not None:
            return self._of_thing.get(thing, {}).get((job_id, number))
        return self.jobs[job_id].executions.get(thing) if job_id in self.jobs else None

    # -- the life of a job

    def add(self, job: Job, start: datetime | None, end: datetime | None) -> None:
        """Take a new job, start it now or when its time comes."""
        self.jobs[job.job_id] = job
        if start is None:
            self._start(job)
        else:
            job.status = "SCHEDULED"
            self.site.timers.at(start, lambda: self._start(job) if job.status == "SCHEDULED" else None)
        if end is not None:
            self.site.timers.at(end, lambda: self._end_time(job))

    def extend(self, job: Job, targets: list[str]) -> None:
        """Add targets to a continuous job."""
        job.targets += [t for t in targets if t not in job.targets]
        job.updated_at = self.site.now()
        self._reach(job, self._expand(targets))

    def cancel(self, job: Job, *, force: bool, reason_code: str | None = None, comment: str | None = None) -> None:
        """Cancel what is queued, and with ``force`` what is in progress too."""
        now = self.site.now()
        job.status, job.completed_at, job.updated_at = "CANCELED", now, now
        job.force_canceled, job.reason_code, job.comment = force, reason_code, comment
        job.waiting.clear()
        ending = ("QUEUED", "IN_PROGRESS") if force else ("QUEUED",)
        for execution in [e for e in job.executions.values() if e.status in ending]:
            execution.force_canceled = force and execution.status == "IN_PROGRESS"
            self.finish(execution, "CANCELED")
        self._job_event(job, "canceled")

    def delete(self, job: Job) -> None:
        """Remove a job with all its executions."""
        job.status = "DELETION_IN_PROGRESS"
        for thing in list(job.executions):
            for execution in [e for e in self.executions_of(thing) if e.job_id == job.job_id]:
                self.delete_execution(execution)
        del self.jobs[job.job_id]
        self._job_event(job, "deleted")

    def delete_execution(self, execution: ExecutionAttempt) -> None:
        """Remove one execution."""
        self.jobs[execution.job_id].drop(execution)
        del self._of_thing[execution.thing][execution.job_id, execution.number]
        was_pending = self._pending.get(execution.thing, {}).pop((execution.job_id, execution.number), None)
        self._execution_event(execution, "deleted")
        if was_pending:
            self._announce(execution.thing)

    def complete_if_done(self, job: Job) -> None:
        """Complete a snapshot job once every execution has ended."""
        if job.status == "IN_PROGRESS" and job.selection == "SNAPSHOT" and not job.waiting:
            if job.count("QUEUED", "IN_PROGRESS"):
                return
            now = self.site.now()
            job.status, job.completed_at, job.updated_at = "COMPLETED", now, now
            self._job_event(job, "completed")

    # -- the life of an execution

    def start_execution(self, execution: ExecutionAttempt) -> None:
        """QUEUED → IN_PROGRESS; the job's timer begins."""
        execution.started_at = self.site.now()
        self.jobs[execution.job_id].move(execution, "IN_PROGRESS")
        minutes = self.jobs[execution.job_id].configuration.get("timeoutConfig", {}).get("inProgressTimeoutInMinutes")
        if minutes:
            execution.timeout_at = execution.started_at + minutes * MINUTE
            self._time_out_at(execution, execution.timeout_at)

    def set_step_timer(self, execution: ExecutionAttempt, minutes: int) -> None:
        """Set the device's own timer for its current step; -1 ends it."""
        execution.step_timeout_at = None if minutes == -1 else self.site.now() + minutes * MINUTE
        if execution.step_timeout_at:
            self._time_out_at(execution, execution.step_timeout_at)

    def finish(self, execution: ExecutionAttempt, status: str) -> None:
        """End an execution: event, retry, abort, completion, and news to the thing."""
        job = self.jobs[execution.job_id]
        execution.updated_at = self.site.now()
        execution.version += 1
        execution.timeout_at = execution.step_timeout_at = None
        job.move(execution, status)
        self._pending.get(execution.thing, {}).pop((execution.job_id, execution.number), None)
        self._execution_event(execution, status.lower())
        retried = False
        if job.status == "IN_PROGRESS":
            retried = status in ("FAILED", "TIMED_OUT") and execution.retry_attempt < job.retries_allowed(status)
            if retried:
                self._enqueue(job, execution.thing, execution.retry_attempt + 1)
            self._abort_if_demanded(job)
            self.complete_if_done(job)
        if retried:
            self.site.timers.at(execution.updated_at + RETRY_NEWS, lambda: self._tell(job, execution.thing))
        elif not job.for_nucleus:
            self._announce(execution.thing)

    def touch(self, execution: ExecutionAttempt) -> None:
        """Count a change that did not end the execution."""
        execution.updated_at = self.site.now()
        execution.version += 1

    # -- rollout

    def _start(self, job: Job) -> None:
        job.status = "IN_PROGRESS"
        self._reach(job, self._expand(job.targets))
        self.complete_if_done(job)

    def _end_time(self, job: Job) -> None:
        if job.is_active:
            behavior = (job.scheduling or {}).get("endBehavior", "STOP_ROLLOUT")
            if behavior == "STOP_ROLLOUT":
                job.waiting.clear()
                self.complete_if_done(job)
            else:
                self.cancel(job, force=behavior == "FORCE_CANCEL", reason_code="SCHEDULED_END_TIME_REACHED")

    def _expand(self, targets: list[str]) -> Iterator[str]:
        for target in targets:
            head, is_group, group = target.partition(_GROUP_ARN)
            yield from self._groups.members(group) if is_group else [head.rpartition(":thing/")[2]]

    def _reach(self, job: Job, things: Iterator[str]) -> None:
        """Put things into the rollout that are not in it."""
        waiting = set(job.waiting)
        for thing in dict.fromkeys(things):
            latest = job.executions.get(thing)
            if thing not in waiting and (latest is None or not latest.is_pending):
                job.waiting.append(thing)
        self._roll_out(job)

    def _roll_out(self, job: Job) -> None:
        if not job.waiting or job.status != "IN_PROGRESS":
            return
        now = self.site.now()
        if job.window_started_at is None or now >= job.window_started_at + MINUTE:
            job.window_started_at, job.window_left = now, job.rate_per_minute()
        while job.waiting and job.window_left > 0:
            job.window_left -= 1
            job.notified += 1
            self._queue(job, job.waiting.popleft())
        if job.waiting:
            self.site.timers.at(job.window_started_at + MINUTE, lambda: self._roll_out(job))

    def _queue(self, job: Job, thing: str) -> None:
        self._enqueue(job, thing)
        self._tell(job, thing)

    def _enqueue(self, job: Job, thing: str, retry_attempt: int = 0) -> None:
        now = self.site.now()
        latest = job.executions.get(thing)
        execution = ExecutionAttempt(job.job_id, thing, latest.number + 1 if latest else 1, now, now,
                              retry_attempt=retry_attempt)  # fmt: skip
        job.put(execution)
        key = (job.job_id, execution.number)
        self._of_thing.setdefault(thing, {})[key] = execution
        if not job.for_nucleus:
            self._pending.setdefault(thing, {})[key] = execution

    def _tell(self, job: Job, thing: str) -> None:
        """Let whoever carries the job's executions out know that one was queued."""
        if not job.for_nucleus:
            self._announce(thing)
        elif (execution := job.executions.get(thing)) is not None:
            for listener in self.on_nucleus_queued:
                listener(execution)

    # -- what ends executions and jobs from outside

    def _time_out_at(self, execution: ExecutionAttempt, instant: datetime) -> None:
        def due() -> None:
            deadline = execution.deadline()
            known = self.find(execution.thing, execution.job_id, execution.number) is execution
            if known and execution.status == "IN_PROGRESS" and deadline is not None and deadline <= instant:
                self.finish(execution, "TIMED_OUT")

        self.site.timers.at(instant, due)

    def _abort_if_demanded(self, job: Job) -> None:
        executed = job.count(*EXECUTED)
        for criterion in job.configuration.get("abortConfig", {}).get("criteriaList", []):
            kind = criterion["failureType"]
            failed = job.count(*(("FAILED", "REJECTED", "TIMED_OUT") if kind == "ALL" else (kind,)))
            enough = executed >= criterion["minNumberOfExecutedThings"]
            if enough and failed and failed * 100 >= criterion["thresholdPercentage"] * executed:
                self.cancel(job, force=False, reason_code=f"{kind}_THRESHOLD_REACHED",
                            comment=f"{failed} of {executed} executed things ended {kind}")  # fmt: skip
                return

    def _covers(self, job: Job, thing: str, without: str | None = None) -> bool:
        """Return whether a thing is among the job's targets, ignoring its membership in the group ``without``."""
        if self._things.arn(thing) in job.targets:
            return True
        groups = {g for own in self._groups.of_thing(thing) if own != without for g in self._groups.with_ancestors(own)}
        return any(self._groups.arn(group) in job.targets for group in groups)

    def _joined(self, thing: str, group: str) -> None:
        for job in [j for j in self.jobs.values() if j.selection == "CONTINUOUS" and j.status == "IN_PROGRESS"]:
            if self._covers(job, thing) and not self._covers(job, thing, without=group):
                self._reach(job, iter([thing]))

    def _left(self, thing: str, _group: str) -> None:
        self._remove_from_jobs(thing, [j for j in self.jobs.values() if j.is_active and not self._covers(j, thing)])

    def _thing_deleted(self, thing: str) -> None:
        self._remove_from_jobs(thing, [j for j in self.jobs.values() if j.is_active])

    def _remove_from_jobs(self, thing: str, jobs: list[Job]) -> None:
        for job in jobs:
            if thing in job.waiting:
                job.waiting.remove(thing)
            latest = job.executions.get(thing)
            if latest is not None and latest.status == "QUEUED":
                self.finish(latest, "REMOVED")
            self.complete_if_done(job)

    # -- news

    def _announce(self, thing: str) -> None:
        """Notify the thing that its list of pending executions changed, and, if so, that its next one did."""
        pending = self.pending_of(thing)
        now = epoch_seconds(self.site.now())
        listed: dict[str, list[dict[str, Any]]] = {}
        for execution in pending:
            listed.setdefault(execution.status, []).append(pending_summary(execution))
        self.site.publish(f"$aws/things/{thing}/jobs/notify", {"timestamp": now, "jobs": listed})
        key = (pending[0].job_id, pending[0].number) if pending else None
        if key != self._announced.get(thing):
            if key is None:
                del self._announced[thing]
            else:
                self._announced[thing] = key
            following = {"execution": self.describe(pending[0])} if pending else {}
            self.site.publish(f"$aws/things/{thing}/jobs/notify-next", {"timestamp": now, **following}, qos=1)

    def describe(self, execution: ExecutionAttempt, *, with_document: bool = True) -> dict[str, Any]:
        """Return an execution as the jobs data plane speaks of it over MQTT."""
        found: dict[str, Any] = {
            "jobId": execution.job_id,
            "thingName": execution.thing,
            "status": execution.status,
            **pending_summary(execution),
        }
        if execution.details:
            found["statusDetails"] = dict(execution.details)
        deadline = execution.deadline()
        if deadline is not None:
            found["approximateSecondsBeforeTimedOut"] = max(0, int((deadline - self.site.now()).total_seconds()))
        if with_document:
            found["jobDocument"] = json.loads(self.jobs[execution.job_id].document)
        return found

    def _execution_event(self, execution: ExecutionAttempt, operation: str) -> None:
        if self._events.enabled("JOB_EXECUTION"):
            event = self._event("JOB_EXECUTION", operation, execution.job_id)
            event |= {
                "thingArn": self._things.arn(execution.thing),
                "status": execution.status,
                "statusDetails": dict(execution.details),
            }
            self.site.publish(f"$aws/events/jobExecution/{execution.job_id}/{operation}", event)

    def _job_event(self, job: Job, operation: str) -> None:
        if self._events.enabled("JOB"):
            event = self._event("JOB", operation, job.job_id)
            event |= {
                "status": job.status,
                "targetSelection": job.selection,
                "targets": list(job.targets),
                "createdAt": epoch_seconds(job.created_at),
                "lastUpdatedAt": epoch_seconds(job.updated_at),
                "jobProcessDetails": job.process_details(),
            }
            if job.completed_at:
                event["completedAt"] = epoch_seconds(job.completed_at)
            self.site.publish(f"$aws/events/job/{job.job_id}/{operation}", event)

    def _event(self, kind: str, operation: str, job_id: str) -> dict[str, Any]:
        return {
            "eventType": kind,
            "eventId": new_id(),
            "timestamp": epoch_seconds(self.site.now()),
            "operation": operation,
            "jobId": job_id,
        }


def pending_summary(execution: ExecutionAttempt) -> dict[str, Any]:
    """Return one line of ``get`` and ``notify``."""
    found: dict[str, Any] = {
        "jobId": execution.job_id,
        "queuedAt": epoch_seconds(execution.queued_at),
        "lastUpdatedAt": epoch_seconds(execution.updated_at),
        "versionNumber": execution.version,
        "executionNumber": execution.number,
    }
    if execution.started_at:
        found["startedAt"] = epoch_seconds(execution.started_at)
    return found
