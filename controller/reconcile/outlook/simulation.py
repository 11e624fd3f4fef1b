"""Any span of fleet time on a virtual clock: the real core, run after run, over devices that fail and are away.

At every run of the loop devices are assessed and jobs planned by the functions that plan the real fleet,
so waves, soaks, windows, backoff, stragglers and abort thresholds are theirs; only the answers of devices
and of AWS IoT Jobs are made up (``virtual_fleet``). Left out is what cannot matter: a device is not looked
at again before its date, nor a run made in which nothing can have changed. Nobody is there to act: a rollout
that halts stays halted. Guardrails are counted and taken as allowed.

Policies do not touch each other's devices, so each is played on its own. Deterministic under a seed, in
any order of devices.
"""

from __future__ import annotations

import heapq
from collections import Counter
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING

from controller.reconcile.checks import Case, Governance, Governed, assess, last_rotation, left_alone_until
from controller.reconcile.planning import ChangeCount, PolicyTally, plan_policy, too_much_at_once
from controller.reconcile.rollout import asked_by_others, is_open, read_rollout
from controller.reconcile.schedule import dates_of, next_attempt_at, timing_of
from controller.reconcile.values import NO_OVERRIDES, Baseline, FleetState, Outcome, Reason, WaveStatus, parse_job_id

from .virtual_fleet import NO_MISHAPS, Life, Luck, VirtualFleet

if TYPE_CHECKING:
    from collections.abc import Iterable

    from controller.reconcile.planning import PolicyPlan
    from controller.reconcile.values import Assessment, DesiredState, Device, Policy, RotationJob

EVERY = timedelta(hours=1)  # between two runs of the loop
_DATED = frozenset({Reason.AGE_EXCEEDED, Reason.EXPIRING})
_OLD_AND_NEW = 2  # certificates of a device that rotates
_NEVER = datetime.max.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class Simulation:
    """The result."""

    rotations: int
    failures: int  # attempts
    absences: int  # times a device was away when it was asked
    misses: int  # rotations after due
    overdue: int  # devices past due at the end of the span
    given_up: int  # devices, after repeated failures
    blocked: int  # devices that a person must act on first, from the start
    jobs: int  # made for waves
    standing_jobs: int
    stragglers: int  # times a device came to wait in a standing job
    most_open_jobs: int  # of one policy at once
    refused: int  # runs that maxChangePercent would have stopped until a person allowed them
    halted: dict[str, datetime]  # policies that an abort threshold stopped, and when
    peak_per_day: int
    peak_day: date | None
    mean_per_day: float
    busiest_minute: dict[str, int]  # devices asked in the busiest minute, by policy
    seen_at: datetime  # when the fleet that it begins with was looked at


def simulate(
    devices: Iterable[Device],
    desired: DesiredState,
    state: FleetState,
    now: datetime,
    *,
    span: timedelta,
    luck: Luck = NO_MISHAPS,
    every: timedelta = EVERY,
) -> Simulation:
    """Play ``span`` of fleet time from ``now``, with a run of the loop ``every`` so often.

    Rollouts go on where their jobs have brought them; what is in flight is taken to have ended well.
    """
    governance = Governance(desired, state, now)
    lives: dict[str, dict[str, Life]] = {name: {} for name in governance.policies}
    tied = 0
    for device in devices:
        governed = governance.policy_of(device)
        if isinstance(governed, Governed):
            lives[governed.policy.name][device.name] = Life(_at_rest(device))
        elif governed is not None:
            tied += 1
    courses = [Course(governance.policies[name].policy, desired, state, of, luck) for name, of in lives.items()]
    for course in courses:
        course.play(now, now + span, every)
    return _sum(courses, tied, span, state.observed_at)


class Course:
    """One policy's way through the span."""

    def __init__(
        self, policy: Policy, desired: DesiredState, state: FleetState, lives: dict[str, Life], luck: Luck
    ) -> None:
        self.policy = policy
        jobs = [_ended(job) for job in state.jobs if (id_ := parse_job_id(job.job_id)) and id_.policy == policy.name]
        asked = asked_by_others(state.jobs, {other.name for other in desired.policies})
        self._since = max((asked[name] for name in asked.keys() & lives.keys()), default=None)
        self.fleet = VirtualFleet(policy, desired.authorities, dict(sorted(lives.items())), luck, jobs)
        self.halted: datetime | None = None  # since when
        self.refused = self.blocked = self.overdue = 0
        self.given_up: set[str] = set()
        self._desired, self._state = replace(desired, policies=(self.policy,)), replace(state, jobs=())
        self._to_assess = set(self.fleet.lives)
        self._live: dict[str, Assessment] = {}  # who rotates, or may and waits for a turn
        self._undated: set[str] = set()  # of them: who waits for another reason than age, and is due at every run anew
        self._known: dict[str, Assessment] = {}  # the last word on each device
        self._sleepers: list[tuple[datetime, str]] = []  # when each of the others is looked at again
        self._is_first = True
        self._end = _NEVER

    def play(self, start: datetime, end: datetime, every: timedelta) -> None:
        """Run the loop from start until just before the end, ``every`` so often."""
        self._end, now = end, start
        while now < end and not self._is_stuck():
            next_event = self.run(now)
            runs = max(1, -((now - next_event) // every)) if next_event < end else (end - now) // every + 1
            now += runs * every
        self.fleet.pass_until(end)
        self.overdue = sum(_is_overdue(life.device, self.policy, end) for life in self.fleet.lives.values())

    def run(self, now: datetime) -> datetime:
        """Play one run of the loop; return the first instant at which another may find something to do."""
        self._to_assess |= self.fleet.pass_until(now)
        while self._sleepers and self._sleepers[0][0] <= now:
            self._to_assess.add(heapq.heappop(self._sleepers)[1])
        governance = Governance(self._desired, replace(self._state, observed_at=now), now)
        governance.successes = self.fleet.successes
        governed = governance.policies[self.policy.name]
        if not governed.is_open_now:
            self._to_assess |= {name for name, a in self._live.items() if a.outcome is Outcome.ROTATE}
        self._assess(governance, governed)
        tally = PolicyTally(governed=len(self.fleet.lives), members=self._known)
        for assessment in self._live.values():
            tally.add(assessment)
        last, jobs = len(self.policy.rollout.waves), self.fleet.jobs.values()
        rollout = read_rollout(self.policy.name, governed.family, jobs, now, last=last, since=self._since)
        plan = plan_policy(governed, rollout, tally, governance)
        self._carry_out(plan, tally, now)
        halted = {self.policy.name: plan.halt} if plan.halt else {}
        self._state = replace(self._state, baseline=replace(self._state.baseline or Baseline({}), halted=halted))
        self._is_first = False
        self.halted = (self.halted or now) if plan.report.status is WaveStatus.HALTED else None
        return self._next(plan, now)

    def _is_stuck(self) -> bool:
        """Return whether the rollout has halted, and no answer is to come that could still change that."""
        return self.halted is not None and not self.fleet.open_jobs and self.fleet.next_event is None

    def _assess(self, governance: Governance, governed: Governed) -> None:
        """Assess the devices for which something may have changed; the others keep their assessments."""
        now = governance.now
        for name in self._undated - self._to_assess:
            before = self._live[name]
            timing = before.timing and before.timing._replace(due=now, target=now, start=now)
            self._live[name] = self._known[name] = before._replace(timing=timing)
        for name in self._to_assess:
            self._live.pop(name, None)
            self._undated.discard(name)
            device = self.fleet.lives[name].device
            assessment = assess(device, governance)
            assert assessment is not None  # noqa: S101 - it is among the policy's devices because the policy governs it
            self._known[name] = assessment
            for drill in governance.drills if name in governance.drilled else ():
                self._sleep(name, drill.deadline, now)
            if device.executions:
                self._live[name] = assessment
                self._sleep(name, device.executions[0].queued_at + self.policy.rollout.stragglers_after, now)
                self._sleep(name, _hurries_from(device, self.policy, now), now)
            elif assessment.outcome is Outcome.ROTATE:
                self._live[name] = assessment
                self._sleep(name, _hurries_from(device, self.policy, now), now)
                if _DATED.isdisjoint(finding.reason for finding in assessment.findings):
                    self._undated.add(name)
                    self._sleep(name, _next_look(device, governed, now), now)
            else:
                self._rest(assessment, device, governed, governance)
        self._to_assess = set()

    def _rest(self, assessment: Assessment, device: Device, governed: Governed, governance: Governance) -> None:
        """Put a device that neither rotates nor may rotate to sleep, until that can change."""
        now, name = governance.now, device.name
        reasons = {finding.reason for finding in assessment.findings}
        if assessment.outcome is Outcome.BLOCKED:
            self.blocked += self._is_first
            if Reason.REPEATEDLY_FAILED in reasons:
                self.given_up.add(name)
            self._sleep(name, min(governance.holds_end(name, governed), default=_NEVER), now)
        elif Reason.ROTATED_RECENTLY in reasons:
            case = Case(device, governed, governance)
            self._sleep(name, left_alone_until(case, last_rotation(case)) or _NEVER, now)
        elif Reason.BACKING_OFF in reasons:
            certificate = device.attachments[0].certificate
            counted = device.failures[-assessment.failures :]
            self._sleep(name, next_attempt_at(counted, self.policy.name, certificate.certificate_id), now)
        elif Reason.OUTSIDE_WINDOW in reasons:
            opens = governed.opens.start if governed.opens else _NEVER
            self._sleep(name, min(opens, _hurries_from(device, self.policy, now)), now)
        else:
            self._sleep(name, _next_look(device, governed, now), now)

    def _sleep(self, name: str, until: datetime, now: datetime) -> None:
        if now < until < self._end:
            heapq.heappush(self._sleepers, (until, name))

    def _carry_out(self, plan: PolicyPlan, tally: PolicyTally, now: datetime) -> None:
        """Do what ``apply`` does: first the steps, then the jobs."""
        starting = sum(job.starts for job in plan.jobs)
        change = ChangeCount(self.policy.name, tally.governed, starting, tally.rotating)
        self.refused += too_much_at_once(change, self._desired.fleet.guardrails, NO_OVERRIDES) is not None
        for step in plan.steps:
            self._to_assess |= self.fleet.cancel(step, now)
        for job in plan.jobs:
            self._to_assess |= self.fleet.make(job, now)

    def _next(self, plan: PolicyPlan, now: datetime) -> datetime:
        """Return the next run if jobs ask or devices wait in open time, else the instant of the next event."""
        if plan.jobs or plan.steps or self.fleet.open_jobs or self._live:
            return now
        events = [self.fleet.next_event or _NEVER, self._sleepers[0][0] if self._sleepers else _NEVER]
        return min(events)


def _at_rest(device: Device) -> Device:
    """Return the device once what is in flight has ended well.

    A device that has the old and the new certificate keeps the new one.
    """
    held = device.attachments
    if device.executions and len(held) == _OLD_AND_NEW:
        held = (max(held, key=lambda attachment: attachment.certificate.created_at),)
    return replace(device, executions=(), attachments=held)


def _ended(job: RotationJob) -> RotationJob:
    """Return a job as it will be remembered, with those of its executions that have ended."""
    executions = {name: execution for name, execution in job.executions.items() if execution.status.is_terminal}
    status = "CANCELED" if is_open(job) else job.status
    return replace(job, status=status, completed_at=job.completed_at or job.created_at, executions=executions)


def _hurries_from(device: Device, policy: Policy, now: datetime) -> datetime:
    """Return from when on a device that must rotate ignores windows: near its end, or past a cutoff that is to come."""
    dates = dates_of(policy, device.attachments[0].certificate)
    return min(_cutoff(policy, now), dates.urgent_from if dates else _NEVER)


def _next_look(device: Device, governed: Governed, now: datetime) -> datetime:
    """Return when a device in sync may call for a rotation at the earliest."""
    certificate, policy = device.attachments[0].certificate, governed.policy
    dates, look = dates_of(policy, certificate), _cutoff(policy, now)
    timing = timing_of(policy, certificate, dates, governed.open_time) if dates else None
    if dates is None or timing is None:
        return look
    return min(look, timing.start, timing.due, max(timing.target, dates.urgent_from))


def _cutoff(policy: Policy, now: datetime) -> datetime:
    """Return the policy's ``rotateIssuedBefore`` if it lies ahead, else an instant that never comes."""
    cutoff = policy.certificate.rotate_issued_before
    return cutoff if cutoff is not None and cutoff > now else _NEVER


def _is_overdue(device: Device, policy: Policy, now: datetime) -> bool:
    dates = dates_of(policy, device.attachments[0].certificate) if len(device.attachments) == 1 else None
    return dates is not None and dates.due is not None and dates.due < now


def _sum(courses: list[Course], tied: int, span: timedelta, seen_at: datetime) -> Simulation:
    records = [course.fleet.record for course in courses]
    counts: Counter[str] = Counter()
    days: Counter[date] = Counter()
    for record in records:
        counts.update(record.counts)
        days.update(when.date() for _device, when in record.rotated)
    peak = max(days.values(), default=0)
    return Simulation(
        rotations=days.total(),
        failures=counts["failures"],
        absences=counts["absences"],
        misses=counts["misses"],
        overdue=sum(course.overdue for course in courses),
        given_up=sum(len(course.given_up) for course in courses),
        blocked=tied + sum(course.blocked for course in courses),
        jobs=counts["jobs"],
        standing_jobs=counts["standing"],
        stragglers=counts["stragglers"],
        most_open_jobs=max((record.most_open_jobs for record in records), default=0),
        refused=sum(course.refused for course in courses),
        halted={course.policy.name: course.halted for course in courses if course.halted is not None},
        peak_per_day=peak,
        peak_day=min((day for day, number in days.items() if number == peak), default=None),
        mean_per_day=days.total() / max(1, span // timedelta(days=1)),
        seen_at=seen_at,
        busiest_minute={course.policy.name: max(course.fleet.record.minutes.values(), default=0) for course in courses},
    )
