"""The part of AWS IoT that jobs are made of: jobs, executions, thing groups, what a thing is attached to.

Every method is one idea of ours and as few calls as it takes; rate limits and retries belong to the
session that built the client. Repeating any of them is harmless.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import datetime
from typing import Any, TypeVar

from controller.reconcile.device import AttachmentType
from protocol.messages import ExecutionStatus
from protocol.names import FAILURE_REASON_KEY

PAGE = 250  # the maximum of every AWS IoT list call
WORKERS = 8  # calls under way at once, below botocore's pool of connections
ENDED = frozenset({"COMPLETED", "CANCELED", "DELETION_IN_PROGRESS"})

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


@dataclass(frozen=True, slots=True)
class Attached:
    """A certificate that a thing is attached to right now."""

    certificate_id: str
    type: AttachmentType


class IotJobs:
    """AWS IoT's jobs and thing groups, through one boto3 ``iot`` client of the fleet's account and region."""

    def __init__(self, client: Any, account: str, *, workers: int = WORKERS) -> None:
        self._iot = client
        self._workers = workers
        meta = client.meta
        self._arn_prefix = f"arn:{meta.partition}:iot:{meta.region_name}:{account}:"

    # things

    def thing_arn(self, thing: str) -> str:
        """The ARN under which a job targets a thing."""
        return f"{self._arn_prefix}thing/{thing}"

    def attached(self, thing: str) -> tuple[Attached, ...]:
        """The certificates attached to a thing; none where the thing is gone. One call."""
        try:
            objects = list(self._pages("list_thing_principals_v2", "thingPrincipalObjects", thingName=thing))
        except self._iot.exceptions.ResourceNotFoundException:
            return ()
        return tuple(
            Attached(item["principal"].rpartition("/")[2], AttachmentType(item["thingPrincipalType"]))
            for item in objects
            if ":cert/" in item["principal"]
        )

    def active_certificates(self) -> frozenset[str]:
        """Ids of all ACTIVE certificates of the account; ⌈certificates/250⌉ calls."""
        pages = self._pages("list_certificates", "certificates", page_size_name="pageSize", marker="marker")
        return frozenset(item["certificateId"] for item in pages if item["status"] == "ACTIVE")

    def for_each(self, work: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
        """Call ``work`` on each item, a few at a time; results come in the order of the items."""
        if self._workers == 1:
            yield from map(work, items)
            return
        with ThreadPoolExecutor(self._workers, thread_name_prefix="iot-jobs") as pool:
            yield from pool.map(work, items)

    # thing groups

    def group_arn(self, group: str) -> str:
        """The ARN under which a job targets a thing group."""
        return f"{self._arn_prefix}thinggroup/{group}"

    def group_members(self, group: str) -> frozenset[str]:
        """Names of the things in a group and in its child groups: those that a job on the group reaches."""
        return frozenset(self._pages("list_things_in_thing_group", "things", thingGroupName=group, recursive=True))

    def make_group(self, group: str, description: str, tags: Mapping[str, str]) -> None:
        """Make a static thing group, or leave the one of that name as it is."""
        try:
            self._iot.create_thing_group(
                thingGroupName=group,
                thingGroupProperties={"thingGroupDescription": description},
                tags=[{"Key": key, "Value": value} for key, value in tags.items()],
            )
        except self._iot.exceptions.ResourceAlreadyExistsException:
            return  # by an earlier run, under another description

    def add_to_group(self, group: str, thing: str) -> None:
        """Put a thing into a group; harmless where it is in it."""
        self._iot.add_thing_to_thing_group(thingGroupName=group, thingName=thing)

    def remove_from_group(self, group: str, thing: str) -> None:
        """Take a thing out of a group; harmless where it is not in it."""
        self._iot.remove_thing_from_thing_group(thingGroupName=group, thingName=thing)

    def groups_named(self, prefix: str) -> Iterator[str]:
        """Names of all thing groups that start so."""
        for group in self._pages("list_thing_groups", "thingGroups", namePrefixFilter=prefix):
            yield group["groupName"]

    def describe_group(self, group: str) -> tuple[str, datetime] | None:
        """A group's description and the instant it was made; None where there is no such group."""
        try:
            answer = self._iot.describe_thing_group(thingGroupName=group)
        except self._iot.exceptions.ResourceNotFoundException:
            return None
        description = answer.get("thingGroupProperties", {}).get("thingGroupDescription", "")
        return description, answer["thingGroupMetadata"]["creationDate"]

    def delete_group(self, group: str) -> None:
        """Remove a thing group; its things stay. Harmless where it is gone."""
        self._iot.delete_thing_group(thingGroupName=group)

    # jobs

    def job(self, job_id: str) -> JobView | None:
        """A job with its counts; None where there is none of that id."""
        try:
            job = self._iot.describe_job(jobId=job_id)["job"]
        except self._iot.exceptions.ResourceNotFoundException:
            return None
        details = job.get("jobProcessDetails", {})
        return JobView(
            job_id,
            job["status"],
            tuple(job["targets"]),
            {status: details.get(counter, 0) for status, counter in _COUNTERS.items()},
            job.get("reasonCode"),
            job.get("targetSelection") == "CONTINUOUS",
        )

    def job_document(self, job_id: str) -> str:
        """A job's document, as JSON text."""
        return str(self._iot.get_job_document(jobId=job_id)["document"])

    def create_job(self, request: Mapping[str, Any]) -> bool:
        """Make a job; False where a job of that id exists already."""
        try:
            self._iot.create_job(**request)
        except self._iot.exceptions.ResourceAlreadyExistsException:
            return False
        return True

    def cancel_job(self, job_id: str, comment: str) -> None:
        """Cancel what is QUEUED of a job; what is IN_PROGRESS runs to its end. Harmless on an ended or missing job."""
        view = self.job(job_id)
        if view is None or view.has_ended:
            return
        self._iot.cancel_job(jobId=job_id, reasonCode="CERTFLEET", comment=comment[:2028])

    def executions(self, job_id: str) -> Iterator[tuple[str, ExecutionStatus]]:
        """Thing name and latest status of each execution of a job; ⌈executions/250⌉ calls."""
        for item in self._pages("list_job_executions_for_job", "executionSummaries", jobId=job_id):
            thing = item["thingArn"].rpartition("thing/")[2]
            yield thing, ExecutionStatus(item["jobExecutionSummary"]["status"])

    def failure_reason(self, job_id: str, thing: str) -> str | None:
        """What the device said when its execution failed; None where it said nothing. One call."""
        try:
            execution = self._iot.describe_job_execution(jobId=job_id, thingName=thing)["execution"]
        except self._iot.exceptions.ResourceNotFoundException:
            return None
        reason = execution.get("statusDetails", {}).get("detailsMap", {}).get(FAILURE_REASON_KEY)
        return str(reason) if reason else None

    def _pages(
        self, operation: str, key: str, *, page_size_name: str = "maxResults", marker: str = "nextToken", **request: Any
    ) -> Iterator[Any]:
        call = getattr(self._iot, operation)
        request[page_size_name] = PAGE
        while True:
            answer = call(**request)
            yield from answer.get(key, ())
            token = answer.get("nextMarker" if marker == "marker" else marker)
            if not token:
                return
            request[marker] = token
