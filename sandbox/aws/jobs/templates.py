"""Job templates: a document and a configuration to create jobs from."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sandbox.aws.errors import AwsError, invalid, not_found
from sandbox.aws.iot.settings import Tags
from sandbox.aws.paging import answer, page
from sandbox.aws.site import Site

from .limits import check_configuration, check_document, check_supported
from .model import CONFIGURATION, Job


@dataclass(frozen=True, slots=True)
class JobTemplate:
    """One template."""

    template_id: str
    document: str
    configuration: dict[str, Any]
    created_at: datetime


class JobTemplates:
    """All templates, and the calls about them."""

    def __init__(self, site: Site, tags: Tags, jobs: dict[str, Job]) -> None:
        self._site = site
        self._tags = tags
        self._jobs = jobs
        self._by_id: dict[str, JobTemplate] = {}

    def by_arn(self, arn: str) -> JobTemplate:
        """Return the template of an ARN."""
        return self._require(arn.partition(":jobtemplate/")[2])

    def create_job_template(self, request: dict[str, Any]) -> dict[str, Any]:
        """Create a template, from scratch or from a job."""
        check_supported("CreateJobTemplate", request)
        name = request["jobTemplateId"]
        if name in self._by_id:
            raise AwsError("ConflictException", f"job template {name} already exists", resourceId=name)
        source = self._job_of(request["jobArn"]) if request.get("jobArn") else None
        inherited = source.configuration if source else {}
        document = check_document(request.get("document") or (source.document if source else None))
        own = {key: request[key] for key in CONFIGURATION if key in request}
        check_configuration(own)
        self._by_id[name] = JobTemplate(name, document, {**inherited, **own}, self._site.now())
        self._tags.put(self._arn(name), {t["Key"]: t.get("Value", "") for t in request.get("tags", [])})
        return {"jobTemplateArn": self._arn(name), "jobTemplateId": name}

    def describe_job_template(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all about one template."""
        found = self._require(request["jobTemplateId"])
        return {
            "jobTemplateArn": self._arn(found.template_id),
            "jobTemplateId": found.template_id,
            "document": found.document,
            "createdAt": found.created_at,
            **found.configuration,
        }

    def list_job_templates(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the templates in id order."""
        found, token = page(self._by_id.values(), lambda t: t.template_id, request)
        return answer("jobTemplates", [
            {"jobTemplateArn": self._arn(t.template_id), "jobTemplateId": t.template_id,
             "description": t.configuration.get("description"), "createdAt": t.created_at} for t in found
        ], token)  # fmt: skip

    def delete_job_template(self, request: dict[str, Any]) -> None:
        """Delete a template; jobs made from it stay."""
        self._require(request["jobTemplateId"])
        del self._by_id[request["jobTemplateId"]]
        self._tags.forget(self._arn(request["jobTemplateId"]))

    def _arn(self, name: str) -> str:
        return self._site.arn(f"jobtemplate/{name}")

    def _require(self, name: str) -> JobTemplate:
        if name not in self._by_id:
            raise not_found("job template", name)
        return self._by_id[name]

    def _job_of(self, arn: str) -> Job:
        job = self._jobs.get(arn.partition(":job/")[2])
        if job is None:
            raise invalid(f"jobArn {arn} names no job")
        return job
