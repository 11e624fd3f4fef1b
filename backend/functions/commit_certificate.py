"""A device reports that it is connected with its new certificate; its connection is the proof.

The function does not ask how the job stands: a commit counts from the instant at which it was sent, whether the backend
hears of the job's end before or after, and the table of verdicts weighs both. Each write names the version that was
read: if a commit and an end race, the loser reads the record again and decides anew.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime
from typing import Any

from protocol import topics
from protocol.messages import CommitAccepted
from protocol.rejections import RejectionCode

from . import decide, ending
from .answering import answer, spend
from .errors import RejectionError
from .events import CommitEvent
from .operator import decided
from .rotation import Rotation
from .services import Services, services
from .takeover import take_over
from .verdicts import CertificateRole

FUNCTION = "commit_certificate"


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Answer one commit (Lambda's entry point).

    The topic rule gives jobId, thingName, topic, clientId, principal and receivedAt.
    """
    return answer(services(), event, FUNCTION, commit)


def commit(services: Services, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Check the proof, write it down, answer; raises RejectionError, ConflictError and botocore's errors."""
    event = CommitEvent.model_validate(raw)
    decide.require_client_of_thing(event.client_id, event.thing_name)
    if services.table.is_quarantined(event.thing_name):
        spend(services, event)
        decide.require_free(is_quarantined=True)
    rotation = services.table.current(event.thing_name)
    if rotation is None or not (rotation.is_active or rotation.job_id == event.job_id):
        rotation = _taken_over(services, event) or rotation
    if not decide.is_known_to_be_alone(rotation, event):
        _weigh(services, event, decide.require_rotation(rotation, event))
    services.registry.publish(topics.outcome(event.topic, topics.ACCEPTED), CommitAccepted(event.job_id).encode())
    decided("accepted", function=FUNCTION, thing=event.thing_name, job=event.job_id, principal=event.principal)
    return {"status": "accepted"}


def _weigh(services: Services, event: CommitEvent, rotation: Rotation) -> None:
    if rotation.which(event.principal) is not CertificateRole.NEW:
        spend(services, event)
        raise RejectionError(
            RejectionCode.OLD_CERTIFICATE, "The connection does not use the new certificate, so it proves nothing."
        )
    if rotation.is_active:
        _commit(services, event, rotation)


def _commit(services: Services, event: CommitEvent, rotation: Rotation) -> None:
    now = services.clock()
    sent = event.sent(now)
    known = rotation.seen(CertificateRole.NEW, sent)
    if rotation.committed_at is None:
        rival = spend(services, event).rival_of(rotation.public_key_digest)
        known = known if rival is None else known.contested(rival, now, _who(event))
        decide.require_both_certificates(services.registry.principals(event.thing_name), rotation)
        known = known.step(now, _who(event), "committed", committed_at=sent.isoformat())
    elif sent < datetime.fromisoformat(rotation.committed_at):  # a repeat has overtaken it
        known = replace(known, committed_at=sent.isoformat())
    ending.conclude(services, rotation, known, _who(event))


def _taken_over(services: Services, event: CommitEvent) -> Rotation | None:
    """Return the rotation that the stock backend has begun under this job, if the job still runs on this device."""
    spend(services, event)

    def document() -> object:
        execution = services.registry.execution(event.thing_name, event.job_id)
        return decide.require_rotation_job(execution, event.job_id).to_wire()

    return take_over(services, event.thing_name, event.job_id, _who(event), document)


def _who(event: CommitEvent) -> str:
    return f"{FUNCTION}: job {event.job_id}, client {event.client_id}, certificate {event.principal}"
