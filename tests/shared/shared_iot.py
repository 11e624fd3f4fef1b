# ruff: noqa: N802, N803 (operations and parameters are spelled as AWS spells them)
"""An AWS IoT in memory, behind botocore: requests and answers are both held against AWS's own model."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime
from types import SimpleNamespace

import botocore.session
from botocore.validate import validate_parameters

from controller.fleet.aws import ActAs, AwsSession
from controller.fleet.baseline import RUN
from controller.reconcile.values import Fleet, Source

ACCOUNT, REGION = "123456789012", "eu-west-1"
ARN = f"arn:aws:iot:{REGION}:{ACCOUNT}:"
NOW = datetime(2026, 11, 23, 12, tzinfo=UTC)
ENDED = ("COMPLETED", "CANCELED")
COUNTERS = {
    "QUEUED": "Queued",
    "IN_PROGRESS": "InProgress",
    "SUCCEEDED": "Succeeded",
    "FAILED": "Failed",
    "TIMED_OUT": "TimedOut",
    "REJECTED": "Rejected",
    "REMOVED": "Removed",
    "CANCELED": "Canceled",
}


class Killed(BaseException):
    """The process dies here."""


class AwsAnswerError(Exception):
    """An error answer."""


@dataclass
class Job:
    request: dict
    status: str = "IN_PROGRESS"
    executions: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)
    created_at: datetime = NOW


@dataclass
class Group:
    description: str = ""
    tags: tuple = ()
    members: set[str] = field(default_factory=set)
    created_at: datetime = NOW
    attributes: dict[str, str] = field(default_factory=dict)
    version: int = 1


class FakeIot:
    """Things, groups and jobs; one method per operation. ``die_at`` kills the caller at its n-th call."""

    def __init__(self) -> None:
        self.attached: dict[str, list[tuple[str, str]]] = {}
        self.certificates: dict[str, str] = {}
        self.groups: dict[str, Group] = {}
        self.jobs: dict[str, Job] = {}
        self.calls: list[str] = []
        self.die_at: int | None = None
        self.dies_after_effect = False
        self.errors: dict[str, str] = {}  # operation → error code
        self.account = ACCOUNT

    def thing(self, name: str, certificate: str | None = None, kind: str = "EXCLUSIVE_THING") -> str:
        certificate = certificate or name.encode().hex().ljust(64, "0")
        self.attached.setdefault(name, []).append((certificate, kind))
        self.certificates[certificate] = "ACTIVE"
        return certificate

    def answer(self, operation: str, params: dict) -> dict:
        self.calls.append(operation)
        is_last = self.die_at is not None and len(self.calls) == self.die_at
        if is_last and not self.dies_after_effect:
            raise Killed
        try:
            if operation in self.errors:
                raise AwsAnswerError(self.errors[operation])
            return getattr(self, f"do_{operation}")(**params)
        finally:
            if is_last:
                raise Killed

    def do_GetCallerIdentity(self) -> dict:
        return {"Account": self.account, "Arn": "arn:aws:iam::1:user/x", "UserId": "x"}

    def do_ListThingPrincipalsV2(self, thingName, maxResults, nextToken="0") -> dict:
        if thingName not in self.attached:
            raise AwsAnswerError("ResourceNotFoundException")
        objects = [
            {"principal": f"{ARN}cert/{certificate}", "thingPrincipalType": kind}
            for certificate, kind in self.attached[thingName]
        ]
        return {"thingPrincipalObjects": objects}

    def do_ListCertificates(self, pageSize, marker="0") -> dict:
        every = sorted(self.certificates.items())
        start = int(marker)
        page = [{"certificateId": key, "status": status} for key, status in every[start : start + pageSize]]
        more = {"nextMarker": str(start + pageSize)} if start + pageSize < len(every) else {}
        return {"certificates": page, **more}

    def do_DescribeCertificate(self, certificateId) -> dict:
        if certificateId not in self.certificates:
            raise AwsAnswerError("ResourceNotFoundException")
        status = self.certificates[certificateId]
        return {"certificateDescription": {"status": status, "creationDate": NOW, "certificatePem": "any"}}

    def do_ListThingsInThingGroup(self, thingGroupName, recursive, maxResults, nextToken="0") -> dict:
        if thingGroupName not in self.groups:
            raise AwsAnswerError("ResourceNotFoundException")
        every, start = sorted(self.groups[thingGroupName].members), int(nextToken)
        more = {"nextToken": str(start + maxResults)} if start + maxResults < len(every) else {}
        return {"things": every[start : start + maxResults], **more}

    def do_CreateThingGroup(self, thingGroupName, thingGroupProperties, tags=()) -> dict:
        description = thingGroupProperties["thingGroupDescription"]
        if thingGroupName in self.groups and self.groups[thingGroupName].description != description:
            raise AwsAnswerError("ResourceAlreadyExistsException")
        tagged = tuple((tag["Key"], tag["Value"]) for tag in tags)
        attributes = thingGroupProperties.get("attributePayload", {}).get("attributes", {})
        self.groups.setdefault(thingGroupName, Group(description, tagged, attributes=attributes))
        return {"thingGroupName": thingGroupName}

    def do_UpdateThingGroup(self, thingGroupName, thingGroupProperties, expectedVersion) -> dict:
        group = self.groups[thingGroupName]
        if group.version != expectedVersion:
            raise AwsAnswerError("VersionConflictException")
        group.attributes = thingGroupProperties["attributePayload"]["attributes"]
        group.version += 1
        return {"version": group.version}

    def do_AddThingToThingGroup(self, thingGroupName, thingName) -> dict:
        self.groups[thingGroupName].members.add(thingName)
        for job in self.jobs.values():
            is_target = f"{ARN}thinggroup/{thingGroupName}" in job.request["targets"]
            if is_target and job.request["targetSelection"] == "CONTINUOUS":
                job.executions.setdefault(thingName, "QUEUED")
        return {}

    def do_RemoveThingFromThingGroup(self, thingGroupName, thingName) -> dict:
        self.groups[thingGroupName].members.discard(thingName)
        return {}

    def do_ListThingGroups(self, namePrefixFilter, maxResults) -> dict:
        return {
            "thingGroups": [{"groupName": name} for name in sorted(self.groups) if name.startswith(namePrefixFilter)]
        }

    def do_DescribeThingGroup(self, thingGroupName) -> dict:
        if thingGroupName not in self.groups:
            raise AwsAnswerError("ResourceNotFoundException")
        group = self.groups[thingGroupName]
        return {
            "thingGroupName": thingGroupName,
            "thingGroupProperties": {
                "thingGroupDescription": group.description,
                "attributePayload": {"attributes": group.attributes},
            },
            "version": group.version,
            "thingGroupMetadata": {"creationDate": group.created_at},
        }

    def do_DeleteThingGroup(self, thingGroupName) -> dict:
        self.groups.pop(thingGroupName, None)
        return {}

    def do_CreateJob(self, **request) -> dict:
        job_id = request["jobId"]
        if job_id in self.jobs:
            raise AwsAnswerError("ResourceAlreadyExistsException")
        if len(request["targets"]) > 100:
            raise AwsAnswerError("InvalidRequestException")
        things: list[str] = []
        for target in request["targets"]:
            kind, _, name = target.removeprefix(ARN).partition("/")
            things += sorted(self.groups[name].members) if kind == "thinggroup" else [name]
        self.jobs[job_id] = Job(request, executions=dict.fromkeys(things, "QUEUED"))
        return {"jobId": job_id}

    def do_ListJobs(self, status, maxResults) -> dict:
        jobs = [
            {"jobId": job_id, "status": job.status, "createdAt": job.created_at}
            for job_id, job in self.jobs.items()
            if job.status == status
        ]
        return {"jobs": jobs}

    def do_DescribeJob(self, jobId) -> dict:
        job = self.jobs.get(jobId)
        if job is None:
            raise AwsAnswerError("ResourceNotFoundException")
        statuses = list(job.executions.values())
        is_over = not {"QUEUED", "IN_PROGRESS"} & set(statuses)
        if job.status == "IN_PROGRESS" and is_over and job.request["targetSelection"] == "SNAPSHOT":
            job.status = "COMPLETED"
        counts = {f"numberOf{name}Things": statuses.count(status) for status, name in COUNTERS.items()}
        keys = ("jobId", "targets", "targetSelection")
        shown = {key: job.request[key] for key in keys}
        return {"job": {**shown, "status": job.status, "jobProcessDetails": counts}}

    def do_GetJobDocument(self, jobId) -> dict:
        return {"document": self.jobs[jobId].request["document"]}

    def do_CancelJob(self, jobId, reasonCode, comment) -> dict:
        job = self.jobs[jobId]
        if job.status in ENDED:
            raise AwsAnswerError("InvalidRequestException")
        job.status = "CANCELED"
        job.executions = {t: "CANCELED" if s == "QUEUED" else s for t, s in job.executions.items()}
        return {"jobId": jobId}

    def do_ListJobExecutionsForJob(self, jobId, maxResults, nextToken="0") -> dict:
        every, start = sorted(self.jobs[jobId].executions.items()), int(nextToken)
        page = [
            {"thingArn": f"{ARN}thing/{thing}", "jobExecutionSummary": {"status": status}}
            for thing, status in every[start : start + maxResults]
        ]
        more = {"nextToken": str(start + maxResults)} if start + maxResults < len(every) else {}
        return {"executionSummaries": page, **more}

    def do_DescribeJobExecution(self, jobId, thingName) -> dict:
        reason = self.jobs[jobId].reasons.get(thingName)
        details = {"CertificateRotator": "failed", **({"DeviceFailureReason": reason} if reason else {})}
        return {"execution": {"jobId": jobId, "statusDetails": {"detailsMap": details}}}

    def snapshot(self) -> dict:
        """All that a run leaves behind, comparable."""
        jobs = {key: (job.request, job.status, job.executions) for key, job in self.jobs.items()}
        groups = {
            key: (group.description, group.tags, group.members, {**group.attributes, RUN: "whichever"})
            for key, group in self.groups.items()
        }
        return {"jobs": jobs, "groups": groups}


class Wire:
    """One session for all tests (clients are slow to build); calls go to whichever cloud is plugged in."""

    def __init__(self) -> None:
        self._cloud = FakeIot()
        source = botocore.session.Session()
        source.set_credentials("AKIDEXAMPLE", "not-secret")
        source.register("before-parameter-build", self._remember)
        source.register("before-call", self._respond)
        fleet = Fleet("factory", ACCOUNT, REGION, Source("fleet.yaml", 1))
        self._session = AwsSession(fleet, ActAs.WRITER, new_session=lambda: source)

    def connect(self, cloud: FakeIot) -> AwsSession:
        self._session.client("iot")  # verified before the cloud counts calls
        self._cloud = cloud
        return self._session

    def _remember(self, params, context, **_) -> None:
        context["given"] = dict(params)

    def _respond(self, model, context, **_):
        try:
            parsed = self._cloud.answer(model.name, context["given"])
        except AwsAnswerError as error:
            return SimpleNamespace(status_code=400), {"Error": {"Code": str(error), "Message": "as the test wants"}}
        if model.output_shape is not None:
            validate_parameters(parsed, model.output_shape)
        return SimpleNamespace(status_code=200), parsed
