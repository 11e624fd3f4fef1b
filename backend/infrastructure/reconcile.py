"""The reconcile loop as a function on a schedule; made only where the context says ``reconcile=true``.

The bucket has one writer per object: CI the bundle, the function everything below its prefix. One
run at a time; a run that fails is not repeated, for the next one is due soon.
"""

from __future__ import annotations

from aws_cdk import Duration, RemovalPolicy, Size
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from constructs import Construct

from . import regulated
from .access_controller import assuming
from .function import RUNTIME
from .grants import attach
from .settings import Settings
from .storage import Storage

BUNDLE_KEY = "desired-state.bundle"
STATE_PREFIX = "reconcile/"
TIMEOUT = Duration.minutes(15)  # the longest that Lambda gives; the function stops by itself before


class Reconcile(Construct):
    """Bucket, function, schedule and alarm."""

    def __init__(
        self,
        scope: Construct,
        settings: Settings,
        storage: Storage,
        *,
        code: lambda_.Code,
        statements: list[iam.PolicyStatement],
    ) -> None:
        super().__init__(scope, "Reconcile")
        self._settings, self._storage = settings, storage
        self.name = f"{settings.stack_name}Reconcile"
        self.bucket = self._bucket()
        self._log_group = logs.LogGroup(
            self,
            "Log",
            log_group_name=f"/aws/lambda/{self.name}",
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )
        self.role = self._role(statements)
        self.function = self._function(code, self.role)
        events.Rule(
            self,
            "Schedule",
            description="certfleet: reconcile",
            schedule=events.Schedule.rate(Duration.minutes(settings.reconcile_every_minutes)),
            targets=[targets.LambdaFunction(self.function, retry_attempts=0, max_event_age=Duration.minutes(5))],
        )
        self._alarms()

    def allow_publishing(self, role: iam.IRole) -> None:
        """Let CI replace the bundle, and sign it where it must be signed; nothing else in the bucket."""
        publish = [iam.PolicyStatement(actions=["s3:PutObject"], resources=[self.bucket.arn_for_objects(BUNDLE_KEY)])]
        if key := self._settings.reconcile_signing_key_arn:
            publish.append(iam.PolicyStatement(actions=["kms:Sign"], resources=[key]))
        attach(role, publish)

    def _bucket(self) -> s3.Bucket:
        return s3.Bucket(
            self,
            "Bucket",
            encryption=s3.BucketEncryption.S3_MANAGED,
            enforce_ssl=True,
            minimum_tls_version=1.2,
            block_public_access=s3.BlockPublicAccess.BLOCK_ALL,
            object_ownership=s3.ObjectOwnership.BUCKET_OWNER_ENFORCED,
            versioned=True,
            lifecycle_rules=[
                s3.LifecycleRule(
                    noncurrent_version_expiration=Duration.days(30),
                    abort_incomplete_multipart_upload_after=Duration.days(1),
                )
            ],
            removal_policy=RemovalPolicy.RETAIN,  # the record of the last bundle is what shows a replay
        )

    def _role(self, statements: list[iam.PolicyStatement]) -> iam.Role:
        role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        self._log_group.grant_write(role)
        attach(role, statements)
        state = self.bucket.arn_for_objects(f"{STATE_PREFIX}*")
        bundle = self.bucket.arn_for_objects(BUNDLE_KEY)
        own = [
            iam.PolicyStatement(actions=["s3:GetObject"], resources=[bundle, state]),
            iam.PolicyStatement(actions=["s3:PutObject"], resources=[state]),
            # Without it, S3 says of an object that is missing that access is denied.
            iam.PolicyStatement(actions=["s3:ListBucket"], resources=[self.bucket.bucket_arn]),
        ]
        if key := self._settings.reconcile_signing_key_arn:
            own.append(iam.PolicyStatement(actions=["kms:Verify"], resources=[key]))
        own += regulated.statements(self._settings, self._storage.key)
        attach(role, [*own, *assuming(self._settings.assumed_to_write)])
        self._storage.topic.grant_publish(role)
        return role

    def _function(self, code: lambda_.Code, role: iam.Role) -> lambda_.Function:
        return lambda_.Function(
            self,
            "Function",
            function_name=self.name,
            description="certfleet: reconciles the fleets with the desired state that CI published",
            runtime=RUNTIME,
            architecture=lambda_.Architecture.ARM_64,
            memory_size=1024,  # megabytes: a plan of 100,000 devices fits
            ephemeral_storage_size=Size.gibibytes(2),  # the inventory, and what SQLite writes beside it
            code=code,
            handler="controller.aws_lambda.handler",
            timeout=TIMEOUT,
            reserved_concurrent_executions=1,
            environment=self._environment(),
            role=role,
            log_group=self._log_group,
            retry_attempts=0,
            max_event_age=Duration.hours(1),
            on_failure=destinations.SqsDestination(self._storage.dead_letters),
        )

    def _environment(self) -> dict[str, str]:
        settings = self._settings
        found = {
            "CERTFLEET_BUCKET": self.bucket.bucket_name,
            "CERTFLEET_BUNDLE_KEY": BUNDLE_KEY,
            "CERTFLEET_STATE_PREFIX": STATE_PREFIX,
            "CERTFLEET_REPOSITORY": settings.bundle_repository,
            "CERTFLEET_TOPIC_ARN": self._storage.topic.topic_arn,
            "CERTFLEET_KMS_KEY_ARN": settings.reconcile_signing_key_arn,
            "CERTFLEET_FLEET": settings.reconcile_fleet,
            "CERTFLEET_QUOTA_FACTOR": f"{settings.reconcile_quota_factor:g}",
        }
        return {name: value for name, value in found.items() if value}

    def _alarms(self) -> None:
        less, more = (
            cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        )
        failed = self.function.metric_errors(period=Duration.minutes(5), statistic="Sum")
        self._alarm("Errors", failed, more, "a reconcile run failed: see its log, and the notification where it could")
        runs = self.function.metric_invocations(period=Duration.days(1), statistic="Sum")
        self._alarm("Silent", runs, less, "no reconcile run began for a day: see the schedule")

    def _alarm(
        self, name: str, metric: cloudwatch.Metric, operator: cloudwatch.ComparisonOperator, meaning: str
    ) -> None:
        is_silence = operator is cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_name=f"{self.name}{name}",
            alarm_description=meaning,
            metric=metric,
            threshold=1,
            evaluation_periods=1,
            comparison_operator=operator,
            treat_missing_data=(
                cloudwatch.TreatMissingData.BREACHING if is_silence else cloudwatch.TreatMissingData.NOT_BREACHING
            ),
        )
        alarm.add_alarm_action(actions.SnsAction(self._storage.topic))
