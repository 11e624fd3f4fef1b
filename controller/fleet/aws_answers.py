"""Answers are held to their shape before anybody looks at them.

botocore accepts any body with a status of 200: a body that was cut off, a page of some proxy, or nothing at all
comes out as ``{}``, because its models of these services require no member of any answer. So each
operation that we use has an entry here, kept by hand: what must be there, and what may be missing (``?``).
An answer of another shape becomes a 502, as from a gateway: botocore asks again as after any 502, and if the shape
stays wrong, the error shows what is wrong with it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from functools import cache
from typing import Any, Final

from botocore.parsers import ResponseParserFactory

UNREADABLE: Final = "UnreadableAnswer"
"""The error code of such an answer."""

_GATEWAY_FAULT = 502

MEMBERS: Final[Mapping[str, tuple[str, ...]]] = {
    # what a checkup asks
    "DescribeEventConfigurations": ("eventConfigurations?",),
    "GetTopicRule": ("rule.ruleName", "rule.errorAction?.sqs?.queueUrl?"),
    "GetQueueAttributes": ("Attributes?",),
    "TestAuthorization": (
        "authResults.authInfo.actionType",
        "authResults.authInfo.resources",
        "authResults.authDecision",
        "authResults.missingContextValues?",
    ),
    "GetServiceQuota": ("Quota.Value",),
    # healing
    "ListPolicies": ("policies.policyName", "nextMarker?"),
    "ListTargetsForPolicy": ("targets", "nextMarker?"),
    "ListAttachedPolicies": ("policies.policyName", "nextMarker?"),
    "GetItem": ("ConsumedCapacity.TableName", "Item?"),
    "BatchGetItem": ("Responses", "UnprocessedKeys?"),
    # (of a table without items both lists are there, and empty)
    "Query": ("Items", "Count", "LastEvaluatedKey?"),
    "Scan": ("Items", "Count", "LastEvaluatedKey?"),
    "PutItem": (),
    "DeleteItem": (),
    "DeleteConnection": (),
    "CancelJobExecution": (),
    "ListJobExecutionsForThing": ("executionSummaries.jobId", "nextToken?"),
    "UpdateCertificate": (),
    "DetachPolicy": (),
    "DetachThingPrincipal": (),
    "DeleteCertificate": (),
    # who we are
    "GetCallerIdentity": ("Account",),
    "AssumeRole": (
        "Credentials.AccessKeyId",
        "Credentials.SecretAccessKey",
        "Credentials.SessionToken",
        "Credentials.Expiration",
    ),
    # the registry
    "DescribeThingGroup": (
        "thingGroupName",
        "thingGroupArn",
        "version",
        "thingGroupMetadata.creationDate",
        "thingGroupMetadata.rootToParentThingGroups?.groupName",
        "thingGroupProperties?.thingGroupDescription?",
        "thingGroupProperties?.attributePayload?.attributes?",
    ),
    "ListThingsInThingGroup": ("things", "nextToken?"),
    "ListThings": ("things.thingName", "things.attributes?", "nextToken?"),
    "ListThingGroups": ("thingGroups.groupName", "nextToken?"),
    "ListCertificates": (
        "certificates.certificateId",
        "certificates.status",
        "certificates.creationDate",
        "nextMarker?",
    ),
    "DescribeCertificate": (
        "certificateDescription.certificateId",
        "certificateDescription.status",
        "certificateDescription.creationDate",
        "certificateDescription.certificatePem",
        "certificateDescription.caCertificateId?",
        "certificateDescription.certificateMode?",
        "certificateDescription.lastModifiedDate?",
    ),
    "ListPrincipalThingsV2": (
        "principalThingObjects.thingName",
        "principalThingObjects.thingPrincipalType?",
        "nextToken?",
    ),
    "ListThingPrincipalsV2": (
        "thingPrincipalObjects.principal",
        "thingPrincipalObjects.thingPrincipalType?",
        "nextToken?",
    ),
    "GetThingConnectivityData": ("connected?", "timestamp?"),
    "SearchIndex": ("things?.thingName", "things?.connectivity?.timestamp?", "nextToken?"),
    "CreateThingGroup": ("thingGroupName", "thingGroupArn"),
    "UpdateThingGroup": ("version",),
    "DeleteThingGroup": (),
    "AddThingToThingGroup": (),
    "RemoveThingFromThingGroup": (),
    # the state machine of the reconcile loop
    "StartExecution": ("executionArn",),
    "SendTaskSuccess": (),
    # rotation jobs
    "DescribeJobTemplate": ("jobTemplateId", "document?", "description?"),
    "ListJobs": (
        "jobs.jobId",
        "jobs.status",
        "jobs.createdAt",
        "jobs.completedAt?",
        "jobs.targetSelection?",
        "nextToken?",
    ),
    "GetJobDocument": ("document?",),
    "DescribeJob": (
        "job.jobId",
        "job.status",
        "job.targets",
        "job.createdAt",
        "job.completedAt?",
        "job.reasonCode?",
        "job.targetSelection?",
        "job.jobProcessDetails?",
    ),
    "DescribeJobExecution": (
        "execution.jobId",
        "execution.status",
        "execution.statusDetails?.detailsMap?",
        "execution.queuedAt?",
    ),
    "ListJobExecutionsForJob": (
        "executionSummaries.thingArn",
        "executionSummaries.jobExecutionSummary.status",
        "executionSummaries.jobExecutionSummary.queuedAt",
        "executionSummaries.jobExecutionSummary.lastUpdatedAt",
        "executionSummaries.jobExecutionSummary.startedAt?",
        "executionSummaries.jobExecutionSummary.executionNumber?",
        "nextToken?",
    ),
    "CreateJob": ("jobId",),
    "CancelJob": ("jobId",),
    # what stands beside the registry
    "ListInstalledComponents": (
        "installedComponents.componentName",
        "installedComponents.componentVersion",
        "nextToken?",
    ),
    "DescribeComponent": ("componentName", "componentVersion", "description?"),
    "ListCertificateAuthorities": (
        "CertificateAuthorities.Arn",
        "CertificateAuthorities.Status",
        "CertificateAuthorities.CertificateAuthorityConfiguration.KeyAlgorithm",
        "CertificateAuthorities.CertificateAuthorityConfiguration.Subject?.CommonName?",
        "NextToken?",
    ),
    "ListEffectiveDeployments": (
        "effectiveDeployments.deploymentId",
        "effectiveDeployments.coreDeviceExecutionStatus",
        "effectiveDeployments.modifiedTimestamp",
        "effectiveDeployments.deploymentName?",
        "nextToken?",
    ),
    "GetDeployment": ("deploymentId", "components?"),
    "GetFunctionConfiguration": ("FunctionName", "Environment?.Variables?"),
    "GetCertificateAuthorityCertificate": ("Certificate",),
    "DescribeCertificateAuthority": (
        "CertificateAuthority.Status",
        "CertificateAuthority.CertificateAuthorityConfiguration.KeyAlgorithm",
        "CertificateAuthority.NotAfter?",
        "CertificateAuthority.UsageMode?",
    ),
    "GetParameter": ("Parameter.Value",),
    "ListTopicRules": ("rules.ruleName", "rules.ruleDisabled", "nextToken?"),
    "ListObjectsV2": ("Contents?.Key", "IsTruncated", "NextContinuationToken?"),
    "GetObject": ("Body", "ETag", "ContentLength?"),
    "PutObject": ("ETag",),
    "Publish": ("MessageId",),
    "Sign": ("Signature",),
    "Verify": ("SignatureValid",),
}

_PYTHON: Final[Mapping[str, type | tuple[type, ...]]] = {
    "string": str,
    "timestamp": datetime,
    "integer": int,
    "long": int,
    "boolean": bool,
    "list": list,
    "map": dict,
    "structure": dict,
}  # streams and bytes are taken as they come


def hold_to_shape(session: Any) -> None:
    """Have every client that this botocore session makes from now on read answers so."""
    session.register_component("response_parser_factory", _Factory())
    # The deepest handler comes first: before those that decide whether to ask again.
    session.register("needs-retry.*.*", _mark_fault)


def problem_of(operation: str, answer: Any, shape: Any) -> str | None:
    """Return what is wrong with an answer of a shape, as words after its operation's name; None if nothing is."""
    return _problem(answer, shape, _tree(operation), "")


class _Factory:
    """Makes botocore's parsers, held to the shape."""

    def __init__(self) -> None:
        self._parsers = ResponseParserFactory()

    def create_parser(self, protocol_name: str) -> Any:
        return _Parser(self._parsers.create_parser(protocol_name), is_json="json" in protocol_name)


class _Parser:
    """One of botocore's parsers, which raises no error whatever an answer holds."""

    def __init__(self, parser: Any, *, is_json: bool) -> None:
        self._parser, self._is_json = parser, is_json

    def parse(self, response: Mapping[str, Any], shape: Any) -> Any:
        problem = _length_problem(response)
        if problem is None and self._is_json and response["status_code"] < 300:  # noqa: PLR2004 (HTTP)
            problem = _text_problem(response)
        if problem is None:
            try:
                parsed = self._parser.parse(response, shape)
            except Exception as error:  # noqa: BLE001 (whatever a parser raises for foreign bytes)
                problem = f"cannot be read ({type(error).__name__}: {error})"
            else:
                if response["status_code"] >= 300 or shape is None:  # noqa: PLR2004 (HTTP)
                    return parsed
                problem = problem_of(response["context"]["operation_name"], parsed, shape)
                if problem is None:
                    return parsed
        return _as_error(response, problem)


def _as_error(response: Mapping[str, Any], problem: str) -> dict[str, Any]:
    body = response["body"] if isinstance(response["body"], bytes) else b""
    message = f"the answer {problem}; it begins {body[:60]!r}" if body else f"the answer {problem}"
    return {
        "Error": {"Code": UNREADABLE, "Message": message},
        "ResponseMetadata": {"HTTPStatusCode": _GATEWAY_FAULT, "HTTPHeaders": dict(response["headers"])},
    }


def _mark_fault(response: tuple[Any, Mapping[str, Any]] | None, **_: Any) -> None:
    """Let botocore ask again, and fail in the end, as it does for a gateway's fault."""
    if response is not None and response[1].get("Error", {}).get("Code") == UNREADABLE:
        response[0].status_code = _GATEWAY_FAULT


def _length_problem(response: Mapping[str, Any]) -> str | None:
    """Return whether the connection ended before the body did; chunks and streams are counted where they are read."""
    headers = {name.lower(): value for name, value in response["headers"].items()}
    body, length = response["body"], str(headers.get("content-length", ""))
    if not isinstance(body, bytes) or "transfer-encoding" in headers or not length.isdecimal():
        return None
    return None if int(length) == len(body) else f"was cut: {len(body)} of {length} bytes"


def _text_problem(response: Mapping[str, Any]) -> str | None:
    """Return whether a body is not JSON, which botocore takes for an empty answer that misses no member."""
    body, members = response["body"], MEMBERS.get(response["context"]["operation_name"], ())
    if not isinstance(body, bytes) or not body or not all("?" in member for member in members):
        return None
    try:
        is_object = isinstance(json.loads(body), dict)
    except ValueError:
        is_object = False
    return None if is_object else "is not a JSON object"


@cache
def _tree(operation: str) -> dict[str, Any]:
    """Return member → (whether it must be there, its own members)."""
    root: dict[str, Any] = {}
    for path in MEMBERS.get(operation, ()):  # what tests and the sandbox call besides is read, but not checked
        inner = root
        for part in path.split("."):
            inner = inner.setdefault(part.rstrip("?"), (not part.endswith("?"), {}))[1]
    return root


def _problem(value: Any, shape: Any, members: Mapping[str, Any], where: str) -> str | None:
    kind = shape.type_name
    expected = _PYTHON.get(kind)
    if expected is not None and not isinstance(value, expected):
        return f"has {type(value).__name__} at {where or 'its top'}, expected {kind}"
    if kind in {"list", "map"}:
        if kind == "list" and not members and set(map(type, value)) <= {_PYTHON.get(shape.member.type_name)}:
            return None  # texts, mostly: all of them at a glance
        each, of = (value, shape.member) if kind == "list" else (value.values(), shape.value)
        return next(filter(None, (_problem(entry, of, members, f"{where}[]") for entry in each)), None)
    for name, (is_required, inner) in members.items():
        path, found = f"{where}.{name}".lstrip("."), value.get(name)
        if found is None:
            if is_required:
                return f"has no {path}"
        elif (problem := _problem(found, shape.members[name], inner, path)) is not None:
            return problem
    return None
