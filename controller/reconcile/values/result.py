"""The result of a rotation, known before it is made.

A field that a policy leaves out stays as it is: key type and authority of the certificate in place. The job
states all of it in full, so that nothing depends on how component and backend happen to be set.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field, replace
from datetime import timedelta
from hashlib import sha256
from typing import TYPE_CHECKING

from protocol.algorithms import CsrSigningAlgorithm, KeyType, default_csr_algorithm
from protocol.job_document import SPLIT, JobDocument

if TYPE_CHECKING:
    from collections.abc import Iterable

    from protocol.deployment import DeployedBackend

    from .device import Certificate, Device, StockBackend
    from .policy import CertificateAuthority, CertificateRule, DesiredState, Policy

DAY = timedelta(days=1)
ENDLESS_DAYS = 3_653  # above ten years an end is none that anybody plans for
KIND_CHARACTERS = 4
STOCK_KIND = "0000"

_OR_OURS = "put that right, or deploy this project's backend, which makes what the job names"
_KEY_TYPES = {key_type.value: key_type for key_type in KeyType}


@dataclass(frozen=True, slots=True)
class Holding:
    """The parts of a credential; ``days`` of validity are None if it is practically endless, or not known."""

    key_type: str
    authority: str
    days: int | None = None

    def __str__(self) -> str:
        return f"{self.key_type} / {self.authority}" + (f" / {self.days:,} d" if self.days is not None else "")


@dataclass(frozen=True, slots=True)
class RotationResult:
    """The credential of a device once it has rotated, and what its job must ask for that."""

    key_type: KeyType
    signing_algorithm: CsrSigningAlgorithm
    authority: str
    arn: str | None  # of a private authority
    days: int | None
    is_told: bool = True  # by the job; a stock backend and its component do as they are set, and are told nothing
    splits: bool = False  # a certificate that other things hold too may be replaced
    holding: Holding = field(init=False, compare=False)  # the same as a holding, to compare with
    kind: str = field(init=False, compare=False)  # that tells one job document from another; part of the ids of jobs

    def __post_init__(self) -> None:
        """Work out once what is asked of every device that has this result."""
        object.__setattr__(self, "holding", Holding(self.key_type.value, self.authority, self.days))
        object.__setattr__(self, "kind", self._kind() if self.is_told else STOCK_KIND)

    def document(self, policy: str, commit: str | None) -> JobDocument:
        """Return the job document of a policy: in full, or exactly the stock one."""
        if not self.is_told:
            return JobDocument()
        shared = SPLIT if self.splits else None
        return JobDocument(self.key_type, self.signing_algorithm, self.authority, policy, commit, self.arn, shared)

    def _kind(self) -> str:
        """Return the digest of what is asked, in four hexadecimal characters."""
        parts = [self.key_type.value, self.signing_algorithm.value, self.authority, self.arn]
        parts += [SPLIT] if self.splits else []  # jobs that do not split keep the ids that they have
        return sha256("\n".join(map(str, parts)).encode()).hexdigest()[:KIND_CHARACTERS]


@dataclass(frozen=True, slots=True)
class Unknown:
    """Why the result of a rotation cannot be known, what a person must do, and which policy field is concerned."""

    message: str
    remedy: str
    policy_field: str


@dataclass(frozen=True, slots=True)
class HoldingChange:
    """So many devices that go from one holding to another."""

    devices: int
    before: Holding
    after: Holding | None  # None: a stock backend and its component decide

    def __str__(self) -> str:
        return f"{self.devices:,} × {self.before} → {self.after or 'whatever component and stock backend are set to'}"


def unasked(transition: HoldingChange, rule: CertificateRule) -> str | None:
    """Return what a transition changes that the policy does not speak of.

    It should have stayed as it is; None for nothing.
    """
    before, after = transition.before, transition.after
    if after is None:
        return "everything"
    told = []
    if rule.key_type is None and after.key_type != before.key_type:
        told.append("the key")
    if rule.authority is None:
        if after.authority != before.authority:
            told.append("the issuer")
        if before.days is not None and (after.days is None or after.days > before.days + 1):
            told.append("a longer life")
    return " and ".join(told) or None


def held_by(certificate: Certificate) -> Holding:
    """Return what a certificate that could be read is made of."""
    days = None
    if certificate.not_before is not None and certificate.not_after is not None:
        days = round((certificate.not_after - certificate.not_before) / DAY)
    authority = certificate.authority or f"unknown ({certificate.issuer or 'no issuer'})"
    return Holding(str(certificate.key_type), authority, days if days is None or days < ENDLESS_DAYS else None)


def result_of(
    certificate: Certificate, policy: Policy, desired: DesiredState, deployment: DeployedBackend | None
) -> RotationResult | Unknown:
    """Return what a rotation under the policy, by this deployment, makes of the device that holds this certificate."""
    rule = policy.certificate
    key_type = rule.key_type or _KEY_TYPES.get(certificate.key_type or "")
    if key_type is None:
        return Unknown(
            f"policy {policy.name} names no key type, and none that a rotation can make is in place: "
            f"{certificate.key_type}",
            "name keyType in the policy",
            "spec.certificate.keyType",
        )
    name = rule.authority or certificate.authority
    if name is None or name not in desired.authorities:
        return Unknown(
            f"policy {policy.name} names no authority, and the certificate is of none that git knows "
            f"({certificate.issuer or 'no issuer'})",
            "name authority in the policy, or declare the CertificateAuthority that issued the certificate",
            "spec.certificate.authority",
        )
    authority = desired.authorities[name]
    if rule.authority is None and not authority.is_aws_iot and deployment is not None:
        deployed = deployment.authorities.get(name)
        if deployed is None or deployed.arn != authority.arn:
            found = f"issues from {deployed.arn} under that name" if deployed else "has no authority of that name"
            return Unknown(
                f"the policy names no authority, so that {name} ({authority.arn}) stays, but the backend {found}",
                "deploy the backend again with these documents, or name another authority in the policy",
                "spec.certificate.authority",
            )
    algorithm = rule.csr_signing_algorithm or default_csr_algorithm(key_type)
    splits = rule.shared_certificate is not None and deployment is not None and deployment.splits
    return RotationResult(key_type, algorithm, name, authority.arn, _days(authority), splits=splits)


def result_of_stock(device: Device, stock: StockBackend, desired: DesiredState) -> RotationResult | Unknown:
    """Return what a rotation makes of the device under a stock backend, by the settings of backend and component."""
    if stock.unknown is not None:
        return Unknown(f"what the stock backend issues is not known: {stock.unknown}", _OR_OURS, "spec.certificate")
    key_type = _KEY_TYPES.get(device.key_algorithm or "")
    if key_type is None:
        why = device.setting_unknown or f"it is set to {device.key_algorithm}"
        return Unknown(f"which key the component would make is not known: {why}", _OR_OURS, "spec.certificate.keyType")
    for authority in desired.authorities.values():
        if authority.arn == stock.arn:
            days = _days(replace(authority, validity=stock.validity))
            algorithm = default_csr_algorithm(key_type)
            return RotationResult(key_type, algorithm, authority.name, stock.arn, days, is_told=False)
    return Unknown(
        f"the stock backend issues from {stock.arn}, which git does not know",
        f"declare it as a CertificateAuthority, {_OR_OURS}",
        "spec.certificate.authority",
    )


def transitions_of(pairs: Iterable[tuple[Holding, Holding | None]]) -> tuple[HoldingChange, ...]:
    """Return how many go from what to what, the most first."""
    ordered = sorted(Counter(pairs).items(), key=lambda item: (-item[1], str(item[0][0]), str(item[0][1])))
    return tuple(HoldingChange(number, before, after) for (before, after), number in ordered)


def _days(authority: CertificateAuthority) -> int | None:
    days = round(authority.validity / DAY) if authority.validity is not None else ENDLESS_DAYS
    return days if days < ENDLESS_DAYS else None
