"""Answers to devices, the same for create and commit.

A refusal for a cause that a repeat does not cure is answered with its code. A failure that may pass
is not answered: the device asks again within its time limit, while a rejection would end its job.
Every answer names the job that it was asked for, so that a device can recognise one that comes late.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

from pydantic import ValidationError

from protocol import topics
from protocol.messages import Rejected
from protocol.rejections import RejectionCode

from . import decide, ending
from .budget import BudgetRefusal, CertificateBudget
from .errors import ConflictError, RejectionError, error_code, is_transient
from .events import Request, problems
from .operator import decided
from .services import Services

CONFLICT_RETRIES = 3


def answer(
    services: Services,
    event: Mapping[str, Any],
    function: str,
    handle: Callable[[Services, Mapping[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """Run ``handle`` for ``function``; publish a rejection for what it refuses, and raise on what failed."""
    try:
        return _with_retries(services, event, handle)
    except RejectionError as refusal:
        return _reject(services, event, function, refusal)
    except ValidationError as error:
        sentence = f"The request is malformed: {problems(error)}."
        return _reject(services, event, function, RejectionError(RejectionCode.MALFORMED_REQUEST, sentence))
    except Exception as error:
        thing, job = _text(event, "thingName"), _text(event, "jobId")
        decided("failed", function=function, thing=thing, job=job, detail=error_code(error))
        if not is_transient(error):
            sentence = f"The backend failed ({error_code(error)}): its log shows more."
            _reject(services, event, function, RejectionError(RejectionCode.INTERNAL, sentence))
        raise


def _with_retries(
    services: Services,
    event: Mapping[str, Any],
    handle: Callable[[Services, Mapping[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    for _ in range(CONFLICT_RETRIES):
        try:
            return _handled(services, event, handle)
        except ConflictError:
            continue
    return _handled(services, event, handle)


def _handled(
    services: Services,
    event: Mapping[str, Any],
    handle: Callable[[Services, Mapping[str, Any]], dict[str, Any]],
) -> dict[str, Any]:
    """Run ``handle``; record a refused request over the old certificate too, as evidence that this one is in use."""
    try:
        return handle(services, event)
    except RejectionError as refusal:
        if refusal.code is not RejectionCode.OVER_BUDGET:  # which shall cost nothing more
            request = Request.model_validate(event)
            if refusal.code is RejectionCode.CLIENT_ID_MISMATCH:  # not counted as the thing's, whose client it is not
                spend(services, request, request.principal)
            who = f"refused with {refusal.code.value}: client {request.client_id}, certificate {request.principal}"
            ending.note_old(services, request.thing_name, request.principal, request.sent(services.clock()), who)
        raise


def spend(services: Services, event: Request, sender: str | None = None) -> CertificateBudget:
    """Count a request before anything scarce is called for it; raises RejectionError if it is one too many.

    ``sender`` names the owner of the budget; None: the thing of the request.
    """
    budget = services.table.budget(sender or event.thing_name)
    return services.table.save_budget(budget.request(event.job_id, services.clock()))


def _reject(services: Services, event: Mapping[str, Any], function: str, refusal: RejectionError) -> dict[str, Any]:
    decided(
        "rejected",
        function=function,
        thing=_text(event, "thingName"),
        job=_text(event, "jobId"),
        client=_text(event, "clientId"),
        principal=_text(event, "principal"),
        code=refusal.code.value,
        detail=str(refusal),
        distinct="yes" if _is_first(services, event, refusal) else "no",
    )
    topic = event.get("topic")
    if isinstance(topic, str) and topics.parse_rotation_topic(topic) is not None:
        payload = Rejected(str(refusal), refusal.code.value, _text(event, "jobId") or None).encode()
        services.registry.publish(topics.outcome(topic, topics.REJECTED), payload)
    return {"status": "rejected", "code": refusal.code.value}


def _is_first(services: Services, event: Mapping[str, Any], refusal: RejectionError) -> bool:
    """Return whether this is the sender's first refusal for this cause today, and note it in the sender's budget.

    The sender is the thing if the client is one of the thing's own, else the certificate of the connection.
    """
    thing, job, client, principal = (_text(event, name) for name in ("thingName", "jobId", "clientId", "principal"))
    is_own = thing is not None and client is not None and decide.is_client_of_thing(client, thing)
    sender = thing if is_own else principal
    if not sender:
        return True
    budget = services.table.budget(sender)
    known, is_first = budget.refused(BudgetRefusal(job or "", refusal.code.value, str(refusal)), services.clock())
    if known != budget:
        with suppress(ConflictError):  # another refusal was noted meanwhile
            services.table.save_budget(known)
    return is_first


def _text(event: Mapping[str, Any], name: str) -> str | None:
    value = event.get(name)
    return value[:128] if isinstance(value, str) else None
