"""Deployments and core devices.

A deployment is a continuous AWS IoT job in a namespace of its own, as on AWS: ``describe_job`` and
``list_job_executions_for_job`` show it, the job topics of components do not. Nucleus stand-ins
listen for orders and report how they ended.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sandbox.aws.errors import AwsError
from sandbox.aws.iot.groups import Groups
from sandbox.aws.iot.things import Things
from sandbox.aws.jobs.engine import JobEngine
from sandbox.aws.jobs.model import ExecutionAttempt, Job
from sandbox.aws.paging import answer, page
from sandbox.aws.site import new_id

MAX_REASON = 1000  # characters of a reported reason that are kept


@dataclass(frozen=True, slots=True)
class ComponentOrder:
    """The demands of a deployment on one component. ``merge`` is the parsed configuration merge, or None."""

    version: str
    merge: dict[str, Any] | None
    reset: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class DeploymentOrder:
    """The task of one nucleus: the components by name."""

    thing: str
    deployment_id: str
    components: dict[str, ComponentOrder]
    rolls_back_on_failure: bool = True
    notify_seconds: float | None = 60.0  # for components to answer that it comes; None: they are not asked


@dataclass(frozen=True, slots=True)
class InstalledComponent:
    """The report of a nucleus on one component; ``state`` as in ListInstalledComponents (RUNNING …)."""

    name: str
    version: str
    state: str = "RUNNING"
    is_root: bool = True


@dataclass(slots=True, eq=False)
class CoreDevice:
    """A core device as it last reported itself."""

    thing: str
    reported_at: datetime
    healthy: bool = True
    core_version: str = "2.14.0"
    runtime: str = "aws_nucleus_classic"
    platform: str = "linux"
    architecture: str = "amd64"
    components: tuple[InstalledComponent, ...] = ()


@dataclass(slots=True, eq=False)
class DeploymentRevision:
    """One revision of what a target should run."""

    deployment_id: str
    target: str
    name: str | None
    job_id: str
    created_at: datetime
    revision: int
    components: dict[str, Any] = field(default_factory=dict)
    policies: dict[str, Any] = field(default_factory=dict)
    job_configuration: dict[str, Any] = field(default_factory=dict)
    canceled: bool = False
    is_latest: bool = True


class Deployments:
    """All deployments and core devices; ``on_order``, ``report`` and ``report_device`` are for the nucleus."""

    def __init__(self, engine: JobEngine, things: Things, groups: Groups) -> None:
        self._engine = engine
        self._site = engine.site
        self._things = things
        self._groups = groups
        self._by_id: dict[str, DeploymentRevision] = {}
        self._by_job: dict[str, DeploymentRevision] = {}
        self._devices: dict[str, CoreDevice] = {}
        self._listeners: list[Callable[[DeploymentOrder], None]] = []
        engine.on_nucleus_queued.append(self._queued)

    # -- for nucleus stand-ins

    def on_order(self, listener: Callable[[DeploymentOrder], None]) -> None:
        """Hear of every deployment for every thing, on the caller's thread and without the lock."""
        self._listeners.append(listener)

    def pending(self, thing: str) -> list[DeploymentOrder]:
        """Return the orders that a thing has not ended, oldest first: a nucleus asks for them when it starts."""
        with self._site.transaction():
            return [self._order(e) for e in self._engine.executions_of(thing) if e.is_pending and self._is_ours(e)]

    def report(self, thing: str, deployment_id: str, status: str, reason: str = "") -> None:
        """Set an order's status: ``IN_PROGRESS``, ``SUCCEEDED``, ``FAILED`` or ``REJECTED``; repeats change nothing."""
        with self._site.transaction():
            execution = self._engine.find(thing, self._require(deployment_id).job_id)
            if execution is None or not execution.is_pending:
                return
            if reason:
                execution.details = {"reason": reason[:MAX_REASON]}
            if execution.status == "QUEUED":
                self._engine.start_execution(execution)
            if status == "IN_PROGRESS":
                self._engine.touch(execution)
            else:
                self._engine.finish(execution, status)

    def report_device(
        self, thing: str, components: Iterable[InstalledComponent], *, healthy: bool = True,
        core_version: str = "2.14.0", runtime: str = "aws_nucleus_classic",
    ) -> None:  # fmt: skip
        """Record what a nucleus reports as running on it."""
        with self._site.transaction():
            self._devices[thing] = CoreDevice(
                thing, self._site.now(), healthy, core_version, runtime, components=tuple(components)
            )

    # -- the API: deployments

    def create_deployment(self, request: dict[str, Any]) -> dict[str, Any]:
        """Deploy to a thing or a thing group; it supersedes the target's earlier deployment."""
        target = self._target(request["targetArn"])
        components = request.get("components", {})
        for name, component in components.items():
            _merge_of(name, component)
        earlier = [d for d in self._by_id.values() if d.target == target]
        for deployment in earlier:
            self._supersede(deployment)
        now, name = self._site.now(), new_id()
        found = DeploymentRevision(
            name, target, request.get("deploymentName"), new_id(), now, len(earlier) + 1, components,
            request.get("deploymentPolicies", {}), request.get("iotJobConfiguration", {}),
        )  # fmt: skip
        self._by_id[name] = self._by_job[found.job_id] = found
        selection = "CONTINUOUS" if ":thinggroup/" in target else "SNAPSHOT"
        document = json.dumps({"deploymentId": name, "components": components})
        job = Job(found.job_id, self._job_arn(found), [target], selection, document, now, now,
                  dict(found.job_configuration), for_nucleus=True)  # fmt: skip
        self._engine.add(job, None, None)
        return {"deploymentId": name, "iotJobId": found.job_id, "iotJobArn": self._job_arn(found)}

    def get_deployment(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all about one deployment."""
        found = self._require(request["deploymentId"])
        return {
            **self._summary(found),
            "iotJobId": found.job_id,
            "iotJobArn": self._job_arn(found),
            "components": found.components,
            "deploymentPolicies": found.policies,
            "iotJobConfiguration": found.job_configuration,
        }

    def list_deployments(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return deployments, newest first; only the latest of each target unless ``historyFilter`` is ALL."""
        everything = request.get("historyFilter") == "ALL"
        wanted = [d for d in self._by_id.values()
                  if request.get("targetArn") in (None, d.target) and (everything or d.is_latest)]  # fmt: skip
        ranked = {f"{rank:06d}": d for rank, d in enumerate(sorted(wanted, key=lambda d: d.created_at, reverse=True))}
        shown, token = page(ranked.items(), lambda item: item[0], request)
        return answer("deployments", [self._summary(d) for _, d in shown], token)

    def cancel_deployment(self, request: dict[str, Any]) -> dict[str, Any]:
        """Cancel what no device has begun."""
        found = self._require(request["deploymentId"])
        job = self._engine.jobs[found.job_id]
        if not job.is_active:
            raise AwsError("ConflictException", f"the deployment is {self._status(found)}",
                           resourceId=found.deployment_id, resourceType="DEPLOYMENT")  # fmt: skip
        found.canceled = True
        self._engine.cancel(job, force=False)
        return {"message": "SUCCESS"}

    def list_effective_deployments(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the deployments of one core device and how they went."""
        thing = self._device(request["coreDeviceThingName"]).thing
        executions = [e for e in self._engine.executions_of(thing) if self._is_ours(e)]
        shown, token = page(executions, lambda e: e.job_id, request)
        return answer("effectiveDeployments", [self._effective(e) for e in shown], token)

    # -- the API: core devices

    def list_core_devices(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return core devices in name order, by group and health."""
        group = request.get("thingGroupArn")
        members = set(self._groups.members(group.partition(":thinggroup/")[2])) if group else None
        wanted = [d for d in self._devices.values()
                  if (members is None or d.thing in members) and request.get("status") in (None, _health(d))
                  and request.get("runtime") in (None, d.runtime)]  # fmt: skip
        shown, token = page(wanted, lambda d: d.thing, request)
        return answer("coreDevices", [
            {"coreDeviceThingName": d.thing, "status": _health(d), "lastStatusUpdateTimestamp": d.reported_at,
             "platform": d.platform, "architecture": d.architecture, "runtime": d.runtime} for d in shown
        ], token)  # fmt: skip

    def get_core_device(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return all about one core device."""
        found = self._device(request["coreDeviceThingName"])
        return {
            "coreDeviceThingName": found.thing,
            "coreVersion": found.core_version,
            "platform": found.platform,
            "architecture": found.architecture,
            "runtime": found.runtime,
            "status": _health(found),
            "lastStatusUpdateTimestamp": found.reported_at,
        }

    def list_installed_components(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return what a core device runs; root components only unless ``topologyFilter`` is ALL."""
        device = self._device(request["coreDeviceThingName"])
        everything = request.get("topologyFilter") == "ALL"
        wanted = [c for c in device.components if everything or c.is_root]
        shown, token = page(wanted, lambda c: c.name, request)
        return answer("installedComponents", [
            {"componentName": c.name, "componentVersion": c.version, "lifecycleState": c.state, "isRoot": c.is_root,
             "lastReportedTimestamp": device.reported_at} for c in shown
        ], token)  # fmt: skip

    def delete_core_device(self, request: dict[str, Any]) -> None:
        """Forget a core device."""
        del self._devices[self._device(request["coreDeviceThingName"]).thing]

    # -- inside

    def _queued(self, execution: ExecutionAttempt) -> None:
        order = self._order(execution)
        for listener in self._listeners:
            self._site.outbox.post(lambda listener=listener: listener(order))  # type: ignore[misc]

    def _order(self, execution: ExecutionAttempt) -> DeploymentOrder:
        found = self._by_job[execution.job_id]
        components = {
            name: ComponentOrder(c["componentVersion"], _merge_of(name, c),
                                 tuple(c.get("configurationUpdate", {}).get("reset", ())))
            for name, c in found.components.items()
        }  # fmt: skip
        rolls_back = found.policies.get("failureHandlingPolicy", "ROLLBACK") == "ROLLBACK"
        policy = {
            "action": "NOTIFY_COMPONENTS",
            "timeoutInSeconds": 60,
            **found.policies.get("componentUpdatePolicy", {}),
        }
        seconds = float(policy["timeoutInSeconds"]) if policy["action"] == "NOTIFY_COMPONENTS" else None
        return DeploymentOrder(execution.thing, found.deployment_id, components, rolls_back, seconds)

    def _is_ours(self, execution: ExecutionAttempt) -> bool:
        return execution.job_id in self._by_job

    def _supersede(self, deployment: DeploymentRevision) -> None:
        deployment.is_latest = False
        job = self._engine.jobs.get(deployment.job_id)
        if job is not None and job.is_active:
            self._engine.cancel(job, force=False)

    def _target(self, arn: str) -> str:
        name = arn.rpartition("/")[2]
        if ":thinggroup/" in arn:
            return self._groups.arn(self._groups.require(name).name)
        if ":thing/" in arn:
            return self._things.arn(self._things.require(name).name)
        raise AwsError("ValidationException", f"targetArn is the ARN of a thing or a thing group, found {arn!r}")

    def _require(self, deployment_id: str) -> DeploymentRevision:
        if deployment_id not in self._by_id:
            raise AwsError("ResourceNotFoundException", f"there is no deployment {deployment_id}",
                           resourceId=deployment_id, resourceType="DEPLOYMENT")  # fmt: skip
        return self._by_id[deployment_id]

    def _device(self, thing: str) -> CoreDevice:
        if thing not in self._devices:
            raise AwsError("ResourceNotFoundException", f"{thing} is not a core device", resourceId=thing,
                           resourceType="COREDEVICE")  # fmt: skip
        return self._devices[thing]

    def _job_arn(self, deployment: DeploymentRevision) -> str:
        return self._site.arn(f"job/{deployment.job_id}")

    def _status(self, found: DeploymentRevision) -> str:
        job = self._engine.jobs.get(found.job_id)
        if found.canceled:
            return "CANCELED"
        if not found.is_latest or job is None:
            return "INACTIVE"
        if job.selection == "CONTINUOUS":
            return "ACTIVE"
        if job.status != "COMPLETED":
            return "ACTIVE"
        return "COMPLETED" if job.count("SUCCEEDED") else "FAILED"

    def _summary(self, found: DeploymentRevision) -> dict[str, Any]:
        return {
            "targetArn": found.target,
            "revisionId": str(found.revision),
            "deploymentId": found.deployment_id,
            "deploymentName": found.name,
            "creationTimestamp": found.created_at,
            "deploymentStatus": self._status(found),
            "isLatestForTarget": found.is_latest,
        }

    def _effective(self, execution: ExecutionAttempt) -> dict[str, Any]:
        found = self._by_job[execution.job_id]
        return {
            "deploymentId": found.deployment_id,
            "deploymentName": found.name or found.deployment_id,
            "iotJobId": found.job_id,
            "iotJobArn": self._job_arn(found),
            "targetArn": found.target,
            "coreDeviceExecutionStatus": "CANCELED" if execution.status == "REMOVED" else execution.status,
            "reason": execution.details.get("reason"),
            "creationTimestamp": execution.queued_at,
            "modifiedTimestamp": execution.updated_at,
        }


def _health(device: CoreDevice) -> str:
    return "HEALTHY" if device.healthy else "UNHEALTHY"


def _merge_of(name: str, component: dict[str, Any]) -> dict[str, Any] | None:
    text = component.get("configurationUpdate", {}).get("merge")
    if not text:
        return None
    try:
        merge = json.loads(text)
    except ValueError as error:
        raise AwsError("ValidationException", f"configurationUpdate.merge of {name} is not JSON: {error}") from None
    if not isinstance(merge, dict):
        raise AwsError("ValidationException", f"configurationUpdate.merge of {name} must be a JSON object")
    return merge
