"""The document of a rotation job.

Ours carries what the policy demands; the stock one is exactly ``{"operation": "ROTATE_CERTIFICATE"}``.
Both are valid for both devices: every field but the operation is optional, and fields that a newer
version may add are ignored.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any, ClassVar, Dict, Mapping, Optional

from .algorithms import (
    CsrSigningAlgorithm,
    KeyType,
    default_csr_algorithm,
    parse_csr_algorithm,
    parse_key_type,
    require_matching,
)
from .errors import ProtocolError

ROTATE_OPERATION = "ROTATE_CERTIFICATE"
CHECK_OPERATION = "CHECK_ROTATION"
"""Asks a device what a rotation by the same document would fail on before anything is issued; changes nothing.

A component that answers it names it in its recipe's description: any other leaves such a job in the device's queue.
"""
STOCK_DOCUMENT: Mapping[str, str] = {"operation": ROTATE_OPERATION}
DOCUMENT_FIELDS = frozenset(
    {
        "operation",
        "keyAlgorithm",
        "signingAlgorithm",
        "certificateAuthority",
        "certificateAuthorityArn",
        "policy",
        "commit",
        "sharedCertificate",
    }
)
"""Every field that this version writes and heeds."""
SPLIT = "split"
"""Value of ``sharedCertificate``: a certificate that other things hold too may be replaced. The thing then lets
go of it, and it goes when none holds it and nobody uses it. Any other value, of a version to come, allows nothing."""
MAX_DOCUMENT_BYTES = 32 * 1024  # AWS IoT Jobs: 32 KiB


@dataclass(frozen=True)
class JobDocument:
    """The demands of one job on a device and on the backend; None leaves the choice to the receiver."""

    operation: ClassVar[str] = ROTATE_OPERATION

    key_type: Optional[KeyType] = None
    signing_algorithm: Optional[CsrSigningAlgorithm] = None
    certificate_authority: Optional[str] = None
    policy: Optional[str] = None
    commit: Optional[str] = None
    certificate_authority_arn: Optional[str] = None  # what the authority's name must stand for at the backend
    shared_certificate: Optional[str] = None

    def __post_init__(self) -> None:
        if self.signing_algorithm is not None and self.key_type is not None:
            require_matching(self.key_type, self.signing_algorithm)

    @property
    def is_stock(self) -> bool:
        """Whether nothing but the operation is set."""
        return self == JobDocument()

    @property
    def splits(self) -> bool:
        """Whether a certificate that other things hold too may be replaced."""
        return self.shared_certificate == SPLIT

    def resolve(self, key_type: KeyType, signing_algorithm: CsrSigningAlgorithm) -> tuple[KeyType, CsrSigningAlgorithm]:
        """Fill what the job leaves open from a device's own configuration.

        If the job names only one of the two and the configured other does not match its family,
        the other becomes the default of that family.
        """
        key = self.key_type
        algorithm = self.signing_algorithm
        if key is None:
            key = key_type
            if algorithm is not None and algorithm.family is not key.family:
                key = next(k for k in KeyType if k.family is algorithm.family)
        if algorithm is None:
            algorithm = signing_algorithm if signing_algorithm.family is key.family else default_csr_algorithm(key)
        return key, algorithm

    def to_wire(self) -> Dict[str, str]:
        """Return the JSON object that travels; open fields are left out."""
        fields = {
            "operation": self.operation,
            "keyAlgorithm": self.key_type.value if self.key_type else None,
            "signingAlgorithm": self.signing_algorithm.value if self.signing_algorithm else None,
            "certificateAuthority": self.certificate_authority,
            "certificateAuthorityArn": self.certificate_authority_arn,
            "policy": self.policy,
            "commit": self.commit,
            "sharedCertificate": self.shared_certificate,
        }
        return {name: value for name, value in fields.items() if value is not None}

    def to_json(self) -> str:
        """Return canonical JSON: sorted keys, no spaces; equal documents are equal text."""
        return json.dumps(self.to_wire(), sort_keys=True, separators=(",", ":"))

    @property
    def check(self) -> CheckDocument:
        """Return the document that asks what a rotation by this one would fail on."""
        return CheckDocument(**vars(self))


@dataclass(frozen=True)
class CheckDocument(JobDocument):
    """The question what a rotation by this document would fail on; the device changes nothing."""

    operation: ClassVar[str] = CHECK_OPERATION


def is_rotation(document: object) -> bool:
    """Return whether a parsed job document asks for a rotation, in whatever version."""
    return isinstance(document, Mapping) and document.get("operation") == ROTATE_OPERATION


def is_check(document: object) -> bool:
    """Return whether a parsed job document asks what a rotation would fail on."""
    return isinstance(document, Mapping) and document.get("operation") == CHECK_OPERATION


def parse_job_document(document: object) -> JobDocument:
    """Read a parsed JSON document; ProtocolError if it is not a rotation, nor a check, or a field is wrong."""
    if not isinstance(document, Mapping):
        raise ProtocolError(f"a job document is a JSON object, found {type(document).__name__}")
    if not (is_rotation(document) or is_check(document)):
        raise ProtocolError(f"operation is {document.get('operation')!r}, expected {ROTATE_OPERATION!r}")
    key = document.get("keyAlgorithm")
    algorithm = document.get("signingAlgorithm")
    return JobDocument(
        key_type=None if key is None else parse_key_type(key),
        signing_algorithm=None if algorithm is None else parse_csr_algorithm(algorithm),
        certificate_authority=_optional_text(document, "certificateAuthority"),
        policy=_optional_text(document, "policy"),
        commit=_optional_text(document, "commit"),
        certificate_authority_arn=_optional_text(document, "certificateAuthorityArn"),
        shared_certificate=_optional_text(document, "sharedCertificate"),
    )


def _optional_text(document: Mapping[str, Any], field: str) -> Optional[str]:
    value = document.get(field)
    if value is not None and (not isinstance(value, str) or not value):
        raise ProtocolError(f"{field} is {value!r}, expected a non-empty string or no such field")
    return value
