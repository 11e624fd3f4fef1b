"""Certificates: issued by the sandbox's AWS IoT CA, registered from elsewhere, updated, deleted.

Rules kept as AWS does: the id is SHA-256 of the DER; deletion needs a certificate that is not ACTIVE,
attached to no thing and (without force) to no policy; one PEM is registered once.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import NameOID

from protocol.der import with_readable_names
from sandbox.aws.errors import AwsError, invalid, not_found
from sandbox.aws.issuer import AWS_IOT_NOT_AFTER, BACKDATED, DEFAULT_SUBJECT, Issuer, read_csr, require_supported_key
from sandbox.aws.paging import SortedNames, answer, page_of
from sandbox.aws.site import Site, new_id

SETTABLE_STATUSES = ("ACTIVE", "INACTIVE", "REVOKED")
DISCONNECTS_AFTER = timedelta(minutes=3)
"""AWS documents "within a few minutes" of when it ends the connections of a certificate that has left ACTIVE."""
_FAR = 10**18  # microseconds; makes descending keys out of ascending ones


@dataclass(slots=True)
class RegisteredCertificate:
    """One registered certificate. Validity is None if the PEM holds no X.509 that can be parsed."""

    certificate_id: str
    pem: str
    der: bytes
    status: str
    created_at: datetime
    modified_at: datetime
    generation_id: str
    mode: str = "DEFAULT"
    not_before: datetime | None = None
    not_after: datetime | None = None
    common_name: str | None = None
    ca_certificate_id: str | None = None
    version: int = 1


class Certificates:
    """All certificates, and the calls about them. ``attachments`` shows what hinders a deletion."""

    def __init__(self, site: Site, issuer: Issuer) -> None:
        self._site = site
        self.issuer = issuer
        self._by_id: dict[str, RegisteredCertificate] = {}
        self._oldest_first = SortedNames()
        self._newest_first = SortedNames()
        self._on_registered: list[Callable[[bytes], None]] = []
        self._on_disabled: list[Callable[[str], None]] = []
        self.attached_things: Callable[[str], int] = lambda _: 0
        self.attached_policies: Callable[[str], int] = lambda _: 0
        self.detach_policies: Callable[[str], None] = lambda _: None

    # -- for the other parts of the cloud

    def arn(self, certificate_id: str) -> str:
        """Return the ARN of a certificate."""
        return self._site.arn(f"cert/{certificate_id}")

    def get(self, certificate_id: str) -> RegisteredCertificate | None:
        """Return the certificate, if it is registered."""
        return self._by_id.get(certificate_id)

    def require(self, certificate_id: str) -> RegisteredCertificate:
        """Return the certificate; ResourceNotFoundException if it is not registered."""
        found = self._by_id.get(certificate_id)
        if found is None:
            raise not_found("certificate", certificate_id)
        return found

    def require_arn(self, principal: str) -> RegisteredCertificate:
        """Return the certificate of a principal ARN."""
        head, _, certificate_id = principal.partition(":cert/")
        if not head.startswith("arn:") or not certificate_id:
            raise invalid(f"the principal {principal!r} is not the ARN of a certificate")
        return self.require(certificate_id)

    def all(self) -> list[RegisteredCertificate]:
        """Return every certificate."""
        return list(self._by_id.values())

    def on_registered(self, listener: Callable[[bytes], None]) -> None:
        """See ``interfaces.EndpointRegistry.on_certificate_registered``."""
        self._on_registered.append(listener)
        for certificate in self.all():
            listener(certificate.der)

    def on_disabled(self, listener: Callable[[str], None]) -> None:
        """See ``interfaces.EndpointRegistry.on_certificate_disabled``."""
        self._on_disabled.append(listener)

    def add(
        self, pem: str, status: str, *, mode: str = "DEFAULT", created_at: datetime | None = None
    ) -> RegisteredCertificate:
        """Register a PEM as it is, parseable or not; ResourceAlreadyExistsException if it is there."""
        der = _der(pem)
        certificate_id = hashlib.sha256(der).hexdigest()
        if certificate_id in self._by_id:
            raise AwsError(
                "ResourceAlreadyExistsException", "the certificate is already provisioned or registered",
                resourceId=certificate_id, resourceArn=self.arn(certificate_id),
            )  # fmt: skip
        created = created_at or self._site.now()
        certificate = RegisteredCertificate(certificate_id, pem, der, status, created, created, new_id(), mode)
        parsed = _parsed(der)
        if parsed is not None:
            certificate.not_before = parsed.not_valid_before_utc
            certificate.not_after = parsed.not_valid_after_utc
            names = parsed.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
            certificate.common_name = str(names[0].value) if names else None
        self._by_id[certificate_id] = certificate
        oldest, newest = _keys(certificate)
        self._oldest_first.add(oldest)
        self._newest_first.add(newest)
        for listener in self._on_registered:
            listener(der)
        return certificate

    # -- the API

    def create_certificate_from_csr(self, request: dict[str, Any]) -> dict[str, Any]:
        """Issue over the CSR's own key and subject; the same CSR twice gives two certificates."""
        csr = read_csr(request["certificateSigningRequest"])
        return self._created(self._issue(csr.public_key(), csr.subject, active=request.get("setAsActive", False)))

    def create_keys_and_certificate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Issue over a fresh RSA-2048 key, which is part of the answer and kept nowhere."""
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        certificate = self._issue(key.public_key(), DEFAULT_SUBJECT, active=request.get("setAsActive", False))
        private = key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.TraditionalOpenSSL, serialization.NoEncryption()
        )
        public = key.public_key().public_bytes(
            serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
        )
        pair = {"PublicKey": public.decode(), "PrivateKey": private.decode()}
        return {**self._created(certificate), "keyPair": pair}

    def register_certificate_without_ca(self, request: dict[str, Any]) -> dict[str, Any]:
        """Register any X.509 certificate with a supported key."""
        status = request.get("status", "INACTIVE")
        if status not in ("ACTIVE", "INACTIVE"):
            raise invalid(f"a certificate is registered as ACTIVE or INACTIVE, found {status}")
        pem = request["certificatePem"]
        parsed = _parsed(_der(pem))
        if parsed is None:
            raise AwsError("CertificateValidationException", "the PEM does not hold an X.509 certificate")
        require_supported_key(parsed.public_key())
        certificate = self.add(pem, status, mode="SNI_ONLY")
        return {"certificateArn": self.arn(certificate.certificate_id), "certificateId": certificate.certificate_id}

    def describe_certificate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return everything AWS reports of one certificate; the key type only stands in the PEM."""
        found = self.require(request["certificateId"])
        validity = {"notBefore": found.not_before, "notAfter": found.not_after} if found.not_before else None
        return {
            "certificateDescription": {
                "certificateArn": self.arn(found.certificate_id),
                "certificateId": found.certificate_id,
                "caCertificateId": found.ca_certificate_id,
                "status": found.status,
                "certificatePem": found.pem,
                "ownedBy": self._site.account,
                "creationDate": found.created_at,
                "lastModifiedDate": found.modified_at,
                "customerVersion": found.version,
                "transferData": {},
                "generationId": found.generation_id,
                "validity": validity,
                "certificateMode": found.mode,
            }
        }

    def list_certificates(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return certificates by creation, newest first unless ``ascendingOrder``."""
        names = self._oldest_first if request.get("ascendingOrder") else self._newest_first
        keys, marker = page_of(names.in_order(), request, size="pageSize", marker="marker")
        return answer("certificates", [self._summary(_id_of(key)) for key in keys], marker, "nextMarker")

    def list_certificates_by_ca(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return those registered under one CA certificate."""
        names = self._oldest_first if request.get("ascendingOrder") else self._newest_first
        wanted = request["caCertificateId"]
        keys = [k for k in names.in_order() if self._by_id[_id_of(k)].ca_certificate_id == wanted]
        keys_page, marker = page_of(keys, request, size="pageSize", marker="marker")
        return answer("certificates", [self._summary(_id_of(key)) for key in keys_page], marker, "nextMarker")

    def update_certificate(self, request: dict[str, Any]) -> None:
        """Change the status. Without ACTIVE no new connection is made; those there are end minutes later."""
        found, status = self.require(request["certificateId"]), request["newStatus"]
        if status not in SETTABLE_STATUSES:
            raise invalid(f"a status can be set to {', '.join(SETTABLE_STATUSES)}, found {status}")
        if status != found.status:
            was_active, found.status = found.status == "ACTIVE", status
            found.version += 1
            found.modified_at = self._site.now()
            if was_active:
                self._site.timers.at(self._site.now() + DISCONNECTS_AFTER, lambda: self._disabled(found.certificate_id))

    def delete_certificate(self, request: dict[str, Any]) -> None:
        """Delete what is neither ACTIVE nor in use."""
        found = self.require(request["certificateId"])
        name = found.certificate_id
        if found.status == "ACTIVE":
            raise AwsError("CertificateStateException", f"certificate {name} is ACTIVE; deactivate it first",
                           resourceId=name)  # fmt: skip
        if self.attached_things(name):
            raise AwsError("DeleteConflictException", f"certificate {name} is attached to a thing; detach it first")
        if self.attached_policies(name):
            if not request.get("forceDelete"):
                raise AwsError("DeleteConflictException", f"certificate {name} has policies; detach them first")
            self.detach_policies(name)
        oldest, newest = _keys(found)
        self._oldest_first.discard(oldest)
        self._newest_first.discard(newest)
        del self._by_id[name]

    # -- inside

    def _issue(self, public_key: Any, subject: x509.Name, *, active: bool) -> RegisteredCertificate:
        issued = self.issuer.issue(
            public_key, subject if list(subject) else DEFAULT_SUBJECT, self._site.now() - BACKDATED, AWS_IOT_NOT_AFTER
        )
        pem = issued.public_bytes(serialization.Encoding.PEM).decode()
        return self.add(pem, "ACTIVE" if active else "INACTIVE")

    def _created(self, found: RegisteredCertificate) -> dict[str, Any]:
        return {
            "certificateArn": self.arn(found.certificate_id),
            "certificateId": found.certificate_id,
            "certificatePem": found.pem,
        }

    def _summary(self, certificate_id: str) -> dict[str, Any]:
        found = self._by_id[certificate_id]
        return {
            "certificateArn": self.arn(certificate_id),
            "certificateId": certificate_id,
            "status": found.status,
            "certificateMode": found.mode,
            "creationDate": found.created_at,
        }

    def _disabled(self, certificate_id: str) -> None:
        found = self._by_id.get(certificate_id)
        if found is not None and found.status == "ACTIVE":
            return  # again, meanwhile
        for listener in self._on_disabled:
            self._site.outbox.post(lambda listener=listener: listener(certificate_id))  # type: ignore[misc]


def _keys(certificate: RegisteredCertificate) -> tuple[str, str]:
    moment = int(certificate.created_at.timestamp() * 1_000_000)
    return f"{moment:020d}{certificate.certificate_id}", f"{_FAR - moment:020d}{certificate.certificate_id}"


def _id_of(key: str) -> str:
    return key[20:]


def _der(pem: str) -> bytes:
    """Return what stands between the PEM markers, decoded; CertificateValidationException where there are none."""
    _, _, rest = pem.partition("-----BEGIN CERTIFICATE-----")
    body, end, _ = rest.partition("-----END CERTIFICATE-----")
    try:
        der = base64.b64decode("".join(body.split()), validate=True)
    except binascii.Error:
        der = b""
    if not end or not der:
        raise AwsError("CertificateValidationException", "expected a certificate in PEM form")
    return der


def _parsed(der: bytes) -> x509.Certificate | None:
    try:
        certificate = x509.load_der_x509_certificate(with_readable_names(der))
        certificate.public_key()
        certificate.not_valid_before_utc  # noqa: B018 (parsed lazily)
    except (ValueError, UnsupportedAlgorithm):
        return None
    return certificate
