"""Every way in which a call to AWS fails, as a FleetError with its remedy."""

from __future__ import annotations

from botocore import exceptions as boto

from controller.errors import FleetError
from controller.fleet.aws_answers import UNREADABLE
from controller.plain_text import one_line

_EXPIRED = frozenset({"ExpiredToken", "ExpiredTokenException", "RequestExpired", "TokenRefreshRequired"})
_INVALID = frozenset(
    {"InvalidClientTokenId", "UnrecognizedClientException", "SignatureDoesNotMatch", "InvalidSignatureException"}
)
_DENIED = frozenset({"AccessDenied", "AccessDeniedException", "UnauthorizedException", "ForbiddenException"})
_THROTTLED = frozenset(
    {"Throttling", "ThrottlingException", "ThrottledException", "TooManyRequestsException", "RequestLimitExceeded"}
)
FAILURES = (boto.BotoCoreError, boto.ClientError, OSError, ValueError)
"""The errors that botocore raises: its own, and those of files, programs and addresses that it is asked to use."""

ENDLESS = "EndlessListing"
_NOT_FOUND = frozenset({"ResourceNotFoundException"})

_NO_CREDENTIALS = (
    boto.NoCredentialsError,
    boto.PartialCredentialsError,
    boto.CredentialRetrievalError,
    boto.ProfileNotFound,
)
_STALE_LOGIN = (boto.SSOTokenLoadError, boto.UnauthorizedSSOTokenError, boto.TokenRetrievalError)
_NETWORK = (boto.HTTPClientError, boto.ConnectionError)  # connect, read, proxy, TLS: every failure below HTTP


class AwsCallError(FleetError):
    """One call failed. ``code`` is AWS's, or the botocore exception's name if AWS was not reached."""

    def __init__(self, message: str, remedy: str, *, operation: str, code: str, is_answer: bool = False) -> None:
        super().__init__(message, remedy)
        self.operation = operation
        self.code = code
        self.is_answer = is_answer  # AWS understood the question: the next one may fare better

    @property
    def is_not_found(self) -> bool:
        """Whether AWS reports that what was asked for does not exist."""
        return self.code in _NOT_FOUND

    @property
    def is_denied(self) -> bool:
        """Whether the caller is not allowed to make the call."""
        return self.code in _DENIED

    @property
    def is_throttling(self) -> bool:
        """Whether AWS refused every attempt because of a rate."""
        return self.code in _THROTTLED


def endless(operation: str, where: str) -> AwsCallError:
    """Return the error of a listing whose pages lead back to one that was read; ``where`` names account and region."""
    return AwsCallError(
        f"the pages of {operation} in {where} never end: the token of a page already read came again",
        "find out what answers in the place of AWS (HTTPS_PROXY, AWS_ENDPOINT_URL); AWS itself does not do that",
        operation=operation,
        code=ENDLESS,
    )


def explain(error: Exception, service: str, operation: str, where: str) -> AwsCallError:
    """Return the error to raise for what botocore raised; ``where`` names account and region."""
    if isinstance(error, boto.ClientError):
        return _explain_answer(error, service, operation, where)
    code, said = type(error).__name__, one_line(str(error))
    if isinstance(error, _NO_CREDENTIALS):
        message = f"no usable AWS credentials for {where}: {said}"
        remedy = "set AWS_PROFILE or the AWS_… variables, or log in, so that `aws sts get-caller-identity` answers"
    elif isinstance(error, _STALE_LOGIN):
        message = f"the AWS login for {where} has expired: {said}"
        remedy = "log in again (`aws sso login`), then run the same command: it goes on where it stopped"
    elif isinstance(error, _NETWORK):
        message = f"AWS could not be reached for {service} {operation} in {where}: {said}"
        remedy = (
            "check the network, the proxy, the fleet's region and any AWS_ENDPOINT_URL, then run the same command: "
            "it goes on where it stopped"
        )
    else:
        message = f"{service} {operation} in {where} failed before it was sent: {said}"
        remedy = "check the AWS configuration files and AWS_… variables that the message names"
    return AwsCallError(message, remedy, operation=operation, code=code)


def _explain_answer(error: boto.ClientError, service: str, operation: str, where: str) -> AwsCallError:
    detail = error.response.get("Error", {})
    code = one_line(str(detail.get("Code", "Unknown")))
    text = one_line(str(detail.get("Message", ""))) or code
    if code in _EXPIRED:
        message = f"the AWS credentials for {where} have expired ({operation}: {text})"
        remedy = "renew them, then run the same command: it goes on where it stopped"
    elif code in _INVALID:
        message = f"AWS does not accept the credentials for {where} ({operation}: {code}: {text})"
        remedy = "check the access key and its session token, and that this machine's clock is right"
    elif code in _DENIED:
        action = iam_action(service, operation)
        message = f"access to {action} in {where} is denied: {text}"
        remedy = _ASSUMING if operation == "AssumeRole" else f"allow {action} to {_CALLER}"
    elif code == UNREADABLE:
        message = f"what was answered to {operation} in {where} is not an answer of AWS: {text}"
        remedy = (
            "find out what stands between (HTTPS_PROXY, AWS_ENDPOINT_URL, a log-in page of the network), then run the "
            "same command: it goes on where it stopped"
        )
    elif code in _THROTTLED:
        message = f"AWS throttled {operation} in {where} on every attempt: {text}"
        remedy = (
            f"something else uses up this account's {operation} quota: wait or raise it, then run the same command: "
            "it goes on where it stopped"
        )
    else:
        message = f"{service} {operation} in {where} failed: {code}: {text}"
        remedy = "see the AWS documentation of this call, or run again if the error shows that AWS is at fault"
    status = error.response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    is_answer = 400 <= status < 500 and code not in _THROTTLED  # noqa: PLR2004 (HTTP)
    return AwsCallError(message, remedy, operation=operation, code=code, is_answer=is_answer)


def iam_action(service: str, operation: str) -> str:
    """Return a call as IAM spells it, such as ``greengrass:GetDeployment``."""
    return f"{_IAM_PREFIXES.get(service, service)}:{operation}"


_CALLER = "the role or user that certfleet runs as (docs list all the permissions it needs)"
_ASSUMING = (
    "name in the Fleet document a readRoleArn (for all that changes nothing) and a roleArn (for apply) that whoever "
    "runs certfleet is allowed to assume, by sts:AssumeRole, and that trust it (docs/backend.md, Several accounts)"
)
_IAM_PREFIXES = {
    "service-quotas": "servicequotas",
    "greengrassv2": "greengrass",
    "iot-data": "iot",
    "iot-jobs-data": "iotjobsdata",
}  # where it is not the client's name
