"""AWS Private CA: roots and subordinates that sign with the algorithm, validity and template asked for."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from .errors import AwsError, UnsupportedError
from .issuer import Issuer
from .paging import answer, page
from .site import Site, new_id

BACKDATED = timedelta(hours=1)  # ACM-PCA's certificates begin an hour before they are issued
SHORT_LIVED = timedelta(days=7)  # in that mode, by the user guide of AWS Private CA on CA modes
ROOT_VALIDITY = timedelta(days=3653)
_PENDING = "PENDING_CERTIFICATE"
_KEYS: dict[str, Callable[[], Any]] = {
    "RSA_2048": lambda: rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "RSA_3072": lambda: rsa.generate_private_key(public_exponent=65537, key_size=3072),
    "RSA_4096": lambda: rsa.generate_private_key(public_exponent=65537, key_size=4096),
    "EC_prime256v1": lambda: ec.generate_private_key(ec.SECP256R1()),
    "EC_secp384r1": lambda: ec.generate_private_key(ec.SECP384R1()),
    "EC_secp521r1": lambda: ec.generate_private_key(ec.SECP521R1()),
}
_HASHES: dict[str, Callable[[], hashes.SHA256 | hashes.SHA384 | hashes.SHA512]] = {
    "SHA256": hashes.SHA256,
    "SHA384": hashes.SHA384,
    "SHA512": hashes.SHA512,
}
_ALGORITHM = re.compile(r"(SHA256|SHA384|SHA512)WITH(RSA|ECDSA)(_PSS)?")
_SUBJECT = {
    "Country": NameOID.COUNTRY_NAME, "Organization": NameOID.ORGANIZATION_NAME,
    "OrganizationalUnit": NameOID.ORGANIZATIONAL_UNIT_NAME, "State": NameOID.STATE_OR_PROVINCE_NAME,
    "Locality": NameOID.LOCALITY_NAME, "SerialNumber": NameOID.SERIAL_NUMBER, "CommonName": NameOID.COMMON_NAME,
}  # fmt: skip
_TEMPLATE = re.compile(
    r"(?:arn:aws:acm-pca:::template/)?(EndEntity(?:Client|Server)?(?:Auth)?Certificate|RootCACertificate|"
    r"SubordinateCACertificate_PathLen([0-3]))/V1"
)
_Extensions = tuple[tuple[x509.ExtensionType, bool], ...]


@dataclass(slots=True, eq=False)
class SandboxPrivateCa:
    """One private CA."""

    arn: str
    kind: str  # ROOT or SUBORDINATE
    configuration: dict[str, Any]
    key: Any
    name: x509.Name
    created_at: datetime
    changed_at: datetime
    status: str = _PENDING
    usage_mode: str = "GENERAL_PURPOSE"
    certificate: x509.Certificate | None = None
    chain: str | None = None
    issued: dict[str, x509.Certificate] = field(default_factory=dict)
    by_token: dict[str, str] = field(default_factory=dict)
    ready_at: dict[str, datetime] = field(default_factory=dict)
    revoked: set[int] = field(default_factory=set)


class PrivateCas:
    """All private CAs, and the calls about them.

    ``issuing_takes`` is how long GetCertificate answers RequestInProgressException, as AWS may.
    """

    def __init__(self, site: Site) -> None:
        self._site = site
        self._by_arn: dict[str, SandboxPrivateCa] = {}
        self.issuing_takes = timedelta()

    # -- for seeding

    def seed(self, arn: str, key_algorithm: str, signing_algorithm: str, common_name: str) -> str:
        """Make an active root under this ARN."""
        configuration = {
            "KeyAlgorithm": key_algorithm,
            "SigningAlgorithm": signing_algorithm,
            "Subject": {"CommonName": common_name},
        }
        ca = self._make(arn, "ROOT", configuration)
        now = self._site.now()
        # A sandbox world holds certificates from years ago: the root is older than all of them.
        ca.certificate = self.issuer(arn, signing_algorithm).issue(
            ca.key.public_key(), ca.name, now - ROOT_VALIDITY, now + ROOT_VALIDITY, _ca_extensions(None)
        )
        ca.status = "ACTIVE"
        return arn

    def issuer(self, arn: str, signing_algorithm: str | None = None) -> Issuer:
        """Return the CA as an issuer, with its own signing algorithm unless another is named."""
        ca = self._require(arn)
        algorithm = signing_algorithm or ca.configuration["SigningAlgorithm"]
        match = _ALGORITHM.fullmatch(algorithm)
        if match is None:
            raise UnsupportedError(f"the sandbox does not support the signing algorithm {algorithm} of acm-pca")
        family = "RSA" if isinstance(ca.key, rsa.RSAPrivateKey) else "ECDSA"
        if match[2] != family:
            raise AwsError("ValidationException", f"the CA has an {family} key and cannot sign {algorithm}")
        digest = _HASHES[match[1]]()
        pss = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH) if match[3] else None
        return Issuer(ca.name, ca.key, digest, pss)

    # -- the API: authorities

    def create_certificate_authority(self, request: dict[str, Any]) -> dict[str, Any]:
        """Make a CA that waits for its certificate."""
        arn = self._site.arn(f"certificate-authority/{new_id()}", "acm-pca")
        ca = self._make(arn, request["CertificateAuthorityType"], request["CertificateAuthorityConfiguration"])
        ca.usage_mode = request.get("UsageMode", ca.usage_mode)
        return {"CertificateAuthorityArn": arn}

    def describe_certificate_authority(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all about one CA."""
        return {"CertificateAuthority": self._described(self._require(request["CertificateAuthorityArn"]))}

    def list_certificate_authorities(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the CAs in ARN order."""
        found, token = page(self._by_arn.values(), lambda ca: ca.arn, request, size="MaxResults", marker="NextToken")
        return answer("CertificateAuthorities", [self._described(ca) for ca in found], token, "NextToken")

    def get_certificate_authority_csr(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the CSR of a CA."""
        ca = self._require(request["CertificateAuthorityArn"])
        issuer = self.issuer(ca.arn)
        csr = x509.CertificateSigningRequestBuilder().subject_name(ca.name).sign(ca.key, issuer.hash)
        return {"Csr": csr.public_bytes(serialization.Encoding.PEM).decode()}

    def import_certificate_authority_certificate(self, request: dict[str, Any]) -> None:
        """Give a CA its certificate, and make it active."""
        ca = self._require(request["CertificateAuthorityArn"])
        try:
            certificate = x509.load_pem_x509_certificate(request["Certificate"])
        except ValueError as error:
            raise AwsError("MalformedCertificateException", f"the certificate cannot be read: {error}") from None
        if certificate.public_key() != ca.key.public_key():
            raise AwsError("CertificateMismatchException", "the certificate is not over the CA's key")
        chain = request.get("CertificateChain")
        ca.certificate, ca.chain = certificate, chain.decode() if chain else None
        self._change(ca, "ACTIVE")

    def get_certificate_authority_certificate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return a CA's certificate, and for a subordinate the chain above it."""
        ca = self._require(request["CertificateAuthorityArn"])
        if ca.certificate is None:
            raise AwsError("InvalidStateException", f"the CA is {ca.status}")
        return {"Certificate": _pem(ca.certificate), "CertificateChain": ca.chain}

    def update_certificate_authority(self, request: dict[str, Any]) -> None:
        """Enable or disable a CA."""
        ca, status = self._require(request["CertificateAuthorityArn"]), request.get("Status")
        if request.get("RevocationConfiguration", {}).get("CrlConfiguration", {}).get("Enabled"):
            raise UnsupportedError("the sandbox has no CRLs (acm-pca UpdateCertificateAuthority)")
        if status is not None:
            if status not in ("ACTIVE", "DISABLED") or ca.certificate is None:
                raise AwsError("InvalidStateException", f"a CA that is {ca.status} cannot become {status}")
            self._change(ca, status)

    def delete_certificate_authority(self, request: dict[str, Any]) -> None:
        """Delete a CA that is not active."""
        ca = self._require(request["CertificateAuthorityArn"])
        if ca.status == "ACTIVE":
            raise AwsError("InvalidStateException", "disable the CA before you delete it")
        self._change(ca, "DELETED")

    # -- the API: certificates

    def issue_certificate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Sign a CSR; the certificate is fetched with GetCertificate."""
        ca = self._require(request["CertificateAuthorityArn"])
        if request.get("ApiPassthrough"):
            raise UnsupportedError("the sandbox does not support ApiPassthrough of acm-pca IssueCertificate")
        token = request.get("IdempotencyToken")
        if token and token in ca.by_token:
            return {"CertificateArn": ca.by_token[token]}
        extensions, for_itself = _template(request.get("TemplateArn", "EndEntityCertificate/V1"))
        if ca.status != "ACTIVE" and not (for_itself and ca.status == _PENDING):
            raise AwsError("InvalidStateException", f"the CA is {ca.status}")
        csr = _csr(request["Csr"])
        begin = _instant(request["ValidityNotBefore"], self._site.now()) if request.get("ValidityNotBefore") else None
        begin = begin or self._site.now() - BACKDATED
        end = _instant(request["Validity"], self._site.now())
        if end <= begin or (ca.certificate is not None and end > ca.certificate.not_valid_after_utc):
            raise AwsError("ValidationException", f"the validity must end after {begin} and not after the CA's own")
        if ca.usage_mode == "SHORT_LIVED_CERTIFICATE" and end - self._site.now() > SHORT_LIVED:
            raise AwsError("ValidationException", "a CA for short-lived certificates issues for at most seven days")
        certificate = self.issuer(ca.arn, request["SigningAlgorithm"]).issue(
            csr.public_key(), csr.subject, begin, end, extensions
        )
        arn = f"{ca.arn}/certificate/{certificate.serial_number:032x}"
        ca.issued[arn], ca.ready_at[arn] = certificate, self._site.now() + self.issuing_takes
        if token:
            ca.by_token[token] = arn
        return {"CertificateArn": arn}

    def get_certificate(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return an issued certificate with its chain, leaf's issuer first."""
        ca, arn = self._require(request["CertificateAuthorityArn"]), request["CertificateArn"]
        if arn not in ca.issued:
            raise AwsError("ResourceNotFoundException", f"the CA has not issued {arn}")
        if self._site.now() < ca.ready_at[arn]:
            raise AwsError("RequestInProgressException", "the certificate is being issued")
        certificate = ca.issued[arn]
        if certificate.public_key() == ca.key.public_key() or ca.certificate is None:
            return {"Certificate": _pem(certificate)}
        chain = _pem(ca.certificate) + (f"\n{ca.chain}" if ca.chain else "")
        return {"Certificate": _pem(certificate), "CertificateChain": chain}

    def revoke_certificate(self, request: dict[str, Any]) -> None:
        """Note a revocation; there is no CRL to show it."""
        ca = self._require(request["CertificateAuthorityArn"])
        serial = int(request["CertificateSerial"].replace(":", ""), 16)
        if all(c.serial_number != serial for c in ca.issued.values()):
            raise AwsError("ResourceNotFoundException", "the CA has not issued a certificate with this serial")
        if serial in ca.revoked:
            raise AwsError("RequestAlreadyProcessedException", "the certificate is revoked already")
        ca.revoked.add(serial)

    # -- inside

    def _make(self, arn: str, kind: str, configuration: dict[str, Any]) -> SandboxPrivateCa:
        algorithm = configuration["KeyAlgorithm"]
        if algorithm not in _KEYS:
            raise UnsupportedError(f"the sandbox does not support the key algorithm {algorithm} of acm-pca")
        name = x509.Name(
            [x509.NameAttribute(oid, configuration["Subject"][key]) for key, oid in _SUBJECT.items()
             if configuration["Subject"].get(key)]
        )  # fmt: skip
        now = self._site.now()
        ca = SandboxPrivateCa(arn, kind, configuration, _KEYS[algorithm](), name, now, now)
        self._by_arn[arn] = ca
        return ca

    def _require(self, arn: str) -> SandboxPrivateCa:
        if arn not in self._by_arn:
            raise AwsError("ResourceNotFoundException", f"there is no certificate authority {arn}")
        return self._by_arn[arn]

    def _change(self, ca: SandboxPrivateCa, status: str) -> None:
        ca.status, ca.changed_at = status, self._site.now()

    def _described(self, ca: SandboxPrivateCa) -> dict[str, Any]:
        found: dict[str, Any] = {
            "Arn": ca.arn,
            "OwnerAccount": self._site.account,
            "CreatedAt": ca.created_at,
            "LastStateChangeAt": ca.changed_at,
            "Type": ca.kind,
            "Status": ca.status,
            "CertificateAuthorityConfiguration": ca.configuration,
            "KeyStorageSecurityStandard": "FIPS_140_2_LEVEL_3_OR_HIGHER",
            "UsageMode": ca.usage_mode,
        }
        if ca.certificate is not None:
            found |= {
                "Serial": str(ca.certificate.serial_number),
                "NotBefore": ca.certificate.not_valid_before_utc,
                "NotAfter": ca.certificate.not_valid_after_utc,
            }
        return found


def _usage(*, ca: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True, content_commitment=False, key_encipherment=not ca, data_encipherment=False,
        key_agreement=False, key_cert_sign=ca, crl_sign=ca, encipher_only=False, decipher_only=False,
    )  # fmt: skip


def _ca_extensions(path_length: int | None) -> _Extensions:
    return (x509.BasicConstraints(ca=True, path_length=path_length), True), (_usage(ca=True), True)


def _template(arn: str) -> tuple[_Extensions, bool]:
    """Return the extensions of a template, and whether a CA may use it on itself before it is active."""
    match = _TEMPLATE.fullmatch(arn)
    if match is None:
        raise UnsupportedError(f"the sandbox does not support the template {arn} of acm-pca IssueCertificate")
    name = match[1]
    if not name.startswith("EndEntity"):
        return _ca_extensions(int(match[2]) if match[2] else None), name.startswith("Root")
    purposes = {
        "EndEntityClientAuthCertificate": [ExtendedKeyUsageOID.CLIENT_AUTH],
        "EndEntityServerAuthCertificate": [ExtendedKeyUsageOID.SERVER_AUTH],
    }.get(name, [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH])
    constraints = x509.BasicConstraints(ca=False, path_length=None)
    return ((constraints, True), (_usage(ca=False), True), (x509.ExtendedKeyUsage(purposes), False)), False


def _csr(pem: bytes) -> x509.CertificateSigningRequest:
    try:
        csr = x509.load_pem_x509_csr(pem)
        good = csr.is_signature_valid
    except (ValueError, UnsupportedAlgorithm) as error:
        raise AwsError("MalformedCSRException", f"the CSR cannot be read: {error}") from None
    if not good:
        raise AwsError("MalformedCSRException", "the CSR's signature does not verify")
    return csr


def _instant(validity: dict[str, Any], now: datetime) -> datetime:
    kind, value = validity["Type"], int(validity["Value"])
    try:
        match kind:
            case "DAYS":
                return now + timedelta(days=value)
            case "ABSOLUTE":
                return datetime.fromtimestamp(value, UTC)
            case "END_DATE":
                text = f"{value:012d}" if value < 10**12 else f"{value:014d}"
                pattern = "%y%m%d%H%M%S" if len(text) == 12 else "%Y%m%d%H%M%S"  # noqa: PLR2004 (UTCTime's length)
                return datetime.strptime(text, pattern).replace(tzinfo=UTC)
            case _:
                months = now.month - 1 + value * (12 if kind == "YEARS" else 1)
                year, month = now.year + months // 12, months % 12 + 1
                return now.replace(year=year, month=month, day=min(now.day, 28))
    except (ValueError, OverflowError) as error:
        raise AwsError("ValidationException", f"validity {value} {kind} is not an instant: {error}") from None


def _pem(certificate: x509.Certificate) -> str:
    return certificate.public_bytes(serialization.Encoding.PEM).decode().strip()
