"""Checked documents to the values that the reconcile core works on."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TypeVar

from controller.reconcile.values import (
    AbortRule,
    CertificateAuthority,
    CertificateRule,
    DesiredState,
    Drill,
    DrillSample,
    Fleet,
    Guardrails,
    Incident,
    Policy,
    Quarantine,
    Rollout,
    Schedule,
    Source,
    Suspension,
    Waiver,
    Window,
)
from protocol.names import AWS_IOT_AUTHORITY

from .models import (
    CertificateAuthorityDocument,
    Document,
    DrillDocument,
    FleetDocument,
    IncidentDocument,
    QuarantineDocument,
    RolloutSpec,
    RotationPolicyDocument,
    ScheduleSpec,
    WaiverDocument,
)
from .validation import ReadDocument

_AnyDocument = TypeVar("_AnyDocument", bound=Document)


def resolve(documents: Iterable[ReadDocument], *, commit: str | None, is_dirty: bool) -> DesiredState:
    """Return the desired state of one fleet, of a commit that is_dirty or not; the documents were checked."""
    documents = list(documents)
    ((fleet, source),) = _of(documents, FleetDocument)
    authorities = [_authority(*each) for each in _of(documents, CertificateAuthorityDocument)]
    return DesiredState(
        fleet=_fleet(fleet, source),
        authorities={each.name: each for each in (CertificateAuthority(AWS_IOT_AUTHORITY), *authorities)},
        policies=tuple(policy_of(*each) for each in _of(documents, RotationPolicyDocument)),
        waivers=tuple(_waiver(*each) for each in _of(documents, WaiverDocument)),
        incidents=tuple(_incident(*each) for each in _of(documents, IncidentDocument)),
        quarantines=tuple(_quarantine(*each) for each in _of(documents, QuarantineDocument)),
        drills=tuple(_drill(*each) for each in _of(documents, DrillDocument)),
        commit=commit,
        is_dirty=is_dirty,
    )


def source_of(document: ReadDocument) -> Source:
    """Return where the document stands, with the line of each field."""
    lines = {".".join(map(str, path)): place.line for path, place in document.yaml.places.items() if path}
    return Source(document.yaml.path, document.yaml.place(()).line, lines)


def _of(documents: Iterable[ReadDocument], kind: type[_AnyDocument]) -> list[tuple[_AnyDocument, Source]]:
    """Return the documents of one kind by name, so that the order of files changes nothing."""
    of_kind = [(each.name, each.model, each) for each in documents if isinstance(each.model, kind)]
    return [(model, source_of(each)) for _, model, each in sorted(of_kind, key=lambda entry: entry[0])]


def _fleet(document: FleetDocument, source: Source) -> Fleet:
    spec = document.spec
    return Fleet(
        name=document.metadata.name,
        account=spec.account,
        region=spec.region,
        source=source,
        role_arn=spec.role_arn,
        read_role_arn=spec.read_role_arn,
        site_attribute=spec.site_attribute,
        stack_name=spec.backend.stack_name,
        guardrails=Guardrails(**dict(spec.guardrails)),
    )


def _authority(document: CertificateAuthorityDocument, source: Source) -> CertificateAuthority:
    spec = document.spec
    return CertificateAuthority(
        name=document.metadata.name,
        source=source,
        arn=spec.arn,
        signing_algorithm=spec.signing_algorithm,
        validity=spec.validity,
        template_arn=spec.template_arn,
    )


def policy_of(document: RotationPolicyDocument, source: Source) -> Policy:
    """Return the policy's value."""
    spec = document.spec
    return Policy(
        name=document.metadata.name,
        thing_group=spec.thing_group,
        source=source,
        priority=spec.priority,
        certificate=CertificateRule(**dict(spec.certificate)),
        schedule=_schedule(spec.schedule),
        rollout=_rollout(spec.rollout),
        mode=spec.mode,
        suspend=None if spec.suspend is None else Suspension(spec.suspend.reason, spec.suspend.until),
    )


def _schedule(spec: ScheduleSpec) -> Schedule:
    windows = (Window(each.cron, each.timezone, each.duration, each.kind) for each in spec.windows)
    return Schedule(spec.jitter_percent, tuple(windows), spec.least_interval)


def _rollout(spec: RolloutSpec) -> Rollout:
    abort = (
        AbortRule(each.failure_type, each.threshold_percentage, each.min_number_of_executed_things)
        for each in spec.abort
    )
    return Rollout(
        waves=spec.waves,
        soak=spec.soak,
        max_in_flight=spec.max_in_flight,
        maximum_per_minute=spec.maximum_per_minute,
        timeout=spec.timeout,
        retries=spec.retries,
        abort=tuple(abort),
        stragglers_after=spec.stragglers_after,
        offline_first=spec.offline_first,
    )


def _waiver(document: WaiverDocument, source: Source) -> Waiver:
    spec = document.spec
    return Waiver(document.metadata.name, frozenset(spec.devices), spec.owner, spec.reason, spec.expires, source)


def _quarantine(document: QuarantineDocument, source: Source) -> Quarantine:
    spec = document.spec
    return Quarantine(
        document.metadata.name,
        frozenset(spec.devices),
        frozenset(spec.certificates),
        spec.owner,
        spec.reason,
        spec.since,
        source,
    )


def _incident(document: IncidentDocument, source: Source) -> Incident:
    spec = document.spec
    return Incident(
        name=document.metadata.name,
        reason=spec.reason,
        deadline=spec.deadline,
        source=source,
        authority=spec.authority,
        key_type=spec.key_type,
        issued_after=spec.issued_after,
        issued_before=spec.issued_before,
        ignore_windows=spec.ignore_windows,
        accepted_losses=frozenset(spec.accepted_losses),
    )


def _drill(document: DrillDocument, source: Source) -> Drill:
    spec = document.spec
    return Drill(
        name=document.metadata.name,
        policy=spec.policy,
        reason=spec.reason,
        since=spec.since,
        deadline=spec.deadline,
        devices=frozenset(spec.devices),
        sample=DrillSample(**dict(spec.sample)),
        source=source,
        ignore_windows=spec.ignore_windows,
    )
