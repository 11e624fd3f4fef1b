"""A device asks for a certificate over its new key.

The order keeps what is cheap first: the request itself, the record, the execution, then the
registry's scarce calls. From the moment a rotation is begun every failure undoes it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from protocol import topics
from protocol.deployment import EXCLUSIVE
from protocol.job_document import JobDocument
from protocol.messages import CreateAccepted
from protocol.rejections import RejectionCode

from . import csr, decide, ending
from .answering import answer, spend
from .budget import CertificateBudget
from .decide import CreateStep
from .environment import PrivateAuthority
from .errors import ContradictionError, RejectionError, error_code, is_refused
from .events import CreateEvent
from .operator import decided
from .registry import FIRST_ATTEMPT, ExecutionState, Principal
from .rotation import LEASE, MAKING, Phase, Rotation
from .services import Services, services
from .verdicts import CertificateRole

FUNCTION = "create_certificate"


def handler(event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Answer one create (Lambda's entry point).

    The topic rule gives jobId, csr, thingName, topic, clientId and principal.
    """
    return answer(services(), event, FUNCTION, create)


@dataclass(frozen=True, slots=True)
class Asked:
    """A create request that passed the checks of the request itself and of its job."""

    event: CreateEvent
    request: csr.SigningRequest
    document: JobDocument
    authority_name: str
    authority: PrivateAuthority | None  # None for AWS IoT's own CA
    budget: CertificateBudget
    execution: ExecutionState

    @property
    def who(self) -> str:
        """The sender of the request, as the evidence names it."""
        return _who(self.event)


def _who(event: CreateEvent) -> str:
    return f"{FUNCTION}: job {event.job_id}, client {event.client_id}, certificate {event.principal}"


def create(services: Services, raw: Mapping[str, Any]) -> dict[str, Any]:
    """Check, issue, attach, answer; raises RejectionError, ConflictError and botocore's errors."""
    event = CreateEvent.model_validate(raw)
    decide.require_client_of_thing(event.client_id, event.thing_name)
    budget = spend(services, event)
    decide.require_certificate_in_place(event)
    decide.require_free(is_quarantined=services.table.is_quarantined(event.thing_name))
    request = csr.parse(event.csr)
    rotation = services.table.current(event.thing_name)
    step = decide.create_step(rotation, event, request.public_key_digest, services.clock())
    if rotation is not None and step is CreateStep.TOO_LATE:  # of a job that has ended, nothing more is asked
        _note_rival(services, event, request, budget, rotation)
        return _not_answered(event, step)
    asked = _check(services, event, request, budget)
    if rotation is not None and step is CreateStep.ANSWER_AGAIN:
        return _accept(services, event, rotation)
    if rotation is not None and step is CreateStep.WAIT:
        _note_rival(services, event, request, budget, rotation)
        return _not_answered(event, step)
    if rotation is not None and step is CreateStep.WEIGH:
        rotation = _weigh(services, asked, rotation)
        if rotation.is_active:
            return _not_answered(event, step)
    principal, policies, is_shared = _require_successor(services, asked, rotation)
    begun = _begin(services, asked, principal, rotation, is_shared=is_shared)
    created = _issue_or_undo(services, asked, policies, begun)
    ending.show(services, created, "created")
    return _accept(services, event, created)


def _not_answered(event: CreateEvent, step: CreateStep) -> dict[str, Any]:
    """Answer nothing: a device that still waits asks again, and a rejection might end an attempt that goes well."""
    decided("not answered", function=FUNCTION, thing=event.thing_name, job=event.job_id, detail=step.value)
    return {"status": _UNANSWERED[step]}


_UNANSWERED = {CreateStep.WAIT: "waiting", CreateStep.TOO_LATE: "too late", CreateStep.WEIGH: "not answered"}


def _note_rival(
    services: Services, event: CreateEvent, request: csr.SigningRequest, budget: CertificateBudget, rotation: Rotation
) -> None:
    """Record that a device asks for a certificate over a second key under the rotation's job.

    It may ask while the first key's certificate is made, or even after the job's end.
    """
    now, digest = services.clock(), rotation.public_key_digest
    is_old = rotation.which(event.principal) is CertificateRole.OLD
    if not is_old or rotation.job_id != event.job_id or request.public_key_digest == digest:
        return
    if rotation.phase in MAKING:  # the create at work writes the rotation's record
        services.table.save_budget(budget.rivalled(digest, event.sent(now)))
        return
    known = rotation.contested(event.sent(now), now, _who(event))
    if rotation.is_active:
        ending.conclude(services, rotation, known, _who(event))
    else:
        ending.tell_late(services, known)


def _weigh(services: Services, asked: Asked, rotation: Rotation) -> Rotation:
    """Add what this create shows to an undecided rotation, and conclude it if that suffices.

    Raises RejectionError if the rotation's job has ended and the rotation stays undecided.
    """
    event, now = asked.event, services.clock()
    known = _with_sighting(rotation, asked, now)
    if known.ended_at is None and known.job_id != event.job_id:
        known = ending.with_end(services, known)
    if known.ended_at is not None and not rotation.has_ended_after(event.sent(now)):
        known = replace(known, refused_job=event.job_id)
    concluded = ending.conclude(services, rotation, known, asked.who)
    if concluded.is_active and concluded.refused_job == event.job_id:
        raise RejectionError(
            RejectionCode.ROTATION_IN_PROGRESS,
            f"The rotation of job '{rotation.job_id}' has ended, and which of its two certificates this device uses "
            "is not decided: see its notification.",
        )
    return concluded


def _with_sighting(rotation: Rotation, asked: Asked, now: datetime) -> Rotation:
    event = asked.event
    which, sent = rotation.which(event.principal), event.sent(now)
    if which is None or rotation.phase in MAKING:
        return rotation
    known = rotation.seen(which, sent)
    is_second = event.job_id == known.job_id and asked.request.public_key_digest != known.public_key_digest
    return known.contested(sent, now, asked.who) if is_second and known.ended_at is None else known


def _check(services: Services, event: CreateEvent, request: csr.SigningRequest, budget: CertificateBudget) -> Asked:
    execution = services.registry.execution(event.thing_name, event.job_id)
    document = decide.require_rotation_job(execution, event.job_id)
    assert execution is not None  # noqa: S101 - it has a document
    csr.require_demanded(request, document)
    try:
        name, authority = services.environment.authority(document.certificate_authority)
    except KeyError:
        allowed = ", ".join(services.environment.authority_names)
        raise RejectionError(
            RejectionCode.UNKNOWN_AUTHORITY,
            f"The job names authority '{document.certificate_authority}'; this deployment has: {allowed}.",
        ) from None
    decide.require_authority(document, name, authority)
    return Asked(event, request, document, name, authority, budget, execution)


def _require_successor(
    services: Services, asked: Asked, previous: Rotation | None
) -> tuple[Principal, list[str], bool]:
    """Return the current certificate's principal and policies, and whether several things hold or held it.

    Raises RejectionError if the certificate may not be replaced, or if the CSR is not for its successor.
    """
    event = asked.event
    principal = decide.require_only_certificate(services.registry.principals(event.thing_name), event.principal)
    holders: list[str] = []
    if principal.association != EXCLUSIVE:
        holders = services.registry.things_of(principal.arn) or []
        decide.require_alone(holders, event.thing_name, unless_split=asked.document.splits)
    certificate = services.registry.certificate(event.principal)
    decide.require_active(certificate)
    decide.require_not_brought(previous, event, asked.document)
    decide.require_older(certificate, asked.document, _asked_at(services, asked))
    csr.require_successor(asked.request, certificate.pem)
    is_shared = bool(holders) and services.table.note_shared(event.principal, holders, services.clock())
    return principal, services.registry.policies(principal.arn), is_shared


def _asked_at(services: Services, asked: Asked) -> datetime | None:
    """Return when the job asked for this rotation: in its first attempt, if AWS IoT has repeated that by itself."""
    event, queued = asked.event, asked.execution.queued
    if asked.execution.number == FIRST_ATTEMPT or asked.document.policy is None:
        return queued
    return services.registry.first_queued(event.thing_name, event.job_id) or queued


def _begin(
    services: Services, asked: Asked, principal: Principal, previous: Rotation | None, *, is_shared: bool
) -> Rotation:
    now, event, digest = services.clock(), asked.event, asked.request.public_key_digest
    superseded: tuple[str, ...] = ()
    if previous is not None and previous.job_id == event.job_id:
        superseded = (*previous.superseded_digests, previous.public_key_digest)
    begun = Rotation(
        thing_name=event.thing_name,
        job_id=event.job_id,
        public_key_digest=digest,
        old_certificate_id=event.principal,
        certificate_arn_prefix=principal.arn.removesuffix(event.principal),
        authority=asked.authority_name,
        started_at=now.isoformat(),
        lease_until=(now + LEASE).isoformat(),
        version=previous.version if previous is not None else 0,
        key_type=asked.request.key_type.value,
        policy=asked.document.policy,
        commit=asked.document.commit,
        superseded_digests=tuple(d for d in superseded if d != digest),
        is_shared=is_shared,
    )
    services.table.save_budget(asked.budget.certificate())
    return services.table.save(begun.step(now, asked.who, f"issuing from {asked.authority_name}"))


def _issue_or_undo(services: Services, asked: Asked, policies: list[str], rotation: Rotation) -> Rotation:
    """Issue and attach the certificate; after a failure undo it, or leave a record for the next create or sweep."""
    try:
        issued = services.issuers.issue(asked.request, asked.authority, services.clock())
        rotation = rotation.step(
            services.clock(),
            asked.who,
            f"issued {issued.certificate_id}",
            phase=Phase.ISSUED,
            new_certificate_id=issued.certificate_id,
            certificate_pem=issued.pem,
        )
        rotation = services.table.save(rotation)
        services.registry.attach(rotation.thing_name, issued.arn, policies)
        # Whoever cuts a thing off says so first, and looks at what it holds then: one of the two sees the other.
        decide.require_free(is_quarantined=services.table.is_quarantined(rotation.thing_name))
        return services.table.save(rotation.step(services.clock(), asked.who, "attached", phase=Phase.CREATED))
    except Exception as error:
        _undo(services, rotation, f"{asked.who}, after {_reason(error)}", may_be_lost=not is_refused(error))
        raise


def _reason(error: Exception) -> str:
    return str(error) if isinstance(error, RejectionError) else error_code(error)


def _undo(services: Services, rotation: Rotation, who: str, *, may_be_lost: bool) -> None:
    """Undo now; if even that fails, the record stays, and the next create or the sweep does it.

    ``may_be_lost`` is False if AWS has refused to issue. Then nobody looks for a certificate without a known id,
    because that would cost a scarce call for each recent certificate.
    """
    try:
        current = services.table.current(rotation.thing_name)
        if current is None or not current.is_active or current.started_at != rotation.started_at:
            ending.remove_stray(services, rotation, current, may_be_lost=may_be_lost)
        else:
            known = rotation.new_certificate_id or current.new_certificate_id
            current = replace(current, new_certificate_id=known)
            ending.remove_new(services, current, who, may_be_lost=may_be_lost)
    except Exception as error:  # noqa: BLE001  # the failure that led here is the one to report
        decided(
            "not undone yet",
            function=FUNCTION,
            thing=rotation.thing_name,
            job=rotation.job_id,
            detail=error_code(error),
        )


def _accept(services: Services, event: CreateEvent, rotation: Rotation) -> dict[str, Any]:
    if rotation.certificate_pem is None:
        raise ContradictionError(f"the record of {rotation.thing_name} shows created but holds no certificate")
    payload = CreateAccepted(rotation.certificate_pem, event.job_id).encode()
    services.registry.publish(topics.outcome(event.topic, topics.ACCEPTED), payload)
    decided(
        "accepted",
        function=FUNCTION,
        thing=event.thing_name,
        job=event.job_id,
        principal=event.principal,
        certificate=rotation.new_certificate_id,
        authority=rotation.authority,
    )
    return {"status": "accepted", "certificateId": rotation.new_certificate_id}
