"""The errors that can end a handler's run."""

from __future__ import annotations

from botocore.exceptions import ClientError, HTTPClientError
from botocore.exceptions import ConnectionError as BotoConnectionError

from protocol.rejections import RejectionCode

_TRANSIENT_CODES = frozenset(
    {
        "InternalException",
        "InternalFailure",
        "InternalFailureException",
        "InternalServerError",
        "LimitExceededException",
        "ProvisionedThroughputExceededException",
        "RequestLimitExceeded",
        "ServiceUnavailableException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
        "TransactionInProgressException",
    }
)
_SERVER_ERROR = 500  # HTTP statuses from here on blame the server


class RejectionError(Exception):
    """A request is refused for a cause that a repeat does not cure; ``str`` is a sentence for a person."""

    def __init__(self, code: RejectionCode, sentence: str) -> None:
        super().__init__(sentence)
        self.code = code


class ConflictError(Exception):
    """Another invocation changed the rotation meanwhile: read it again and decide anew."""


class ContradictionError(Exception):
    """The registry contradicts the rotation's record: nothing was touched, a person must look."""


def error_code(error: BaseException) -> str:
    """Return the AWS error code of a ClientError, else the name of the exception's class."""
    if isinstance(error, ClientError):
        return str(error.response.get("Error", {}).get("Code", "Unknown"))
    return type(error).__name__


def is_refused(error: BaseException) -> bool:
    """Return whether AWS has certainly not done what was asked.

    That is so if AWS answered with a client error, and the call was attempted only once.
    """
    if isinstance(error, RejectionError):
        return error.__cause__ is None or is_refused(error.__cause__)
    if not isinstance(error, ClientError):
        return False
    metadata = error.response.get("ResponseMetadata", {})
    return metadata.get("HTTPStatusCode", 0) < _SERVER_ERROR and not metadata.get("RetryAttempts")


def is_transient(error: BaseException) -> bool:
    """Return whether a call may succeed if repeated: throttled, timed out, overtaken, or the server's own fault."""
    if isinstance(error, (BotoConnectionError, HTTPClientError, ConflictError)):
        return True
    if not isinstance(error, ClientError):
        return False
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return status >= _SERVER_ERROR or error_code(error) in _TRANSIENT_CODES
