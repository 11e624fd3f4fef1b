"""Key types and signing algorithms, and which of them go together.

The values are spelled as they travel: in policies, job documents and component configuration.
"""

from __future__ import annotations

from enum import Enum
from typing import Tuple

from .errors import ProtocolError


class Family(str, Enum):
    """The two families of keys; a signing algorithm belongs to exactly one."""

    RSA = "RSA"
    ECDSA = "ECDSA"


class KeyType(str, Enum):
    """The key types a device may hold."""

    RSA_2048 = "RSA-2048"
    RSA_3072 = "RSA-3072"
    ECDSA_P256 = "ECDSA-P256"
    ECDSA_P384 = "ECDSA-P384"
    ECDSA_P521 = "ECDSA-P521"

    @property
    def family(self) -> Family:
        """The family of this type of key."""
        return Family(self.value.split("-")[0])

    @property
    def bits(self) -> int:
        """Modulus length of an RSA key, or field size of an elliptic curve, in bits."""
        return int(self.value.split("-")[1].lstrip("P"))


class CsrSigningAlgorithm(str, Enum):
    """How a device signs its certificate signing request."""

    SHA256_RSA = "SHA256WITHRSA"
    SHA384_RSA = "SHA384WITHRSA"
    SHA512_RSA = "SHA512WITHRSA"
    SHA256_RSA_PSS = "SHA256WITHRSAANDMGF1"
    SHA384_RSA_PSS = "SHA384WITHRSAANDMGF1"
    SHA512_RSA_PSS = "SHA512WITHRSAANDMGF1"
    SHA256_ECDSA = "ECDSA-WITH-SHA256"
    SHA384_ECDSA = "ECDSA-WITH-SHA384"
    SHA512_ECDSA = "ECDSA-WITH-SHA512"

    @property
    def family(self) -> Family:
        """The family of the keys that can sign this way."""
        return Family.ECDSA if self.value.startswith("ECDSA") else Family.RSA

    @property
    def hash_name(self) -> str:
        """The hash function: ``SHA256``, ``SHA384`` or ``SHA512``."""
        return self.value[-6:] if self.family is Family.ECDSA else self.value[:6]

    @property
    def is_pss(self) -> bool:
        """Whether RSA signs with PSS padding instead of PKCS#1 v1.5."""
        return self.value.endswith("ANDMGF1")


class CaSigningAlgorithm(str, Enum):
    """How a private CA signs a certificate (the names of ACM-PCA without underscores)."""

    SHA256_RSA = "SHA256WITHRSA"
    SHA384_RSA = "SHA384WITHRSA"
    SHA512_RSA = "SHA512WITHRSA"
    SHA256_ECDSA = "SHA256WITHECDSA"
    SHA384_ECDSA = "SHA384WITHECDSA"
    SHA512_ECDSA = "SHA512WITHECDSA"

    @property
    def family(self) -> Family:
        """The family of the CA's own key."""
        return Family.ECDSA if self.value.endswith("ECDSA") else Family.RSA


DEFAULT_KEY_TYPE = KeyType.RSA_2048
DEFAULT_CSR_SIGNING_ALGORITHM = CsrSigningAlgorithm.SHA256_RSA


def matching_csr_algorithms(key_type: KeyType) -> Tuple[CsrSigningAlgorithm, ...]:
    """Return the algorithms with which a key of this type can sign, strongest last."""
    return tuple(a for a in CsrSigningAlgorithm if a.family is key_type.family)


def default_csr_algorithm(key_type: KeyType) -> CsrSigningAlgorithm:
    """Return SHA-256 in the family of the ``key_type``, because every CA accepts it."""
    return matching_csr_algorithms(key_type)[0]


def parse_key_type(text: object) -> KeyType:
    """Read a key type; ProtocolError names the allowed ones."""
    try:
        return KeyType(text)
    except ValueError:
        raise ProtocolError(f"key type {text!r} is unknown; allowed: {_names(KeyType)}") from None


def parse_csr_algorithm(text: object) -> CsrSigningAlgorithm:
    """Read a CSR signing algorithm; ProtocolError names the allowed ones."""
    try:
        return CsrSigningAlgorithm(text)
    except ValueError:
        raise ProtocolError(
            f"CSR signing algorithm {text!r} is unknown; allowed: {_names(CsrSigningAlgorithm)}"
        ) from None


def require_matching(key_type: KeyType, algorithm: CsrSigningAlgorithm) -> None:
    """Raise ProtocolError unless a key of this type can sign with this algorithm."""
    if key_type.family is not algorithm.family:
        allowed = ", ".join(a.value for a in matching_csr_algorithms(key_type))
        raise ProtocolError(
            f"a {key_type.value} key cannot sign with {algorithm.value}: it signs {key_type.family.value}, "
            f"the algorithm is for {algorithm.family.value}; allowed: {allowed}"
        )


def _names(kind: type[Enum]) -> str:
    return ", ".join(str(member.value) for member in kind)
