"""The rules that a create or commit must fulfil. Pure: no AWS, no clock; all that is known is a parameter.

A pre-condition is one function that returns or raises RejectionError with its own code and sentence. The verdict over
certificates is not made here: see ``verdicts``.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from enum import Enum

from protocol.deployment import EXCLUSIVE, NON_EXCLUSIVE
from protocol.errors import ProtocolError
from protocol.job_document import JobDocument, is_rotation, parse_job_document
from protocol.messages import ExecutionStatus
from protocol.rejections import RejectionCode
from protocol.watch import MOST_HOLDERS

from .environment import PrivateAuthority
from .errors import RejectionError
from .events import CommitEvent, CreateEvent
from .registry import CertificateDescription, ExecutionState, Principal
from .rotation import MAKING, Phase, Rotation, RotationOutcome
from .verdicts import ROUNDED, CertificateRole

ROTATABLE = frozenset({EXCLUSIVE, NON_EXCLUSIVE})
"""The types of attachment from which a certificate is rotated, if it is attached to one thing alone."""


def is_client_of_thing(client_id: str, thing_name: str) -> bool:
    """Return whether a client id is the thing name, or that and ``#n``, as Greengrass names its further connections.

    No thing name holds a ``#``, so that ``gw-10`` never passes for ``gw-1``.
    """
    return client_id.split("#", 1)[0] == thing_name


def require_client_of_thing(client_id: str, thing_name: str) -> None:
    """Raise RejectionError unless the client is one of this thing's."""
    if not is_client_of_thing(client_id, thing_name):
        raise RejectionError(
            RejectionCode.CLIENT_ID_MISMATCH,
            f"The MQTT client id is neither the thing name '{thing_name}' nor that and '#n'.",
        )


def require_free(*, is_quarantined: bool) -> None:
    """Raise RejectionError if the thing is in quarantine."""
    if is_quarantined:
        raise RejectionError(RejectionCode.QUARANTINED, "This thing is in quarantine: its operators have cut it off.")


def require_certificate_in_place(event: CreateEvent) -> None:
    """Raise RejectionError unless the device's connection uses the certificate that it is about to replace."""
    if event.in_place not in (None, event.principal):
        raise RejectionError(
            RejectionCode.CREDENTIAL_MISMATCH,
            f"The certificate in place on the device is {event.in_place!r}; its connection uses {event.principal}.",
        )


def require_rotation_job(execution: ExecutionState | None, job_id: str) -> JobDocument:
    """Return the document of an IN_PROGRESS execution of a rotation job; raises RejectionError for anything else."""
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


def require_authority(document: JobDocument, name: str, authority: PrivateAuthority | None) -> None:
    """Raise RejectionError if the job names an authority by ARN, and this deployment's of this name has another one."""
    meant, found = document.certificate_authority_arn, None if authority is None else authority.arn
    if meant is not None and meant != found:
        raise RejectionError(
            RejectionCode.UNKNOWN_AUTHORITY,
            f"The job means authority {meant}; this deployment's '{name}' is {found or 'the CA of AWS IoT'}: deploy "
            "the backend with the desired state of the job, or make the job anew.",
        )


def require_only_certificate(principals: Sequence[Principal], connection: str) -> Principal:
    """Return the only principal, a certificate that this connection uses; raises RejectionError if that is not so."""
    if not principals:
        raise RejectionError(RejectionCode.NO_CERTIFICATE, "The thing has no certificate attached.")
    if len(principals) > 1:
        raise RejectionError(
            RejectionCode.EXTRA_CERTIFICATE,
            f"The thing has {len(principals)} principals attached, expected one: detach those it does not use.",
        )
    _require_rotatable(principals)
    if principals[0].certificate_id != connection:
        raise RejectionError(
            RejectionCode.CERTIFICATE_NOT_ATTACHED, "The connection's certificate is not the one attached to the thing."
        )
    return principals[0]


def require_alone(things: Sequence[str], thing_name: str, *, unless_split: bool) -> None:
    """Raise RejectionError unless the thing alone holds a certificate that is not attached exclusively.

    ``things`` are all that hold it. ``unless_split``: the job allows that others hold it too.
    """
    may_be_shared = unless_split and thing_name in things and len(things) <= MOST_HOLDERS
    if list(things) != [thing_name] and not may_be_shared:
        raise RejectionError(
            RejectionCode.NOT_EXCLUSIVE,
            f"The certificate is attached to {len(things)} things, expected this one alone: others may use it, "
            "so it must not be replaced.",
        )


def require_both_certificates(principals: Sequence[Principal], rotation: Rotation) -> None:
    """Raise RejectionError unless the thing holds exactly the rotation's two certificates; others may hold them too."""
    _require_rotatable(principals)
    found = {p.certificate_id for p in principals}
    if found != {rotation.old_certificate_id, rotation.new_certificate_id}:
        raise RejectionError(
            RejectionCode.REGISTRY_CONTRADICTS,
            f"The thing has {len(found)} certificates attached that are not exactly the old and the new one.",
        )


def require_active(certificate: CertificateDescription) -> None:
    """Raise RejectionError unless the current certificate is ACTIVE."""
    if certificate.status != "ACTIVE":
        raise RejectionError(
            RejectionCode.CERTIFICATE_INACTIVE, f"The current certificate is {certificate.status}, expected ACTIVE."
        )


def require_not_brought(previous: Rotation | None, event: CreateEvent, document: JobDocument) -> None:
    """Raise RejectionError if a controller's job asks again for what it has brought: by the ``previous`` rotation.

    A device that is slower than its job's time limit rotates no less, and AWS IoT asks it again by itself. A job that
    a person starts from the template names no policy: it may ask again at any time.
    """
    if previous is None or document.policy is None:
        return
    if (previous.job_id, previous.new_certificate_id) == (event.job_id, event.principal):
        raise RejectionError(
            RejectionCode.ALREADY_ROTATED,
            "This job has brought the current certificate already: the device was rotated, and the attempt of then "
            "ended too early.",
        )


def require_older(certificate: CertificateDescription, document: JobDocument, queued: datetime | None) -> None:
    """Raise RejectionError unless the certificate existed when a controller's job was ``queued``.

    Two controllers that looked at the same moment, or a job by hand that was faster, would otherwise rotate a device
    twice for one reason. A job that a person starts from the template names no policy: it may ask again at any time.
    """
    if document.policy is not None and queued is not None and certificate.created > queued + ROUNDED:
        raise RejectionError(
            RejectionCode.ALREADY_ROTATED,
            f"The current certificate was made at {certificate.created.isoformat()}, after this job asked for its "
            f"rotation at {queued.isoformat()}.",
        )


def _require_rotatable(principals: Sequence[Principal]) -> None:
    if any(p.certificate_id is None for p in principals):
        raise RejectionError(RejectionCode.NO_CERTIFICATE, "A principal of the thing is not a certificate.")
    strange = next((p.association for p in principals if p.association not in ROTATABLE), None)
    if strange is not None:
        raise RejectionError(
            RejectionCode.NOT_EXCLUSIVE,
            f"A certificate is attached as {strange}, expected {EXCLUSIVE} or {NON_EXCLUSIVE}: it is not replaced.",
        )


def require_rotation(rotation: Rotation | None, event: CommitEvent) -> Rotation:
    """Return the rotation of a commit, whose new certificate was handed out and stays; raises RejectionError."""
    if rotation is None or rotation.job_id != event.job_id:
        raise RejectionError(RejectionCode.NO_ROTATION, f"This thing has no rotation under job '{event.job_id}'.")
    if rotation.phase in MAKING:
        raise RejectionError(RejectionCode.NOT_CREATED, "The new certificate has not been created yet.")
    if rotation.outcome is RotationOutcome.ROLLED_BACK:
        raise RejectionError(RejectionCode.NO_ROTATION, "The rotation was given up: the new certificate is removed.")
    return rotation


def is_known_to_be_alone(rotation: Rotation | None, event: CommitEvent) -> bool:
    """Return whether a later rotation that was given up has left this connection's certificate as the thing's only one.

    A device that commits an earlier job once more asks whether its certificate stays: then it does.
    """
    return (
        rotation is not None
        and rotation.outcome is RotationOutcome.ROLLED_BACK
        and rotation.job_id != event.job_id
        and rotation.which(event.principal) is CertificateRole.OLD
    )


class CreateStep(Enum):
    """The state that a create meets."""

    BEGIN = "nothing is under way"
    ANSWER_AGAIN = "this very create was answered before"
    WAIT = "a create is being worked on: this one is repeated, or its answer goes to the same topic"
    TOO_LATE = "its job has ended since it was sent: it awaits no answer"
    WEIGH = "a rotation is not decided yet: this create is evidence"


def create_step(rotation: Rotation | None, event: CreateEvent, digest: str, now: datetime) -> CreateStep:
    """Return what to do for a create over the key with this digest, after ``rotation``; raises RejectionError."""
    if rotation is None:
        return CreateStep.BEGIN
    if rotation.job_id == event.job_id and digest in rotation.superseded_digests:
        raise RejectionError(
            RejectionCode.SUPERSEDED_KEY, "This request was sent before one that has replaced it: it comes too late."
        )
    if rotation.job_id == event.job_id and rotation.has_ended_after(event.sent(now)):
        return CreateStep.TOO_LATE
    if not rotation.is_active:
        return CreateStep.BEGIN
    if rotation.leased(now):
        return CreateStep.WAIT
    if rotation.which(event.principal) is None:
        raise RejectionError(
            RejectionCode.CERTIFICATE_NOT_ATTACHED,
            f"The connection's certificate is none of the rotation of job '{rotation.job_id}' that is under way.",
        )
    same = rotation.job_id == event.job_id and rotation.public_key_digest == digest
    answered = rotation.phase is Phase.CREATED and event.principal == rotation.old_certificate_id
    return CreateStep.ANSWER_AGAIN if same and answered else CreateStep.WEIGH
