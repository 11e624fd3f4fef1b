"""Every decision of the three functions. Pure: no AWS, no clock; all that is known is a parameter.

A pre-condition is one function that returns or raises RejectionError with its own code and
sentence. The three choosers at the end map (rotation, event) to what is to be done.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum, StrEnum

from protocol.errors import ProtocolError
from protocol.job_document import JobDocument, is_rotation, parse_job_document
from protocol.messages import ExecutionStatus
from protocol.rejections import RejectionCode

from .errors import RejectionError
from .events import CommitEvent, CreateEvent, PresenceEvent, TerminalEvent
from .registry import EXCLUSIVE, CertificateDescription, ExecutionState, Principal
from .rotation import Phase, Rotation
from .verdicts import Ending


def require_client_of_thing(client_id: str, thing_name: str) -> None:
    """The client id is the thing name, or that and ``#n``, as Greengrass names its further connections.

    No thing name holds a ``#``, so that ``gw-10`` never passes for ``gw-1``.
    """
    if client_id.split("#", 1)[0] != thing_name:
        raise RejectionError(
            RejectionCode.CLIENT_ID_MISMATCH,
            f"The MQTT client id is neither the thing name '{thing_name}' nor that and '#n'.",
        )


def require_certificate_in_place(event: CreateEvent) -> None:
    """The certificate that the device is about to replace is the one that its connection uses."""
    if event.in_place not in (None, event.principal):
        raise RejectionError(
            RejectionCode.CREDENTIAL_MISMATCH,
            f"The certificate in place on the device is {event.in_place!r}; its connection uses {event.principal}.",
        )


def require_rotation_job(execution: ExecutionState | None, job_id: str) -> JobDocument:
    """An IN_PROGRESS execution of a rotation job for this thing."""
    if execution is None:
        raise RejectionError(RejectionCode.NO_EXECUTION, f"This thing has no execution of job '{job_id}'.")
    if execution.status is not ExecutionStatus.IN_PROGRESS:
        found = "has ended" if execution.status is None else f"is {execution.status.value}"
        raise RejectionError(
            RejectionCode.EXECUTION_NOT_IN_PROGRESS,
            f"The execution of job '{job_id}' {found}, expected IN_PROGRESS.",
        )
    if not is_rotation(execution.document):
        raise RejectionError(RejectionCode.NOT_A_ROTATION, f"Job '{job_id}' does not ask for a rotation.")
    try:
        return parse_job_document(execution.document)
    except ProtocolError as error:
        raise RejectionError(
            RejectionCode.NOT_A_ROTATION, f"The document of job '{job_id}' is wrong: {error}."
        ) from None


def require_only_certificate(principals: Sequence[Principal], connection: str) -> Principal:
    """Exactly one principal: a certificate, attached exclusively, that this connection has used."""
    if not principals:
        raise RejectionError(RejectionCode.NO_CERTIFICATE, "The thing has no certificate attached.")
    if len(principals) > 1:
        raise RejectionError(
            RejectionCode.EXTRA_CERTIFICATE,
            f"The thing has {len(principals)} principals attached, expected one: detach those it does not use.",
        )
    _require_exclusive(principals)
    if principals[0].certificate_id != connection:
        raise RejectionError(
            RejectionCode.CERTIFICATE_NOT_ATTACHED, "The connection's certificate is not the one attached to the thing."
        )
    return principals[0]


def require_both_certificates(principals: Sequence[Principal], rotation: Rotation) -> None:
    """Exactly the two certificates of the rotation, both attached exclusively."""
    _require_exclusive(principals)
    found = {p.certificate_id for p in principals}
    if found != {rotation.old_certificate_id, rotation.new_certificate_id}:
        raise RejectionError(
            RejectionCode.REGISTRY_CONTRADICTS,
            f"The thing has {len(found)} certificates attached that are not exactly the old and the new one.",
        )


def require_active(certificate: CertificateDescription) -> None:
    """The current certificate is ACTIVE."""
    if certificate.status != "ACTIVE":
        raise RejectionError(
            RejectionCode.CERTIFICATE_INACTIVE, f"The current certificate is {certificate.status}, expected ACTIVE."
        )


def _require_exclusive(principals: Sequence[Principal]) -> None:
    if any(p.certificate_id is None for p in principals):
        raise RejectionError(RejectionCode.NO_CERTIFICATE, "A principal of the thing is no certificate.")
    if any(p.association != EXCLUSIVE for p in principals):
        raise RejectionError(
            RejectionCode.NOT_EXCLUSIVE,
            f"A certificate is not attached as {EXCLUSIVE}: other things may use it, so it must not be replaced.",
        )


class CreateStep(Enum):
    """What a create meets."""

    BEGIN = "nothing is under way"
    ANSWER_AGAIN = "this very create was answered before"
    WAIT = "this very create is being worked on: its answer goes to the same topic"
    TOO_LATE = "the device has gone on with this job since it sent this: it awaits no answer, and this proves nothing"
    CLEAR_AWAY = "a rotation is left over that cannot come to its end"


def create_step(rotation: Rotation | None, event: CreateEvent, digest: str, now: datetime) -> CreateStep:
    """What to do for a create, given the thing's latest rotation; raises RejectionError."""
    if rotation is not None and rotation.job_id == event.job_id and digest in rotation.superseded_digests:
        raise RejectionError(
            RejectionCode.SUPERSEDED_KEY, "This request was sent before one that has replaced it: it comes too late."
        )
    if rotation is None or not rotation.is_active:
        return CreateStep.BEGIN
    same = rotation.job_id == event.job_id and rotation.public_key_digest == digest
    if rotation.leased(now):
        if same:
            return CreateStep.WAIT
        raise RejectionError(
            RejectionCode.ROTATION_IN_PROGRESS,
            f"A create of job '{rotation.job_id}' is being worked on for this thing.",
        )
    if event.principal not in (rotation.old_certificate_id, rotation.new_certificate_id):
        raise RejectionError(
            RejectionCode.CERTIFICATE_NOT_ATTACHED,
            f"The connection's certificate is none of the rotation of job '{rotation.job_id}' that is under way.",
        )
    if same and rotation.phase is Phase.CREATED and event.principal == rotation.old_certificate_id:
        return CreateStep.ANSWER_AGAIN
    return CreateStep.TOO_LATE if _is_overtaken(rotation, event, same=same) else CreateStep.CLEAR_AWAY


def _is_overtaken(rotation: Rotation, event: CreateEvent, *, same: bool) -> bool:
    """Whether a create of this job was sent before the commit that has overtaken it.

    Lambda may hold an event back for a minute. That the device used its old certificate then says nothing about
    now: to clear away by it would take the certificate that the device has committed. A device that did return to
    its old one asks again; by then the end of its job is known.
    """
    if rotation.job_id != event.job_id or event.principal != rotation.old_certificate_id:
        return False
    return rotation.phase is Phase.COMMITTED or (same and rotation.phase is Phase.UNRESOLVED)


class CommitStep(Enum):
    """What a commit meets."""

    COMMIT = "the connection proves the new certificate"
    ACCEPT_AGAIN = "this commit was accepted before"
    SETTLE = "the job has ended: the connection shows which certificate is in use, or a removal goes on"
    TOO_LATE = "it was sent before the job ended, and the device may have changed its mind since: it proves nothing"


def commit_step(rotation: Rotation | None, event: CommitEvent) -> CommitStep:
    """What to do for a commit; raises RejectionError."""
    if rotation is None or rotation.job_id != event.job_id:
        raise RejectionError(RejectionCode.NO_ROTATION, f"This thing has no rotation under job '{event.job_id}'.")
    if rotation.phase in (Phase.ISSUING, Phase.ISSUED):
        raise RejectionError(RejectionCode.NOT_CREATED, "The new certificate has not been created yet.")
    speaks_for_new = event.principal == rotation.new_certificate_id
    speaks_for_old = event.principal == rotation.old_certificate_id and not rotation.is_doubtful
    if rotation.phase is Phase.UNRESOLVED and (speaks_for_new or speaks_for_old):
        return CommitStep.TOO_LATE if event.was_sent_before(rotation.unresolved_at) else CommitStep.SETTLE
    if not speaks_for_new:
        raise RejectionError(
            RejectionCode.OLD_CERTIFICATE, "The connection does not use the new certificate, so it proves nothing."
        )
    if rotation.phase is Phase.CREATED:
        return CommitStep.COMMIT
    if rotation.removing == rotation.new_certificate_id:
        raise RejectionError(
            RejectionCode.NO_ROTATION, "The rotation was given up: the new certificate is being removed."
        )
    return CommitStep.SETTLE if rotation.phase is Phase.REMOVING else CommitStep.ACCEPT_AGAIN


class Ends(StrEnum):
    """What becomes of a rotation whose execution has ended."""

    NOTHING = "nothing to do"
    REMOVE_OLD = "the old certificate goes"
    REMOVE_NEW = "the new certificate goes"
    KEEP_BOTH = "both stay until the device's next connection"
    RESUME = "a removal that was begun goes on"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What to do, and what to tell the operator (None: nothing)."""

    ends: Ends
    notice: str | None = None


def terminal_verdict(rotation: Rotation | None, event: TerminalEvent) -> Verdict:
    """What an ended execution means."""
    ending = event.ending
    if rotation is None or rotation.job_id != event.job_id:
        return Verdict(Ends.NOTHING, f"{ending.value}: no certificate was created under this job; nothing was touched.")
    if rotation.phase in (Phase.FINISHED, Phase.UNRESOLVED) or _is_older(event, rotation):
        return Verdict(Ends.NOTHING)
    if rotation.phase is Phase.REMOVING:
        return Verdict(Ends.RESUME)
    if rotation.phase is Phase.COMMITTED:
        return _after_commit(rotation, ending)
    if ending is Ending.SUCCEEDED:
        return Verdict(Ends.KEEP_BOTH, "SUCCEEDED although nothing was committed: both certificates stay for now.")
    return Verdict(
        Ends.REMOVE_NEW, f"{ending.value} before the commit: the old certificate stays, the new one is removed."
    )


def _after_commit(rotation: Rotation, ending: Ending) -> Verdict:
    seen = rotation.seen_principal
    if seen == rotation.old_certificate_id and ending is Ending.SUCCEEDED:
        return Verdict(
            Ends.KEEP_BOTH,
            "SUCCEEDED after the commit, but the old certificate has connected since: both certificates stay until "
            "the new one connects. If the device uses its new one, somebody else holds the old one's key.",
        )
    if seen == rotation.old_certificate_id:
        return Verdict(
            Ends.REMOVE_NEW, f"{ending.value} after the commit, but the device has returned to its old certificate."
        )
    if ending is Ending.SUCCEEDED:
        return Verdict(Ends.REMOVE_OLD)
    if seen == rotation.new_certificate_id:
        return Verdict(Ends.REMOVE_OLD, f"{ending.value} after the commit; the device uses its new certificate.")
    return Verdict(
        Ends.KEEP_BOTH, f"{ending.value} after the commit: both certificates stay until the next connection."
    )


def _is_older(event: TerminalEvent, rotation: Rotation) -> bool:
    """Whether the event tells of an earlier attempt; job events are timed in whole seconds."""
    return event.at + timedelta(seconds=1) <= datetime.fromisoformat(rotation.started_at)


class Sighting(Enum):
    """What a connection tells."""

    NOTHING = "nothing about a rotation"
    NOTE = "which certificate is in use since the commit: remembered for the end of the job"
    SETTLE = "which certificate is in use: the other one goes, or goes on being removed"


def sighting(rotation: Rotation | None, event: PresenceEvent) -> Sighting:
    """What a connection means; presence events may repeat and arrive out of order."""
    if rotation is None or event.principal not in (rotation.old_certificate_id, rotation.new_certificate_id):
        return Sighting.NOTHING
    known = [at for at in (rotation.committed_at, rotation.unresolved_at, rotation.seen_at) if at is not None]
    if not known or event.at <= max(map(datetime.fromisoformat, known)):
        return Sighting.NOTHING
    if rotation.is_doubtful and event.principal == rotation.old_certificate_id:
        return Sighting.NOTHING  # it is known already, and may be a thief
    if rotation.phase in (Phase.UNRESOLVED, Phase.REMOVING):
        return Sighting.SETTLE
    return Sighting.NOTE if rotation.phase is Phase.COMMITTED else Sighting.NOTHING
