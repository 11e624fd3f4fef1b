"""Stragglers: devices that were asked for long and never answered wait in their policy's standing job.

It is one continuous job on a cohort group. There they hold no wave, no soak and no slot, and rotate
when they come back. Who is in sync leaves; the job ends when nobody waits, when the policy changes,
and while its windows are closed (AWS IoT would rotate a device whenever it connects).
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from protocol.messages import ExecutionStatus

from .plan import JobStep
from .rollout import open_executions
from .tally import needs_rotation
from .wording import count_text, span_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping
    from datetime import datetime

    from .device import RotationJob
    from .finding import Assessment
    from .policy import Policy
    from .rollout import Rollout

QUIET_AFTER = timedelta(hours=1)  # a job whose devices have all been silent for so long may give up its slot


@dataclass(frozen=True, slots=True)
class Standing:
    """What happens to the standing job: its members from now on (None: as they are), and steps before that."""

    members: tuple[str, ...] | None = None
    keeps: RotationJob | None = None  # the job that goes on; None: a new one
    steps: tuple[JobStep, ...] = ()


def silent_since(job: RotationJob) -> datetime | None:
    """Since when everyone the job still asks has been silent; None while someone works, or nobody is asked."""
    waiting = open_executions(job)
    if not waiting or any(e.status is not ExecutionStatus.QUEUED for e in waiting.values()):
        return None
    return max(execution.queued_at for execution in waiting.values())


def closings(rollout: Rollout, policy: Policy, now: datetime, *, wants_slot: bool) -> tuple[JobStep, ...]:
    """Wave jobs whose last devices are silent: all after stragglersAfter, the oldest sooner if its slot is wanted."""
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


def arrange(rollout: Rollout, newcomers: Iterable[str], devices: Mapping[str, Assessment]) -> Standing:
    """Who waits in the standing job from now on."""
    joining = frozenset(newcomers)
    job = rollout.standing
    if job is None:
        return Standing(tuple(sorted(joining))) if joining else Standing()
    waiting = frozenset(open_executions(job))
    staying = frozenset(n for n in waiting if n in devices and needs_rotation(devices[n]))
    joining -= waiting
    if joining & frozenset(job.executions):
        # It has done with them once already: members of the group that it would not ask again.
        step = JobStep(job.job_id, "cancel", "devices come back that it has done with; another takes its place")
        return Standing(tuple(sorted(joining | staying)), None, (step,))
    if not joining and not staying and job.executions:
        return Standing(None, None, (JobStep(job.job_id, "cancel", "nobody waits in it any more"),))
    if joining or staying != waiting:
        return Standing(tuple(sorted(joining | staying)), job)
    return Standing()
