"""Devices and AWS IoT Jobs on a virtual clock: what a simulation plans against in place of a registry.

It answers as AWS IoT does, in the same values: a job asks ``maximumPerMinute`` devices a minute, a failed
attempt is repeated as often as the policy's retries allow, a device that is away answers when it is back, cancelling a
job leaves what is in progress alone. Chance is derived from seed, device and attempt, never drawn in turn,
so one device's luck does not depend on any other.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, field, fields, replace
from datetime import UTC, datetime, timedelta
from itertools import takewhile
from operator import attrgetter
from typing import TYPE_CHECKING

from controller.reconcile.rollout import is_open, open_executions, successes_of
from controller.reconcile.schedule import dates_of, share_of
from controller.reconcile.values import LOOK_BACK, AttachmentType, Device, DeviceExecution, RotationJob
from protocol.messages import ExecutionStatus
from protocol.names import AWS_IOT_AUTHORITY

from .forecasting import successor

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from controller.reconcile.values import CertificateAuthority, JobStep, PlannedJob, Policy

RECENT = timedelta(days=7)  # what a standing job did before that tells nothing any more
LONGEST_ABSENCE = timedelta(days=3)  # who is away comes back after an even share of this
MINUTE = timedelta(minutes=1)
_LONG_AGO = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Luck:
    """How often attempts fail and devices are away, as shares from 0 to 1."""

    seed: int = 0
    failure_rate: float = 0.0
    offline_rate: float = 0.0
    takes: timedelta | None = None  # one attempt; None: as long as its time limit

    def fails(self, device: str, attempt: int) -> bool:
        """Return whether the device's attempt of that number fails."""
        return self.failure_rate > 0 and share_of(f"{self.seed}|{device}|fails|{attempt}") < self.failure_rate

    def absence(self, device: str, asked: int) -> timedelta:
        """Return how long the device is away when it is asked for the n-th time; nothing if it is there."""
        if not self.offline_rate or share_of(f"{self.seed}|{device}|away|{asked}") >= self.offline_rate:
            return timedelta(0)
        return LONGEST_ABSENCE * share_of(f"{self.seed}|{device}|back|{asked}")


NO_MISHAPS = Luck()

_NAMES = [field.name for field in fields(Device)]
_AT = _NAMES.index("executions")
_FIELDS_BEFORE, _FIELDS_AFTER = attrgetter(*_NAMES[:_AT]), attrgetter(*_NAMES[_AT + 1 :])


@dataclass(slots=True)
class Life:
    """One device through the span; ``device`` is how the registry shows it now."""

    device: Device
    attempts: int = 0
    tries: int = 0  # of the present execution
    asked: int = 0
    away_until: datetime = _LONG_AGO


@dataclass(slots=True)
class SimulationRecord:
    """The counts that a simulation keeps on its way."""

    counts: Counter[str] = field(default_factory=Counter)
    minutes: Counter[datetime] = field(default_factory=Counter)  # devices that waves ask, by the minute
    rotated: list[tuple[str, datetime]] = field(default_factory=list)
    most_open_jobs: int = 0
    most_in_flight: int = 0


class VirtualFleet:
    """The devices of one policy, and its jobs."""

    def __init__(
        self,
        policy: Policy,
        authorities: Mapping[str, CertificateAuthority],
        lives: dict[str, Life],
        luck: Luck,
        jobs: Iterable[RotationJob] = (),
    ) -> None:
        self.lives = lives
        self.jobs = {job.job_id: job for job in sorted(jobs, key=lambda job: job.created_at)}  # oldest first
        self.open_jobs: set[str] = set()
        self.record = SimulationRecord()
        self.successes = successes_of(self.jobs.values())  # the latest of each device
        self._policy, self._authorities, self._luck = policy, authorities, luck
        self._flight = max(MINUTE, policy.rollout.timeout) if luck.takes is None else luck.takes
        self._open: Counter[str] = Counter()  # executions that have not ended, by job
        self._events: list[tuple[datetime, str, str]] = []  # instant, job, device

    @property
    def next_event(self) -> datetime | None:
        """When a device starts or ends next."""
        while self._events and self._has_ended(*self._events[0][1:]):
            heapq.heappop(self._events)  # its job was cancelled meanwhile
        return self._events[0][0] if self._events else None

    def pass_until(self, now: datetime) -> set[str]:
        """Play all events up to that instant, it included; return the devices whose execution ended or began late."""
        changed = set()
        while self._events and self._events[0][0] <= now:
            when, job_id, name = heapq.heappop(self._events)
            if self._has_ended(job_id, name):
                continue
            execution = self.jobs[job_id].executions[name]
            if execution.status is ExecutionStatus.QUEUED:
                self._change(job_id, name, ExecutionStatus.IN_PROGRESS, when)
                if when - execution.queued_at >= self._policy.rollout.stragglers_after:
                    changed.add(name)
                self._expect(when + self._flight, job_id, name)
            elif self._attempt(job_id, name, when):
                changed.add(name)
        self._forget(now - LOOK_BACK)
        return changed

    def cancel(self, step: JobStep, now: datetime) -> set[str]:
        """Cancel what is QUEUED of a job; return the devices that the job does not ask any more."""
        job = self.jobs[step.job_id]
        queued = {n for n, execution in job.executions.items() if execution.status is ExecutionStatus.QUEUED}
        for name in queued:
            self._change(step.job_id, name, ExecutionStatus.CANCELED, now)
        self._end(step.job_id, "CANCELED", now)
        return queued

    def make(self, planned: PlannedJob, now: datetime) -> set[str]:
        """Make a job, or bring a standing job to the planned members; return all devices that this concerns."""
        job = self.jobs.get(planned.job_id)
        if job is None:
            self.record.counts["standing" if planned.is_standing else "jobs"] += 1
            job = RotationJob(
                planned.job_id, "IN_PROGRESS", now, planned.policy, is_continuous=planned.is_standing, executions={}
            )
            self.jobs[planned.job_id] = job
            self.open_jobs.add(planned.job_id)
            self.record.most_open_jobs = max(self.record.most_open_jobs, len(self.open_jobs))
        elif job.executions and next(iter(job.executions.values())).queued_at < now - 2 * RECENT:
            _forget_executions(job, now - RECENT)
        members = {device.name for device in planned.devices}
        waiting = open_executions(job)
        for name in waiting.keys() - members:
            self._change(planned.job_id, name, ExecutionStatus.REMOVED, now)
        newcomers = [device.name for device in planned.devices if device.name not in waiting]
        for number, name in enumerate(newcomers):
            self._ask(planned, name, now, now + number // planned.rollout.maximum_per_minute * MINUTE)
        self.record.most_in_flight = max(self.record.most_in_flight, self._in_flight(now))
        return {*newcomers, *(waiting.keys() - members)}

    def _end(self, job_id: str, status: str, when: datetime) -> None:
        self.jobs[job_id] = replace(self.jobs[job_id], status=status, completed_at=when)
        self.open_jobs.discard(job_id)

    def _forget(self, horizon: datetime) -> None:
        """Drop the jobs that ended before the horizon."""
        old = takewhile(lambda job: job.created_at < horizon, self.jobs.values())
        for job_id in [job.job_id for job in old if job.completed_at is not None and job.completed_at < horizon]:
            del self.jobs[job_id]
            del self._open[job_id]

    def _in_flight(self, now: datetime) -> int:
        """Return devices that wave jobs have asked and that have not answered, stragglers left out."""
        since = now - self._policy.rollout.stragglers_after
        jobs = [job for job in map(self.jobs.__getitem__, self.open_jobs) if not job.is_continuous]
        waiting = [execution for job in jobs for execution in open_executions(job).values()]
        return sum(e.status is ExecutionStatus.IN_PROGRESS or e.queued_at > since for e in waiting)

    def _has_ended(self, job_id: str, name: str) -> bool:
        job = self.jobs.get(job_id)
        return job is None or name not in job.executions or job.executions[name].status.is_terminal

    def _ask(self, planned: PlannedJob, name: str, now: datetime, told: datetime) -> None:
        life = self.lives[name]
        life.tries = 0
        self._open[planned.job_id] += 1
        execution = DeviceExecution(planned.job_id, ExecutionStatus.QUEUED, now, now)
        self.jobs[planned.job_id].executions[name] = execution
        life.device = _with_executions(life.device, (*life.device.executions, execution))
        if life.away_until <= now:
            life.asked += 1
            life.away_until = now + self._luck.absence(name, life.asked)
            self.record.counts["absences"] += life.away_until > now
        if planned.is_standing:
            self.record.counts["stragglers"] += 1
        else:
            self.record.minutes[told.replace(second=0, microsecond=0)] += 1
        self._expect(max(told, life.away_until), planned.job_id, name)

    def _expect(self, when: datetime, job_id: str, name: str) -> None:
        heapq.heappush(self._events, (when, job_id, name))

    def _attempt(self, job_id: str, name: str, when: datetime) -> bool:
        """End one attempt of a device; return whether the execution ends with it."""
        life = self.lives[name]
        life.attempts += 1
        life.tries += 1
        if not self._luck.fails(name, life.attempts):
            self.successes[name] = self._change(job_id, name, ExecutionStatus.SUCCEEDED, when)
            self._renew(life, when)
            return True
        self.record.counts["failures"] += 1
        if life.tries <= self._policy.rollout.retries:
            self._expect(when + self._flight, job_id, name)
            return False
        failed = self._change(job_id, name, ExecutionStatus.FAILED, when)
        life.device = replace(life.device, failures=(*life.device.failures, failed))
        return True

    def _renew(self, life: Life, when: datetime) -> None:
        """Give the device a new certificate, as its policy demands it."""
        device, rule = life.device, self._policy.certificate
        attachment = device.attachments[0]
        old = attachment.certificate
        dates = dates_of(self._policy, old)
        authority = rule.authority or old.authority or AWS_IOT_AUTHORITY
        new = successor(old, when, self._authorities.get(authority))
        key_type = rule.key_type.value if rule.key_type else old.key_type
        new = replace(new, key_type=key_type, authority=authority)
        held = replace(attachment, certificate=new, type=AttachmentType.EXCLUSIVE, shared_with=(), unnamed=0)
        life.device = replace(device, attachments=(held,), failures=(), last_seen=when)
        self.record.counts["misses"] += dates is not None and dates.due is not None and when > dates.due
        self.record.rotated.append((device.name, when))

    def _change(self, job_id: str, name: str, status: ExecutionStatus, when: datetime) -> DeviceExecution:
        """Move an execution on, in the job and at the device; a job whose last one has ended is completed."""
        job, life = self.jobs[job_id], self.lives[name]
        old = job.executions[name]
        started = when if status is ExecutionStatus.IN_PROGRESS else old.started_at
        execution = DeviceExecution(job_id, status, old.queued_at, when, started)
        job.executions[name] = execution
        others = tuple(one for one in life.device.executions if one.job_id != job_id)
        executions = others if status.is_terminal else (*others, execution)
        life.device = _with_executions(life.device, executions)
        self._open[job_id] -= status.is_terminal
        if not self._open[job_id] and is_open(job) and not job.is_continuous:
            self._end(job_id, "COMPLETED", when)
        return execution


def _with_executions(device: Device, executions: tuple[DeviceExecution, ...]) -> Device:
    """Return the device with these executions, in a third of the time of ``replace``: a year has a million of these."""
    return Device(*(*_FIELDS_BEFORE(device), executions, *_FIELDS_AFTER(device)))


def _forget_executions(job: RotationJob, horizon: datetime) -> None:
    """Drop what ended before the horizon of a job that goes on and on."""
    for name, execution in list(job.executions.items()):
        if execution.status.is_terminal and execution.last_updated_at < horizon:
            del job.executions[name]
