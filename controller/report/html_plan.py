"""The acts of a plan, for the page: jobs, incidents, jobs to settle. Values only."""

from __future__ import annotations

from dataclasses import dataclass

from controller.reconcile.values import Plan, PlannedJob

from . import words
from .text import demand, target

JOBS_SHOWN = 100


@dataclass(frozen=True, slots=True)
class PlannedRow:
    """One job."""

    policy: str
    wave: str
    devices: str
    rate: str
    what: str


@dataclass(frozen=True, slots=True)
class PlanRemark:
    """One sentence about an incident or a job, and what it is about."""

    about: str
    message: str
    meaning: str = ""


@dataclass(frozen=True, slots=True)
class PlanView:
    """One fleet's plan; ``note`` is its summary."""

    note: str
    jobs: tuple[PlannedRow, ...]
    more: int  # jobs that are not shown
    told: tuple[PlanRemark, ...]


def plan_view(plan: Plan) -> PlanView:
    """Gather what the page shows of a plan."""
    total = sum(len(job.devices) for job in plan.jobs)
    rotate = words.count(total, "device rotates", "devices rotate")
    note = f"{rotate} in {words.count(len(plan.jobs), 'job')}" if plan.jobs else "no job is made"
    told = [
        PlanRemark(
            f"{each.title}, deadline {words.instant(each.deadline)}",
            each.message,
            "good" if each.is_finished else "bad",
        )
        for each in plan.incidents_and_drills
    ]
    told += [PlanRemark(f"{step.action} {step.job_id}", step.reason) for step in plan.steps]
    rows = tuple(_row(job) for job in plan.jobs[:JOBS_SHOWN])
    return PlanView(note, rows, len(plan.jobs) - len(rows), tuple(told))


def _row(job: PlannedJob) -> PlannedRow:
    return PlannedRow(
        job.policy,
        "standing" if job.is_standing else str(job.wave),
        f"{len(job.devices):,}",
        f"{job.rollout.maximum_per_minute:,}/min",
        f"{target(job)}; {demand(job)}",
    )
