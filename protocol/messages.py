"""The messages of a rotation, encoded and decoded with every check in one place.

Decoders take raw MQTT payloads, which anyone who may publish can forge: they raise ProtocolError
for anything but a well-formed message, and bound what they read.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, Dict, Mapping, Optional

from .errors import ProtocolError
from .names import FAILURE_REASON_KEY, STATUS_DETAILS_KEY

MAX_PAYLOAD_BYTES = 128 * 1024  # AWS IoT Core: 128 KiB per message
MAX_CSR_CHARACTERS = 4096  # CreateCertificateFromCsr
MAX_STATUS_DETAIL_CHARACTERS = 1024  # value of one statusDetails entry


class ExecutionStatus(str, Enum):
    """Statuses of a job execution, as AWS IoT spells them."""

    QUEUED = "QUEUED"
    IN_PROGRESS = "IN_PROGRESS"
    SUCCEEDED = "SUCCEEDED"
    FAILED = "FAILED"
    TIMED_OUT = "TIMED_OUT"
    REJECTED = "REJECTED"
    REMOVED = "REMOVED"
    CANCELED = "CANCELED"

    @property
    def is_terminal(self) -> bool:
        """Whether the execution can no longer change."""
        return self in _ENDS


_ENDS = (
    ExecutionStatus.SUCCEEDED,
    ExecutionStatus.FAILED,
    ExecutionStatus.TIMED_OUT,
    ExecutionStatus.REJECTED,
    ExecutionStatus.REMOVED,
    ExecutionStatus.CANCELED,
)


@dataclass(frozen=True)
class Execution:
    """A job execution as ``notify-next`` and ``$next/get/accepted`` carry it."""

    job_id: str
    status: ExecutionStatus
    job_document: Any = None
    status_details: Mapping[str, str] = field(default_factory=dict)
    version_number: Optional[int] = None
    execution_number: Optional[int] = None


@dataclass(frozen=True)
class CreateRequest:
    """A device asks for a certificate over its new key; ``csr`` is PEM.

    ``certificate_id`` is ours and may be missing: the id of the certificate in place on the device. A
    backend refuses a request that came over a connection with another one.
    """

    job_id: str
    csr: str
    certificate_id: Optional[str] = None

    def encode(self) -> bytes:
        """Return the payload."""
        in_place = {"certificateId": self.certificate_id} if self.certificate_id else {}
        return _encode({"jobId": self.job_id, "csr": self.csr, **in_place})

    @classmethod
    def decode(cls, payload: bytes) -> CreateRequest:
        """Read and check a payload; raises ProtocolError."""
        message = _object(payload)
        csr = _text(message, "csr")
        if len(csr) > MAX_CSR_CHARACTERS:
            raise ProtocolError(f"csr has {len(csr)} characters, at most {MAX_CSR_CHARACTERS} are allowed")
        return cls(_text(message, "jobId"), csr, _optional_text(message, "certificateId"))


@dataclass(frozen=True)
class CreateAccepted:
    """The new certificate, PEM; the leaf first if a chain follows.

    ``job_id`` is ours and may be missing, here and in the other answers: it lets a device distinguish an
    answer that comes late from one to the job at hand.
    """

    certificate_pem: str
    job_id: Optional[str] = None

    def encode(self) -> bytes:
        """Return the payload."""
        return _encode({"certificatePem": self.certificate_pem, **_job(self.job_id)})

    @classmethod
    def decode(cls, payload: bytes) -> CreateAccepted:
        """Read and check a payload; raises ProtocolError."""
        message = _object(payload)
        return cls(_text(message, "certificatePem"), _optional_text(message, "jobId"))


@dataclass(frozen=True)
class CommitRequest:
    """A device reports that it is connected with the new certificate."""

    job_id: str

    def encode(self) -> bytes:
        """Return the payload."""
        return _encode({"jobId": self.job_id})

    @classmethod
    def decode(cls, payload: bytes) -> CommitRequest:
        """Read and check a payload; raises ProtocolError."""
        return cls(_text(_object(payload), "jobId"))


@dataclass(frozen=True)
class CommitAccepted:
    """The backend has seen the device connected with the new certificate."""

    job_id: Optional[str] = None

    def encode(self) -> bytes:
        """Return the payload."""
        return _encode(_job(self.job_id))

    @classmethod
    def decode(cls, payload: bytes) -> CommitAccepted:
        """Read and check a payload; raises ProtocolError."""
        return cls(_optional_text(_object(payload), "jobId"))


@dataclass(frozen=True)
class Rejected:
    """Why a create or commit was refused; ``code`` is ours and may be missing."""

    error_message: str
    code: Optional[str] = None
    job_id: Optional[str] = None

    def encode(self) -> bytes:
        """Return the payload."""
        message = {"errorMsg": self.error_message, **_job(self.job_id)}
        if self.code:
            message["errorCode"] = self.code
        return _encode(message)

    @classmethod
    def decode(cls, payload: bytes) -> Rejected:
        """Read and check a payload; raises ProtocolError."""
        message = _object(payload)
        return cls(_text(message, "errorMsg"), _optional_text(message, "errorCode"), _optional_text(message, "jobId"))


@dataclass(frozen=True)
class JobsAnswer:
    """AWS IoT Jobs' answer to a status report; ``code`` only if it was rejected.

    ``status`` is the execution's, which comes with the code InvalidStateTransition (developer guide of AWS IoT Core,
    "Jobs MQTT API", ErrorResponse).
    """

    code: Optional[str] = None
    message: Optional[str] = None
    client_token: Optional[str] = None
    status: Optional[str] = None


GET_NEXT = b"{}"


def encode_update(
    status: ExecutionStatus,
    progress: str,
    failure_reason: Optional[str] = None,
    client_token: Optional[str] = None,
    *,
    mark: str = STATUS_DETAILS_KEY,
    attempt: Optional[int] = None,
) -> bytes:
    """Return a status report: ``progress`` goes under the key that marks the execution as what it is.

    ``attempt``: the number of the execution; without one it is the job's latest.

    A failure reason that AWS IoT does not take, because it is too long or holds line ends, is made to
    fit, never refused: it must reach a person.
    """
    details = {mark: _status_detail(progress)}
    if failure_reason:
        details[FAILURE_REASON_KEY] = _status_detail(failure_reason)
    message: Dict[str, Any] = {"status": status.value, "statusDetails": details}
    if client_token:
        message["clientToken"] = client_token
    if attempt is not None:
        message["executionNumber"] = attempt
    return _encode(message)


def _status_detail(text: str) -> str:
    r"""Return one line, as AWS IoT's data plane demands of a value: ``[^\p{C}]+``, nothing that cannot be printed."""
    line = " ".join("".join(character if character.isprintable() else " " for character in text).split())
    return line[:MAX_STATUS_DETAIL_CHARACTERS] or "-"


def decode_execution(payload: bytes) -> Optional[Execution]:
    """Read ``notify-next`` or ``get/accepted``; None if no execution is pending. Raises ProtocolError."""
    execution = _object(payload).get("execution")
    if execution is None or execution == {}:
        return None
    if not isinstance(execution, Mapping):
        raise ProtocolError(f"execution is {type(execution).__name__}, expected an object")
    status = execution.get("status")
    try:
        parsed_status = ExecutionStatus(status)
    except ValueError:
        raise ProtocolError(f"execution status {status!r} is unknown") from None
    details = execution.get("statusDetails")
    return Execution(
        job_id=_text(execution, "jobId"),
        status=parsed_status,
        job_document=execution.get("jobDocument"),
        status_details=details if isinstance(details, Mapping) else {},
        version_number=_optional_int(execution, "versionNumber"),
        execution_number=_optional_int(execution, "executionNumber"),
    )


def decode_jobs_answer(payload: bytes) -> JobsAnswer:
    """Read ``update/accepted`` or ``update/rejected``; what is not text is taken as absent."""
    message = _object(payload)
    state = message.get("executionState")
    status = state.get("status") if isinstance(state, Mapping) else None
    told = (message.get("code"), message.get("message"), message.get("clientToken"), status)
    return JobsAnswer(*(value if isinstance(value, str) else None for value in told))


def _encode(message: Mapping[str, Any]) -> bytes:
    return json.dumps(message, separators=(",", ":")).encode()


def _object(payload: bytes) -> Mapping[str, Any]:
    if len(payload) > MAX_PAYLOAD_BYTES:
        raise ProtocolError(f"payload has {len(payload)} bytes, at most {MAX_PAYLOAD_BYTES} are allowed")
    try:
        message = json.loads(payload)
    except (ValueError, RecursionError):
        raise ProtocolError("payload is not JSON") from None
    if not isinstance(message, dict):
        raise ProtocolError(f"payload is a JSON {type(message).__name__}, expected an object")
    return message


def _text(message: Mapping[str, Any], name: str) -> str:
    value = message.get(name)
    if not isinstance(value, str) or not value:
        raise ProtocolError(f"{name} is {value!r}, expected a non-empty string"[:200])
    return value


def _job(job_id: Optional[str]) -> Dict[str, str]:
    return {"jobId": job_id} if job_id else {}


def _optional_text(message: Mapping[str, Any], name: str) -> Optional[str]:
    value = message.get(name)
    return value if isinstance(value, str) else None


def _optional_int(message: Mapping[str, Any], name: str) -> Optional[int]:
    value = message.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
