"""The checks of one document over two fields, or against the clock: contradictions that no field shows alone."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta

from controller.durations import format_duration
from controller.errors import Problem
from controller.reconcile.values import WaveSize, instant_text
from protocol.algorithms import matching_csr_algorithms

from .models import (
    CertificateAuthorityDocument,
    CertificateSpec,
    DrillDocument,
    FleetDocument,
    IncidentDocument,
    QuarantineDocument,
    RotationPolicyDocument,
    WaiverDocument,
)
from .validation import ReadDocument

_Path = tuple[str | int, ...]
_Found = Iterator[tuple[_Path, str]]
"""Path of the field that is wrong, and the sentence."""


def check_document(document: ReadDocument, now: datetime) -> Iterator[Problem]:
    """Yield every contradiction inside one document; ``now`` decides what is past and what is to come."""
    for path, message in _contradictions(document, now):
        yield document.problem(path, message)


def _contradictions(document: ReadDocument, now: datetime) -> _Found:
    match document.model:
        case FleetDocument() as fleet:
            yield from _fleet(fleet)
        case CertificateAuthorityDocument() as authority:
            if authority.metadata.name == "aws-iot":
                yield (
                    ("metadata", "name"),
                    "found 'aws-iot', which always exists; allowed: any other name",
                )
        case RotationPolicyDocument() as policy:
            yield from _certificate(policy.spec.certificate, now)
            yield from _waves(policy.spec.rollout.waves)
        case WaiverDocument() as waiver:
            yield from _waiver(waiver, now)
        case QuarantineDocument() as quarantine:
            yield from _quarantine(quarantine, now)
        case IncidentDocument() as incident:
            yield from _incident(incident, now)
        case DrillDocument() as drill:
            yield from _drill(drill, now)
        case _:
            return


def _fleet(fleet: FleetDocument) -> _Found:
    spec = fleet.spec
    expected = partition_of(spec.region)
    for name, role in (("roleArn", spec.role_arn), ("readRoleArn", spec.read_role_arn)):
        if role is None:
            continue
        _, partition, _, _, account, _ = role.split(":", 5)
        if account != spec.account:
            yield ("spec", name), f"found a role of account {account}; allowed: one of {spec.account}"
        if partition != expected:
            yield ("spec", name), f"found a role of the partition {partition}; {spec.region} is in {expected}"


_PARTITIONS = {
    "us-gov-": "aws-us-gov",
    "cn-": "aws-cn",
    "eusc-": "aws-eusc",
    "us-iso-": "aws-iso",
    "us-isob-": "aws-iso-b",
    "eu-isoe-": "aws-iso-e",
    "us-isof-": "aws-iso-f",
}


def partition_of(region: str) -> str:
    """Return the AWS partition that a region lies in, as ARNs name it."""
    return next((name for prefix, name in _PARTITIONS.items() if region.startswith(prefix)), "aws")


def _certificate(certificate: CertificateSpec, now: datetime) -> _Found:
    base: _Path = ("spec", "certificate")
    if not certificate.model_fields_set - {"csr_signing_algorithm"}:
        yield base, "demands nothing; allowed: at least one of maxAge, renewBefore, keyType, authority"
    key_type, algorithm = certificate.key_type, certificate.csr_signing_algorithm
    path = (*base, "csrSigningAlgorithm")
    if algorithm is not None and key_type is None:
        yield path, f"found {algorithm.value!r} without keyType; allowed: together with keyType"
    elif algorithm is not None and key_type is not None and algorithm.family is not key_type.family:
        allowed = ", ".join(each.value for each in matching_csr_algorithms(key_type))
        yield path, f"found {algorithm.value!r}, with which a {key_type.value} key cannot sign; allowed: {allowed}"
    yield from _future((*base, "rotateIssuedBefore"), certificate.rotate_issued_before, now)


_AGAIN = "certificates issued until then would be rotated again and again"


def _future(path: _Path, instant: datetime | None, now: datetime, why: str = _AGAIN) -> _Found:
    """Report a cutoff that is to come: until then it condemns every certificate, the new ones too."""
    if instant is not None and instant > now:
        message = f"which is to come: {why}"
        yield path, f"found {instant_text(instant)}, {message}; allowed: up to now, {instant_text(now)}"


def _waves(waves: tuple[WaveSize, ...]) -> _Found:
    base: _Path = ("spec", "rollout", "waves")
    for index in range(1, len(waves)):
        before, wave = waves[index - 1], waves[index]
        if before.is_percent and not wave.is_percent:
            message = f"found the count {wave} after {before}; allowed: counts before percentages"
        elif before.is_percent == wave.is_percent and wave.value <= before.value:
            message = f"found {wave} after {before}; allowed: sizes that increase, each counts all waves up to it"
        else:
            continue
        yield (*base, index), message
    if str(waves[-1]) != "100%":
        last = len(waves) - 1
        yield (*base, last), f"found {waves[-1]} as the last wave; allowed: 100%"


def _waiver(waiver: WaiverDocument, now: datetime) -> _Found:
    spec = waiver.spec
    if spec.expires <= now:
        ago = format_duration(timedelta(days=(now - spec.expires).days))
        yield (
            ("spec", "expires"),
            (
                f"the waiver expired at {instant_text(spec.expires)}, {ago} ago; ask its owner, {spec.owner}, "
                "whether it is renewed, or remove it"
            ),
        )
    yield from _twice(("spec", "devices"), spec.devices)


def _twice(base: _Path, names: tuple[str, ...]) -> _Found:
    first: dict[str, int] = {}
    for index, name in enumerate(names):
        if first.setdefault(name, index) != index:
            yield (*base, index), f"{name!r} is already item {first[name]}"


def _quarantine(quarantine: QuarantineDocument, now: datetime) -> _Found:
    spec = quarantine.spec
    if not spec.devices and not spec.certificates:
        yield ("spec",), "cuts nobody off; allowed: at least one of devices, certificates"
    yield from _twice(("spec", "devices"), spec.devices)
    yield from _twice(("spec", "certificates"), spec.certificates)
    yield from _future(("spec", "since"), spec.since, now, "a quarantine begins when it is merged and approved")


def _incident(incident: IncidentDocument, now: datetime) -> _Found:
    spec = incident.spec
    if not {"authority", "key_type", "issued_after", "issued_before"} & spec.model_fields_set:
        yield (
            ("spec",),
            "declares nothing; allowed: at least one of authority, keyType, issuedAfter, issuedBefore",
        )
    if spec.issued_after is not None and spec.issued_before is not None and spec.issued_after >= spec.issued_before:
        yield (
            ("spec", "issuedAfter"),
            (
                f"found {instant_text(spec.issued_after)}; allowed: earlier than issuedBefore, "
                f"{instant_text(spec.issued_before)}"
            ),
        )
    yield from _future(("spec", "issuedBefore"), spec.issued_before, now)
    yield from _twice(("spec", "acceptedLosses"), spec.accepted_losses)


def _drill(drill: DrillDocument, now: datetime) -> _Found:
    spec, number = drill.spec, len(drill.spec.devices)
    yield from _twice(("spec", "devices"), spec.devices)
    yield from _future(("spec", "since"), spec.since, now, "a drill begins when it is merged")
    if spec.deadline <= spec.since:
        message = f"found {instant_text(spec.deadline)}; allowed: later than since, {instant_text(spec.since)}"
        yield ("spec", "deadline"), message
    most = min(spec.sample.of, spec.sample.count or spec.sample.of)
    if number > most:
        yield ("spec", "devices"), f"found {number:,} devices, the sample has {most:,}; allowed: at most so many"
    if spec.sample.count is None and spec.sample.group is None:
        yield ("spec", "sample"), "found neither count nor group; give at least one of them"
