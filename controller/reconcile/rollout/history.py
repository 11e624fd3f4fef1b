"""The history of one policy's rollout in AWS: its jobs, read as waves.

Nothing is stored by certfleet. Wave, family and policy stand in the job ids; who was asked, and how it
went, in the executions.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import TYPE_CHECKING

from controller.reconcile.values import FAILED, LOOK_BACK, parse_job_id
from protocol.errors import ProtocolError
from protocol.job_document import JobDocument, parse_job_document
from protocol.messages import ExecutionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Container, Iterable, Iterator, Mapping
    from datetime import datetime

    from controller.reconcile.values import Certificate, DeviceExecution, RotationJob

_OPEN_JOBS = frozenset({"IN_PROGRESS", "SCHEDULED"})


@dataclass(frozen=True, slots=True)
class RolloutHistory:
    """One policy's jobs: those of the present family by wave, its standing job, and what is left of older ones."""

    waves: dict[int, tuple[RotationJob, ...]]
    open_jobs: tuple[RotationJob, ...]  # of the waves: those that have not ended, oldest first
    standing: tuple[RotationJob, ...]  # open, of the present family, oldest first: one for each kind of document
    retired: tuple[RotationJob, ...]  # open, of an earlier family: the policy has changed since
    ended: frozenset[str]  # ids that may not be used again
    stood: tuple[RotationJob, ...] = ()  # standing jobs of the present family that have ended, oldest first
    past: RolloutHistory | None = None  # one of long ago, or of before another policy's: only its halt still matters

    @property
    def reached(self) -> int:
        """The highest wave that was ever started; 0 before the first."""
        return max(self.waves, default=0)

    @property
    def is_unknown(self) -> bool:
        """Whether no job of the policy is left, of this rollout or of one before."""
        return not (self.waves or self.standing or self.stood or self.retired or self.ended)

    def known_until(self, now: datetime) -> datetime:
        """Return until when AWS remembers every job of the rollout that has ended; open jobs it keeps for longer."""
        if self.past is not None:
            return self.past.known_until(now)
        jobs = (*(job for of_wave in self.waves.values() for job in of_wave), *self.stood)
        return min((_ended_at(job) for job in jobs if not is_open(job)), default=now) + LOOK_BACK

    def asked(self, job_id: str) -> JobDocument:
        """Return what a job of the rollout asks for; an empty document if the job's own was not read."""
        jobs = (*(job for of_wave in self.waves.values() for job in of_wave), *self.standing, *self.stood)
        return next((asked_by(job) for job in jobs if job.job_id == job_id), JobDocument())

    def members(self) -> frozenset[str]:
        """Return every device that a job of the present family names."""
        if self.past is not None:
            return self.past.members()
        jobs = [job for wave in self.waves.values() for job in wave]
        return frozenset(n for job in (*jobs, *self.standing, *self.stood) for n in job.executions)

    def outcomes(
        self, wave: int, since: datetime | None = None, resumed: datetime | None = None
    ) -> dict[str, DeviceExecution]:
        """Return the last word on each device of the wave: its latest ended execution, in wave or standing job.

        A device that was asked and has not answered yet is here with what it is doing. A standing job counts after
        its end too: a halt ends it, and what halted the rollout may stand there alone. ``since`` leaves out wave jobs
        that were made before, and standing jobs that had ended by then; a failure until ``resumed``, at which a person
        has looked, gives way to whatever the device was asked since. An answer of a device that was asked ahead of
        its wave counts with the wave that was reached; such a device does not hold it.
        """
        latest: dict[str, DeviceExecution] = {}
        for job in self.waves.get(wave, ()):
            if since is not None and job.created_at < since:
                continue
            for name, execution in job.executions.items():
                latest[name] = _later(latest.get(name), execution, resumed)
        ahead = self._ahead_of_waves(since) if wave == self.reached else frozenset()
        recent = (job for job in self.stood if since is None or (job.completed_at or job.created_at) >= since)
        for job in (*recent, *self.standing):
            for name, execution in job.executions.items():
                if name in latest or (name in ahead and has_answer(execution)):
                    latest[name] = _later(latest.get(name), execution, resumed)
        return latest

    def _ahead_of_waves(self, since: datetime | None) -> frozenset[str]:
        """Return the devices that a standing job asked before any wave did, and that have answered ``since``."""
        of_waves = {name for jobs in self.waves.values() for job in jobs for name in job.executions}
        return frozenset(
            name
            for job in (*self.stood, *self.standing)
            for name, execution in job.executions.items()
            if name not in of_waves and (since is None or execution.last_updated_at >= since)
        )

    def first_asked(self, since: Mapping[str, datetime]) -> dict[str, datetime]:
        """Return since when each device has been asked without an answer, over all jobs of the present family.

        An answer is an execution that was started or failed, or a certificate that is newer:
        ``since`` has its creation by device, and only devices in it are looked at.
        """
        if not since:
            return {}
        jobs = [*(job for wave in self.waves.values() for job in wave), *self.standing]
        jobs = [job for job in jobs if not since.keys().isdisjoint(job.executions.keys())]
        told = [(n, e) for job in jobs for n, e in job.executions.items() if n in since]
        answered = dict(since)
        for name, execution in told:
            if execution.started_at is not None or execution.status in FAILED:
                answered[name] = max(answered[name], execution.queued_at)
        asked: dict[str, datetime] = {}
        for name, execution in told:
            if execution.queued_at > answered[name]:
                asked[name] = min(asked.get(name, execution.queued_at), execution.queued_at)
        return asked


def read_rollout(
    policy: str,
    family: str,
    jobs: Iterable[RotationJob],
    now: datetime,
    *,
    last: int | None = None,
    since: datetime | None = None,
) -> RolloutHistory:
    """Sort the fleet's jobs of one policy and family; long after its last job a rollout is past, and another begins.

    ``last`` is the policy's last wave: if it had more of them when a job was made, the job counts with the last.
    ``since`` is when a policy that is gone last asked one of its devices: what was before that is past too.
    """
    found = _sorted_for(policy, family, jobs, last, since)
    all_jobs = _all_jobs(found)
    if since is not None and not all_jobs:
        before = _sorted_for(policy, family, jobs, last)
        return replace(found, past=before) if _all_jobs(before) else found
    if not all_jobs or any(is_open(job) or now - _ended_at(job) <= LOOK_BACK for job in all_jobs):
        return found
    return RolloutHistory({}, (), (), found.retired, found.ended, past=found)


def asked_by_others(jobs: Iterable[RotationJob], policies: Container[str]) -> dict[str, datetime]:
    """Return when a policy that is gone last began to ask each device; those that are there are ``policies``."""
    asked: dict[str, datetime] = {}
    for job in jobs:
        parsed = parse_job_id(job.job_id)
        if parsed is not None and parsed.policy not in policies:
            for name in job.executions:
                asked[name] = max(asked.get(name, job.created_at), job.created_at)
    return asked


def _all_jobs(rollout: RolloutHistory) -> list[RotationJob]:
    return [*(job for of_wave in rollout.waves.values() for job in of_wave), *rollout.standing, *rollout.stood]


def _sorted_for(
    policy: str, family: str, jobs: Iterable[RotationJob], last: int | None, since: datetime | None = None
) -> RolloutHistory:
    waves: dict[int, list[RotationJob]] = {}
    standing: list[RotationJob] = []
    retired: list[RotationJob] = []
    ended: set[str] = set()
    own = [(job, id_) for job in sorted(jobs, key=_age) if (id_ := parse_job_id(job.job_id)) and id_.policy == policy]
    others = [job.created_at for job, id_ in own if not id_.digest.startswith(family)]
    # A rule that comes back, after another one, another name or a long time, starts anew: what was before says nothing
    # of the fleet as it is.
    between = [since] if since is not None else []
    anew = max([*others[-1:], *between, *_before_pauses([job for job, _ in own])], default=None)
    for job, parsed in own:
        if not is_open(job):
            ended.add(job.job_id)
        is_of_before = anew is not None and job.created_at <= anew
        if not parsed.digest.startswith(family) or is_of_before:
            if is_open(job):
                retired.append(job)
        elif parsed.wave is not None:
            waves.setdefault(min(parsed.wave, last or parsed.wave), []).append(job)
        else:
            standing.append(job)
    by_wave = {wave: tuple(of_wave) for wave, of_wave in waves.items()}
    open_jobs = tuple(job for of_wave in by_wave.values() for job in of_wave if is_open(job))
    asking = tuple(job for job in standing if is_open(job))
    stood = tuple(job for job in standing if not is_open(job))
    return RolloutHistory(by_wave, tuple(sorted(open_jobs, key=_age)), asking, tuple(retired), frozenset(ended), stood)


def asked_by(job: RotationJob) -> JobDocument:
    """Return what the job asks for; an empty document if it was not read, or cannot be."""
    try:
        return parse_job_document(json.loads(job.document or ""))
    except (ValueError, ProtocolError):
        return JobDocument()


def is_other_than(asked: JobDocument, found: Certificate) -> bool:
    """Return whether the certificate ``found`` is another one than was asked for."""
    is_other_key = asked.key_type is not None and found.key_type not in {None, asked.key_type.value}
    return is_other_key or asked.certificate_authority not in {None, found.authority}


def successes_of(jobs: Iterable[RotationJob]) -> dict[str, DeviceExecution]:
    """Return the latest successful execution of each device, in whatever rotation job."""
    return _latest_of(jobs, lambda execution: execution.status is ExecutionStatus.SUCCEEDED)


def broken_off_of(jobs: Iterable[RotationJob]) -> dict[str, DeviceExecution]:
    """Return the latest execution of each device that had begun when it was taken back, in whatever rotation job."""
    return _latest_of(jobs, _was_broken_off)


def _was_broken_off(execution: DeviceExecution) -> bool:
    is_taken_back = execution.status is ExecutionStatus.CANCELED or execution.status is ExecutionStatus.REMOVED
    return is_taken_back and (execution.started_at is not None or execution.first_queued_at is not None)


def _latest_of(jobs: Iterable[RotationJob], is_meant: Callable[[DeviceExecution], bool]) -> dict[str, DeviceExecution]:
    latest: dict[str, DeviceExecution] = {}
    for job in jobs:
        for name, execution in job.executions.items():
            if is_meant(execution):
                before = latest.get(name)
                if before is None or before.last_updated_at < execution.last_updated_at:
                    latest[name] = execution
    return latest


def is_open(job: RotationJob) -> bool:
    """Return whether the job may still ask devices."""
    return job.status in _OPEN_JOBS


def _ended_at(job: RotationJob) -> datetime:
    return job.completed_at or job.created_at


def _before_pauses(jobs: list[RotationJob]) -> Iterator[datetime]:
    """Yield when the last job before each long pause was made; the oldest of ``jobs`` come first."""
    ended: datetime | None = None
    for before, job in pairwise(jobs):
        if is_open(before):
            return
        ended = max(ended or _ended_at(before), _ended_at(before))
        if job.created_at - ended > LOOK_BACK:
            yield before.created_at


def open_executions(job: RotationJob) -> dict[str, DeviceExecution]:
    """Return the executions that have not ended, by device."""
    return {name: execution for name, execution in job.executions.items() if not execution.status.is_terminal}


def _later(one: DeviceExecution | None, other: DeviceExecution, resumed: datetime | None) -> DeviceExecution:
    """Return the one of two executions of a device that counts: one with an answer, else the later."""
    if one is None:
        return other

    def rank(execution: DeviceExecution) -> tuple[bool, datetime, datetime]:
        counts = has_answer(execution) and not execution.was_looked_at(resumed)
        return counts, execution.queued_at, execution.last_updated_at

    return max(one, other, key=rank)


def has_answer(execution: DeviceExecution) -> bool:
    """Return whether the device has reported what came of it."""
    return execution.status is ExecutionStatus.SUCCEEDED or execution.status in FAILED


def _age(job: RotationJob) -> tuple[datetime, str]:
    return job.created_at, job.job_id
