"""An execution has ended, or a client has connected: evidence about the thing's rotation, if it has one.

Errors are raised, so that Lambda repeats the event and at last hands it to the dead-letter queue;
each repeat carries on where the last one stopped.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from functools import partial
from typing import Any

from pydantic import ValidationError

from protocol.messages import ExecutionStatus
from protocol.names import FAILURE_REASON_KEY, STATUS_DETAILS_KEY
from protocol.rotation_record import RefusalRecord
from protocol.watch import Watch

from . import ending, notices
from .errors import ConflictError
from .events import PresenceEvent, TerminalEvent, parse_terminal, problems
from .operator import decided
from .rotation import MAKING, Rotation, RotationOutcome
from .services import Services, services
from .takeover import take_over
from .verdicts import Ending

FUNCTION = "job_execution_terminal"
CONFLICT_RETRIES = 3


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Handle one job-execution event or presence event (Lambda's entry point)."""
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
    """Add the end of an execution to the rotation that it concerns."""
    rotation = services.table.current(event.thing_name)
    who = f"{FUNCTION}: job {event.job_id} {event.ending.value}"
    if rotation is None or not (rotation.is_active or rotation.job_id == event.job_id):
        document = partial(services.registry.document, event.job_id)
        rotation = take_over(services, event.thing_name, event.job_id, who, document) or rotation
    if rotation is None or not _concerns(rotation, event):
        return _without_rotation(services, event)
    if _is_of_an_earlier_attempt(services, event, rotation):
        return {"status": "nothing"}
    if not rotation.is_active:
        return _after_undoing(services, event, rotation)
    known = rotation.ended(event.ending, event.at)
    concluded = ending.conclude(services, rotation, known, who, aside=_reason(services, event))
    status = "kept" if concluded.outcome is None else concluded.outcome.value
    decided("ended", function=FUNCTION, thing=event.thing_name, job=event.job_id, status=event.ending.value)
    return {"status": status}


def _concerns(rotation: Rotation, event: TerminalEvent) -> bool:
    """Return whether the end of an execution counts for the rotation.

    It counts if it is of the rotation's own job, or if a job that was refused while the rotation was undecided has
    FAILED. After a SUCCEEDED of the rotation's job, the FAILED of a later one does not count.
    """
    if rotation.job_id == event.job_id:
        return True
    failed = event.ending is Ending.FAILED and rotation.ending is not Ending.SUCCEEDED
    return failed and rotation.refused_job == event.job_id


def _is_of_an_earlier_attempt(services: Services, event: TerminalEvent, rotation: Rotation) -> bool:
    """Return whether the event is about an attempt before this rotation began.

    Job events are timed in whole seconds: if both fall into one second, the status of the execution decides.
    """
    started = datetime.fromisoformat(rotation.started_at)
    if event.at + timedelta(seconds=1) <= started:
        return True
    if event.at > started:
        return False
    execution = services.registry.execution(event.thing_name, event.job_id)
    return execution is not None and execution.status is ExecutionStatus.IN_PROGRESS


def _after_undoing(services: Services, event: TerminalEvent, rotation: Rotation) -> dict[str, Any]:
    """Notify a person, once, of the end of a job under which no certificate was handed out."""
    if rotation.outcome is not RotationOutcome.ROLLED_BACK or rotation.ending is not None:
        return {"status": "nothing"}
    notice = f"{event.ending.value}: no certificate was handed out under this job."
    services.operator.tell(event.thing_name, event.job_id, f"{notice}{_reason(services, event)}")
    services.table.save(rotation.ended(event.ending, event.at))
    return {"status": "told"}


def _without_rotation(services: Services, event: TerminalEvent) -> dict[str, Any]:
    """Notify a person of the end of a rotation job that has no rotation; ignore the end of any other job.

    A job is taken for a rotation's if the device has asked under it, or has marked its execution as a rotation.
    """
    if event.ending is Ending.SUCCEEDED and STATUS_DETAILS_KEY not in event.status_details:
        return {"status": "nothing"}
    if STATUS_DETAILS_KEY in event.status_details or services.table.budget(event.thing_name).job_id == event.job_id:
        notice = f"{event.ending.value}: no certificate was created under this job; nothing was touched."
        services.operator.tell(event.thing_name, event.job_id, f"{notice}{_reason(services, event)}")
    return {"status": "nothing"}


def _reason(services: Services, event: TerminalEvent) -> str:
    """Return the device's failure reason and the backend's last refusal under this job; keep this as evidence."""
    reason = event.status_details.get(FAILURE_REASON_KEY)
    written = f" The device writes: {notices.quoted(reason)}." if reason else ""
    refusal = services.table.budget(event.thing_name).refusal if event.ending is not Ending.SUCCEEDED else None
    if refusal is None or refusal.job_id != event.job_id:
        return written
    services.table.note_refusal(
        RefusalRecord(
            event.thing_name, event.job_id, refusal.code, refusal.sentence, event.ending.value, ended_at=event.at
        )
    )
    return (
        f"{written} The backend's last refusal under this job was {refusal.code}: {notices.quoted(refusal.sentence)}."
    )


def connected(services: Services, event: PresenceEvent) -> dict[str, Any]:
    """Handle a client that has connected: its principal names the certificate that it uses."""
    rotation, watch = services.table.concerned(event.thing_name, event.principal)
    _note_watched(services, event, watch)
    which = rotation.which(event.principal) if rotation is not None else None
    if rotation is None or which is None or rotation.phase in MAKING:
        return {"status": "nothing"}
    if not rotation.is_active:
        return {"status": "told" if ending.hear_late(services, rotation, which, event.at) else "nothing"}
    who = f"{FUNCTION}: connection {event.client_id}, certificate {event.principal}"
    known = rotation.seen(which, event.at)
    if rotation.last_seen is not which and known != rotation:
        known = known.step(services.clock(), who, f"seen with the {which.value} one")
    concluded = ending.conclude(services, rotation, known, who)
    return {"status": "noted" if concluded.outcome is None else concluded.outcome.value}


def _note_watched(services: Services, event: PresenceEvent, watch: Watch | None) -> None:
    """Note a connection with a certificate under watch, by whatever client: healing learns so which ones are in use."""
    known = watch and watch.seen(event.client_id, event.at)
    if watch is None or known is None or known == watch:
        return
    services.table.save_watch(known)
