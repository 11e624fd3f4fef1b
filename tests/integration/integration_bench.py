"""Devices under test, and the levers that an operator of their backend has: all through AWS's own APIs.

Nothing here knows whether AWS or the sandbox answers.
"""

from __future__ import annotations

import json
import subprocess
import time
import uuid
from contextlib import contextmanager
from dataclasses import dataclass

from protocol.names import AWS_IOT_AUTHORITY, COMPONENT_NAME

ENDED = {"SUCCEEDED", "FAILED", "TIMED_OUT", "REJECTED", "REMOVED", "CANCELED"}
CREATE, COMMIT, TERMINAL = "CreateCertificate", "CommitCertificate", "JobExecutionTerminal"


@dataclass(frozen=True)
class Pace:
    """How long things may take, in seconds, and the limits with which the component fails fast enough."""

    rotation: float
    deployment: float
    cleanup: float
    poll: float
    limits: dict

    @classmethod
    def sandbox(cls):
        brisk = {"resendIntervalSeconds": 1, "stepTimeLimitSeconds": 8, "reconnectTimeLimitSeconds": 15}
        return cls(rotation=900, deployment=600, cleanup=600, poll=0.1, limits=brisk)

    @classmethod
    def real(cls):
        limits = {"resendIntervalSeconds": 5, "stepTimeLimitSeconds": 20, "reconnectTimeLimitSeconds": 120}
        return cls(rotation=900, deployment=900, cleanup=300, poll=2.0, limits=limits)


@dataclass(frozen=True)
class Held:
    """A certificate as the registry shows it attached to a thing."""

    status: str
    association: str
    policies: tuple


@dataclass(frozen=True)
class Ending:
    """How something ended, and the reason given."""

    status: str
    reason: str = ""


class Bench:
    """All devices of one thing group, rotated together."""

    def __init__(self, client, group, stack, pace):
        """``client`` makes a boto3 client by service name."""
        self._client, self._clients = client, {}
        self.group, self.stack, self.pace = group, stack, pace

    def aws(self, service):
        if service not in self._clients:
            self._clients[service] = self._client(service)
        return self._clients[service]

    def open(self):
        pages = self.aws("iot").get_paginator("list_things_in_thing_group").paginate(thingGroupName=self.group)
        self.things = sorted(thing for page in pages for thing in page["things"])
        assert self.things, f"thing group {self.group} has no devices"

    def close(self):
        """Leave the component's configuration as its recipe has it."""
        self.deploy(reset=[""])

    def root_of(self, authority):
        """The CA certificate, PEM; None for AWS IoT, which publishes none."""
        if authority == AWS_IOT_AUTHORITY:
            return None
        arn = self.authorities()[authority]["arn"]
        return self.aws("acm-pca").get_certificate_authority_certificate(CertificateAuthorityArn=arn)["Certificate"]

    def configuration_of(self, thing):
        """The component's configuration on the device; None where it cannot be seen from outside."""
        return

    @contextmanager
    def holding_create_answers(self):
        """Keep devices from going on to the restart. Real ones take seconds for it, which is long enough."""
        yield

    # Rotating -------------------------------------------------------------------------------------

    def rotate(self, document=None, **fields):
        """Start a rotation on every device; returns the job's id."""
        job = f"integration-{uuid.uuid4().hex[:12]}"
        text = json.dumps({"operation": "ROTATE_CERTIFICATE", **(document or {}), **fields})
        self.aws("iot").create_job(jobId=job, targets=self.arns(), document=text)
        return job

    def arns(self):
        return [self.aws("iot").describe_thing(thingName=thing)["thingArn"] for thing in self.things]

    def ending(self, job, thing):
        """How a device's execution of a job has ended; None while it has not."""
        found = self.aws("iot").describe_job_execution(jobId=job, thingName=thing)["execution"]
        if found["status"] not in ENDED:
            return None
        details = found.get("statusDetails", {}).get("detailsMap", {})
        return Ending(found["status"], details.get("DeviceFailureReason", ""))

    def endings(self, job):
        """Wait until every device is through; thing → Ending."""
        return {
            thing: self.until(lambda thing=thing: self.ending(job, thing), f"{thing} ends {job}", self.pace.rotation)
            for thing in self.things
        }

    def assert_rotated(self, job, before):
        """Every device has succeeded, and holds one new certificate with everything that the old one had."""
        endings = self.endings(job)
        assert {ending.status for ending in endings.values()} == {"SUCCEEDED"}, endings
        for thing in self.things:
            [old] = before[thing].items()
            self.until(lambda thing=thing: len(self.certificates(thing)) == 1, f"one is left of {thing}")
            [new] = self.certificates(thing).items()
            assert new[0] != old[0]
            assert new[1] == old[1]
            self.until(lambda old=old: not self.exists(old[0]), f"{old[0]} is removed")

    def assert_unchanged(self, before):
        """The registry shows every device as before; what was issued in between is gone."""
        self.until(lambda: self.registry() == before, "the registry is as before")

    # The registry ---------------------------------------------------------------------------------

    def registry(self):
        """Thing → its certificates."""
        return {thing: self.certificates(thing) for thing in self.things}

    def certificates(self, thing):
        """Certificate id → Held."""
        iot, found = self.aws("iot"), {}
        for principal in iot.list_thing_principals_v2(thingName=thing)["thingPrincipalObjects"]:
            arn = principal["principal"]
            certificate_id = arn.rpartition("/")[2]
            try:
                status = iot.describe_certificate(certificateId=certificate_id)["certificateDescription"]["status"]
                policies = iot.list_attached_policies(target=arn)["policies"]
            except iot.exceptions.ResourceNotFoundException:
                continue  # deleted a moment ago
            names = tuple(sorted(policy["policyName"] for policy in policies))
            found[certificate_id] = Held(status, principal["thingPrincipalType"], names)
        return found

    def exists(self, certificate_id):
        iot = self.aws("iot")
        try:
            iot.describe_certificate(certificateId=certificate_id)
        except iot.exceptions.ResourceNotFoundException:
            return False
        return True

    def pem(self, thing):
        """The certificate of a device that holds one."""
        [certificate_id] = self.certificates(thing)
        return self.aws("iot").describe_certificate(certificateId=certificate_id)["certificateDescription"][
            "certificatePem"
        ]

    # Levers ---------------------------------------------------------------------------------------

    @contextmanager
    def rule_off(self, name):
        """A rule of the backend, disabled."""
        rule = self.stack + name
        self.aws("iot").disable_topic_rule(ruleName=rule)
        try:
            yield
        finally:
            self.aws("iot").enable_topic_rule(ruleName=rule)

    @contextmanager
    def throttled(self, name):
        """A function of the backend that may not run."""
        function = self.stack + name
        self.aws("lambda").put_function_concurrency(FunctionName=function, ReservedConcurrentExecutions=0)
        try:
            yield
        finally:
            self.aws("lambda").delete_function_concurrency(FunctionName=function)

    def variables(self, name):
        """A function's environment."""
        found = self.aws("lambda").get_function_configuration(FunctionName=self.stack + name)
        return dict(found["Environment"]["Variables"])

    @contextmanager
    def environment(self, name, **changes):
        """A function whose environment is changed."""
        before = self.variables(name)
        self._set_variables(name, {**before, **changes})
        try:
            yield
        finally:
            self._set_variables(name, before)

    def _set_variables(self, name, variables):
        function = self.stack + name
        self.aws("lambda").update_function_configuration(FunctionName=function, Environment={"Variables": variables})
        self.until(
            lambda: (
                self.aws("lambda").get_function_configuration(FunctionName=function).get("LastUpdateStatus")
                != "InProgress"
            ),
            f"{function} is updated",
        )

    def authorities(self):
        """The private CAs that this deployment may use, by name."""
        return json.loads(self.variables(CREATE)["AUTHORITIES"])

    def deploy(self, merge=None, reset=()):
        """Revise the group's deployment: another configuration of the component; thing → Ending."""
        greengrass = self.aws("greengrassv2")
        arn = self.aws("iot").describe_thing_group(thingGroupName=self.group)["thingGroupArn"]
        [latest] = greengrass.list_deployments(targetArn=arn, historyFilter="LATEST_ONLY")["deployments"]
        components = greengrass.get_deployment(deploymentId=latest["deploymentId"])["components"]
        assert COMPONENT_NAME in components, f"the deployment of {self.group} does not contain {COMPONENT_NAME}"
        update = {"reset": list(reset)} if reset else {}
        if merge is not None:
            update["merge"] = json.dumps(merge)
        components[COMPONENT_NAME] = {**components[COMPONENT_NAME], "configurationUpdate": update}
        made = greengrass.create_deployment(targetArn=arn, components=components)["deploymentId"]
        return {
            thing: self.until(lambda thing=thing: self._deployed(thing, made), f"{thing} ends {made}",
                              self.pace.deployment)
            for thing in self.things
        }  # fmt: skip

    def _deployed(self, thing, deployment):
        found = self.aws("greengrassv2").list_effective_deployments(coreDeviceThingName=thing)["effectiveDeployments"]
        for one in found:
            if one["deploymentId"] == deployment and one["coreDeviceExecutionStatus"] in ENDED:
                return Ending(one["coreDeviceExecutionStatus"], one.get("reason", ""))
        return None

    def until(self, condition, what, timeout=None):
        """Wait for a condition; returns what it returned."""
        end = time.monotonic() + (timeout or self.pace.cleanup)
        while not (found := condition()):
            assert time.monotonic() < end, f"waited in vain: {what}; registry: {self.registry()}"
            time.sleep(self.pace.poll)
        return found


def openssl(*arguments, text=None):
    done = subprocess.run(["openssl", *arguments], input=text, capture_output=True, text=True, check=False)
    assert done.returncode == 0, f"openssl {' '.join(arguments)}: {done.stdout}{done.stderr}"
    return done.stdout + done.stderr
