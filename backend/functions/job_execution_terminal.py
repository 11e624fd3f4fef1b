"""An execution has ended, or a device has connected: the certificate that is not needed goes.

Errors are raised, so that Lambda repeats the event and at last hands it to the dead-letter queue;
each repeat carries on where the last one stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from pydantic import ValidationError

from protocol.messages import ExecutionStatus

from . import decide, ending
from .decide import Ends, Sighting, Verdict
from .errors import ConflictError
from .events import PresenceEvent, TerminalEvent, parse_terminal, problems
from .operator import decided
from .rotation import Phase, Rotation
from .services import Services, services
from .verdicts import Ending

FUNCTION = "job_execution_terminal"
CONFLICT_RETRIES = 3


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Lambda entry point; the rules give job-execution events and presence events."""
    try:
        parsed = parse_terminal(event)
    except ValidationError as error:
        decided("ignored", function=FUNCTION, detail=problems(error))
        return {"status": "ignored"}
    act = ended if isinstance(parsed, TerminalEvent) else connected
    for _ in range(CONFLICT_RETRIES):
        try:
            return act(services(), parsed)  # type: ignore[arg-type]  # each is given its own kind
        except ConflictError:
            continue
    return act(services(), parsed)  # type: ignore[arg-type]  # as above


def ended(services: Services, event: TerminalEvent) -> dict[str, Any]:
    """Carry out what an ended execution means, then tell the operator unless all went well."""
    rotation = services.table.current(event.thing_name)
    verdict = decide.terminal_verdict(rotation, event)
    if verdict.ends is Ends.REMOVE_NEW and _runs_again(services, event):
        verdict = Verdict(Ends.NOTHING)
    if verdict.notice is not None:  # first, because a repeat of this event will find nothing left to tell
        services.operator.tell(event.thing_name, event.job_id, _with_reason(verdict.notice, event))
    if rotation is not None:
        _carry_out(services, event, rotation, verdict)
    decided(
        "ended",
        function=FUNCTION,
        thing=event.thing_name,
        job=event.job_id,
        status=event.ending.value,
        detail=verdict.ends.value,
        notice=verdict.notice,
    )
    return {"status": verdict.ends.name.lower()}


def _runs_again(services: Services, event: TerminalEvent) -> bool:
    """Whether the job has been retried on this device already: the event is then about an earlier attempt."""
    execution = services.registry.execution(event.thing_name, event.job_id)
    return execution is not None and execution.status is ExecutionStatus.IN_PROGRESS


def _carry_out(services: Services, event: TerminalEvent, rotation: Rotation, verdict: Verdict) -> None:
    who = f"{FUNCTION}: job {event.job_id} {event.ending.value}"
    if verdict.ends is Ends.REMOVE_OLD:
        ending.remove_old(services, rotation, who)
    elif verdict.ends is Ends.REMOVE_NEW:
        finished = ending.remove_new(services, rotation, who)
        ending.show(services, finished, "rolledBack")
    elif verdict.ends is Ends.RESUME:
        ending.resume(services, rotation, who)
    elif verdict.ends is Ends.KEEP_BOTH:
        now = services.clock()
        services.table.save(
            rotation.step(now, who, "unresolved", phase=Phase.UNRESOLVED, unresolved_at=now.isoformat())
        )


def _with_reason(notice: str, event: TerminalEvent) -> str:
    reason = event.status_details.get("DeviceFailureReason")
    return f"{notice} The device says: {reason}" if event.ending is Ending.FAILED and reason else notice


def connected(services: Services, event: PresenceEvent) -> dict[str, Any]:
    """A device has connected: its principal tells which certificate it uses."""
    rotation = services.table.current(event.thing_name)
    seen = decide.sighting(rotation, event)
    if rotation is None or seen is Sighting.NOTHING:
        return {"status": "nothing"}
    who = f"{FUNCTION}: connection {event.client_id}, certificate {event.principal}"
    if seen is Sighting.NOTE:
        services.table.save(_noted(services, rotation, event, who))
        return {"status": "noted"}
    ending.settle(services, rotation, event.principal, who)
    return {"status": "settled"}


def _noted(services: Services, rotation: Rotation, event: PresenceEvent, who: str) -> Rotation:
    """With a line of evidence where the certificate is another one than at the last connection, for it may flap."""
    at = event.at.isoformat()
    if rotation.seen_principal == event.principal:
        return replace(rotation, seen_at=at)
    return rotation.step(services.clock(), who, "seen", seen_principal=event.principal, seen_at=at)
