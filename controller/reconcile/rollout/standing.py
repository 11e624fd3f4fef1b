"""Stragglers: devices that were asked for long and never answered wait in their policy's standing job.

It is one continuous job on a cohort group. There they hold no wave, no soak and no slot, and rotate
when they come back. A device that is in sync leaves; the job ends when nobody waits, when the policy changes,
and while its windows are closed (AWS IoT would rotate a device whenever it connects).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from controller.reconcile.values import JobStep, count_text, kind_of, may_be_at_work, span_text
from protocol.messages import ExecutionStatus

from .history import open_executions

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from datetime import datetime

    from controller.reconcile.values import Assessment, Policy, RotationJob

    from .history import RolloutHistory

QUIET_AFTER = timedelta(hours=1)  # a job whose devices have all been silent for so long may give up its slot


@dataclass(frozen=True, slots=True)
class Standing:
    """One standing job from now on: whom it asks, and who is at work in it (``stays``)."""

    kind: str
    members: tuple[str, ...]
    stays: tuple[str, ...] = ()
    keeps: RotationJob | None = None  # the job that goes on; None: a new one


@dataclass(frozen=True, slots=True)
class Arrangement:
    """The standing jobs that have to be made or changed, and the steps before that."""

    jobs: tuple[Standing, ...] = ()
    steps: tuple[JobStep, ...] = ()


def silent_since(job: RotationJob) -> datetime | None:
    """Return since when all devices that the job still asks are silent; None while one works, or none is asked."""
    waiting = open_executions(job)
    if not waiting or any(e.status is ExecutionStatus.IN_PROGRESS for e in waiting.values()):
        return None
    return max(execution.queued_at for execution in waiting.values())


def closings(rollout: RolloutHistory, policy: Policy, now: datetime, *, wants_slot: bool) -> tuple[JobStep, ...]:
    """Return steps that end silent wave jobs: after stragglersAfter, the oldest sooner if its slot is wanted."""
    steps: list[JobStep] = []
    for job in rollout.open_jobs:
        since = silent_since(job)
        if since is None:
            continue
        waited = now - since
        is_wanted = wants_slot and not steps and waited >= QUIET_AFTER
        if waited >= policy.rollout.stragglers_after or is_wanted:
            number = len(open_executions(job))
            reason = (
                f"the last {count_text(number, 'device')} have not answered for {span_text(waited)}; "
                "they wait in the standing job"
            )
            steps.append(JobStep(job.job_id, "cancel", reason))
    return tuple(steps)


def arrange(rollout: RolloutHistory, newcomers: Iterable[str], devices: Mapping[str, Assessment]) -> Arrangement:
    """Return which devices and newcomers wait in which standing job: one, the oldest, for each kind of document.

    A job of a kind that nobody needs any more asks nobody; who is at work in a job stays until that has ended.
    """
    wanted: dict[str, set[str]] = {}
    for name in newcomers:
        wanted.setdefault(devices[name].kind, set()).add(name)
    by_kind: dict[str, RotationJob] = {}
    steps: list[JobStep] = []
    for job in rollout.standing:
        if by_kind.setdefault(kind_of(job.job_id), job) is not job:
            steps.append(JobStep(job.job_id, "cancel", "another standing job asks for the same"))
        for name in _waiting(job, devices):
            wanted.setdefault(devices[name].kind, set()).add(name)
    arranged = []
    for kind in sorted({*wanted, *by_kind}):
        one, step = _arrange(kind, by_kind.get(kind), wanted.get(kind, set()))
        arranged += [one] if one else []
        steps += [step] if step else []
    return Arrangement(tuple(arranged), tuple(steps))


def _arrange(kind: str, job: RotationJob | None, wanted: set[str]) -> tuple[Standing | None, JobStep | None]:
    """Return the standing job to make or change (None: no change), and the step that ends the present one, if any."""
    if job is None:
        return Standing(kind, tuple(sorted(wanted))), None
    asked = open_executions(job)
    working = frozenset(name for name, e in asked.items() if may_be_at_work(e.status))
    queued = frozenset(asked) - working
    joining = wanted - queued - working
    if joining & frozenset(job.executions):
        # It has done with them once already: members of the group that it would not ask again.
        step = JobStep(
            job.job_id, "cancel", "devices that have finished in it need it again; another job takes its place"
        )
        return Standing(kind, tuple(sorted(wanted - working))), step
    if not wanted and not working and job.executions:
        return None, JobStep(job.job_id, "cancel", "nobody waits in it any more")
    if joining or wanted - working != queued:
        return Standing(kind, tuple(sorted(wanted - working)), tuple(sorted(working)), job), None
    return None, None


def _waiting(job: RotationJob, devices: Mapping[str, Assessment]) -> Iterator[str]:
    """Yield the devices that are queued in the job and still need a rotation."""
    for name, execution in open_executions(job).items():
        is_queued = execution.status is ExecutionStatus.QUEUED
        if is_queued and name in devices and devices[name].needs_rotation:
            yield name
