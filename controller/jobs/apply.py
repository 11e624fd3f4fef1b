"""Carry out a plan: steps on jobs that exist, then one AWS IoT job per wave.

A run may die at any instruction and run again. Three rules make that harmless:

1. A job's id derives from what it does. CreateJob is the last call for a wave; a job that exists is
   compared and adopted, never made anew.
2. Everything before it (cohort group, its members) is brought to the wanted state, not appended to.
3. Nothing is remembered here: the next run reads what happened from the registry.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from controller.errors import FleetError
from controller.reconcile.values import JobStep, Plan, PlannedDevice, PlannedJob, RotationJob, TargetKind

from .admission import is_stopped, left_out
from .cohorts import MAX_TARGETS, cohort_of, sweep_cohorts
from .iot_jobs import IotJobs
from .ledger import Ledger, OvertakenError
from .requests import describe, job_request, tags_of

Progress = Callable[[str, int, int], None]
"""Receives the name of the phase, how many steps of it are done, and how many there are."""


class JobFate(StrEnum):
    """The end of a planned job."""

    CREATED = "created"
    ADOPTED = "adopted"  # an earlier run made it, and it is under way
    ENDED = "ended"  # an earlier run made it, and it has ended
    EMPTY = "empty"  # every device has changed since the plan: no job
    WITHDRAWN = "withdrawn"  # made, and cancelled at once: another job asks devices of it too


@dataclass(frozen=True, slots=True)
class AppliedJob:
    """A planned job and what became of it; ``skipped`` shows why devices were left out, by name."""

    job: PlannedJob
    fate: JobFate
    skipped: dict[str, str]

    @property
    def device_count(self) -> int:
        """Devices that rotate in this job."""
        is_asking = self.fate not in (JobFate.EMPTY, JobFate.WITHDRAWN)
        return len(self.job.devices) - len(self.skipped) if is_asking else 0


@dataclass(slots=True)
class ApplyResult:
    """The acts of one apply; filled as it goes on, so that a report has them however it ends."""

    jobs: list[AppliedJob] = field(default_factory=list)
    steps: list[JobStep] = field(default_factory=list)
    removed_cohorts: tuple[str, ...] = ()
    is_overtaken: bool = False  # another run made jobs, a window closed, or a job was stopped: it looks anew

    @property
    def created(self) -> tuple[AppliedJob, ...]:
        """Jobs that this run made."""
        return tuple(applied for applied in self.jobs if applied.fate is JobFate.CREATED)

    @property
    def begun(self) -> frozenset[str]:
        """Devices that this run started: in waves, or ahead of them; a straggler in a standing job is not counted."""
        asked = [one for one in self.jobs if one.fate is JobFate.CREATED or one.fate is JobFate.ADOPTED]
        started = {name for one in asked for name in one.job.early if name not in one.skipped}
        waves = [one for one in self.created if not one.job.is_standing]
        return frozenset(started.union(d.name for one in waves for d in one.job.devices if d.name not in one.skipped))

    @property
    def under_way(self) -> tuple[str, ...]:
        """Ids of the jobs that can be followed."""
        fates = (JobFate.CREATED, JobFate.ADOPTED)
        return tuple(applied.job.job_id for applied in self.jobs if applied.fate in fates)


def apply(
    plan: Plan,
    iot: IotJobs,
    now: datetime,
    progress: Progress | None = None,
    *,
    ledger: Ledger | None = None,
    result: ApplyResult | None = None,
    present: Callable[[], datetime] | None = None,
    seen: Iterable[RotationJob] = (),
) -> ApplyResult:
    """Do what the plan demands; the caller has checked refusals and overrides.

    ``ledger`` holds the record, and ``seen`` are the jobs, as the look found them that the plan is made from;
    ``result`` is filled step by step; ``now`` is when the plan was made, ``present`` returns the time just before each
    job is made (by default ``now``). Raises FleetError if AWS refuses, or a job of a planned id does something else.
    """
    tell = progress or (lambda _phase, _done, _total: None)
    ledger = ledger or Ledger.opened_now(iot)
    result = ApplyResult() if result is None else result
    withdrawn = {step.job_id for step in plan.steps}
    asking = [job for job in seen if job.job_id not in withdrawn]
    try:
        if plan.jobs or plan.steps or plan.resumed:
            ledger.claim(plan)
        for step in plan.steps:
            _take(step, iot)
            result.steps.append(step)
        for number, job in enumerate(plan.jobs):
            tell("making jobs", number, len(plan.jobs))
            _require_none_stopped(job, asking, iot)
            result.jobs.append(_apply_job(plan, job, iot, ledger, present or (lambda: now)))
            if result.jobs[-1].fate is JobFate.CREATED:
                result.jobs[-1] = _unless_asked_twice(result.jobs[-1], iot)
    except OvertakenError:
        result.is_overtaken = True
        return result
    tell("making jobs", len(plan.jobs), len(plan.jobs))
    result.is_overtaken = any(one.fate is JobFate.WITHDRAWN for one in result.jobs)
    result.removed_cohorts = sweep_cohorts(iot, now, frozenset(job.job_id for job in plan.jobs))
    ledger.close(plan)
    return result


def _take(step: JobStep, iot: IotJobs) -> None:
    if step.action == "cancel":
        iot.cancel_job(step.job_id, step.reason)
    elif step.action == "remove-cohort":
        iot.delete_group(step.job_id)
    else:
        raise FleetError(
            f"job {step.job_id}: the plan asks for {step.action!r}, which this version does not know",
            "apply with the version of certfleet that made the plan",
        )


def _apply_job(
    plan: Plan, job: PlannedJob, iot: IotJobs, ledger: Ledger, present: Callable[[], datetime]
) -> AppliedJob:
    existing = iot.job(job.job_id)
    if existing is not None and (existing.has_ended or not job.is_standing):
        _require_same(job, iot, existing.targets)
        return AppliedJob(job, JobFate.ENDED if existing.has_ended else JobFate.ADOPTED, {})
    # A device that a standing job holds already may be rotating at this moment: ask only the devices that are added.
    waiting = iot.group_members(job.job_id) if existing is not None else frozenset()
    newcomers = tuple(device for device in job.devices if device.name not in waiting)
    skipped = left_out(newcomers, job.job_id, iot, plan.attachments)
    things = _things(job, skipped)
    if not things:
        return AppliedJob(job, JobFate.EMPTY, skipped)
    starting = tuple(device for device in newcomers if device.name not in skipped)
    if existing is not None:
        ledger.claim(plan)  # who joins the group of a standing job is asked at once
        _require_open(job, starting, present())
    targets = _targets(plan, job, things, iot)
    if existing is None:
        ledger.claim(plan)
        _require_open(job, starting, present())
    if existing is None and iot.create_job(job_request(plan, job, targets)):
        return AppliedJob(job, JobFate.CREATED, skipped)
    _require_same(job, iot, targets)  # made by another run, a moment ago, or a standing job
    return AppliedJob(job, JobFate.ADOPTED, skipped)


def _require_none_stopped(job: PlannedJob, seen: Iterable[RotationJob], iot: IotJobs) -> None:
    """Raise OvertakenError if a job of the policy, ``seen`` open, has been stopped since: by failures, or by hand."""
    if is_stopped(job, seen, iot):
        raise OvertakenError


def _require_open(job: PlannedJob, starting: Sequence[PlannedDevice], present: datetime) -> None:
    """Raise OvertakenError if the window has closed since the look: a look may take longer than a window is open."""
    if job.closes is not None and job.closes <= present and not all(device.is_urgent for device in starting):
        raise OvertakenError


def _unless_asked_twice(made: AppliedJob, iot: IotJobs) -> AppliedJob:
    """Return the job that was just made, cancelled if another one was made in the same moment for devices of it.

    A run that makes a job looks before and after. Two runs that meet so may both cancel: then nobody rotates until
    the next look.
    """
    others = iot.in_flight(besides=made.job.job_id)
    twice = {
        name: f"it rotates in job {others[name]} as well" for name in _things(made.job, made.skipped) if name in others
    }
    if not twice:
        return made
    iot.cancel_job(made.job.job_id, "at the same moment another run made a job for some of its devices")
    return AppliedJob(made.job, JobFate.WITHDRAWN, made.skipped | twice)


def _things(job: PlannedJob, skipped: Mapping[str, str]) -> list[str]:
    """Return the things that the job asks: its devices but those in ``skipped``, and those already at work in it."""
    return [*(device.name for device in job.devices if device.name not in skipped), *job.stays]


def _targets(plan: Plan, job: PlannedJob, things: Sequence[str], iot: IotJobs) -> tuple[str, ...]:
    """Return ARNs that reach exactly ``things``; a group that holds anything else is never targeted."""
    group = job.target_group
    is_whole = len(things) == len(job.devices)
    if job.target_kind is TargetKind.GROUP and group and is_whole and iot.group_members(group) == frozenset(things):
        return (iot.group_arn(group),)
    if not job.is_standing and len(things) <= MAX_TARGETS:
        return tuple(iot.thing_arn(thing) for thing in sorted(things))
    return (cohort_of(iot, job.job_id, things, describe(plan, job), tags_of(job.policy, plan.commit)),)


def _require_same(job: PlannedJob, iot: IotJobs, targets: tuple[str, ...]) -> None:
    """Raise FleetError unless the job of this id does what is planned: same document, no foreign device.

    The commit may differ: a job made before an unrelated commit still does what is wanted.
    """
    found = json.loads(iot.job_document(job.job_id))
    allowed = {*map(iot.thing_arn, [*(device.name for device in job.devices), *job.stays]), iot.group_arn(job.job_id)}
    if job.target_group:
        allowed.add(iot.group_arn(job.target_group))
    if _without_commit(found) == _without_commit(job.document.to_wire()) and allowed.issuperset(targets):
        return
    raise FleetError(
        f"job {job.job_id} exists and does something else than planned: its document is {json.dumps(found)}, "
        f"planned {job.document.to_json()}; its targets are {', '.join(targets[:3])}",
        f"find out who made it; then cancel and delete it (aws iot delete-job --force --job-id {job.job_id})",
    )


def _without_commit(document: Mapping[str, object]) -> dict[str, object]:
    return {name: value for name, value in document.items() if name != "commit"}
