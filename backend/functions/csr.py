"""Certificate signing requests: read, verified and compared. Pure.

Every check has its own code, because each has its own cure. The subject and the key are compared with the certificate
that the device's connection uses.
"""

from __future__ import annotations

import base64
import hashlib
import re
from dataclasses import dataclass

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from cryptography.x509.oid import SignatureAlgorithmOID

from protocol.algorithms import CsrSigningAlgorithm, KeyType
from protocol.der import children, with_readable_names
from protocol.job_document import JobDocument
from protocol.messages import MAX_CSR_CHARACTERS
from protocol.rejections import RejectionCode

from .errors import RejectionError

_PEM = re.compile(r"-----BEGIN [A-Z ]+-----\s([A-Za-z0-9+/=\s]+)-----END ")
MINIMUM_RSA_BITS = 2048  # CreateCertificateFromCsr takes no less
MINIMUM_RSA_EXPONENT = 65537

_CURVES = {"secp256r1": KeyType.ECDSA_P256, "secp384r1": KeyType.ECDSA_P384, "secp521r1": KeyType.ECDSA_P521}
_RSA_SIZES = {2048: KeyType.RSA_2048, 3072: KeyType.RSA_3072}
_ALGORITHMS = {
    SignatureAlgorithmOID.RSA_WITH_SHA256: CsrSigningAlgorithm.SHA256_RSA,
    SignatureAlgorithmOID.RSA_WITH_SHA384: CsrSigningAlgorithm.SHA384_RSA,
    SignatureAlgorithmOID.RSA_WITH_SHA512: CsrSigningAlgorithm.SHA512_RSA,
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: CsrSigningAlgorithm.SHA256_ECDSA,
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: CsrSigningAlgorithm.SHA384_ECDSA,
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: CsrSigningAlgorithm.SHA512_ECDSA,
}
_PSS_BY_HASH = {
    "sha256": CsrSigningAlgorithm.SHA256_RSA_PSS,
    "sha384": CsrSigningAlgorithm.SHA384_RSA_PSS,
    "sha512": CsrSigningAlgorithm.SHA512_RSA_PSS,
}


@dataclass(frozen=True, slots=True)
class SigningRequest:
    """A CSR whose signature holds."""

    pem: str
    subject: x509.Name
    key_type: KeyType
    algorithm: CsrSigningAlgorithm
    public_key_digest: str  # SHA-256 of the SubjectPublicKeyInfo, hex


def parse(pem: str) -> SigningRequest:
    """Read a CSR and verify what it proves of itself; raises RejectionError."""
    if len(pem) > MAX_CSR_CHARACTERS:
        raise RejectionError(
            RejectionCode.CSR_TOO_LONG, f"The CSR has {len(pem)} characters; at most {MAX_CSR_CHARACTERS} are allowed."
        )
    try:
        request = load_request(pem)
        key, subject = request.public_key(), request.subject
    except (ValueError, UnsupportedAlgorithm):
        raise RejectionError(
            RejectionCode.CSR_UNREADABLE, "The CSR is not a PEM-encoded PKCS#10 request over a key that is supported."
        ) from None
    key_type = _key_type(key)
    algorithm = _algorithm(request)
    if algorithm.family is not key_type.family or not _is_signed(request, pem, key):
        raise RejectionError(
            RejectionCode.CSR_BAD_SIGNATURE, "The CSR's signature does not verify with the public key in it."
        )
    return SigningRequest(pem, subject, key_type, algorithm, public_key_digest(key))


def require_demanded(request: SigningRequest, document: JobDocument) -> None:
    """Raise RejectionError if the key or the signature of a CSR is not what the job document demands."""
    if document.key_type is not None and request.key_type is not document.key_type:
        raise RejectionError(
            RejectionCode.CSR_WRONG_KEY_TYPE,
            f"The job demands a key of type {document.key_type.value}; the CSR holds {request.key_type.value}.",
        )
    if document.signing_algorithm is not None and request.algorithm is not document.signing_algorithm:
        raise RejectionError(
            RejectionCode.CSR_WRONG_ALGORITHM,
            f"The job demands a CSR signed with {document.signing_algorithm.value}; "
            f"this one is signed with {request.algorithm.value}.",
        )


def require_successor(request: SigningRequest, current_pem: str) -> None:
    """Raise RejectionError if a CSR does not carry on the current certificate's subject, or reuses its key."""
    current = load_certificate(current_pem)
    if request.subject != current.subject:
        raise RejectionError(
            RejectionCode.CSR_WRONG_SUBJECT,
            f"The CSR's subject is '{request.subject.rfc4514_string()[:200]}'; "
            f"the current certificate's is '{current.subject.rfc4514_string()[:200]}'.",
        )
    if request.public_key_digest == public_key_digest(current.public_key()):
        raise RejectionError(
            RejectionCode.CSR_REUSED_KEY,
            "The CSR is over the key of the current certificate; a rotation needs a new one.",
        )


def certifies(certificate_pem: str, digest: str) -> bool:
    """Return whether a certificate is over the public key with this digest; False for what does not parse."""
    try:
        return public_key_digest(load_certificate(certificate_pem).public_key()) == digest
    except (ValueError, UnsupportedAlgorithm):
        return False


def load_certificate(pem: str) -> x509.Certificate:
    """Read a certificate, even one with names that a strict parser refuses; raises ValueError if it cannot be read."""
    try:
        return x509.load_pem_x509_certificate(pem.encode())
    except ValueError:
        return x509.load_der_x509_certificate(with_readable_names(_der(pem)))


def load_request(pem: str) -> x509.CertificateSigningRequest:
    """Read a CSR, even one with names that a strict parser refuses; raises ValueError if it cannot be read.

    Such a CSR is read from a copy in which its signature does not hold: verify the original.
    """
    try:
        return x509.load_pem_x509_csr(pem.encode())
    except ValueError:
        return x509.load_der_x509_csr(with_readable_names(_der(pem)))


def _is_signed(request: x509.CertificateSigningRequest, pem: str, key: object) -> bool:
    """Return whether the CSR, in the bytes in which it came, is signed with its own key."""
    der = _der(pem)
    if request.public_bytes(Encoding.DER) == der:
        return request.is_signature_valid
    [(_, _, start, end)] = children(der, 0, len(der))
    _, position, _, end = next(children(der, start, end))
    how = [request.signature_algorithm_parameters]
    if isinstance(key, rsa.RSAPublicKey):
        how.append(request.signature_hash_algorithm)  # type: ignore[arg-type]  # the algorithm is known to be one of ours
    try:
        key.verify(request.signature, der[position:end], *how)  # type: ignore[attr-defined]  # RSA or EC
    except InvalidSignature:
        return False
    return True


def _der(pem: str) -> bytes:
    match = _PEM.search(pem)
    if match is None:
        raise ValueError("no PEM")
    return base64.b64decode(match[1])


def public_key_digest(key: object) -> str:
    """Return the SHA-256 of a public key's SubjectPublicKeyInfo, in hex."""
    spki = key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)  # type: ignore[attr-defined]  # any key has it
    return hashlib.sha256(spki).hexdigest()


def _key_type(key: object) -> KeyType:
    if isinstance(key, rsa.RSAPublicKey):
        if key.key_size < MINIMUM_RSA_BITS or key.public_numbers().e < MINIMUM_RSA_EXPONENT:
            raise RejectionError(
                RejectionCode.CSR_WEAK_KEY,
                f"The CSR holds an RSA key of {key.key_size} bits with exponent {key.public_numbers().e}; "
                f"at least {MINIMUM_RSA_BITS} bits and exponent {MINIMUM_RSA_EXPONENT} are required.",
            )
        found, described = _RSA_SIZES.get(key.key_size), f"RSA-{key.key_size}"
    elif isinstance(key, ec.EllipticCurvePublicKey):
        found, described = _CURVES.get(key.curve.name), f"a key on curve {key.curve.name}"
    else:
        found, described = None, type(key).__name__
    if found is None:
        allowed = ", ".join(k.value for k in KeyType)
        raise RejectionError(RejectionCode.CSR_WRONG_KEY_TYPE, f"The CSR holds {described}; allowed: {allowed}.")
    return found


def _algorithm(request: x509.CertificateSigningRequest) -> CsrSigningAlgorithm:
    try:
        oid, digest = request.signature_algorithm_oid, request.signature_hash_algorithm
    except (ValueError, UnsupportedAlgorithm):
        oid, digest = None, None
    if oid == SignatureAlgorithmOID.RSASSA_PSS and digest is not None:
        found = _PSS_BY_HASH.get(digest.name)
    else:
        found = _ALGORITHMS.get(oid) if oid is not None else None
    if found is None:
        allowed = ", ".join(a.value for a in CsrSigningAlgorithm)
        raise RejectionError(RejectionCode.CSR_WRONG_ALGORITHM, f"The CSR's signing algorithm is none of {allowed}.")
    return found
