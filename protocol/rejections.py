"""Why the backend refuses a ``create`` or a ``commit``: the codes of ``errorCode``.

A stock backend sends no code; a receiver must work without one. Each code stands for one cause, and
``docs/backend.md`` shows for each what a person does about it.
"""

from __future__ import annotations

from enum import Enum


class RejectionCode(str, Enum):
    """One cause each, in the order in which the backend looks for them."""

    MALFORMED_REQUEST = "MalformedRequest"
    CLIENT_ID_MISMATCH = "ClientIdMismatch"
    CREDENTIAL_MISMATCH = "CredentialMismatch"

    OVER_BUDGET = "OverBudget"
    QUARANTINED = "Quarantined"

    CSR_TOO_LONG = "CsrTooLong"
    CSR_UNREADABLE = "CsrUnreadable"
    CSR_BAD_SIGNATURE = "CsrBadSignature"
    CSR_WEAK_KEY = "CsrWeakKey"
    CSR_WRONG_KEY_TYPE = "CsrWrongKeyType"
    CSR_WRONG_ALGORITHM = "CsrWrongAlgorithm"

    NO_EXECUTION = "NoExecution"
    EXECUTION_NOT_IN_PROGRESS = "ExecutionNotInProgress"
    NOT_A_ROTATION = "NotARotation"
    UNKNOWN_AUTHORITY = "UnknownAuthority"

    NO_CERTIFICATE = "NoCertificate"
    EXTRA_CERTIFICATE = "ExtraCertificate"
    NOT_EXCLUSIVE = "NotExclusive"
    CERTIFICATE_NOT_ATTACHED = "CertificateNotAttached"
    CERTIFICATE_INACTIVE = "CertificateInactive"
    ALREADY_ROTATED = "AlreadyRotated"
    CSR_WRONG_SUBJECT = "CsrWrongSubject"
    CSR_REUSED_KEY = "CsrReusedKey"

    ROTATION_IN_PROGRESS = "RotationInProgress"
    SUPERSEDED_KEY = "SupersededKey"
    ISSUE_FAILED = "IssueFailed"

    NO_ROTATION = "NoRotation"
    NOT_CREATED = "NotCreated"
    OLD_CERTIFICATE = "OldCertificate"
    REGISTRY_CONTRADICTS = "RegistryContradicts"

    INTERNAL = "Internal"
