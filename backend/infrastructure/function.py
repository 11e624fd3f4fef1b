"""One Lambda function with its role and its log group."""

from __future__ import annotations

from dataclasses import dataclass

from aws_cdk import Duration, RemovalPolicy
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_logs as logs
from constructs import Construct

from . import regulated
from .grants import Grants, attach
from .settings import StackSettings
from .storage import Storage

RUNTIME = lambda_.Runtime.PYTHON_3_14


@dataclass(frozen=True)
class FunctionProps:
    """The differences between the functions."""

    name: str
    module: str  # of backend.functions
    timeout_seconds: int  # a create's lease is a little longer (backend/functions/rotation.py)
    retries: int
    oldest_event_seconds: int
    statements: list[iam.PolicyStatement]
    logs_each_run: bool = True  # Lambda's own lines, of runs that succeed too; the function's own are kept anyway


class HandlerFunction(Construct):
    """A function of the backend."""

    def __init__(
        self,
        scope: Construct,
        props: FunctionProps,
        *,
        code: lambda_.Code,
        environment: dict[str, str],
        storage: Storage,
        settings: StackSettings,
    ) -> None:
        super().__init__(scope, props.name.removeprefix(settings.stack_name))
        self.log_group = logs.LogGroup(
            self,
            "Log",
            log_group_name=f"/aws/lambda/{props.name}",
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        self.log_group.grant_write(role)
        attach(role, [*props.statements, *regulated.statements(settings, storage.key)])
        self.function = lambda_.Function(
            self,
            "Function",
            function_name=props.name,
            description=f"certfleet: {props.module}",
            runtime=RUNTIME,
            architecture=lambda_.Architecture.ARM_64,
            memory_size=256,
            code=code,
            handler=f"backend.functions.{props.module}.handler",
            timeout=Duration.seconds(props.timeout_seconds),
            environment=environment,
            role=role,
            log_group=self.log_group,
            logging_format=lambda_.LoggingFormat.JSON,
            system_log_level_v2=None if props.logs_each_run else lambda_.SystemLogLevel.WARN,
            retry_attempts=props.retries,
            max_event_age=Duration.seconds(props.oldest_event_seconds),
            on_failure=destinations.SqsDestination(storage.dead_letters),
        )
        attach(role, [Grants.on_arns([storage.table.table_arn], "dynamodb:GetItem", "dynamodb:PutItem")])
        storage.topic.grant_publish(role)
