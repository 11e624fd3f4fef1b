"""The calls of the reading half that are allowed: each is made once, on what is there, and changes nothing.

An answer proves that a call is allowed, a denial that it is not. Anything else proves neither, and is reported so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from controller.errors import FleetError
from controller.fleet.aws import PAGE_SIZE, AwsSession
from controller.fleet.aws_errors import AwsCallError, iam_action
from controller.fleet.component import ALL, component_arn, version_in
from controller.fleet.health import OFFLINE
from controller.fleet.quotas import QUOTAS
from controller.reconcile.values import DesiredState
from protocol.watch import key_of

_ONE = {"maxResults": 1}


@dataclass(frozen=True, slots=True)
class Permission:
    """One action as IAM spells it; ``is_allowed`` is None if ``why`` shows what kept it from being found out."""

    action: str
    is_allowed: bool | None
    why: str = ""


class Trial:
    """Makes calls, and keeps what became of each."""

    def __init__(self, session: AwsSession) -> None:
        self._session = session
        self.found: list[Permission] = []

    def call(self, service: str, operation: str, **parameters: Any) -> dict[str, Any]:
        """Return the answer; empty if there is none. If a parameter is None, no call is made."""
        action = iam_action(service, operation)
        missing = [name for name, value in parameters.items() if value is None]
        if missing:
            self.found.append(Permission(action, None, f"there is nothing to ask about ({missing[0]})"))
            return {}
        try:
            answer = self._session.call(service, operation, **parameters)
        except FleetError as error:
            is_denied = isinstance(error, AwsCallError) and error.is_denied
            self.found.append(Permission(action, False if is_denied else None, str(error)))
            return {}
        self.found.append(Permission(action, True))
        return answer


def try_reading(session: AwsSession, desired: DesiredState) -> tuple[Permission, ...]:
    """Return every action that reading a fleet needs. About 25 calls."""
    trial = Trial(session)
    _registry(trial, session, desired)
    _backend(trial, session)
    trial.call("acm-pca", "ListCertificateAuthorities", MaxResults=1)
    arn = next((each.arn for each in desired.authorities.values() if each.arn is not None), None)
    if arn is not None:  # a fleet without private CAs needs no such right
        for operation in ("DescribeCertificateAuthority", "GetCertificateAuthorityCertificate"):
            trial.call("acm-pca", operation, CertificateAuthorityArn=arn)
    _quotas(trial)
    return tuple(trial.found)


def _registry(trial: Trial, session: AwsSession, desired: DesiredState) -> None:
    group = next((policy.thing_group for policy in desired.policies), None)
    policies = trial.call("iot", "ListPolicies", pageSize=1).get("policies", ())
    trial.call("iot", "ListTargetsForPolicy", policyName=next((one["policyName"] for one in policies), None))
    for operation in ("ListThings", "ListThingGroups"):
        trial.call("iot", operation, **_ONE)
    trial.call("iot", "ListCertificates", pageSize=1)
    trial.call("iot", "DescribeEventConfigurations")
    trial.call("iot", "DescribeThingGroup", thingGroupName=group)
    members = trial.call("iot", "ListThingsInThingGroup", thingGroupName=group, recursive=True, **_ONE)
    thing = next(iter(members.get("things", ())), None)
    held = trial.call("iot", "ListThingPrincipalsV2", thingName=thing, **_ONE).get("thingPrincipalObjects", ())
    principal = next((one["principal"] for one in held), None)
    trial.call("iot", "DescribeCertificate", certificateId=principal and principal.rpartition("/")[2])
    trial.call("iot", "ListPrincipalThingsV2", principal=principal, **_ONE)
    trial.call("iot", "ListAttachedPolicies", target=principal)
    trial.call("iot", "GetThingConnectivityData", thingName=thing)
    trial.call("iot", "ListJobExecutionsForThing", thingName=thing, **_ONE)
    trial.call("iot", "SearchIndex", queryString=OFFLINE, **_ONE)
    client = f"{principal}".replace(":cert/", ":client/")
    trial.call(
        "iot", "TestAuthorization", principal=principal, authInfos=[{"actionType": "CONNECT", "resources": [client]}]
    )
    _jobs(trial)
    _greengrass(trial, session, thing)


def _jobs(trial: Trial) -> None:
    job = next((one["jobId"] for one in trial.call("iot", "ListJobs", **_ONE).get("jobs", ())), None)
    trial.call("iot", "DescribeJob", jobId=job)
    trial.call("iot", "GetJobDocument", jobId=job)
    listed = trial.call("iot", "ListJobExecutionsForJob", jobId=job, **_ONE).get("executionSummaries", ())
    thing = next((one["thingArn"].rpartition("/")[2] for one in listed), None)
    trial.call("iot", "DescribeJobExecution", jobId=job, thingName=thing)


def _greengrass(trial: Trial, session: AwsSession, thing: str | None) -> None:
    version = version_in(trial.call("greengrassv2", "ListInstalledComponents", coreDeviceThingName=thing, **ALL))
    trial.call("greengrassv2", "DescribeComponent", arn=None if version is None else component_arn(session, version))
    listed = trial.call("greengrassv2", "ListEffectiveDeployments", coreDeviceThingName=thing, **_ONE)
    deployment = next((one["deploymentId"] for one in listed.get("effectiveDeployments", ())), None)
    trial.call("greengrassv2", "GetDeployment", deploymentId=deployment)


def _backend(trial: Trial, session: AwsSession) -> None:
    names = session.fleet.backend
    trial.call("iot", "DescribeJobTemplate", jobTemplateId=names.job_template)
    function = trial.call("lambda", "GetFunctionConfiguration", FunctionName=names.create_function)
    table = function.get("Environment", {}).get("Variables", {}).get("TABLE_NAME")
    nothing = {name: {"S": value} for name, value in key_of("").items()}
    trial.call("dynamodb", "GetItem", TableName=table, Key=nothing, ReturnConsumedCapacity="TOTAL")
    keys = {table: {"Keys": [nothing]}} if table else None
    trial.call("dynamodb", "BatchGetItem", RequestItems=keys)
    one = {"KeyConditionExpression": "thingName = :no", "ExpressionAttributeValues": {":no": nothing["thingName"]}}
    trial.call("dynamodb", "Query", TableName=table, Limit=1, **one)
    trial.call("dynamodb", "Scan", TableName=table, Limit=1)
    trial.call("ssm", "GetParameter", Name=names.deployment_parameter)
    listed = trial.call("iot", "ListTopicRules", maxResults=PAGE_SIZE).get("rules", ())
    own = next((one["ruleName"] for one in listed if one["ruleName"] == names.create_function), None)
    rule = trial.call("iot", "GetTopicRule", ruleName=own).get("rule", {})  # of one that is not there AWS says: denied
    trial.call("sqs", "GetQueueAttributes", QueueUrl=queue_of(rule), AttributeNames=["ApproximateNumberOfMessages"])


def _quotas(trial: Trial) -> None:
    code = QUOTAS["ListThingPrincipalsV2"].code
    trial.call("service-quotas", "GetServiceQuota", ServiceCode="iotcore", QuotaCode=code)


def queue_of(rule: dict[str, Any]) -> str | None:
    """Return where a topic rule puts what it could not deliver: the dead-letter queue; None if it names none."""
    url: str | None = rule.get("errorAction", {}).get("sqs", {}).get("queueUrl")
    return url
