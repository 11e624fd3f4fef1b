"""The content of a certificate's PEM, as data: key type, signature algorithm, issuer, validity.

Certificates come from devices and registrations that anyone may have made: nothing in them is
trusted, and one that does not parse is described as far as it goes, with ``parse_error`` set.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, TypeVar

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import dsa, ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID, SignatureAlgorithmOID

from controller.plain_text import one_line
from protocol.der import children, der_of, with_readable_names

_CURVES: Final = {"secp256r1": "P256", "secp384r1": "P384", "secp521r1": "P521"}

# Names as openssl prints them.
_SIGNATURES: Final = {
    SignatureAlgorithmOID.RSA_WITH_SHA1: "sha1WithRSAEncryption",
    SignatureAlgorithmOID.RSA_WITH_SHA256: "sha256WithRSAEncryption",
    SignatureAlgorithmOID.RSA_WITH_SHA384: "sha384WithRSAEncryption",
    SignatureAlgorithmOID.RSA_WITH_SHA512: "sha512WithRSAEncryption",
    SignatureAlgorithmOID.RSASSA_PSS: "rsassaPss",
    SignatureAlgorithmOID.ECDSA_WITH_SHA1: "ecdsa-with-SHA1",
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: "ecdsa-with-SHA256",
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: "ecdsa-with-SHA384",
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: "ecdsa-with-SHA512",
    SignatureAlgorithmOID.ED25519: "ED25519",
    SignatureAlgorithmOID.ED448: "ED448",
}

# The whole issuer of a certificate that AWS IoT issued is this one attribute (AWS IoT developer guide).
AWS_IOT_ISSUER: Final = "Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US"

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class CertificateFacts:
    """The content of one PEM; None if it is not there, or not readable. ``parse_error`` shows why."""

    key_type: str | None = None
    signature_algorithm: str | None = None
    issuer: str | None = None  # RFC 4514
    not_before: datetime | None = None
    not_after: datetime | None = None
    names_aws_iot: bool = False  # the issuer is the one of AWS IoT; anyone can write that
    parse_error: str | None = None
    certificate: x509.Certificate | None = None
    der: bytes = b""  # as it came: the signature of a readable copy does not hold


def read_pem(pem: str) -> CertificateFacts:
    """Describe the first certificate of ``pem``. Never raises for what is in it."""
    try:
        der = der_of(pem)
        certificate = load_der(der)
    except Exception as error:  # noqa: BLE001 (whatever a parser raises for foreign bytes is a finding, not a failure)
        return CertificateFacts(parse_error=one_line(f"not a readable certificate: {error}"))
    problems: list[str] = []

    def read(what: str, reader: Callable[[], T]) -> T | None:
        try:
            return reader()
        except Exception as error:  # noqa: BLE001 (as above: every field parses on its own)
            problems.append(one_line(f"{what}: {error}"))
            return None

    issuer = read("issuer", lambda: certificate.issuer)
    return CertificateFacts(
        key_type=read("key", lambda: _key_type(certificate)),
        signature_algorithm=read("signature algorithm", lambda: _signature_algorithm(certificate)),
        issuer=None if issuer is None else one_line(issuer.rfc4514_string()),
        not_before=read("notBefore", lambda: certificate.not_valid_before_utc),
        not_after=read("notAfter", lambda: certificate.not_valid_after_utc),
        names_aws_iot=issuer is not None and _is_aws_iot(issuer),
        parse_error="; ".join(problems) or None,
        certificate=certificate,
        der=der,
    )


def load_der(der: bytes) -> x509.Certificate:
    """Read a certificate, one with names that a strict parser refuses as well."""
    try:
        return x509.load_der_x509_certificate(der)
    except ValueError:
        return x509.load_der_x509_certificate(with_readable_names(der))


def is_issued_by(der: bytes, issuer: x509.Certificate) -> bool:
    """Return whether the issuer's key has signed a certificate, ``der`` as it came."""
    certificate = load_der(der)
    try:
        if certificate.public_bytes(Encoding.DER) == der:
            certificate.verify_directly_issued_by(issuer)
            return True
        _verify(issuer.public_key(), certificate, _signed_part(der))
    except (InvalidSignature, ValueError, TypeError, AttributeError):
        return False
    return certificate.issuer == issuer.subject


def _verify(key: Any, certificate: x509.Certificate, signed: bytes) -> None:
    how: list[Any] = [certificate.signature_algorithm_parameters]
    if isinstance(key, rsa.RSAPublicKey):
        how.append(certificate.signature_hash_algorithm)
    key.verify(certificate.signature, signed, *how)


def _signed_part(der: bytes) -> bytes:
    [(_, _, start, end)] = children(der, 0, len(der))
    _, position, _, end = next(children(der, start, end))
    return der[position:end]


def _key_type(certificate: x509.Certificate) -> str:
    key = certificate.public_key()
    if isinstance(key, rsa.RSAPublicKey):
        return f"RSA-{key.key_size}"
    if isinstance(key, ec.EllipticCurvePublicKey):
        return f"ECDSA-{_CURVES.get(key.curve.name, key.curve.name)}"
    if isinstance(key, ed25519.Ed25519PublicKey):
        return "Ed25519"
    if isinstance(key, ed448.Ed448PublicKey):
        return "Ed448"
    if isinstance(key, dsa.DSAPublicKey):
        return f"DSA-{key.key_size}"
    return certificate.public_key_algorithm_oid.dotted_string


def _signature_algorithm(certificate: x509.Certificate) -> str:
    oid = certificate.signature_algorithm_oid
    return _SIGNATURES.get(oid, oid.dotted_string)


def _is_aws_iot(issuer: x509.Name) -> bool:
    attributes = list(issuer)
    return (
        len(attributes) == 1
        and attributes[0].oid == NameOID.ORGANIZATIONAL_UNIT_NAME
        and attributes[0].value == AWS_IOT_ISSUER
    )
