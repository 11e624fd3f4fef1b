"""Why a rotation failed, in words for whoever reads the job: what happened, and what to do."""

from __future__ import annotations

from typing import Dict, Tuple

from .machine import Event, State

S, E = State, Event

_NOT_AGAIN = (
    "the new credential was committed, but does not connect any more: the old one is tried; check that the new "
    "certificate is active and attached to the thing"
)
_UNSURE = (
    "the credential in place, over which no commit was accepted, does not connect any more: the other one is tried"
)
_REASONS: Dict[Tuple[State, Event], str] = {
    (S.PREPARING, E.TIME_LIMIT): (
        "AWS IoT Jobs did not confirm IN_PROGRESS in time; check that the device's IoT policy allows "
        "$aws/things/<thing>/jobs/*"
    ),
    (S.CREATING, E.CREATE_REJECTED): "the backend refused to issue a certificate: {detail}",
    (S.CREATING, E.TIME_LIMIT): (
        "no certificate came in time{detail}; check the backend's rules and functions, and that the device's IoT "
        "policy allows awslabs/things/<thing>/certificate/*; an answer of over 4,800 bytes never reaches nucleus lite: "
        "let the backend send the certificate without its chain"
    ),
    (S.INSTALLING, E.START): (
        "the device stopped while the new credential was being installed: rolled back; let the job run again"
    ),
    (S.RESTARTING, E.TIME_LIMIT): "the nucleus was asked to restart but did not; check restartCommand and its rights",
    (S.CONNECTING, E.QUEUED): "the job was queued again while the device restarted: rolled back to start afresh",
    (S.CONNECTING, E.TIME_LIMIT): (
        "no connection with the new certificate in time: rolled back; check that its policies, its authority and the "
        "nucleus' endpoints go together{detail}"
    ),
    (S.KEEPING, E.TIME_LIMIT): "no answer to the commit: asking AWS IoT Jobs whether the new credential connects",
    (S.RESUMING, E.TIME_LIMIT): _NOT_AGAIN,
    (S.ASKING, E.TIME_LIMIT): _UNSURE,
    (S.REPORTING, E.TIME_LIMIT): _UNSURE,
    (S.RETRYING, E.TIME_LIMIT): (
        "the new credential did not connect: the old one is tried; check that the new certificate is active and "
        "attached to the thing"
    ),
    (S.COMMITTING, E.COMMIT_REJECTED): "the backend refused the commit: {detail}; rolled back",
    (S.COMMITTING, E.TIME_LIMIT): "no answer to the commit in time: rolled back; check the backend's commit function",
}


def reason(state: State, event: Event, detail: str) -> str:
    """Return the sentence for a transition that gives up; ``detail`` is an action's error or the event's text."""
    text = _REASONS.get((state, event))
    return text.format(detail=detail) if text else detail
