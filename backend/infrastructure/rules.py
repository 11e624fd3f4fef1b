"""The topic rules: which messages reach which function.

The first three are the standard protocol's. Of a device's message they select the members that its function reads, by
name, so that no member of the payload can stand in for what the rule itself knows. The rule for the ends of executions
selects all of them, because what a device wrote into one may not decide whether it is handled. The fourth rule brings
the presence events: which certificate a device connects with.
"""

from __future__ import annotations

from aws_cdk import aws_iam as iam
from aws_cdk import aws_iot as iot
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from .storage import Storage

SQL_VERSION = "2016-03-23"

_KNOWN = (
    "topic(3) AS thingName, topic() AS topic, clientid() AS clientId, principal() AS principal, "
    "timestamp() AS receivedAt"
)
CREATE_SQL = (
    "SELECT jobId AS jobId, csr AS csr, certificateId AS certificateId, "  # noqa: S608  # AWS IoT SQL over constants
    f"{_KNOWN} FROM 'awslabs/things/+/certificate/create'"
)
COMMIT_SQL = f"SELECT jobId AS jobId, {_KNOWN} FROM 'awslabs/things/+/certificate/commit'"  # noqa: S608  # as above
TERMINAL_SQL = "SELECT * FROM '$aws/events/jobExecution/#'"
PRESENCE_SQL = "SELECT * FROM '$aws/events/presence/connected/+'"


class Rules(Construct):
    """The rules of the backend; what a rule cannot deliver goes to the dead-letter queue."""

    def __init__(self, scope: Construct, storage: Storage, *, enabled: bool) -> None:
        super().__init__(scope, "Rules")
        self._storage = storage
        self._enabled = enabled
        self._error_role = iam.Role(self, "ErrorRole", assumed_by=iam.ServicePrincipal("iot.amazonaws.com"))
        storage.dead_letters.grant_send_messages(self._error_role)

    def add(self, name: str, description: str, sql: str, function: lambda_.Function) -> None:
        """Add one rule, with its ``description``, whose ``sql`` selects the messages that invoke one function."""
        rule = iot.CfnTopicRule(
            self,
            name,
            rule_name=name,
            topic_rule_payload=iot.CfnTopicRule.TopicRulePayloadProperty(
                description=description,
                aws_iot_sql_version=SQL_VERSION,
                sql=sql,
                rule_disabled=not self._enabled,
                actions=[
                    iot.CfnTopicRule.ActionProperty(
                        lambda_=iot.CfnTopicRule.LambdaActionProperty(function_arn=function.function_arn)
                    )
                ],
                error_action=iot.CfnTopicRule.ActionProperty(
                    sqs=iot.CfnTopicRule.SqsActionProperty(
                        queue_url=self._storage.dead_letters.queue_url,
                        role_arn=self._error_role.role_arn,
                        use_base64=False,
                    )
                ),
            ),
        )
        lambda_.CfnPermission(
            self,
            f"{name}Permission",
            action="lambda:InvokeFunction",
            function_name=function.function_name,
            principal="iot.amazonaws.com",
            source_arn=rule.attr_arn,
            source_account=function.stack.account,
        )
