"""``$aws/things/T/jobs/…``: which reserved topics a device may use, and the answers to its requests.

Answers go to the client that asked, subscribed or not, and to nobody else: they do not pass the broker. A real
nucleus also asks in a namespace of its own, and reports its health on ``$aws/things/T/greengrassv2/health/json``: it
must be let, or it never stays connected (seen with nucleus lite 2.6.0).
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from sandbox.clock import SandboxClock
from sandbox.interfaces import JobsData, JobsDataError

_REQUEST = re.compile(
    r"\$aws/things/(?P<thing>[a-zA-Z0-9:_-]+)/jobs/"
    r"(?:(?P<all>get|start-next)|(?P<job>\$next|[a-zA-Z0-9_-]{1,64})/(?P<namespace>namespace-[a-zA-Z0-9_-]+/)?"
    r"(?P<one>get|update))"
)
_OTHER_PUBLISHABLE = re.compile(
    r"\$aws/(?:rules/[^/]+/.+"
    r"|things/[^/]+/shadow/(?:name/[^/]+/)?(?:get|update|delete)"
    r"|things/[^/]+/greengrass(?:v2)?/.+)"
)


@dataclass(frozen=True, slots=True)
class JobsReply:
    """The answer to the client that asked."""

    topic: str
    payload: bytes


def is_jobs_request(topic: str) -> bool:
    """Return whether the jobs service answers messages on this topic."""
    return _REQUEST.fullmatch(topic) is not None


def may_be_published(topic: str) -> bool:
    """Return whether a device may publish here at all: of the reserved topics only requests, never the cloud's own."""
    if not topic.startswith("$"):
        return True
    return is_jobs_request(topic) or _OTHER_PUBLISHABLE.fullmatch(topic) is not None


class JobsTopics:
    """Turns a message on a jobs topic into a call of the jobs data plane, and its result into an answer."""

    def __init__(self, jobs: JobsData, clock: SandboxClock) -> None:
        self._jobs = jobs
        self._clock = clock

    def answer(self, topic: str, payload: bytes) -> JobsReply:
        """Return the accepted or rejected message for one request; the topic must be a jobs request."""
        match = _REQUEST.fullmatch(topic)
        if match is None:
            message = f"{topic} is not a jobs request"
            raise ValueError(message)
        request: Mapping[str, Any] = {}
        try:
            request = _parse(payload)
            result = self._call(match, request)
        except JobsDataError as error:
            state = {} if error.state is None else {"executionState": error.state}
            rejection = {"code": error.code, "message": str(error), **state}
            return self._encode(f"{topic}/rejected", rejection, request)
        return self._encode(f"{topic}/accepted", result, request)

    def _call(self, match: re.Match[str], request: Mapping[str, Any]) -> dict[str, Any]:
        thing, job = match["thing"], match["job"]
        if match["namespace"]:
            return _in_a_namespace(job, match["one"])
        if match["all"] == "get":
            return self._jobs.get_pending(thing)
        if match["all"] == "start-next":
            return self._jobs.start_next(thing, request)
        if match["one"] == "get":
            return self._jobs.describe(thing, job, request)
        return self._jobs.update(thing, job, request)

    def _encode(self, topic: str, result: Mapping[str, Any], request: Mapping[str, Any]) -> JobsReply:
        message = {"timestamp": int(self._clock.now().timestamp()), **result}
        if "clientToken" in request:
            message["clientToken"] = request["clientToken"]
        return JobsReply(topic, json.dumps(message, separators=(",", ":"), default=str).encode())


def _in_a_namespace(job: str, operation: str) -> dict[str, Any]:
    """Answer a nucleus that asks for its deployments' jobs: over MQTT there are none here."""
    if (job, operation) == ("$next", "get"):
        return {}
    raise JobsDataError("ResourceNotFound", f"there is no job {job} in this namespace")


def _parse(payload: bytes) -> Mapping[str, Any]:
    if not payload:
        return {}
    try:
        request = json.loads(payload)
    except (ValueError, RecursionError):
        raise JobsDataError("InvalidJson", "the payload is not JSON") from None
    if not isinstance(request, dict):
        raise JobsDataError("InvalidRequest", "the payload is not a JSON object")
    return request
