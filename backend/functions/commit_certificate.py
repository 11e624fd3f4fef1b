"""A device says that it is connected with its new certificate; its connection is the proof.

Whether the execution still runs is read from the rotation's record, not from the jobs API: each
ended execution moves the record on by a conditional write, so that of a commit and an end that race
exactly one wins (docs/decisions on the calls of a rotation).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from protocol import topics
from protocol.messages import CommitAccepted
from protocol.rejections import RejectionCode

from . import decide, ending
from .answering import answer
from .decide import CommitStep
from .errors import RejectionError
from .events import CommitEvent
from .operator import decided
from .rotation import Outcome, Phase, Rotation
from .services import Services, services

FUNCTION = "commit_certificate"


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Lambda entry point; the rule gives jobId, thingName, topic, clientId and principal."""
    return answer(services(), event, FUNCTION, commit)


def commit(services: Services, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Check the proof, write it down, answer; raises RejectionError, ConflictError and botocore's errors."""
    event = CommitEvent.model_validate(raw)
    decide.require_client_of_thing(event.client_id, event.thing_name)
    rotation = services.table.current(event.thing_name)
    step = decide.commit_step(rotation, event)
    if step is CommitStep.TOO_LATE:  # a device that still waits for an answer asks again
        decided("not answered", function=FUNCTION, thing=event.thing_name, job=event.job_id, detail=step.value)
        return {"status": "too late"}
    if rotation is not None and step is CommitStep.COMMIT:
        _commit(services, event, rotation)
    if rotation is not None and step is CommitStep.SETTLE:
        _settle(services, event, rotation)
    services.registry.publish(topics.outcome(event.topic, topics.ACCEPTED), CommitAccepted(event.job_id).encode())
    decided("accepted", function=FUNCTION, thing=event.thing_name, job=event.job_id, principal=event.principal)
    return {"status": "accepted"}


def _commit(services: Services, event: CommitEvent, rotation: Rotation) -> None:
    decide.require_both_certificates(services.registry.principals(event.thing_name), rotation)
    now = services.clock()
    committed = services.table.save(
        rotation.step(now, _who(event), "committed", phase=Phase.COMMITTED, committed_at=now.isoformat())
    )
    ending.show(services, committed, "committed")


def _settle(services: Services, event: CommitEvent, rotation: Rotation) -> None:
    finished = ending.settle(services, rotation, event.principal, _who(event))
    if finished.outcome is not Outcome.ROTATED:
        raise RejectionError(
            RejectionCode.OLD_CERTIFICATE, "The device has returned to its old certificate: the new one was removed."
        )


def _who(event: CommitEvent) -> str:
    return f"{FUNCTION}: job {event.job_id}, client {event.client_id}, certificate {event.principal}"
