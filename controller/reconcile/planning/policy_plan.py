"""The plan for one policy: which devices start now, in which job, and what becomes of the jobs there are."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from controller.reconcile.rollout import Ahead, arrange, closings, next_opening, open_executions, progress
from controller.reconcile.schedule import in_order
from controller.reconcile.values import (
    Halt,
    Mode,
    PlannedJob,
    Reason,
    TargetKind,
    WaveReport,
    WaveStatus,
    count_text,
    held_by,
    instant_text,
    job_id_for,
    local_text,
    transitions_of,
)
from protocol.job_document import JobDocument

from .tally import order_of, planned_device
from .withdrawn import asking, cancel, withdraw

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Mapping
    from datetime import datetime

    from controller.reconcile.checks import Governance, Governed
    from controller.reconcile.rollout import Opening, RolloutHistory, Standing
    from controller.reconcile.values import (
        Assessment,
        FleetState,
        HoldingChange,
        JobStep,
        PlannedDevice,
        Rollout,
        RotationJob,
    )

    from .tally import PolicyTally

MAX_THINGS = 100  # targets of one AWS IoT job
MAX_WAVE_JOBS = 2  # open wave jobs per policy; an account holds about a hundred active jobs


@dataclass(frozen=True, slots=True)
class _Situation:
    """One policy, what AWS remembers of its rollout, its devices, and the run they are looked at in."""

    governed: Governed
    rollout: RolloutHistory
    tally: PolicyTally
    governance: Governance


@dataclass(frozen=True, slots=True)
class PolicyPlan:
    """The acts under one policy."""

    report: WaveReport
    reached: int  # the highest wave that was started before
    jobs: tuple[PlannedJob, ...] = ()
    steps: tuple[JobStep, ...] = ()
    waiting: tuple[Assessment, ...] = ()  # candidates, in order, whether they start now or not
    ahead: Ahead | None = None  # from where the rollout stands before this plan; None: it never goes on
    late: int = 0  # of the waiting: who were asked for long and have not answered
    deadline: datetime | None = None  # the first of the urgent, by which soaks are shortened
    halt: Halt | None = None  # of the rollout, that is to be recorded


def plan_policy(
    governed: Governed,
    rollout: RolloutHistory,
    tally: PolicyTally,
    governance: Governance,
    permitted: Mapping[str, str] | None = None,
) -> PolicyPlan:
    """Plan one policy; guardrails are the caller's, and ``permitted`` is as in ``make_plan``."""
    policy, now, at = governed.policy, governance.now, _Situation(governed, rollout, tally, governance)
    steps = cancel(
        rollout.retired, "the policy's rollout has begun anew since: its certificate rule or its name is another"
    )
    resting = _resting(governed)
    if resting:
        steps += cancel(asking(rollout), resting)
        report = WaveReport(policy.name, rollout.reached, len(policy.rollout.waves), WaveStatus.IDLE, resting)
        opening = _opening(at, None)
        ahead = None if policy.mode is Mode.REPORT else _ahead(at, opening)
        return PolicyPlan(report, rollout.reached, steps=tuple(steps), ahead=ahead, halt=_halt(at, opening))
    rollout, withdrawn = withdraw(rollout, tally, is_open_now=governed.is_open_now)
    at = replace(at, rollout=rollout)
    steps += withdrawn
    candidates = sorted(tally.candidates, key=order_of)
    stragglers, fresh = _split(candidates, at)
    if permitted is not None:
        stragglers, fresh = (
            [a for a in some if permitted.get(a.device) == a.certificate_id] for some in (stragglers, fresh)
        )
    deadlines = [a.timing.deadline for a in fresh if a.timing and a.timing.is_urgent and a.timing.deadline]
    deadline = min(deadlines, default=None)
    opening = _opening(at, deadline)
    ahead, late, waiting = _ahead(at, opening), len(stragglers), tuple(candidates)
    if opening.status is WaveStatus.HALTED:
        steps += cancel(asking(rollout), "the rollout has halted: no device is asked until an operator has resumed it")
        report, halt = _report(at, opening, len(candidates)), _halt(at, opening)
        return PolicyPlan(report, rollout.reached, (), tuple(steps), waiting, ahead, late, halt=halt)
    wants_slot = bool(fresh) and len(rollout.open_jobs) >= MAX_WAVE_JOBS
    closed = closings(rollout, policy, now, wants_slot=wants_slot)
    steps += closed
    closing = {step.job_id for step in closed}
    open_jobs = [job for job in rollout.open_jobs if job.job_id not in closing]
    early, fresh = _early(fresh, opening, at)
    chosen, opening = _choose(fresh, opening, at, _wait(open_jobs, at), at.tally.rotating + len(early))
    jobs = _wave_jobs(chosen, opening, at, MAX_WAVE_JOBS - len(open_jobs))
    known = {a.device: a for a in early} | tally.members
    arranged = arrange(rollout, [*(a.device for a in (*stragglers, *early)), *_moved(at, closing)], known)
    steps += arranged.steps
    report = _report(at, opening, len(fresh), sum(len(job.devices) for job in jobs))
    ahead_of_wave = frozenset(a.device for a in early)
    jobs += tuple(_standing_job(standing, at, ahead_of_wave) for standing in arranged.jobs)
    return PolicyPlan(report, rollout.reached, jobs, tuple(steps), waiting, ahead, late + len(early), deadline)


def document_of(assessment: Assessment, policy: str, commit: str | None) -> JobDocument:
    """Return what a job of the policy asks of device and backend; a stock backend is sent exactly its own document."""
    return JobDocument() if assessment.result is None else assessment.result.document(policy, commit)


def target_of(
    job_id: str, devices: tuple[PlannedDevice, ...], governed: Governed, population: int, state: FleetState
) -> tuple[TargetKind, str | None]:
    """Return the group itself if the wave is all of it, up to a hundred things by name, else a cohort. None: no name.

    ``population`` is the number of devices that the policy governs: if it is not the group's size,
    another policy has a part of the group, and the group must not be targeted; nor for a drill, which asks nobody who
    joins the group meanwhile.
    """
    group = governed.policy.thing_group
    is_drill = any(Reason.DRILLED in device.reasons for device in devices)
    if not is_drill and len(devices) == population == state.group_sizes.get(group):
        return TargetKind.GROUP, group
    if len(devices) <= MAX_THINGS:
        return TargetKind.THINGS, None
    return TargetKind.COHORT, job_id


def _resting(governed: Governed) -> str | None:
    policy = governed.policy
    if policy.mode is Mode.REPORT:
        return "the policy's mode is report: nothing is rotated"
    if governed.is_suspended and policy.suspend is not None:
        return f"the policy is suspended: {policy.suspend.reason}"
    return None


def _split(candidates: list[Assessment], at: _Situation) -> tuple[list[Assessment], list[Assessment]]:
    """Return the stragglers, which were asked long ago and have not answered, and the others."""
    limit, now = at.governed.policy.rollout.stragglers_after, at.governance.now
    named = (a for a in candidates if a.device in at.tally.members)
    asked = at.rollout.first_asked({a.device: a.certificate.created_at for a in named if a.certificate})
    late = {name for name, since in asked.items() if now - since >= limit}
    return [a for a in candidates if a.device in late], [a for a in candidates if a.device not in late]


def _opening(at: _Situation, deadline: datetime | None) -> Opening:
    return next_opening(
        at.governed.policy,
        at.rollout,
        at.tally.governed,
        at.governance.now,
        at.tally.members,
        deadline=deadline,
        resumed=at.governance.resumed_at(at.governed.policy.name),
        halt=at.governance.halt_of(at.governed),
    )


def _halt(at: _Situation, opening: Opening) -> Halt | None:
    """Return the halt, as recorded if it is on record; None if the rollout has not halted."""
    if opening.status is not WaveStatus.HALTED:
        return None
    return at.governance.halt_of(at.governed) or Halt(at.governed.family, at.rollout.known_until(at.governance.now))


def _ahead(at: _Situation, opening: Opening) -> Ahead:
    return Ahead(at.governed.policy, at.governed.open_time, opening, at.tally.governed)


def _early(fresh: list[Assessment], opening: Opening, at: _Situation) -> tuple[list[Assessment], list[Assessment]]:
    """Return the devices to ask ahead of their wave, as they may expire before they are seen again, and the others.

    The first wave must be healthy: a change that nobody has tried yet is not tried on them. They count as in flight.
    """
    rollout = at.governed.policy.rollout
    is_tried = opening.wave > 1 or opening.ended is not None
    if not rollout.offline_first or not is_tried or opening.only is not None:
        return [], fresh
    room = max(0, rollout.max_in_flight - at.tally.rotating)
    ranked = {risk.device: n for n, risk in enumerate(in_order(at.tally.risks, {}, 0)) if risk.is_at_risk}
    early = sorted((a for a in fresh if a.device in ranked), key=lambda a: ranked[a.device])[:room]
    names = {a.device for a in early}
    return early, [a for a in fresh if a.device not in names]


def _choose(
    fresh: list[Assessment], opening: Opening, at: _Situation, wait: str | None, rotating: int
) -> tuple[list[Assessment], Opening]:
    """Return the devices that start now.

    The devices that the wave and the in-flight limit leave room for; ``wait`` shows why none may.
    """
    able = fresh
    if opening.only is not None:
        able = [a for a in able if a.device in opening.only]
    if opening.urgent_only:
        able = [a for a in able if a.timing is not None and a.timing.is_urgent]
    most = at.governed.policy.rollout.max_in_flight
    room, able = most - rotating, able[: opening.capacity]
    if not able:
        return [], opening
    if wait:
        return [], replace(opening, status=WaveStatus.RUNNING, message=f"{opening.message}; {wait}")
    if room < len(able):
        opening = replace(opening, message=f"{opening.message}; {rotating} of at most {most} in flight")
    return able[: max(0, room)], opening


def _wait(open_jobs: list[RotationJob], at: _Situation) -> str | None:
    """Return why no job may be made beside those that are open.

    AWS IoT holds each job to maximumPerMinute, not their sum.
    """
    if len(open_jobs) >= MAX_WAVE_JOBS:
        return f"{len(open_jobs)} jobs are under way, the next is made when one has ended"
    rate = at.governed.policy.rollout.maximum_per_minute
    ends = [job.created_at + timedelta(minutes=-(-len(job.executions) // rate)) for job in open_jobs]
    if ends and max(ends) > at.governance.now:
        return f"the job under way asks {rate} a minute, until {instant_text(max(ends))}"
    return None


def _wave_jobs(chosen: list[Assessment], opening: Opening, at: _Situation, slots: int) -> tuple[PlannedJob, ...]:
    """Return one job for each kind of document that the chosen devices need, as slots allow; they share the rate."""
    kinds: dict[str, list[Assessment]] = {}
    for assessment in chosen:
        kinds.setdefault(assessment.kind, []).append(assessment)
    groups = list(kinds.items())[:slots]
    total = sum(len(group) for _kind, group in groups)
    jobs = []
    whole = at.governed.policy.rollout
    for kind, group in groups:
        rollout = replace(whole, maximum_per_minute=max(1, whole.maximum_per_minute * len(group) // total))
        job = _wave_job(kind, group, opening, at, rollout)
        jobs += [job] if job else []
    return tuple(jobs)


def _wave_job(
    kind: str, group: list[Assessment], opening: Opening, at: _Situation, rollout: Rollout
) -> PlannedJob | None:
    policy, state = at.governed.policy, at.governance.state
    devices = tuple(planned_device(a) for a in group)
    head, now = at.governed.family + kind, at.governance.now
    job_id = job_id_for(policy.name, opening.wave, head, devices, ended=at.rollout.ended, now=now)
    if any(job.job_id == job_id for job in at.rollout.open_jobs):
        return None  # made a moment ago; AWS IoT has not listed its executions yet
    target_kind, target_group = target_of(job_id, devices, at.governed, at.tally.governed, state)
    return PlannedJob(
        job_id=job_id,
        policy=policy.name,
        wave=opening.wave,
        target_kind=target_kind,
        target_group=target_group,
        devices=devices,
        document=document_of(group[0], policy.name, at.governance.desired.commit),
        rollout=rollout,
        transitions=_transitions(group),
        closes=_closes(at.governed),
    )


def _transitions(group: Iterable[Assessment]) -> tuple[HoldingChange, ...]:
    return transitions_of(
        (held_by(a.certificate), a.result.holding if a.result else None) for a in group if a.certificate
    )


def _moved(at: _Situation, closing: Container[str]) -> list[str]:
    """Return devices of the jobs being closed that still need what the job was for."""
    names = {name for job in at.rollout.open_jobs if job.job_id in closing for name in open_executions(job)}
    return sorted(name for name in names & at.tally.members.keys() if at.tally.members[name].needs_rotation)


def _standing_job(standing: Standing, at: _Situation, early: frozenset[str]) -> PlannedJob:
    """Return all members, those that wait in it already included; one that goes on keeps its id and its document."""
    policy, rollout, keeps = at.governed.policy, at.rollout, standing.keeps
    candidates = {a.device: a for a in at.tally.candidates}
    members = [candidates.get(name) or at.tally.members[name] for name in standing.members]
    devices = tuple(planned_device(a) for a in members)
    ended = rollout.ended | {job.job_id for job in rollout.standing}
    head = at.governed.family + standing.kind
    job_id = job_id_for(policy.name, None, head, devices, ended=ended, now=at.governance.now)
    if keeps is not None:
        job_id = keeps.job_id
    return PlannedJob(
        job_id=job_id,
        policy=policy.name,
        wave=max(1, rollout.reached),
        target_kind=TargetKind.COHORT,
        target_group=job_id,
        devices=devices,
        document=document_of(members[0], policy.name, keeps.commit if keeps else at.governance.desired.commit),
        rollout=policy.rollout,
        is_standing=True,
        transitions=_transitions(members),
        stays=standing.stays,
        early=tuple(name for name in standing.members if name in early),
        closes=_closes(at.governed),
    )


def _closes(governed: Governed) -> datetime | None:
    """Return when the window closes that is open now; None if there are none, or only urgent devices start."""
    is_bounded = governed.is_open_now and not governed.open_time.is_always
    return governed.opens.end if governed.opens is not None and is_bounded else None


def _report(at: _Situation, opening: Opening, fresh: int, started: int = 0) -> WaveReport:
    policy, rollout, window = at.governed.policy, at.rollout, at.governed.opens
    resumed = at.governance.resumed_at(policy.name)
    done, failed = progress(rollout, policy, at.governance.now, at.tally.members, resumed)
    of, held = len(policy.rollout.waves), fresh - started
    if not fresh and not at.governed.is_open_now:
        message = "no maintenance window is open"
        if window:
            message += (
                f"; the next opens at {instant_text(window.start)}{local_text(window.start, policy.schedule.zones)}"
            )
        return WaveReport(policy.name, rollout.reached, of, WaveStatus.CLOSED, message, done=done, failed=failed)
    if not fresh and not rollout.open_jobs and opening.status is WaveStatus.OPEN:
        return WaveReport(policy.name, rollout.reached, of, WaveStatus.IDLE, "nothing waits to be rotated")
    waits = f"; {count_text(held, 'device')} {'waits' if held == 1 else 'wait'}" if held else ""
    message = opening.message + waits
    return WaveReport(
        policy.name, opening.wave, of, opening.status, message, opening.until, held, opening.remedy, done, failed
    )
