"""How far an incident is: who still matches, who blocks the end, and when it can be over."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .estimate import finish_at
from .plan import IncidentReport
from .wording import count_text, instant_text

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

    from .governance import Governance
    from .policy import Incident
    from .tally import FleetTally, IncidentTally


def report_incidents(
    tally: FleetTally, governance: Governance, waves_done: Mapping[str, int]
) -> tuple[IncidentReport, ...]:
    """One report per incident, in order of deadline."""
    incidents = sorted(governance.desired.incidents, key=lambda incident: (incident.deadline, incident.name))
    return tuple(_report(i, tally, tally.incidents[i.name], governance, waves_done) for i in incidents)


def _report(
    incident: Incident,
    fleet: FleetTally,
    tally: IncidentTally,
    governance: Governance,
    waves_done: Mapping[str, int],
) -> IncidentReport:
    remaining = sum(tally.remaining.values())
    ends = [
        finish_at(
            governance.policies[policy],
            number,
            fleet.policies[policy].governed,
            governance.now,
            is_urgent=incident.ignore_windows,
            waves_done=waves_done.get(policy, 0),
            deadline=incident.deadline,
        )
        for policy, number in sorted(tally.remaining.items())
    ]
    known = [end for end in ends if end is not None]
    finish = max(known, default=governance.now) if len(known) == len(ends) else None
    return IncidentReport(
        incident=incident.name,
        deadline=incident.deadline,
        remaining=remaining,
        blocked=tally.blocked,
        accepted=tally.accepted,
        finish=finish,
        message=_message(incident, tally, remaining, finish, governance.now),
    )


def _message(incident: Incident, tally: IncidentTally, remaining: int, finish: datetime | None, now: datetime) -> str:
    accepted = f"; {count_text(tally.accepted, 'device')} accepted as lost" if tally.accepted else ""
    if not remaining:
        return f"incident {incident.name} is finished: no device matches any more{accepted}"
    head = f"incident {incident.name}: {count_text(remaining, 'device')} to go by {instant_text(incident.deadline)}"
    if now >= incident.deadline:
        tail = "the deadline has passed"
    elif finish is None:
        tail = "the deadline will be missed: no window is open long enough; set ignoreWindows"
    elif finish > incident.deadline:
        tail = f"the deadline will be missed: the given rates and windows need until {instant_text(finish)}"
    else:
        tail = f"the deadline will be met, at {instant_text(finish)} if all goes well"
    blocked = ""
    if tally.blocked:
        number = count_text(tally.blocked, "device")
        blocked = f"; {number} blocked: a person must act, or list what is lost in acceptedLosses"
    return f"{head}; {tail}{blocked}{accepted}"
