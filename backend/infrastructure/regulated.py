"""The demands of regulated users on a stack, turned on by context and applied to every resource of its kind.

An own KMS key for whatever is stored, a permissions boundary, tags, a VPC, reserved concurrency, the retention of
logs. None is on by default: each costs money, needs something of the account, or both (docs/backend.md).
"""

from __future__ import annotations

import jsii
from aws_cdk import Aspects, IAspect, Stack, Tags
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from constructs import IConstruct

from .settings import StackSettings

HANDLERS = ("backend.functions.", "controller.aws_lambda.", "controller.aws_states.")
NETWORK = (
    "ec2:AssignPrivateIpAddresses",
    "ec2:CreateNetworkInterface",
    "ec2:DeleteNetworkInterface",
    "ec2:DescribeNetworkInterfaces",
    "ec2:DescribeSubnets",
    "ec2:UnassignPrivateIpAddresses",
)
"""Rights that Lambda needs of a function's role to connect it to a VPC; EC2 knows no narrower resource beforehand."""


def apply(stack: Stack, settings: StackSettings, key: kms.Key) -> None:
    """Turn on what the context asks for."""
    if settings.own_key:
        key.grant(
            _logs_of(stack), "kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey*", "kms:ReEncrypt*"
        )
    if settings.permissions_boundary:
        boundary = iam.ManagedPolicy.from_managed_policy_arn(stack, "Boundary", settings.permissions_boundary)
        iam.PermissionsBoundary.of(stack).apply(boundary)
    for name, value in settings.tags.items():
        Tags.of(stack).add(name, value)
    Aspects.of(stack).add(Regulated(settings, key))


def statements(settings: StackSettings, key: kms.IKey) -> list[iam.PolicyStatement]:
    """Return the statements that a function's role needs for what is turned on; ``key`` is the KMS key of the stack."""
    found = []
    if settings.own_key:
        use = ["kms:Decrypt", "kms:DescribeKey", "kms:Encrypt", "kms:GenerateDataKey"]
        found.append(iam.PolicyStatement(actions=use, resources=[key.key_arn]))
    if settings.subnet_ids:
        found.append(iam.PolicyStatement(actions=list(NETWORK), resources=["*"]))
    return found


@jsii.implements(IAspect)
class Regulated:
    """Sets the properties of log groups, functions and the table; the CDK's own function is left as it is."""

    def __init__(self, settings: StackSettings, key: kms.IKey) -> None:
        self._settings, self._key = settings, key

    def visit(self, node: IConstruct) -> None:
        """Apply the demands to one construct; the CDK calls this for every construct of the stack."""
        settings = self._settings
        if isinstance(node, logs.CfnLogGroup):
            node.retention_in_days = settings.log_retention_days or node.retention_in_days
            node.kms_key_id = self._key.key_arn if settings.own_key else node.kms_key_id
        elif isinstance(node, dynamodb.CfnTable) and settings.own_key:
            node.sse_specification = dynamodb.CfnTable.SSESpecificationProperty(
                sse_enabled=True, sse_type="KMS", kms_master_key_id=self._key.key_arn
            )
        elif isinstance(node, lambda_.CfnFunction) and str(node.handler).startswith(HANDLERS):
            self._function(node)

    def _function(self, node: lambda_.CfnFunction) -> None:
        settings = self._settings
        if settings.own_key:
            node.kms_key_arn = self._key.key_arn
        if settings.subnet_ids:
            node.vpc_config = lambda_.CfnFunction.VpcConfigProperty(
                subnet_ids=settings.subnet_ids.split(), security_group_ids=settings.security_group_ids.split()
            )
        if settings.reserved_concurrency and node.reserved_concurrent_executions is None:
            node.reserved_concurrent_executions = settings.reserved_concurrency


def _logs_of(stack: Stack) -> iam.PrincipalBase:
    """Return CloudWatch Logs as a principal, on behalf of this account's log groups."""
    groups = f"arn:{stack.partition}:logs:{stack.region}:{stack.account}:log-group:*"
    return iam.ServicePrincipal(f"logs.{stack.region}.amazonaws.com").with_conditions(
        {"ArnLike": {"kms:EncryptionContext:aws:logs:arn": groups}}
    )
