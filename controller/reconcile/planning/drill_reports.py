"""The result of a drill: who of its sample has rotated, how long that took, and who was not there to be asked.

The consequences for the whole policy are estimated in ``outlook/drill_estimates``.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import TYPE_CHECKING

from controller.reconcile.checks import issued_at
from controller.reconcile.values import CLOCK_GRAIN, FAILED, DrillReport, Outcome, count_text, instant_text, span_text
from protocol.messages import ExecutionStatus

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from controller.reconcile.checks import Governance
    from controller.reconcile.values import Assessment, DeviceExecution, Drill

ANSWERS_WITHIN = timedelta(minutes=15)  # a device that is there begins in five: who needs longer was offline when asked


@dataclass(slots=True)
class Drilled:
    """The devices that drills name, as the assessments show them."""

    governance: Governance
    names: frozenset[str]
    seen: dict[str, Assessment] = field(default_factory=dict)

    @classmethod
    def of(cls, governance: Governance) -> Drilled:
        """Return a collector for the devices of all drills, which has seen none yet."""
        names = (device for drill in governance.desired.drills for device in drill.devices)
        return cls(governance, frozenset(names))

    def watch(self, assessments: Iterable[Assessment]) -> Iterator[Assessment]:
        """Pass the assessments on; those of the devices named are kept."""
        return self._watched(assessments) if self.names else iter(assessments)

    def _watched(self, assessments: Iterable[Assessment]) -> Iterator[Assessment]:
        for assessment in assessments:
            if assessment.device in self.names:
                self.seen[assessment.device] = assessment
            yield assessment

    def reports(self) -> tuple[DrillReport, ...]:
        """Return one report for each drill, in order of deadline."""
        drills = sorted(self.governance.desired.drills, key=lambda drill: (drill.deadline, drill.name))
        return tuple(self._report(drill) for drill in drills)

    def _report(self, drill: Drill) -> DrillReport:
        asked = _asked(drill, self.governance)
        fates: Counter[str] = Counter()
        spans: list[timedelta] = []
        ends: dict[str, datetime] = {}
        for name in sorted(drill.devices):
            own = asked.get(name, [])
            fate = self._fate(drill, self.seen.get(name), own)
            fates[fate] += 1
            if fate in {"rotated", "returned"}:
                done = own[-1]
                ends[fate] = max(ends.get(fate, done.last_updated_at), done.last_updated_at)
                spans += [done.last_updated_at - (done.started_at or done.queued_at)] if fate == "rotated" else []
        spans.sort()
        now = self.governance.now
        return _with_message(
            DrillReport(
                drill=drill.name,
                policy=drill.policy,
                since=drill.since,
                deadline=drill.deadline,
                devices=len(drill.devices),
                rotated=fates["rotated"],
                returned=fates["returned"],
                offline=fates["offline"],
                blocked=fates["blocked"],
                remaining=fates["remaining"],
                replaced=fates["replaced"],
                left=fates["left"],
                message="",
                is_over=now >= drill.deadline or not (fates["remaining"] or fates["offline"]),
                failures=sum(one.status in FAILED for own in asked.values() for one in own),
                asked_at=min((own[0].queued_at for own in asked.values()), default=None),
                rotated_at=ends.get("rotated"),
                returned_at=ends.get("returned"),
                durations=(spans[0], spans[len(spans) // 2], spans[-1]) if spans else (),
            )
        )

    def _fate(self, drill: Drill, found: Assessment | None, asked: list[DeviceExecution]) -> str:
        """Return which count of the report a device belongs to."""
        if found is None or found.policy != drill.policy:
            return "left"
        issued = issued_at(found.certificate) if found.certificate is not None else None
        if issued is not None and issued >= drill.since:
            if not asked or asked[-1].status is not ExecutionStatus.SUCCEEDED:
                return "replaced"
            return "returned" if _was_offline(asked, asked[-1].last_updated_at) else "rotated"
        if found.outcome is Outcome.BLOCKED:
            return "blocked"
        return "offline" if asked and _was_offline(asked, self.governance.now) else "remaining"


def _asked(drill: Drill, governance: Governance) -> dict[str, list[DeviceExecution]]:
    """Return each device's executions since the decision, oldest first, up to the first that succeeded."""
    found: dict[str, list[DeviceExecution]] = {}
    for job in governance.state.jobs:
        for name in drill.devices & job.executions.keys():
            execution = job.executions[name]
            if execution.queued_at >= drill.since - CLOCK_GRAIN:
                found.setdefault(name, []).append(execution)
    for name, own in found.items():
        own.sort(key=lambda one: one.queued_at)
        first = next((n for n, one in enumerate(own) if one.status is ExecutionStatus.SUCCEEDED), len(own))
        found[name] = own[: first + 1]
    return found


def _was_offline(asked: list[DeviceExecution], until: datetime) -> bool:
    """Return whether the device had not begun long after it was asked first; ``until`` is when that was looked at."""
    begun = min((one.started_at for one in asked if one.started_at is not None), default=until)
    return begun - asked[0].queued_at >= ANSWERS_WITHIN


def _with_message(found: DrillReport) -> DrillReport:
    there = found.devices - found.left
    parts = [f"drill {found.drill}: {found.rotated} of {count_text(there, 'device')} rotated"]
    if found.rotated_at is not None and found.asked_at is not None:
        parts[0] += (
            f", the last {span_text(found.rotated_at - found.since)} after the decision, "
            f"{span_text(found.rotated_at - found.asked_at)} after the first was asked"
        )
    if found.returned or found.offline:
        back = f", {found.returned} of them back" if found.returned else ""
        if found.returned_at is not None:
            back += f", the last {span_text(found.returned_at - found.since)} after the decision"
        parts.append(f"{found.returned + found.offline} offline when asked{back}")
    told = (
        (found.remaining, "to go"), (found.blocked, "blocked or left out"),
        (found.replaced, "replaced otherwise"), (found.left, "left the policy"),
    )  # fmt: skip
    parts += [f"{number} {what}" for number, what in told if number]
    parts += [count_text(found.failures, "failed attempt")] if found.failures else []
    parts.append("it is over" if found.is_over else f"it asks until {instant_text(found.deadline)}")
    return replace(found, message="; ".join(parts))
