"""The demands on a certificate before a device trusts its life to it.

``check`` runs before anything in place is touched. A certificate that arrives is held strictly; the one in place is
taken as every TLS library takes it (``load``). ``cryptography`` is imported on first use.
"""

from __future__ import annotations

import hashlib
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, List

from protocol.algorithms import KeyType
from protocol.der import der_of, with_readable_names

from .errors import CertificateError

if TYPE_CHECKING:
    from cryptography import x509

CLOCK_TOLERANCE = timedelta(minutes=15)
"""How far a device's clock may be behind the CA's."""

MAX_CERTIFICATES = 8
"""Leaf and chain; AWS IoT sends one."""


def check(pem: str, *, public_key: bytes, current_pem: bytes, key_type: KeyType, now: datetime) -> None:
    """Raise CertificateError unless ``pem`` starts with the certificate asked for, its chain (if any) behind it.

    ``public_key`` is the pending key's SubjectPublicKeyInfo; the subject must be that of ``current_pem``.
    """
    certificates = load_all(pem.encode())
    leaf = certificates[0]
    if public_key_der(leaf) != public_key:
        raise CertificateError("the certificate received is for another key than the one it was asked for")
    found = key_type_of(leaf)
    if found != key_type.value:
        raise CertificateError(f"the certificate received holds a {found} key, the job demands {key_type.value}")
    subject = load(current_pem).subject
    if leaf.subject != subject:
        raise CertificateError(
            f"the certificate received is for {leaf.subject.rfc4514_string()!r}, expected {subject.rfc4514_string()!r}"
        )
    _check_validity(leaf, now)
    _check_chain(certificates)


def load(pem: bytes) -> x509.Certificate:
    """Return the first certificate of a PEM text, with names of any kind; raises CertificateError."""
    from cryptography import x509  # noqa: PLC0415  # lazy, see the module

    try:
        certificate = x509.load_der_x509_certificate(with_readable_names(_der(pem)))
        certificate.subject  # noqa: B018  # parsed only now
    except ValueError:
        raise CertificateError("what should be a certificate in PEM does not parse") from None
    return certificate


def load_all(pem: bytes) -> List[x509.Certificate]:
    """Return every certificate of a PEM text, at least one; CertificateError if it does not parse."""
    from cryptography import x509  # noqa: PLC0415  # lazy, see the module

    try:
        certificates = x509.load_pem_x509_certificates(pem)
    except ValueError:
        raise CertificateError("what was received does not parse as PEM certificates") from None
    if len(certificates) > MAX_CERTIFICATES:
        raise CertificateError(f"{len(certificates)} certificates received, at most {MAX_CERTIFICATES} are expected")
    return certificates


def identity(pem: bytes) -> str:
    """Return AWS IoT's id of the first certificate of a PEM text: its digest. Raises CertificateError."""
    try:
        return hashlib.sha256(_der(pem)).hexdigest()
    except ValueError:
        raise CertificateError("the certificate in place is not a PEM certificate") from None


def _der(pem: bytes) -> bytes:
    return der_of(pem.decode(errors="replace"))


def public_key_der(certificate: x509.Certificate) -> bytes:
    """Return SubjectPublicKeyInfo of a certificate; raises CertificateError if it has no key that can be read."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # lazy, see the module

    try:
        return certificate.public_key().public_bytes(
            serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
        )
    except ValueError:
        raise CertificateError("the certificate's public key does not parse") from None


def key_type_of(certificate: x509.Certificate) -> str:
    """Return the key type as ``protocol`` spells it, or a description of a key that it does not know."""
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415  # lazy, see the module

    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        nist = {"secp256r1": "P256", "secp384r1": "P384", "secp521r1": "P521"}
        return f"ECDSA-{nist.get(key.curve.name, key.curve.name)}"
    return type(key).__name__


def _check_validity(leaf: x509.Certificate, now: datetime) -> None:
    if leaf.not_valid_before_utc > now + CLOCK_TOLERANCE:
        raise CertificateError(
            f"the certificate received is valid from {leaf.not_valid_before_utc.isoformat()}, "
            f"but this device's clock shows {now.isoformat()}; check the clock"
        )
    if leaf.not_valid_after_utc <= now:
        raise CertificateError(
            f"the certificate received expired at {leaf.not_valid_after_utc.isoformat()}, "
            f"this device's clock shows {now.isoformat()}; check the clock"
        )


def _check_chain(certificates: List[x509.Certificate]) -> None:
    from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm  # noqa: PLC0415  # lazy

    for certificate, issuer in zip(certificates, certificates[1:]):
        try:
            certificate.verify_directly_issued_by(issuer)
        except (ValueError, TypeError, InvalidSignature, UnsupportedAlgorithm):  # noqa: PERF203  # eight at most
            raise CertificateError(
                f"the chain received is broken: {certificate.subject.rfc4514_string()!r} was not issued by "
                f"{issuer.subject.rfc4514_string()!r}, which follows it"
            ) from None
