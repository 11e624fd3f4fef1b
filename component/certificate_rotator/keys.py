"""Keys and signing requests for credentials on disk, in PEM.

``cryptography`` is imported on first use: an idle device does not hold it in memory.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Dict, Union

from protocol.algorithms import CsrSigningAlgorithm, Family, KeyType

from .errors import StoreError

if TYPE_CHECKING:
    from cryptography import x509
    from cryptography.hazmat.primitives import serialization
    from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePrivateKey
    from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey

    PrivateKey = Union[RSAPrivateKey, EllipticCurvePrivateKey]


def generate(key_type: KeyType) -> bytes:
    """Return a new private key as unencrypted PEM: PKCS#1 for RSA, which is all that the nucleus reads on Windows."""
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # lazy, see the module
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415

    if key_type.family is Family.RSA:
        key = rsa.generate_private_key(public_exponent=65537, key_size=key_type.bits)
        return _to_pem(key, serialization.PrivateFormat.TraditionalOpenSSL)
    curves: Dict[int, ec.EllipticCurve] = {256: ec.SECP256R1(), 384: ec.SECP384R1(), 521: ec.SECP521R1()}
    return _to_pem(ec.generate_private_key(curves[key_type.bits]), serialization.PrivateFormat.PKCS8)


def signing_request(key_pem: bytes, subject: x509.Name, algorithm: CsrSigningAlgorithm) -> str:
    """Return a certificate signing request for this ``subject`` in PEM."""
    from cryptography import x509  # noqa: PLC0415  # lazy, see the module
    from cryptography.hazmat.primitives import hashes, serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import padding  # noqa: PLC0415

    digest: Any = getattr(hashes, algorithm.hash_name)()
    pss = padding.PSS(padding.MGF1(digest), padding.PSS.DIGEST_LENGTH) if algorithm.is_pss else None
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    request = builder.sign(_load(key_pem), digest, rsa_padding=pss)
    return request.public_bytes(serialization.Encoding.PEM).decode()


def public_key_der(key_pem: bytes, *, validate: bool = False) -> bytes:
    """Return the SubjectPublicKeyInfo (DER) of a private key; raises StoreError if it is not a key.

    ``validate``: an RSA key's numbers are held against each other, which takes as long as everything else together.
    """
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # lazy, see the module

    return (
        _load(key_pem, validate=validate)
        .public_key()
        .public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
    )


def _load(key_pem: bytes, *, validate: bool = False) -> PrivateKey:
    from cryptography.exceptions import UnsupportedAlgorithm  # noqa: PLC0415  # lazy, see the module
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415
    from cryptography.hazmat.primitives.asymmetric import ec, rsa  # noqa: PLC0415

    try:
        key = serialization.load_pem_private_key(key_pem, password=None, unsafe_skip_rsa_key_validation=not validate)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        # Parser errors are not repeated: they may quote what they read.
        raise StoreError("a private key is not an unencrypted PEM key") from None
    if not isinstance(key, (rsa.RSAPrivateKey, ec.EllipticCurvePrivateKey)):
        raise StoreError("a private key is neither RSA nor on an elliptic curve")
    return key


def _to_pem(key: PrivateKey, form: serialization.PrivateFormat) -> bytes:
    from cryptography.hazmat.primitives import serialization  # noqa: PLC0415  # lazy, see the module

    return key.private_bytes(serialization.Encoding.PEM, form, serialization.NoEncryption())
