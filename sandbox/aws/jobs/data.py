"""The jobs data plane: what a device asks and reports, over MQTT (``interfaces.JobsData``) and HTTPS."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, NoReturn

from sandbox.aws.errors import AwsError
from sandbox.aws.iot.things import Things
from sandbox.aws.site import epoch_seconds
from sandbox.interfaces import JobsDataError

from .engine import JobEngine, pending_summary
from .model import ExecutionAttempt

SETTABLE = ("IN_PROGRESS", "SUCCEEDED", "FAILED", "REJECTED")
MAX_DETAILS = 10
MAX_DETAIL_CHARACTERS = 1024
MAX_STEP_MINUTES = 10080
_DETAIL_NAME = re.compile(r"[a-zA-Z0-9:_-]{1,128}")


class JobsDataPlane:
    """Implements ``sandbox.interfaces.JobsData``."""

    def __init__(self, engine: JobEngine, things: Things) -> None:
        self._engine = engine
        self._things = things

    def get_pending(self, thing_name: str) -> dict[str, Any]:
        """``…/jobs/get``: all pending executions."""
        with self._engine.site.transaction():
            self._require_thing(thing_name)
            pending = self._engine.pending_of(thing_name)
            return self._stamped({
                "inProgressJobs": [pending_summary(e) for e in pending if e.status == "IN_PROGRESS"],
                "queuedJobs": [pending_summary(e) for e in pending if e.status == "QUEUED"],
            })  # fmt: skip

    def start_next(self, thing_name: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """``…/jobs/start-next``: the next pending execution, put in progress."""
        with self._engine.site.transaction():
            self._require_thing(thing_name)
            execution = self._engine.next_of(thing_name)
            if execution is None:
                return self._stamped({}, request)
            self._go_on(execution, self._details(request), self._step_minutes(request))
            return self._stamped({"execution": self._engine.describe(execution)}, request)

    def describe(self, thing_name: str, job_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """``…/jobs/<jobId>/get``; ``$next`` with nothing pending answers without an execution."""
        with self._engine.site.transaction():
            self._require_thing(thing_name)
            if job_id == "$next":
                found = self._engine.next_of(thing_name)
            else:
                found = self._require(thing_name, job_id, request)
                if not found.is_pending:
                    raise JobsDataError("TerminalStateReached", f"the execution of {job_id} has ended: {found.status}")
            if found is None:
                return self._stamped({}, request)
            document = bool(request.get("includeJobDocument", True))
            return self._stamped({"execution": self._engine.describe(found, with_document=document)}, request)

    def update(self, thing_name: str, job_id: str, request: Mapping[str, Any]) -> dict[str, Any]:
        """``…/jobs/<jobId>/update``: report status and details."""
        with self._engine.site.transaction():
            self._require_thing(thing_name)
            execution = self._require(thing_name, job_id, request)
            status = request.get("status")
            self._check_update(execution, status, request)
            details, minutes = self._details(request), self._step_minutes(request)
            if status == "IN_PROGRESS":
                self._go_on(execution, details, minutes)
            else:
                execution.details = execution.details if details is None else details
                self._engine.finish(execution, str(status))
            answer: dict[str, Any] = {}
            if request.get("includeExecutionState") or request.get("includeJobExecutionState"):
                answer["executionState"] = self._state(execution)
            if request.get("includeJobDocument"):
                answer["jobDocument"] = json.loads(self._engine.jobs[job_id].document)
            return self._stamped(answer, request)

    def document(self, job_id: str) -> str:
        """Return a job's document as whoever made the job wrote it."""
        return self._engine.jobs[job_id].document

    # -- inside: everything is checked before anything changes

    def _go_on(self, execution: ExecutionAttempt, details: dict[str, str] | None, step_minutes: int | None) -> None:
        if execution.status == "QUEUED":
            self._engine.start_execution(execution)
        if details is not None:
            execution.details = details
        if step_minutes is not None:
            self._engine.set_step_timer(execution, step_minutes)
        self._engine.touch(execution)

    def _require_thing(self, thing: str) -> None:
        if not self._things.exists(thing):
            raise JobsDataError("ResourceNotFound", f"thing {thing} does not exist")

    def _require(self, thing: str, job_id: str, request: Mapping[str, Any]) -> ExecutionAttempt:
        number = request.get("executionNumber")
        if number is not None and (not isinstance(number, int) or isinstance(number, bool)):
            raise JobsDataError("InvalidRequest", f"executionNumber is {number!r}, expected a number")
        found = self._engine.find(thing, job_id, number)
        if found is None or self._engine.jobs[job_id].for_nucleus:
            raise JobsDataError("ResourceNotFound", f"thing {thing} has no execution of job {job_id}")
        return found

    def _check_update(self, execution: ExecutionAttempt, status: object, request: Mapping[str, Any]) -> None:
        if status not in SETTABLE:
            raise JobsDataError("InvalidRequest", f"status is {status!r}, expected one of {', '.join(SETTABLE)}")
        if not execution.is_pending:
            told = f"the execution is {execution.status} and cannot become {status}"
            raise JobsDataError("InvalidStateTransition", told, self._state(execution))
        expected = request.get("expectedVersion")
        try:
            matches = expected in (None, 0) or int(str(expected)) == execution.version
        except ValueError:
            raise JobsDataError("InvalidRequest", f"expectedVersion is {expected!r}, expected a number") from None
        if not matches:
            told = f"the execution has version {execution.version}, not {expected}"
            raise JobsDataError("VersionMismatch", told, self._state(execution))

    @staticmethod
    def _details(request: Mapping[str, Any]) -> dict[str, str] | None:
        details = request.get("statusDetails")
        if details is None:
            return None
        if not isinstance(details, Mapping) or len(details) > MAX_DETAILS:
            raise JobsDataError("InvalidRequest", f"statusDetails is an object of at most {MAX_DETAILS} entries")
        kept = {name: _as_text(value) for name, value in details.items()}
        for name, value in kept.items():
            if not _DETAIL_NAME.fullmatch(name):
                raise JobsDataError("InvalidRequest", f"the name {name[:150]!r} in statusDetails is not allowed")
            if not 1 <= len(value) <= MAX_DETAIL_CHARACTERS or not _is_plain(value):
                raise JobsDataError(
                    "InvalidRequest",
                    f"statusDetails.{name} must be text of 1 to {MAX_DETAIL_CHARACTERS} characters without line ends, "
                    "a number, or true or false",
                )
        return kept

    @staticmethod
    def _step_minutes(request: Mapping[str, Any]) -> int | None:
        minutes = request.get("stepTimeoutInMinutes")
        if minutes is None:
            return None
        if not isinstance(minutes, int) or not (minutes == -1 or 1 <= minutes <= MAX_STEP_MINUTES):
            raise JobsDataError("InvalidRequest", f"stepTimeoutInMinutes is -1 or 1 to {MAX_STEP_MINUTES}")
        return minutes

    @staticmethod
    def _state(execution: ExecutionAttempt) -> dict[str, Any]:
        return {
            "status": execution.status,
            "statusDetails": dict(execution.details),
            "versionNumber": execution.version,
        }

    def _stamped(self, answer: dict[str, Any], request: Mapping[str, Any] | None = None) -> dict[str, Any]:
        token = (request or {}).get("clientToken")
        answer["timestamp"] = epoch_seconds(self._engine.site.now())
        return {**answer, "clientToken": token} if token else answer


class JobsDataApi:
    """The same over HTTPS (``iot-jobs-data``): a document is text there, byte for byte as it was given."""

    def __init__(self, plane: JobsDataPlane) -> None:
        self._plane = plane

    def get_pending_job_executions(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all pending executions."""
        try:
            found = self._plane.get_pending(request["thingName"])
        except JobsDataError as error:
            _refuse(error)
        return {name: found[name] for name in ("inProgressJobs", "queuedJobs")}

    def start_next_pending_job_execution(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the next one, put in progress."""
        try:
            found = self._plane.start_next(request["thingName"], request)
        except JobsDataError as error:
            _refuse(error)
        return self._execution(found)

    def describe_job_execution(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return one execution, ``$next`` too."""
        try:
            found = self._plane.describe(request["thingName"], request["jobId"], request)
        except JobsDataError as error:
            _refuse(error)
        return self._execution(found)

    def update_job_execution(self, request: dict[str, Any]) -> dict[str, Any]:
        """Report status and details."""
        try:
            found = self._plane.update(request["thingName"], request["jobId"], request)
        except JobsDataError as error:
            _refuse(error)
        answer = {"executionState": found["executionState"]} if "executionState" in found else {}
        return {**answer, "jobDocument": self._plane.document(request["jobId"])} if "jobDocument" in found else answer

    def _execution(self, found: dict[str, Any]) -> dict[str, Any]:
        execution = found.get("execution")
        if execution is None:
            return {}
        if "jobDocument" in execution:
            execution["jobDocument"] = self._plane.document(execution["jobId"])
        return {"execution": execution}


def _as_text(value: object) -> str:
    """Return a detail as it is kept: booleans and numbers as their JSON text (the stock component sends ``true``)."""
    if isinstance(value, (bool, int, float)):
        return json.dumps(value)
    return value if isinstance(value, str) else ""


def _is_plain(text: str) -> bool:
    r"""Return whether a text matches the data plane's pattern of a DetailsValue: ``[^\p{C}]+``."""
    return not any(unicodedata.category(character).startswith("C") for character in text)


def _refuse(error: JobsDataError) -> NoReturn:
    names = {
        "ResourceNotFound": "ResourceNotFoundException",
        "InvalidStateTransition": "InvalidStateTransitionException",
        "TerminalStateReached": "TerminalStateException",
    }
    raise AwsError(names.get(error.code, "InvalidRequestException"), str(error)) from None
