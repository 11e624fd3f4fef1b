"""Resources of the template that the running sandbox needs, made through the cloud's APIs.

Each provisioner takes resolved properties and returns what ``Ref`` and ``Fn::GetAtt`` answer. Types
that only matter on AWS are listed with what stands in for them; a type in neither list is refused.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from botocore import xform_name

from .clients import Clients
from .functions import StackFunctions
from .template import TemplateError

Properties = Mapping[str, Any]


@dataclass(frozen=True)
class Made:
    """A resource as references see it."""

    ref: str
    attributes: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class ResourceSite:
    """Where resources are made."""

    clients: Clients
    functions: StackFunctions
    account: str
    region: str
    stack_name: str

    def arn(self, service: str, resource: str) -> str:
        """Return an ARN of this account."""
        return f"arn:aws:{service}:{'' if service == 'iam' else self.region}:{self.account}:{resource}"


def _table(site: ResourceSite, logical_id: str, properties: Properties) -> Made:
    name = properties.get("TableName") or f"{site.stack_name}-{logical_id}"
    indexes = properties.get("GlobalSecondaryIndexes")
    answer = site.clients.get("dynamodb").create_table(
        TableName=name,
        KeySchema=properties["KeySchema"],
        AttributeDefinitions=properties["AttributeDefinitions"],
        BillingMode=properties["BillingMode"],
        **({"GlobalSecondaryIndexes": indexes} if indexes else {}),
    )
    return Made(name, {"Arn": answer["TableDescription"]["TableArn"]})


def _topic(site: ResourceSite, logical_id: str, properties: Properties) -> Made:
    name = properties.get("TopicName") or f"{site.stack_name}-{logical_id}"
    arn = site.clients.get("sns").create_topic(Name=name)["TopicArn"]
    return Made(arn, {"TopicArn": arn, "TopicName": name})


def _queue(site: ResourceSite, logical_id: str, properties: Properties) -> Made:
    name = properties.get("QueueName") or f"{site.stack_name}-{logical_id}"
    retention = str(properties.get("MessageRetentionPeriod", 345_600))
    answer = site.clients.get("sqs").create_queue(QueueName=name, Attributes={"MessageRetentionPeriod": retention})
    return Made(answer["QueueUrl"], {"Arn": site.arn("sqs", name), "QueueName": name})


def _job_template(site: ResourceSite, _logical_id: str, properties: Properties) -> Made:
    name = properties["JobTemplateId"]
    optional = {
        "jobExecutionsRolloutConfig": _lower(properties.get("JobExecutionsRolloutConfig")),
        "timeoutConfig": _lower(properties.get("TimeoutConfig")),
    }
    answer = site.clients.get("iot").create_job_template(
        jobTemplateId=name,
        description=properties["Description"],
        document=properties["Document"],
        **{key: value for key, value in optional.items() if value},
    )
    return Made(name, {"Arn": answer["jobTemplateArn"]})


def _topic_rule(site: ResourceSite, _logical_id: str, properties: Properties) -> Made:
    name = properties["RuleName"]
    site.clients.get("iot").create_topic_rule(ruleName=name, topicRulePayload=rule_payload(properties))
    return Made(name, {"Arn": site.arn("iot", f"rule/{name}")})


def rule_payload(properties: Properties) -> dict[str, Any]:
    """Return a rule's payload as the API spells it."""
    payload: dict[str, Any] = _lower(properties["TopicRulePayload"])
    return payload


def _function(site: ResourceSite, logical_id: str, properties: Properties) -> Made:
    if not site.functions.runs(properties):
        return Made(logical_id, {"Arn": site.arn("lambda", f"function:{logical_id}")})
    name = properties["FunctionName"]
    environment = properties.get("Environment", {}).get("Variables", {})
    return Made(name, {"Arn": site.functions.create(name, environment, properties)})


def _sdk_call(site: ResourceSite, logical_id: str, properties: Properties) -> Made:
    """Make a custom resource of the CDK: one SDK call, whose answer's members are the attributes."""
    text = properties.get("Create") or properties["Update"]
    call = json.loads(text)
    client = site.clients.get(call["service"].lower())
    answer = getattr(client, xform_name(call["action"]))(**call.get("parameters", {}))
    attributes = {name: str(value) for name, value in answer.items() if isinstance(value, str)}
    return Made(logical_id, attributes)


def _parameter(site: ResourceSite, _logical_id: str, properties: Properties) -> Made:
    name = properties["Name"]
    texts = {key: properties[key] for key in ("Name", "Type", "Value", "Description", "Tier") if key in properties}
    site.clients.get("ssm").put_parameter(**texts, Overwrite=True)
    return Made(name, {"Type": properties["Type"], "Value": properties["Value"]})


def _lower(node: Any) -> Any:
    """Return the value with the API's member names (camelCase) in place of CloudFormation's (PascalCase)."""
    if isinstance(node, list):
        return [_lower(item) for item in node]
    if isinstance(node, Mapping):
        return {_API_NAMES.get(key, key[0].lower() + key[1:]): _lower(value) for key, value in node.items()}
    return node


_API_NAMES: Mapping[str, str] = {"ExponentialRolloutRate": "exponentialRate"}

PROVISIONERS: Mapping[str, Callable[[ResourceSite, str, Properties], Made]] = {
    "AWS::DynamoDB::Table": _table,
    "AWS::IoT::JobTemplate": _job_template,
    "AWS::IoT::TopicRule": _topic_rule,
    "AWS::Lambda::Function": _function,
    "AWS::SNS::Topic": _topic,
    "AWS::SQS::Queue": _queue,
    "AWS::SSM::Parameter": _parameter,
    "Custom::AWS": _sdk_call,
}

# Type → service and resource of the ARN that references get. None of these does anything here:
# the sandbox has no authorisation between services, no encryption at rest, no logs and no metrics.
STAND_INS: Mapping[str, tuple[str, str]] = {
    "AWS::CloudWatch::Alarm": ("cloudwatch", "alarm:"),
    "AWS::CloudWatch::Dashboard": ("cloudwatch", "dashboard/"),
    "AWS::Events::Rule": ("events", "rule/"),  # its schedule runs: schedules.py
    "AWS::IAM::Policy": ("iam", "policy/"),
    "AWS::IAM::Role": ("iam", "role/"),
    "AWS::KMS::Key": ("kms", "key/"),
    "AWS::Lambda::EventInvokeConfig": ("lambda", "function:"),
    "AWS::Lambda::Permission": ("lambda", "function:"),
    "AWS::Logs::LogGroup": ("logs", "log-group:"),
    "AWS::Logs::MetricFilter": ("logs", "metric-filter:"),
    "AWS::SNS::TopicPolicy": ("sns", ""),
    "AWS::SQS::QueuePolicy": ("sqs", ""),
}


def make(site: ResourceSite, logical_id: str, kind: str, properties: Properties) -> Made:
    """Make one resource; TemplateError for a type that the sandbox does not know."""
    if kind in PROVISIONERS:
        return PROVISIONERS[kind](site, logical_id, properties)
    if kind in STAND_INS:
        service, prefix = STAND_INS[kind]
        return Made(logical_id, {"Arn": site.arn(service, f"{prefix}{logical_id}")})
    raise TemplateError(f"{logical_id}: the sandbox does not have resources of type {kind}")
