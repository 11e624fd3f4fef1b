"""The part of AWS IoT that jobs are made of: jobs, executions, thing groups, what a thing is attached to.

Every method does one thing for the loop with as few calls as possible; rate limits, retries and errors are the
session's. Repeating any of them is harmless.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from typing import Any, TypeVar

from controller.fleet.aws import AwsSession
from controller.fleet.aws_errors import AwsCallError
from controller.fleet.refresh import current_certificates
from controller.fleet.stock import StockSettings
from controller.fleet.work import Work
from controller.plain_text import one_line
from controller.reconcile.planning import HeldCertificate
from controller.reconcile.values import (
    FAILED,
    AbortRule,
    CertificateStatus,
    FailureType,
    execution_status,
    parse_job_id,
)
from protocol.job_document import is_rotation
from protocol.messages import ExecutionStatus
from protocol.names import FAILURE_REASON_KEY

WORKERS = 8  # calls under way at once, below botocore's pool of connections
_MAX_COMMENT = 2028  # characters
_EXISTS = "ResourceAlreadyExistsException"
_OVERTAKEN = frozenset({_EXISTS, "VersionConflictException", "ResourceNotFoundException"})
_FIRST_VERSION = 1  # of a thing group that was just made
CANCELED = "CANCELED"  # by an abort rule or by hand
ENDED = frozenset({"COMPLETED", CANCELED, "DELETION_IN_PROGRESS"})

T = TypeVar("T")
R = TypeVar("R")

_COUNTERS = {
    ExecutionStatus.QUEUED: "numberOfQueuedThings",
    ExecutionStatus.IN_PROGRESS: "numberOfInProgressThings",
    ExecutionStatus.SUCCEEDED: "numberOfSucceededThings",
    ExecutionStatus.FAILED: "numberOfFailedThings",
    ExecutionStatus.TIMED_OUT: "numberOfTimedOutThings",
    ExecutionStatus.REJECTED: "numberOfRejectedThings",
    ExecutionStatus.REMOVED: "numberOfRemovedThings",
    ExecutionStatus.CANCELED: "numberOfCanceledThings",
}


@dataclass(frozen=True, slots=True)
class JobView:
    """A job as DescribeJob shows it; ``counts`` are its executions by status."""

    job_id: str
    status: str  # IN_PROGRESS, SCHEDULED, COMPLETED, CANCELED, DELETION_IN_PROGRESS
    targets: tuple[str, ...]  # ARNs
    counts: Mapping[ExecutionStatus, int]
    reason_code: str | None = None  # why it was cancelled
    is_continuous: bool = False

    @property
    def has_ended(self) -> bool:
        """Whether the job can no longer change."""
        return self.status in ENDED

    @property
    def failed(self) -> int:
        """How many of its executions have ended without success."""
        return sum(self.counts.get(status, 0) for status in FAILED)

    def is_stopped_by(self, rule: AbortRule) -> bool:
        """Return whether so many executions have ended without success that the rule stops the job."""
        executed = self.failed + self.counts.get(ExecutionStatus.SUCCEEDED, 0)
        is_any = rule.failure_type is FailureType.ALL
        number = self.failed if is_any else self.counts.get(ExecutionStatus(rule.failure_type.value), 0)
        is_enough = executed >= rule.min_number_of_executed_things
        return number > 0 and is_enough and 100 * number >= rule.threshold_percentage * executed


class IotJobs:
    """AWS IoT's jobs and thing groups, as the session of one fleet reaches them. Raises FleetError."""

    def __init__(
        self,
        session: AwsSession,
        *,
        workers: int = WORKERS,
        foreign: Mapping[str, float] | None = None,
        settings: StockSettings | None = None,
    ) -> None:
        self._session, self._settings = session, settings
        self._rotates = dict.fromkeys((foreign or {}).items(), False)  # by id and instant: no document ever changes
        self._workers = workers
        self._cancelled: list[str] = []  # jobs, in which a device that had begun may be at work still

    # things

    def thing_arn(self, thing: str) -> str:
        """Return the ARN under which a job targets a thing."""
        return self._session.arn(f"thing/{thing}")

    def certificates(self, thing: str) -> tuple[HeldCertificate, ...]:
        """Return the certificates that a thing holds at this moment; none if the thing is gone.

        One call for the thing, and one for each certificate.
        """
        held = current_certificates(self._session, thing) or ()
        return tuple(HeldCertificate(one, attachment, self._status(one)) for one, attachment in held)

    def set_otherwise(self, things: Collection[str]) -> dict[str, str]:
        """Return why each thing is left out for which a stock backend would make something else than was planned."""
        return self._settings.changed(things) if self._settings is not None and things else {}

    def _status(self, certificate_id: str) -> CertificateStatus:
        answer = self._session.find("iot", "DescribeCertificate", certificateId=certificate_id)
        return CertificateStatus("gone" if answer is None else answer["certificateDescription"]["status"])

    def active_certificates(self) -> frozenset[str]:
        """Return ids of all ACTIVE certificates of the account; ⌈certificates/250⌉ calls."""
        listed = self._list("ListCertificates", "certificates")
        return frozenset(item["certificateId"] for item in listed if item["status"] == "ACTIVE")

    def for_each(self, work: Callable[[T], R], items: Iterable[T]) -> list[R]:
        """Call ``work`` on each item, a few at a time; results come in the order of the items."""
        if self._workers == 1:
            return list(map(work, items))
        found: list[R] = []
        queue = Work(self._workers)
        for item in items:
            queue.add(partial(work, item), found.append)
        queue.run()
        return found

    # thing groups

    def group_arn(self, group: str) -> str:
        """Return the ARN under which a job targets a thing group."""
        return self._session.arn(f"thinggroup/{group}")

    def group_members(self, group: str) -> frozenset[str]:
        """Return names of the things in a group and in its child groups: those that a job on the group reaches."""
        return frozenset(self._list("ListThingsInThingGroup", "things", thingGroupName=group, recursive=True))

    def make_group(self, group: str, description: str, tags: Mapping[str, str]) -> None:
        """Make a static thing group with description and tags, or leave the one of that name as it is."""
        properties = {"thingGroupDescription": description}
        listed = [{"Key": key, "Value": value} for key, value in tags.items()]
        try:
            self._call("CreateThingGroup", thingGroupName=group, thingGroupProperties=properties, tags=listed)
        except AwsCallError as error:
            if error.code != _EXISTS:  # by an earlier run, under another description
                raise

    def add_to_group(self, group: str, thing: str) -> None:
        """Put a thing into a group; harmless if it is in it."""
        self._call("AddThingToThingGroup", thingGroupName=group, thingName=thing)

    def remove_from_group(self, group: str, thing: str) -> None:
        """Take a thing out of a group; harmless if it is not in it."""
        self._call("RemoveThingFromThingGroup", thingGroupName=group, thingName=thing)

    def groups_named(self, prefix: str) -> Iterator[str]:
        """Yield names of all thing groups that start so."""
        for group in self._list("ListThingGroups", "thingGroups", namePrefixFilter=prefix):
            yield group["groupName"]

    def describe_group(self, group: str) -> tuple[str, datetime] | None:
        """Return a group's description and the instant it was made; None if there is no such group."""
        answer = self._session.find("iot", "DescribeThingGroup", thingGroupName=group)
        if answer is None:
            return None
        description = answer.get("thingGroupProperties", {}).get("thingGroupDescription", "")
        return description, answer["thingGroupMetadata"]["creationDate"]

    def group_attributes(self, group: str) -> tuple[dict[str, str], int] | None:
        """Return a group's attributes and the version they are of; None if there is no such group."""
        answer = self._session.find("iot", "DescribeThingGroup", thingGroupName=group)
        if answer is None:
            return None
        payload = answer.get("thingGroupProperties", {}).get("attributePayload", {})
        return payload.get("attributes", {}), answer["version"]

    def write_group(
        self, group: str, description: str, attributes: Mapping[str, str], version: int | None
    ) -> int | None:
        """Make a group (version None), or replace description and attributes of the group at that version.

        Returns the new version; None if another run has written the group first.
        """
        payload = {"attributes": dict(attributes), "merge": False}
        properties = {"thingGroupDescription": description, "attributePayload": payload}
        try:
            if version is None:
                self._call("CreateThingGroup", thingGroupName=group, thingGroupProperties=properties)
                return _FIRST_VERSION
            parameters = {"thingGroupProperties": properties, "expectedVersion": version}
            return int(self._call("UpdateThingGroup", thingGroupName=group, **parameters)["version"])
        except AwsCallError as error:
            if error.code not in _OVERTAKEN:
                raise
            return None

    def delete_group(self, group: str) -> None:
        """Remove a thing group; its things stay. Harmless if it is gone."""
        self._call("DeleteThingGroup", thingGroupName=group)

    # jobs

    def job(self, job_id: str) -> JobView | None:
        """Return a job with its counts; None if there is none of that id."""
        answer = self._session.find("iot", "DescribeJob", jobId=job_id)
        if answer is None:
            return None
        job = answer["job"]
        details = job.get("jobProcessDetails", {})
        return JobView(
            job_id,
            job["status"],
            tuple(job["targets"]),
            {status: details.get(counter, 0) for status, counter in _COUNTERS.items()},
            job.get("reasonCode"),
            job.get("targetSelection") == "CONTINUOUS",
        )

    def in_flight(self, besides: str) -> dict[str, str]:
        """Return, by device that rotates or is asked to at this moment, the id of its job; ``besides`` is left out."""
        found: dict[str, str] = {}
        for job in list(self._list("ListJobs", "jobs", status="IN_PROGRESS")):
            job_id = job["jobId"]
            if job_id != besides and (parse_job_id(job_id) or self._is_rotation(job_id, job["createdAt"].timestamp())):
                found |= self._asked_by(job_id)
        for job_id in self._cancelled:
            found |= self._asked_by(job_id)
        return found

    def _asked_by(self, job_id: str) -> dict[str, str]:
        return dict.fromkeys((thing for thing, status in self.executions(job_id) if not status.is_terminal), job_id)

    def _is_rotation(self, job_id: str, made_at: float) -> bool:
        """Return whether the document of the job names a rotation; each document is read once."""
        known = self._rotates.get((job_id, made_at))
        if known is None:
            answer = self._session.find("iot", "GetJobDocument", jobId=job_id) or {}
            try:
                known = is_rotation(json.loads(answer.get("document", "")))
            except ValueError:
                known = False
            self._rotates[job_id, made_at] = known
        return known

    def job_document(self, job_id: str) -> str:
        """Return a job's document, as JSON text; empty if AWS shows none."""
        return str(self._call("GetJobDocument", jobId=job_id).get("document", ""))

    def create_job(self, request: Mapping[str, Any]) -> bool:
        """Make a job; False if a job of that id exists already."""
        try:
            self._call("CreateJob", **request)
        except AwsCallError as error:
            if error.code == _EXISTS:
                return False
            raise
        return True

    def cancel_job(self, job_id: str, comment: str) -> None:
        """Cancel the QUEUED executions of a job, with a comment; those IN_PROGRESS go on. Harmless on an ended job."""
        view = self.job(job_id)
        if view is None or view.has_ended:
            return
        self._cancelled.append(job_id)
        try:
            self._call("CancelJob", jobId=job_id, reasonCode="CERTFLEET", comment=comment[:_MAX_COMMENT])
        except AwsCallError:
            view = self.job(job_id)  # the answer to an earlier attempt may have been lost
            if view is not None and not view.has_ended:
                raise

    def executions(self, job_id: str) -> Iterator[tuple[str, ExecutionStatus]]:
        """Yield thing name and latest status of each execution of a job; ⌈executions/250⌉ calls."""
        for item in self._list("ListJobExecutionsForJob", "executionSummaries", jobId=job_id):
            thing = item["thingArn"].rpartition("thing/")[2]
            yield thing, execution_status(item["jobExecutionSummary"]["status"])

    def failure_reason(self, job_id: str, thing: str) -> str | None:
        """Return what the device reported when its execution failed; None if it reported nothing. One call."""
        answer = self._session.find("iot", "DescribeJobExecution", jobId=job_id, thingName=thing)
        details = answer["execution"].get("statusDetails", {}) if answer else {}
        reason = details.get("detailsMap", {}).get(FAILURE_REASON_KEY)
        return one_line(str(reason)) if reason else None

    def _call(self, operation: str, **parameters: Any) -> dict[str, Any]:
        return self._session.call("iot", operation, **parameters)

    def _list(self, operation: str, key: str, **parameters: Any) -> Iterator[Any]:
        for page in self._session.pages(operation, **parameters):
            yield from page.get(key, ())
