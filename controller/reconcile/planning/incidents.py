"""How far an incident is: who still matches, who blocks the end, and when it can be over."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

from controller.reconcile.values import IncidentReport, Mode, count_text, instant_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from controller.reconcile.checks import Governance
    from controller.reconcile.values import Incident

    from .policy_plan import PolicyPlan
    from .tally import IncidentTally


def report_incidents(
    tallies: Mapping[str, IncidentTally], governance: Governance, plans: Mapping[str, PolicyPlan]
) -> tuple[IncidentReport, ...]:
    """Return one report per incident, in order of deadline, from the tallies by incident."""
    incidents = sorted(governance.desired.incidents, key=lambda incident: (incident.deadline, incident.name))
    return tuple(_report(i, tallies[i.name], governance, plans) for i in incidents)


def _report(
    incident: Incident,
    tally: IncidentTally,
    governance: Governance,
    plans: Mapping[str, PolicyPlan],
) -> IncidentReport:
    policies = governance.policies
    asked = {name: n for name, n in tally.remaining.items() if name and policies[name].policy.mode is Mode.ENFORCE}
    ways = [(number, way) for name, number in sorted(asked.items()) if (way := plans[name].ahead) is not None]
    shortens = incident.deadline if incident.ignore_windows else None  # who keeps to windows keeps to soaks
    ends = [
        way.finish(number, governance.now, is_urgent=incident.ignore_windows, deadline=shortens) for number, way in ways
    ]
    obstacle = next((way.opening.message for _number, way in ways if way.opening.is_stuck), None)
    known = [end for end in ends if end is not None]
    remaining = tally.remaining.total()
    reported = sum(n for name, n in tally.remaining.items() if name) - sum(asked.values())
    found = IncidentReport(
        incident=incident.name,
        deadline=incident.deadline,
        remaining=remaining,
        blocked=remaining - sum(number - tally.blocked[name] for name, number in asked.items()),
        accepted=tally.accepted,
        finish=max(known, default=governance.now) if len(known) == len(ends) and obstacle is None else None,
        message="",
    )
    return replace(found, message=_message(found, reported, obstacle, governance))


def _message(found: IncidentReport, reported: int, obstacle: str | None, governance: Governance) -> str:
    """Return where the incident stands, and what it does not count: things that no policy governs are not read."""
    left_out = [f"{count_text(found.accepted, 'device')} accepted as lost"] if found.accepted else []
    if unmanaged := governance.state.unmanaged_count:
        left_out.append(f"not looked at: {count_text(unmanaged, 'thing')} that no policy governs")
    if found.is_finished:
        return "; ".join([f"incident {found.incident} is finished: no device matches any more", *left_out])
    head = f"incident {found.incident}: {count_text(found.remaining, 'device')} to go by {instant_text(found.deadline)}"
    parts = [head, _outlook(found, obstacle, governance.now)]
    if found.blocked:
        number = count_text(found.blocked, "device")
        parts.append(f"{number} blocked: a person must act, or list what is lost in acceptedLosses")
    if reported:
        parts.append(f"{reported:,} of them under policies that only report: take mode: report out")
    return "; ".join([*parts, *left_out])


def _outlook(found: IncidentReport, obstacle: str | None, now: datetime) -> str:
    """Return whether the deadline will be met, by those that can rotate by themselves."""
    if now >= found.deadline:
        return "the deadline has passed"
    if obstacle is not None:
        return f"the deadline will be missed unless a person acts: {obstacle}"
    if found.finish is None:
        return "the deadline will be missed: no window is open long enough; set ignoreWindows"
    if found.finish > found.deadline:
        return f"the deadline will be missed: the given rates and windows need until {instant_text(found.finish)}"
    if found.blocked == found.remaining:
        return "the deadline will be missed unless a person acts"
    met = "the others will be done" if found.blocked else "the deadline will be met"
    return f"{met}, at {instant_text(found.finish)} if all goes well"
