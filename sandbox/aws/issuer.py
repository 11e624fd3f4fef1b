"""Certificates as AWS IoT issues them: a stable CA, the CSR's own key and subject, valid to 2049.

Facts: AWS IoT's certificates are signed sha256WithRSA whatever the key; issuer is one attribute
that holds a whole distinguished name as text; notBefore lies two minutes back.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import NameOID

from .errors import invalid

AWS_IOT_NOT_AFTER = datetime(2049, 12, 31, 23, 59, 59, tzinfo=UTC)
BACKDATED = timedelta(minutes=2)
MAX_CSR_CHARACTERS = 4096
MIN_RSA_BITS = 2048
DEFAULT_SUBJECT = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "AWS IoT Certificate")])
_ISSUER_TEXT = "Amazon Web Services O=Amazon.com Inc. L=Seattle ST=Washington C=US"
_LEAF_KEY_USAGE = x509.KeyUsage(
    digital_signature=True, content_commitment=False, key_encipherment=False, data_encipherment=False,
    key_agreement=False, key_cert_sign=False, crl_sign=False, encipher_only=False, decipher_only=False,
)  # fmt: skip


@dataclass(frozen=True)
class Issuer:
    """A CA that signs leaf certificates."""

    name: x509.Name
    key: Any
    hash: hashes.SHA256 | hashes.SHA384 | hashes.SHA512
    padding: padding.PSS | None = None  # RSA-PSS instead of PKCS#1 v1.5

    def issue(
        self,
        public_key: Any,
        subject: x509.Name,
        not_before: datetime,
        not_after: datetime,
        extensions: tuple[tuple[x509.ExtensionType, bool], ...] | None = None,
    ) -> x509.Certificate:
        """Return a certificate over the key; ``extensions`` are (extension, critical), by default those of a device."""
        builder = (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(self.name)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(not_before)
            .not_valid_after(not_after)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
        )
        for extension, critical in device_extensions() if extensions is None else extensions:
            builder = builder.add_extension(extension, critical=critical)
        return builder.sign(self.key, self.hash, rsa_padding=self.padding)

    def root(self, not_before: datetime) -> x509.Certificate:
        """Return the CA's own, self-signed certificate, valid until AWS IoT's certificates end."""
        public_key = self.key.public_key()
        return self.issue(
            public_key,
            self.name,
            not_before,
            AWS_IOT_NOT_AFTER,
            ((x509.BasicConstraints(ca=True, path_length=0), True),),
        )


def device_extensions() -> tuple[tuple[x509.ExtensionType, bool], ...]:
    """Return what a device certificate of AWS IoT carries."""
    return (x509.BasicConstraints(ca=False, path_length=None), True), (_LEAF_KEY_USAGE, True)


def aws_iot_issuer(folder: Path) -> Issuer:
    """Return the AWS IoT-like CA of the sandbox in this folder; made once, the same for as long as the folder lives."""
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / "aws-iot-ca.key"
    if path.exists():
        # It is this function's own: whether its primes are primes was half of what a cloud cost.
        key: Any = serialization.load_pem_private_key(path.read_bytes(), None, unsafe_skip_rsa_key_validation=True)
    else:
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        pem = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
            file.write(pem)
    name = x509.Name([x509.NameAttribute(NameOID.ORGANIZATIONAL_UNIT_NAME, _ISSUER_TEXT)])
    return Issuer(name, key, hashes.SHA256())


def read_csr(pem: str) -> x509.CertificateSigningRequest:
    """Return a CSR that AWS IoT would take; InvalidRequestException shows why not."""
    if len(pem) > MAX_CSR_CHARACTERS:
        raise invalid(f"the CSR has {len(pem)} characters, at most {MAX_CSR_CHARACTERS} are allowed")
    try:
        csr = x509.load_pem_x509_csr(pem.encode())
        good = csr.is_signature_valid
        key = csr.public_key()
    except (ValueError, UnsupportedAlgorithm, InvalidSignature) as error:
        raise invalid(f"the CSR cannot be read: {error}") from None
    if not good:
        raise invalid("the CSR's signature does not verify with its own public key")
    require_supported_key(key)
    return csr


def require_supported_key(key: Any) -> None:
    """Refuse a key other than RSA from 2048 bits, P-256, P-384 or P-521."""
    if isinstance(key, rsa.RSAPublicKey) and key.key_size >= MIN_RSA_BITS:
        return
    if isinstance(key, ec.EllipticCurvePublicKey) and key.curve.name in ("secp256r1", "secp384r1", "secp521r1"):
        return
    raise invalid("the key must be RSA of at least 2048 bits, or ECC on NIST P-256, P-384 or P-521")
