"""The checks over all documents of one fleet, and the fleets of one repository."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from controller.durations import format_duration
from controller.errors import Problem
from controller.reconcile.schedule import never_met
from protocol.names import AWS_IOT_AUTHORITY

from .document_checks import partition_of
from .fields import listed, suggest
from .models import (
    CertificateAuthorityDocument,
    DrillDocument,
    FleetDocument,
    IncidentDocument,
    RotationPolicyDocument,
)
from .resolve import policy_of, source_of
from .validation import ReadDocument


def check_fleet(documents: Sequence[ReadDocument], now: datetime, *, is_complete: bool) -> Iterator[Problem]:
    """Yield every contradiction between the documents of one fleet.

    ``is_complete`` is False if a file could not be read to its end: then a name that is missing
    may stand in the unread part, and nothing is reported of it.
    """
    yield from _same_names(documents)
    yield from _tied_policies(documents)
    yield from _foreign_authorities(documents)
    yield from _unreachable_ages(documents)
    yield from _unmeetable_windows(documents, now)
    yield from _endless_incidents(documents)
    if is_complete:
        yield from _fleet_documents(documents)
        yield from _unknown_authorities(documents)
        yield from _drills_of_nobody(documents)


def check_fleets(fleets: Sequence[ReadDocument]) -> Iterator[Problem]:
    """Yield every contradiction between the Fleet documents of one repository."""
    names: dict[str, ReadDocument] = {}
    places: dict[tuple[str, str], ReadDocument] = {}
    for fleet in fleets:
        first = names.setdefault(fleet.name, fleet)
        if first is not fleet:
            yield fleet.problem(("metadata", "name"), f"the fleet {fleet.name!r} is already defined at {_at(first)}")
        if isinstance(fleet.model, FleetDocument):
            spec = fleet.model.spec
            first = places.setdefault((spec.account, spec.region), fleet)
            if first is not fleet:
                yield fleet.problem(
                    ("spec", "account"),
                    f"account {spec.account} in {spec.region} is already the fleet {first.name!r} at "
                    f"{_at(first)}; allowed: one fleet for each account and region",
                )


def _at(document: ReadDocument) -> str:
    return f"{document.yaml.path}:{document.yaml.place(()).line}"


def _policies(documents: Sequence[ReadDocument]) -> Iterator[tuple[ReadDocument, RotationPolicyDocument]]:
    return ((each, each.model) for each in documents if isinstance(each.model, RotationPolicyDocument))


def _fleet_documents(documents: Sequence[ReadDocument]) -> Iterator[Problem]:
    fleets = [each for each in documents if each.kind == "Fleet"]
    if not fleets and documents:
        yield documents[0].problem((), "no Fleet document stands in this folder; allowed: exactly one a folder")
    for extra in fleets[1:]:
        yield extra.problem(
            ("kind",),
            f"a second Fleet in one folder, the first stands at {_at(fleets[0])}; allowed: one folder a fleet",
        )


def _same_names(documents: Sequence[ReadDocument]) -> Iterator[Problem]:
    first: dict[tuple[str, str], ReadDocument] = {}
    for each in documents:
        if each.name and first.setdefault((each.kind, each.name), each) is not each and each.kind != "Fleet":
            at = _at(first[each.kind, each.name])
            message = f"the {each.kind} {each.name!r} is already defined at {at}"
            yield each.problem(("metadata", "name"), message)


def _tied_policies(documents: Sequence[ReadDocument]) -> Iterator[Problem]:
    first: dict[tuple[str, int], ReadDocument] = {}
    for document, policy in _policies(documents):
        spec = policy.spec
        tied = first.setdefault((spec.thing_group, spec.priority), document)
        if tied is not document:
            field = "priority" if "priority" in spec.model_fields_set else "thingGroup"
            yield document.problem(
                ("spec", field),
                f"ties with the policy {tied.name!r} at {_at(tied)}, which governs {spec.thing_group!r} with the same "
                f"priority {spec.priority}; allowed: different priorities",
            )


def _unknown_authorities(documents: Sequence[ReadDocument]) -> Iterator[Problem]:
    declared = {each.name for each in documents if each.kind == "CertificateAuthority"} | {AWS_IOT_AUTHORITY}
    known = sorted(declared)
    for document in documents:
        parent: tuple[str, ...]
        match document.model:
            case RotationPolicyDocument(spec=policy):
                parent, authority = ("spec", "certificate"), policy.certificate.authority
            case IncidentDocument(spec=incident):
                parent, authority = ("spec",), incident.authority
            case _:
                continue
        if authority is not None and authority not in declared:
            message = f"found {authority!r}; allowed: {listed(known)}{suggest(authority, known)}"
            yield document.problem((*parent, "authority"), message)


def _foreign_authorities(documents: Sequence[ReadDocument]) -> Iterator[Problem]:
    """Yield each CA outside the fleet's region: AWS Private CA works inside one. It may be of another account."""
    regions = {each.model.spec.region for each in documents if isinstance(each.model, FleetDocument)}
    for document in documents:
        if isinstance(document.model, CertificateAuthorityDocument) and len(regions) == 1:
            _, partition, _, region, _ = document.model.spec.arn.split(":", 4)
            (of_fleet,) = regions
            if region != of_fleet:
                message = f"found a CA in {region}; allowed: one in the fleet's region, {of_fleet}"
                yield document.problem(("spec", "arn"), message)
            elif partition != partition_of(of_fleet):
                message = f"found a CA of the partition {partition}; {region} is in {partition_of(of_fleet)}"
                yield document.problem(("spec", "arn"), message)


def _validities(documents: Sequence[ReadDocument]) -> dict[str | None, timedelta]:
    """Return the validity of each private CA; that of AWS IoT's own certificates is practically endless."""
    models = (each.model for each in documents)
    return {each.metadata.name: each.spec.validity for each in models if isinstance(each, CertificateAuthorityDocument)}


def _unmeetable_windows(documents: Sequence[ReadDocument], now: datetime) -> Iterator[Problem]:
    """Yield each policy whose windows leave no open time before some due date to come."""
    validities = _validities(documents)
    for document, policy in _policies(documents):
        why = never_met(policy_of(policy, source_of(document)), validities.get(policy.spec.certificate.authority), now)
        if why is not None:
            yield document.problem(("spec", "schedule", "windows"), why)


def _unreachable_ages(documents: Sequence[ReadDocument]) -> Iterator[Problem]:
    """Report a policy under which a new certificate is due, or brought forward by jitter, the moment it is issued."""
    validities = _validities(documents)
    for document, policy in _policies(documents):
        certificate, jitter = policy.spec.certificate, policy.spec.schedule.jitter_percent
        validity = validities.get(certificate.authority)
        if validity is None or certificate.renew_before is None:
            continue
        life = min(validity, certificate.max_age or validity)
        until_due = min(validity - certificate.renew_before, certificate.max_age or validity)
        if until_due <= life * jitter / 100:
            yield document.problem(
                ("spec", "certificate", "renewBefore"),
                f"found {format_duration(certificate.renew_before)}, but certificates of "
                f"{certificate.authority!r} are valid for {format_duration(validity)} and jitter brings rotations "
                f"forward by up to {format_duration(life * jitter / 100)}: a new one would be due at once; "
                f"allowed: less than {format_duration(validity - life * jitter / 100)}",
            )


def _endless_incidents(documents: Sequence[ReadDocument]) -> Iterator[Problem]:
    """Report a policy that demands what an incident declares compromised."""
    demanding: dict[tuple[object, object], list[str]] = defaultdict(list)
    for _, policy in _policies(documents):
        rule = policy.spec.certificate
        for demanded in {(rule.authority, rule.key_type), (rule.authority, None), (None, rule.key_type)}:
            demanding[demanded].append(policy.metadata.name)
    for document in documents:
        if not isinstance(document.model, IncidentDocument):
            continue
        incident = document.model.spec
        condition = (incident.authority, incident.key_type)
        if condition == (None, None) or incident.issued_before is not None or condition not in demanding:
            continue
        yield document.problem(
            ("spec",),
            f"new certificates of the policies {listed(sorted(demanding[condition]))} would be as compromised as the "
            "old ones; allowed: policies that demand another authority or key type, or an incident with issuedBefore",
        )


def _drills_of_nobody(documents: Sequence[ReadDocument]) -> Iterator[Problem]:
    """Yield each drill whose policy does not exist."""
    known = sorted(policy.metadata.name for _, policy in _policies(documents))
    for document in documents:
        if isinstance(document.model, DrillDocument) and document.model.spec.policy not in known:
            found = document.model.spec.policy
            message = f"found {found!r}; allowed: {listed(known) or 'a policy of the fleet'}{suggest(found, known)}"
            yield document.problem(("spec", "policy"), message)
