"""Asking devices before they rotate whether their rotation would fail: whom, by which job, and what has come of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from controller.reconcile.values import Outcome, Reason, check_id_for, count_text

from .policy_plan import document_of
from .tally import order_of, planned_device

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping

    from controller.reconcile.checks import Governance
    from controller.reconcile.rollout import RolloutHistory
    from controller.reconcile.values import Assessment
    from protocol.job_document import JobDocument

    from .policy_plan import PolicyPlan
    from .tally import PolicyTally

PATIENCE = timedelta(hours=1)  # that a device has to answer; AWS IoT demands half an hour at least


@dataclass(frozen=True, slots=True)
class PlannedCheck:
    """One AWS IoT job that asks devices of one policy about the same rotation."""

    job_id: str
    policy: str
    devices: tuple[str, ...]
    document: JobDocument
    maximum_per_minute: int

    @property
    def lasts(self) -> timedelta:
        """How long the job asks: until the last device was reached and has had its time to answer."""
        return PATIENCE + timedelta(minutes=-(-len(self.devices) // self.maximum_per_minute))


def is_to_ask(assessment: Assessment) -> bool:
    """Return whether a device must rotate, and only time, a suspension or an earlier answer keeps it from that."""
    by_the_way = (Reason.OUTSIDE_WINDOW, Reason.SUSPENDED, Reason.BACKING_OFF, Reason.PREFLIGHT_FAILED)
    return assessment.outcome is Outcome.ROTATE or assessment.is_kept_by(*by_the_way)


def plan_checks(assessments: Iterable[Assessment], governance: Governance) -> tuple[PlannedCheck, ...]:
    """Return a job for each rotation that these devices need, without those that are being asked already."""
    checks = governance.state.checks
    asked = {name for job in checks for name, e in job.executions.items() if not e.status.is_terminal}
    groups: dict[tuple[str, str], list[Assessment]] = {}
    for assessment in sorted(assessments, key=order_of):
        if assessment.policy is not None and assessment.device not in asked:
            groups.setdefault((assessment.policy, assessment.kind), []).append(assessment)
    known = frozenset(job.job_id for job in checks)
    found = []
    for (name, kind), group in groups.items():
        governed = governance.policies[name]
        devices = [planned_device(assessment) for assessment in group]
        job_id = check_id_for(name, governed.family + kind, devices, known=known, now=governance.now)
        document = document_of(group[0], name, governance.desired.commit).check
        rate = governed.policy.rollout.maximum_per_minute
        found.append(PlannedCheck(job_id, name, tuple(device.name for device in devices), document, rate))
    return tuple(found)


def told_of_preflights(
    tallies: Mapping[str, PolicyTally],
    rollouts: Mapping[str, RolloutHistory],
    plans: Mapping[str, PolicyPlan],
    *,
    is_stock: bool,
) -> Iterator[str]:
    """Yield a sentence for each policy in ``tallies`` whose devices would fail, or, unless is_stock, were not asked."""
    for name, tally in tallies.items():
        begins = not rollouts[name].reached and any(not job.is_standing for job in plans[name].jobs)
        command = f"certfleet preflight --policy {name} --wait"
        if tally.unfit:
            reason, number = tally.unfit.most_common(1)[0]
            asked = count_text(tally.fit + tally.unfit.total(), "device")
            yield (
                f"pre-flight of {name}: {tally.unfit.total():,} of {asked} would fail, {number:,} of them because "
                f"{reason}; put that right, then ask again: {command}"
            )
        elif begins and not tally.fit and not is_stock:
            yield f"nobody has asked the devices of {name} whether their first rotation would fail: {command}"
