"""The authority of the desired state that issued a certificate: proven, never taken from a name.

A private CA is known by its public key. A certificate is its work only if the signature verifies
with that key; a CA of the same name with another key is an unknown authority. AWS IoT publishes no
CA certificate to verify with: there, the registry's own word decides (the certificate was not
registered from outside) together with the issuer that AWS IoT writes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import timedelta

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from controller.errors import FleetError
from controller.fleet.aws import AwsSession
from controller.fleet.aws_errors import AwsCallError
from controller.fleet.pem import CertificateFacts, is_issued_by, load_der
from controller.reconcile.values import CertificateAuthority, DesiredState, PrivateCa
from protocol.algorithms import CaSigningAlgorithm, Family
from protocol.der import der_of
from protocol.names import AWS_IOT_AUTHORITY

AWS_IOT_ISSUER_KEY = "aws-iot"
"""Stands for AWS IoT's own CA where an issuer's key is stored."""

_CORRECT = "correct its spec.arn; if no policy names the authority, remove the document"
_CHECK = "check that the private CA is active, and may be read"


@dataclass(frozen=True, slots=True)
class IssuerKey:
    """The CA certificate behind one ACM-PCA ARN; ``key`` is SHA-256 of its public key (SPKI), hex."""

    arn: str
    key: str
    certificate: x509.Certificate

    @classmethod
    def from_pem(cls, arn: str, pem: str) -> IssuerKey:
        """Read the CA certificate ``pem`` of the CA with this ARN; ValueError if that is not a certificate."""
        certificate = load_der(der_of(pem))
        spki = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
        return cls(arn, hashlib.sha256(spki).hexdigest(), certificate)

    def issued(self, der: bytes) -> bool:
        """Return whether this CA's key signed the certificate."""
        return is_issued_by(der, self.certificate)


def prove_issuer(facts: CertificateFacts, *, is_registered: bool, issuers: Iterable[IssuerKey]) -> str | None:
    """Return the key that issued a certificate: an IssuerKey's, AWS_IOT_ISSUER_KEY, or None for an unknown one.

    ``is_registered``: the certificate came from outside, by RegisterCertificate or …WithoutCA.
    """
    if facts.names_aws_iot:
        return None if is_registered else AWS_IOT_ISSUER_KEY
    if facts.certificate is None:
        return None
    for issuer in issuers:
        if issuer.issued(facts.der):
            return issuer.key
    return None


def fetch_issuer(session: AwsSession, authority: CertificateAuthority) -> tuple[IssuerKey, str]:
    """Return the CA certificate of a private authority, and its PEM; FleetError names the document's line."""
    assert authority.arn is not None  # noqa: S101 (desired: a private authority has an ARN)
    line = authority.source.at("spec.arn") if authority.source else authority.name
    try:
        answer = session.call("acm-pca", "GetCertificateAuthorityCertificate", CertificateAuthorityArn=authority.arn)
    except FleetError as error:
        raise FleetError(
            f"the CA certificate of authority {authority.name!r} ({line}) cannot be read: {error}",
            _CORRECT if isinstance(error, AwsCallError) and error.is_not_found else error.remedy or _CHECK,
        ) from error
    pem = str(answer["Certificate"])
    try:
        return IssuerKey.from_pem(authority.arn, pem), pem
    except ValueError as error:
        raise FleetError(
            f"the CA certificate of authority {authority.name!r} ({line}) does not parse: {error}",
            f"see: aws acm-pca get-certificate-authority-certificate --certificate-authority-arn {authority.arn}",
        ) from error


def describe_cas(session: AwsSession, desired: DesiredState) -> tuple[dict[str, PrivateCa], tuple[str, ...]]:
    """Return the private CAs of the desired state by ARN, and why others could not be looked at.

    One call for each CA.
    """
    arns = {authority.arn: name for name, authority in sorted(desired.authorities.items()) if authority.arn is not None}
    found: dict[str, PrivateCa] = {}
    unknown = []
    for arn, name in arns.items():
        try:
            answer = session.find("acm-pca", "DescribeCertificateAuthority", CertificateAuthorityArn=arn)
        except FleetError as error:
            unknown.append(f"whether the CA of authority {name} can issue is not known: {error}; {error.remedy}")
            continue
        if answer is None:
            found[arn] = PrivateCa("gone", "")
            continue
        ca = answer["CertificateAuthority"]
        key_algorithm = ca["CertificateAuthorityConfiguration"]["KeyAlgorithm"]
        is_short_lived = ca.get("UsageMode") == "SHORT_LIVED_CERTIFICATE"
        found[arn] = PrivateCa(ca["Status"], key_algorithm, is_short_lived, ca.get("NotAfter"))
    return found, tuple(unknown)


class AuthorityNames:
    """From an issuer's key to the name of the desired state's authority.

    Several authorities may stand for one CA, with other validity or signing algorithm: the closest
    to what the certificate shows is taken.
    """

    def __init__(self, desired: DesiredState, keys_by_arn: Mapping[str, str]) -> None:
        self._by_key: dict[str, list[CertificateAuthority]] = {}
        for name in sorted(desired.authorities):
            authority = desired.authorities[name]
            key = AWS_IOT_ISSUER_KEY if authority.arn is None else keys_by_arn.get(authority.arn)
            if key is not None:
                self._by_key.setdefault(key, []).append(authority)
        self._by_key.setdefault(AWS_IOT_ISSUER_KEY, [CertificateAuthority(AWS_IOT_AUTHORITY)])

    def name(self, key: str | None, signature_algorithm: str | None, validity: timedelta | None) -> str | None:
        """Return the authority's name by issuing key, signature_algorithm and validity; None if it is not known."""
        candidates = self._by_key.get(key, []) if key else []
        if len(candidates) < 2:  # noqa: PLR2004 (nothing to choose)
            return candidates[0].name if candidates else None

        def distance(authority: CertificateAuthority) -> tuple[bool, timedelta, str]:
            expected = authority.signing_algorithm and _openssl_name(authority.signing_algorithm)
            apart = abs(authority.validity - validity) if authority.validity and validity else timedelta.max
            return expected not in (None, signature_algorithm), apart, authority.name

        return min(candidates, key=distance).name


def _openssl_name(algorithm: CaSigningAlgorithm) -> str:
    digest = algorithm.value[:6]
    return f"ecdsa-with-{digest}" if algorithm.family is Family.ECDSA else f"{digest.lower()}WithRSAEncryption"
