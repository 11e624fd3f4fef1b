"""The places in which a rotation is remembered, a person hears of it, and failed events go."""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy, Stack
from aws_cdk import aws_dynamodb as dynamodb
from aws_cdk import aws_iam as iam
from aws_cdk import aws_kms as kms
from aws_cdk import aws_sns as sns
from aws_cdk import aws_sqs as sqs
from constructs import Construct

from backend.functions.table import INDEX

from .settings import StackSettings


class Storage(Construct):
    """The rotation table, the notification topic and the dead-letter queue, all encrypted."""

    def __init__(self, scope: Construct, settings: StackSettings) -> None:
        super().__init__(scope, "Storage")
        # A key of our own, because CloudWatch alarms cannot publish to a topic under AWS' key for SNS.
        self.key = kms.Key(
            self,
            "Key",
            description=f"{settings.stack_name}: notifications and failed events",
            enable_key_rotation=True,
            removal_policy=RemovalPolicy.DESTROY,
        )
        self.key.grant(_alarms_of(self, settings), "kms:Decrypt", "kms:GenerateDataKey*")
        self.table = dynamodb.Table(
            self,
            "Rotations",
            partition_key=dynamodb.Attribute(name="thingName", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="record", type=dynamodb.AttributeType.STRING),
            billing_mode=dynamodb.BillingMode.PAY_PER_REQUEST,
            encryption=dynamodb.TableEncryption.AWS_MANAGED,
            point_in_time_recovery_specification=dynamodb.PointInTimeRecoverySpecification(
                point_in_time_recovery_enabled=True
            ),
            removal_policy=RemovalPolicy.RETAIN,  # it is the evidence
        )
        self.table.add_global_secondary_index(
            index_name=INDEX,
            partition_key=dynamodb.Attribute(name="phase", type=dynamodb.AttributeType.STRING),
            sort_key=dynamodb.Attribute(name="startedAt", type=dynamodb.AttributeType.STRING),
            projection_type=dynamodb.ProjectionType.KEYS_ONLY,
        )
        self.topic = sns.Topic(
            self,
            "Notification",
            topic_name=settings.names.notification_topic,
            display_name="AWS Labs Certificate Rotator Notification",
            master_key=self.key,
            enforce_ssl=True,
        )
        self.topic.add_to_resource_policy(
            iam.PolicyStatement(
                actions=["sns:Publish"],
                principals=[_alarms_of(self, settings)],
                resources=[self.topic.topic_arn],
            )
        )
        self.dead_letters = sqs.Queue(
            self,
            "DeadLetters",
            encryption=sqs.QueueEncryption.KMS,
            encryption_master_key=self.key,
            enforce_ssl=True,
            retention_period=Duration.days(14),
        )


def _alarms_of(scope: Construct, settings: StackSettings) -> iam.PrincipalBase:
    """Return CloudWatch as a principal, on behalf of this stack's alarms and of nobody else's."""
    stack = Stack.of(scope)
    alarms = f"arn:{stack.partition}:cloudwatch:{stack.region}:{stack.account}:alarm:{settings.stack_name}*"
    return iam.ServicePrincipal("cloudwatch.amazonaws.com").with_conditions(
        {"StringEquals": {"aws:SourceAccount": stack.account}, "ArnLike": {"aws:SourceArn": alarms}}
    )
