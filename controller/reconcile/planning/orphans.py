"""The guardrail on orphans: devices that documents in git governed, and no longer would.

AWS alone knows which devices were governed before, so that CI and the function agree: the baseline that
the last apply recorded, and jobs whose policy is gone. It stays until an apply goes through, so a
desired state that has shrunk is refused by every run until a person allows it, whatever was committed
since. If nothing was recorded, jobs that have ended stand in, and the plan reports it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from controller.reconcile.rollout import is_open
from controller.reconcile.values import Refusal, count_text, names_text, parse_job_id

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from controller.reconcile.values import Assessment, DesiredState, FleetState, Overrides, RotationJob

NO_BASELINE = (
    "nothing is recorded of what was governed before, so a desired state that has shrunk since then shows "
    "in the jobs of vanished policies alone; the next apply records it"
)


@dataclass(slots=True)
class LostJobs:
    """Jobs of policies that git no longer has, and who of their devices is governed by none now."""

    policies: tuple[str, ...]
    devices: set[str]
    is_blind: bool  # one of them does not say yet whom it asks

    def watch(self, assessments: Iterable[Assessment]) -> Iterator[Assessment]:
        """Pass the assessments on; a device that turns up among them is governed, and not lost."""
        return self._watched(assessments) if self.devices else iter(assessments)

    def _watched(self, assessments: Iterable[Assessment]) -> Iterator[Assessment]:
        for assessment in assessments:
            self.devices.discard(assessment.device)
            yield assessment


def lost_jobs(desired: DesiredState, state: FleetState) -> LostJobs:
    """Return what the jobs show: those that are open, and if no baseline was recorded the ended ones as well."""
    named = {policy.name for policy in desired.policies}
    lost = [job for job in state.jobs if _policy_of(job) not in named | {None}]
    if state.baseline is not None:
        lost = [job for job in lost if is_open(job)]
    return LostJobs(
        policies=tuple(sorted({str(_policy_of(job)) for job in lost})),
        devices={name for job in lost for name in job.executions},
        is_blind=any(is_open(job) and not job.executions for job in lost),
    )


def orphans(desired: DesiredState, state: FleetState, lost: LostJobs, overrides: Overrides) -> Refusal | None:
    """Refuse a plan that leaves more devices ungoverned than allowed, else None; ``lost`` was watched to its end."""
    gone, shrunk = _gone_groups(desired, state), _shrunk_groups(desired, state)
    number = max(len(lost.devices), sum(gone.values()) + sum(before - now for before, now in shrunk.values()))
    is_empty = not desired.policies and (state.baseline is None or bool(state.baseline.group_sizes))
    if is_empty or lost.is_blind:
        number = max(number, 1)  # something is orphaned, however many devices it has
    if number <= overrides.orphans:
        return None
    parts = ["the desired state has no policy"] if is_empty else []
    if gone:
        parts.append(f"no policy names {_counted(gone)} any more")
    parts += [f"{group} had {before:,} things and has {now:,}" for group, (before, now) in shrunk.items()]
    if lost.devices or lost.is_blind:
        parts.append(f"there are jobs of policies that are gone ({names_text(lost.policies)})")
    last = f" (last applied: commit {state.baseline.commit[:12]})" if state.baseline and state.baseline.commit else ""
    message = f"{'; '.join(parts)}: {count_text(number, 'device')} would be left to themselves{last}"
    return Refusal("orphans", None, message, f"--override orphans={number}")


def _gone_groups(desired: DesiredState, state: FleetState) -> dict[str, int]:
    """Return groups that were governed and that no policy names now, with the things in them that none governs."""
    if state.baseline is None:
        return {}
    named = {policy.thing_group for policy in desired.policies}
    counts = {
        group: state.baseline.ungoverned.get(group, size)
        for group, size in sorted(state.baseline.group_sizes.items())
        if group not in named
    }
    return {group: number for group, number in counts.items() if number}


def _shrunk_groups(desired: DesiredState, state: FleetState) -> dict[str, tuple[int, int]]:
    """Return groups that lost more than maxChangePercent of their things, or all of them: size before and now."""
    if state.baseline is None:
        return {}
    guardrails = desired.fleet.guardrails
    shrunk = {}
    for group in sorted({policy.thing_group for policy in desired.policies}):
        before, now = state.baseline.group_sizes.get(group, 0), state.group_sizes.get(group, 0)
        is_much = before >= guardrails.min_existing and 100 * (before - now) > guardrails.max_change_percent * before
        if before and (is_much or not now):
            shrunk[group] = before, now
    return shrunk


def _counted(groups: dict[str, int]) -> str:
    return names_text([f"{group} ({count_text(number, 'device')})" for group, number in groups.items()])


def _policy_of(job: RotationJob) -> str | None:
    parsed = parse_job_id(job.job_id)
    return parsed.policy if parsed else None
