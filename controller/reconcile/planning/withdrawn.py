"""Open jobs that ask what nobody is to be asked any more are cancelled; devices that need a rotation are asked anew."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.reconcile.rollout import open_executions
from controller.reconcile.values import JobStep, Outcome, Reason, kind_of, parse_job_id
from protocol.messages import ExecutionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Iterable

    from controller.reconcile.rollout import RolloutHistory
    from controller.reconcile.values import Assessment, RotationJob

    from .tally import PolicyTally


def asking(rollout: RolloutHistory) -> list[RotationJob]:
    """Return the open jobs of which a device is still to answer: AWS IoT may ask it, or ask it again if it fails."""
    return [job for job in (*rollout.open_jobs, *rollout.standing) if open_executions(job)]


def cancel(jobs: Iterable[RotationJob], reason: str) -> list[JobStep]:
    """Return the steps that end these jobs for this reason."""
    return [JobStep(job.job_id, "cancel", reason) for job in jobs]


def withdraw(rollout: RolloutHistory, tally: PolicyTally, *, is_open_now: bool) -> tuple[RolloutHistory, list[JobStep]]:
    """End the jobs that ask wrongly, each for the first reason that holds; one is that no window ``is_open_now``."""
    reasons: list[tuple[str, Callable[[RotationJob], bool]]] = [
        (
            "a device that it asks is no longer this policy's; the others are asked anew",
            lambda j: _asks_other(j, tally),
        ),
        ("it asks for something else than its devices need now", lambda job: _asks_otherwise(job, tally)),
        (
            "a waiver leaves out a device that it asks; the others are asked anew",
            lambda j: _asks(j, tally, Reason.WAIVED),
        ),
        (
            "a device that it asks is in quarantine; the others are asked anew",
            lambda j: _asks(j, tally, Reason.QUARANTINED),
        ),
        ("a device that it asks needs no rotation any more; others are asked anew", lambda job: _asks_idly(job, tally)),
        ("no maintenance window is open", lambda job: not is_open_now and not _asks_urgent(job, tally)),
    ]
    steps: list[JobStep] = []
    for reason, is_wrong in reasons:
        wrong = [job for job in asking(rollout) if is_wrong(job)]
        steps += cancel(wrong, reason)
        rollout = _without(rollout, wrong)
    return rollout, steps


def _queued(job: RotationJob) -> list[str]:
    return [name for name, e in open_executions(job).items() if e.status is ExecutionStatus.QUEUED]


def _is_standing(job: RotationJob) -> bool:
    parsed = parse_job_id(job.job_id)
    return parsed is not None and parsed.wave is None


def _known(names: Iterable[str], tally: PolicyTally) -> list[Assessment]:
    return [tally.members[name] for name in names if name in tally.members]


def _asks_urgent(job: RotationJob, tally: PolicyTally) -> bool:
    return any(a.timing is not None and a.timing.is_urgent for a in _known(open_executions(job), tally))


def _asks_other(job: RotationJob, tally: PolicyTally) -> bool:
    """Return whether another policy, several or none govern a device that has not begun; a standing job lets it go."""
    return not _is_standing(job) and any(name not in tally.members for name in _queued(job))


def _asks(job: RotationJob, tally: PolicyTally, reason: Reason) -> bool:
    """Return whether the job asks a device that is left out for this reason, and that has not begun."""
    return any(finding.reason is reason for a in _known(_queued(job), tally) for finding in a.findings)


def _asks_idly(job: RotationJob, tally: PolicyTally) -> bool:
    """Return whether nothing is demanded any more of a device that has not begun: an incident or a drill is over.

    A standing job goes on: such a device alone is taken out of it.
    """
    return not _is_standing(job) and any(
        all(finding.outcome is Outcome.WAITING for finding in a.findings) for a in _known(_queued(job), tally)
    )


def _asks_otherwise(job: RotationJob, tally: PolicyTally) -> bool:
    """Return whether a device that is queued in the job needs a job of another kind: it holds something else by now."""
    return any(a.result is not None and a.result.kind != kind_of(job.job_id) for a in _known(_queued(job), tally))


def _without(rollout: RolloutHistory, jobs: Collection[RotationJob]) -> RolloutHistory:
    """Return the rollout once these jobs are cancelled: their history stays, they ask nobody any more."""
    gone = {job.job_id for job in jobs}
    standing = tuple(job for job in rollout.standing if job.job_id not in gone)
    open_jobs = tuple(job for job in rollout.open_jobs if job.job_id not in gone)
    return replace(rollout, open_jobs=open_jobs, standing=standing, ended=rollout.ended | gone)
