"""The refusals of CreateJob, UpdateJob and templates beyond what the service model holds."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from typing import Any

from sandbox.aws.errors import AwsError, UnsupportedError, invalid

MAX_TARGETS = 100
MAX_DOCUMENT_BYTES = 32 * 1024
MAX_ACTIVE_JOBS = 100  # of each target selection
MIN_LEAD = timedelta(minutes=30)  # from now to startTime, and from there to endTime
MAX_TIMEOUT_MINUTES = 10080
_UNSUPPORTED = ("documentSource", "namespaceId", "destinationPackageVersions", "maintenanceWindows")


def check_supported(operation: str, request: dict[str, Any]) -> None:
    """Raise UnsupportedError for parameters that the sandbox could only ignore."""
    scheduling = request.get("schedulingConfig", {})
    for name in _UNSUPPORTED:
        if request.get(name) or scheduling.get(name):
            raise UnsupportedError(f"the sandbox does not support {name} of iot {operation}; see docs/sandbox.md")


def check_targets(targets: list[str]) -> None:
    """Refuse an empty list of targets, and one of more than a hundred."""
    if not targets:
        raise invalid("a job needs at least one target")
    if len(targets) > MAX_TARGETS:
        raise AwsError("LimitExceededException", f"a job has at most {MAX_TARGETS} targets, found {len(targets)}")


def check_document(document: str | None) -> str:
    """Return the document; refuse one that is not a JSON object within the size limit."""
    if not document:
        raise invalid("document must be given, here or by a job template")
    if len(document.encode()) > MAX_DOCUMENT_BYTES:
        raise invalid(f"the job document exceeds {MAX_DOCUMENT_BYTES} bytes")
    try:
        parsed = json.loads(document)
    except ValueError as error:
        raise invalid(f"the job document is not JSON: {error}") from None
    if not isinstance(parsed, dict):
        raise invalid("the job document must be a JSON object")
    return document


def check_configuration(configuration: dict[str, Any]) -> None:
    """Hold timeout, rollout and retry to rules that the service model does not state."""
    minutes = configuration.get("timeoutConfig", {}).get("inProgressTimeoutInMinutes")
    if minutes is not None and not 1 <= minutes <= MAX_TIMEOUT_MINUTES:
        raise invalid(f"inProgressTimeoutInMinutes is 1 to {MAX_TIMEOUT_MINUTES}, found {minutes}")
    exponential = configuration.get("jobExecutionsRolloutConfig", {}).get("exponentialRate")
    if exponential:
        factor = exponential["incrementFactor"]
        if round(factor, 1) != factor:
            raise invalid(f"incrementFactor has one digit after the point, found {factor}")
        criteria = exponential["rateIncreaseCriteria"]
        if len([c for c in criteria.values() if c]) != 1:
            raise invalid("rateIncreaseCriteria is either numberOfNotifiedThings or numberOfSucceededThings")
    retry = configuration.get("jobExecutionsRetryConfig", {}).get("criteriaList", [])
    types = [c["failureType"] for c in retry]
    if len(set(types)) != len(types) or ("ALL" in types and len(types) > 1):
        raise invalid("a failure type is retried by one criterion; ALL stands alone")


def parse_schedule(scheduling: dict[str, Any] | None, now: datetime) -> tuple[datetime | None, datetime | None]:
    """Return start and end of a scheduled job."""
    if not scheduling:
        return None, None
    start, end = _instant(scheduling.get("startTime")), _instant(scheduling.get("endTime"))
    if start is not None and start < now + MIN_LEAD:
        raise invalid(f"startTime must lie at least 30 minutes ahead of {now:%Y-%m-%dT%H:%M:%SZ}")
    if end is not None and end < (start or now) + MIN_LEAD:
        raise invalid("endTime must lie at least 30 minutes after startTime")
    if scheduling.get("endBehavior") and end is None:
        raise invalid("endBehavior needs an endTime")
    return start, end


def _instant(text: str | None) -> datetime | None:
    if text is None:
        return None
    try:
        parsed = datetime.fromisoformat(text)
    except ValueError:
        raise invalid(f"{text!r} is not a time such as 2026-11-23T02:00:00Z") from None
    return parsed if parsed.tzinfo else parsed.replace(tzinfo=UTC)
