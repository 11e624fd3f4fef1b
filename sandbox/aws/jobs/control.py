"""The control plane of jobs: what operators and controllers call."""

from __future__ import annotations

from typing import Any

from sandbox.aws.errors import AwsError, UnsupportedError, invalid, not_found
from sandbox.aws.iot.groups import Groups
from sandbox.aws.iot.settings import Tags
from sandbox.aws.iot.things import Things
from sandbox.aws.paging import answer, page, page_of

from .engine import JobEngine
from .limits import (
    MAX_ACTIVE_JOBS,
    check_configuration,
    check_document,
    check_supported,
    check_targets,
    parse_schedule,
)
from .model import CONFIGURATION, ExecutionAttempt, Job
from .templates import JobTemplates

_FAR = 10**18  # microseconds; turns ascending instants into descending keys


class JobsControl:
    """The calls about jobs and executions of the ``iot`` service."""

    def __init__(self, engine: JobEngine, things: Things, groups: Groups, templates: JobTemplates, tags: Tags) -> None:
        self._engine = engine
        self._site = engine.site
        self._things = things
        self._groups = groups
        self._templates = templates
        self._tags = tags

    # -- jobs

    def create_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """Create a job, from a template if one is named, and begin its rollout."""
        check_supported("CreateJob", request)
        if request.get("documentParameters"):
            raise invalid("documentParameters are for AWS managed job templates only")
        job_id, selection = request["jobId"], request.get("targetSelection", "SNAPSHOT")
        arn = self._site.arn(f"job/{job_id}")
        if job_id in self._engine.jobs:
            raise AwsError("ResourceAlreadyExistsException", f"job {job_id} already exists",
                           resourceId=job_id, resourceArn=arn)  # fmt: skip
        self._check_targets(request["targets"])
        template = self._templates.by_arn(request["jobTemplateArn"]) if request.get("jobTemplateArn") else None
        document = check_document(request.get("document") or (template.document if template else None))
        own = {key: request[key] for key in CONFIGURATION if key in request}
        check_configuration(own)
        start, end = parse_schedule(request.get("schedulingConfig"), self._site.now())
        active = sum(j.is_active and j.selection == selection for j in self._engine.jobs.values())
        if active >= MAX_ACTIVE_JOBS:
            raise AwsError("LimitExceededException", f"{active} {selection} jobs are active, the account's limit")
        now = self._site.now()
        targets = list(dict.fromkeys(request["targets"]))
        job = Job(job_id, arn, targets, selection, document, now, now,
                  {**(template.configuration if template else {}), **own}, request.get("jobTemplateArn"),
                  request.get("schedulingConfig"))  # fmt: skip
        self._tags.put(arn, {t["Key"]: t.get("Value", "") for t in request.get("tags", [])})
        self._engine.add(job, start, end)
        return self._named(job)

    def describe_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all about one job but its document."""
        job = self._require(request["jobId"])
        details = job.process_details()
        if job.waiting:
            details["processingTargets"] = list(job.targets)
        return {
            "job": {
                "jobArn": job.arn,
                "jobId": job.job_id,
                "targetSelection": job.selection,
                "status": job.status,
                "forceCanceled": job.force_canceled or None,
                "reasonCode": job.reason_code,
                "comment": job.comment,
                "targets": job.targets,
                "createdAt": job.created_at,
                "lastUpdatedAt": job.updated_at,
                "completedAt": job.completed_at,
                "jobProcessDetails": details,
                "jobTemplateArn": job.template_arn,
                "schedulingConfig": job.scheduling,
                "isConcurrent": False,
                **job.configuration,
            }
        }

    def get_job_document(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the document as it was given."""
        return {"document": self._require(request["jobId"]).document}

    def list_jobs(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return jobs, newest first, by status, selection and target group."""
        if request.get("namespaceId"):
            raise UnsupportedError("the sandbox does not support namespaceId of iot ListJobs")
        group = request.get("thingGroupName")
        target = self._groups.arn(self._groups.require(group).name) if group else None
        jobs = [
            j for j in self._engine.jobs.values()
            if request.get("status") in (None, j.status)
            and request.get("targetSelection") in (None, j.selection)
            and (target is None or target in j.targets)
        ]  # fmt: skip
        found, token = page(jobs, lambda j: f"{_descending(j.created_at)}{j.job_id}", request)
        return answer("jobs", [self._summary(j) for j in found], token)

    def update_job(self, request: dict[str, Any]) -> None:
        """Change the configuration of a job that is not over."""
        check_supported("UpdateJob", request)
        job = self._require_active(request["jobId"])
        changes = {key: request[key] for key in CONFIGURATION if key in request}
        check_configuration(changes)
        job.configuration.update(changes)
        job.updated_at = self._site.now()

    def cancel_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """Cancel a job that is not over."""
        job = self._require_active(request["jobId"])
        self._engine.cancel(job, force=request.get("force", False), reason_code=request.get("reasonCode"),
                            comment=request.get("comment"))  # fmt: skip
        return self._named(job)

    def delete_job(self, request: dict[str, Any]) -> None:
        """Delete a job that is over, or any with ``force``."""
        job = self._require(request["jobId"])
        if job.is_active and not request.get("force"):
            raise AwsError("InvalidStateTransitionException", f"job {job.job_id} is {job.status}; cancel it first")
        self._engine.delete(job)
        self._tags.forget(job.arn)

    def associate_targets_with_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """Add groups to the targets of a continuous job."""
        job, targets = self._require_active(request["jobId"]), request["targets"]
        if job.selection != "CONTINUOUS":
            raise invalid(f"job {job.job_id} is a snapshot: its targets cannot change")
        self._check_targets(targets)
        check_targets(list(dict.fromkeys([*job.targets, *targets])))
        job.comment = request.get("comment", job.comment)
        self._engine.extend(job, targets)
        return self._named(job)

    # -- executions

    def describe_job_execution(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return one execution of a thing, the latest unless a number is given."""
        found = self._execution(request)
        deadline = found.deadline()
        left = max(0, int((deadline - self._site.now()).total_seconds())) if deadline else None
        summary = found.summary()
        del summary["retryAttempt"]
        return {
            "execution": {
                "jobId": found.job_id,
                "thingArn": self._things.arn(found.thing),
                "forceCanceled": found.force_canceled or None,
                "statusDetails": {"detailsMap": dict(found.details)},
                "versionNumber": found.version,
                "approximateSecondsBeforeTimedOut": left,
                **summary,
            }
        }

    def list_job_executions_for_job(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the latest execution of each thing, in thing order, of one status if named."""
        job, status = self._require(request["jobId"]), request.get("status")
        if status:
            names = job.by_status[status].in_order() if status in job.by_status else []
        else:
            names = sorted(job.executions)
        found, token = page_of(names, request)
        return answer("executionSummaries", [
            {"thingArn": self._things.arn(n), "jobExecutionSummary": job.executions[n].summary()} for n in found
        ], token)  # fmt: skip

    def list_job_executions_for_thing(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return every execution of a thing, earlier attempts too, newest first."""
        thing = self._things.require(request["thingName"])
        executions = [
            e for e in self._engine.executions_of(thing.name)
            if request.get("status") in (None, e.status) and request.get("jobId") in (None, e.job_id)
        ]  # fmt: skip
        found, token = page(
            executions, lambda e: f"{_descending(e.queued_at)}{e.job_id}#{999999 - e.number:06}", request
        )
        return answer("executionSummaries",
                      [{"jobId": e.job_id, "jobExecutionSummary": e.summary()} for e in found], token)  # fmt: skip

    def cancel_job_execution(self, request: dict[str, Any]) -> None:
        """Cancel one execution; one in progress only by ``force``."""
        found = self._execution(request)
        if request.get("expectedVersion") not in (None, found.version):
            raise AwsError("VersionConflictException", f"the execution has version {found.version}")
        in_progress = found.status == "IN_PROGRESS"
        if not found.is_pending or (in_progress and not request.get("force")):
            raise AwsError("InvalidStateTransitionException", f"the execution is {found.status}")
        found.details = dict(request.get("statusDetails", found.details))
        found.force_canceled = in_progress
        self._engine.finish(found, "CANCELED")

    def delete_job_execution(self, request: dict[str, Any]) -> None:
        """Delete one execution; one in progress only by ``force``."""
        found = self._execution(request)
        if found.status == "IN_PROGRESS" and not request.get("force"):
            raise AwsError("InvalidStateTransitionException", "the execution is IN_PROGRESS; use force")
        job = self._engine.jobs[found.job_id]
        self._engine.delete_execution(found)
        self._engine.complete_if_done(job)

    # -- inside

    def _require(self, job_id: str) -> Job:
        if job_id not in self._engine.jobs:
            raise not_found("job", job_id)
        return self._engine.jobs[job_id]

    def _require_active(self, job_id: str) -> Job:
        job = self._require(job_id)
        if not job.is_active:
            raise invalid(f"job {job_id} is {job.status} and cannot change any more")
        return job

    def _execution(self, request: dict[str, Any]) -> ExecutionAttempt:
        self._require(request["jobId"])
        found = self._engine.find(request["thingName"], request["jobId"], request.get("executionNumber"))
        if found is None:
            raise not_found(f"execution of job {request['jobId']} by thing", request["thingName"])
        return found

    def _check_targets(self, targets: list[str]) -> None:
        check_targets(targets)
        for target in targets:
            if ":thinggroup/" in target:
                known = self._groups.require(target.partition(":thinggroup/")[2])
                expected = self._groups.arn(known.name)
            elif ":thing/" in target:
                expected = self._things.arn(self._things.require(target.partition(":thing/")[2]).name)
            else:
                raise invalid(f"a target is the ARN of a thing or a thing group, found {target!r}")
            if target != expected:
                raise invalid(f"the target {target} is not in this account and region; expected {expected}")

    @staticmethod
    def _named(job: Job) -> dict[str, Any]:
        return {"jobArn": job.arn, "jobId": job.job_id, "description": job.configuration.get("description")}

    @staticmethod
    def _summary(job: Job) -> dict[str, Any]:
        return {
            "jobArn": job.arn,
            "jobId": job.job_id,
            "targetSelection": job.selection,
            "status": job.status,
            "createdAt": job.created_at,
            "lastUpdatedAt": job.updated_at,
            "completedAt": job.completed_at,
            "isConcurrent": False,
        }


def _descending(instant: Any) -> str:
    return f"{_FAR - int(instant.timestamp() * 1_000_000):020d}"
