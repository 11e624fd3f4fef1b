"""The reconcile loop as a function on a schedule; made only if the context has ``reconcile=true``.

The bucket has one writer per object: CI writes the bundle, the function everything below its prefix. Only one run goes
on at a time; a run that fails is not repeated, because the next one is due soon. With ``ReconcileConcurrency`` a state
machine invokes the function, once for each fleet (reconcile_machine.py).
"""

from __future__ import annotations

from aws_cdk import CfnOutput, Duration, RemovalPolicy, Size, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_lambda_destinations as destinations
from aws_cdk import aws_logs as logs
from aws_cdk import aws_s3 as s3
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from . import regulated
from .access_controller import assuming
from .function import RUNTIME
from .grants import Grants, attach
from .reconcile_machine import Machine, of_fleets, of_question
from .settings import StackSettings
from .storage import Storage

BUNDLE_KEY = "desired-state.bundle"
STATE_PREFIX = "reconcile/"
QUESTIONS, PLANS = f"{STATE_PREFIX}questions/", f"{STATE_PREFIX}plans/"
BESIDES = 4  # functions that a state machine may need beside those of its fleets
FLEETS, QUESTION = "ReconcileFleets", "ReconcileQuestion"  # the state machines, after the stack's name
OF_THE_LOOP = ("CERTFLEET_TOPIC_ARN", "CERTFLEET_KMS_KEY_ARN", "CERTFLEET_QUESTION_MACHINE_ARN", "CERTFLEET_ANSWER_URL")
TIMEOUT = Duration.minutes(15)  # the longest that Lambda gives; the function stops by itself before


class Reconcile(Construct):
    """Bucket, function, schedule and alarm."""

    def __init__(
        self,
        scope: Construct,
        settings: StackSettings,
        storage: Storage,
        *,
        code: lambda_.Code,
        grants: Grants,
        statements: list[iam.PolicyStatement],
    ) -> None:
        super().__init__(scope, "Reconcile")
        self._settings, self._storage, self._grants, self._code = settings, storage, grants, code
        self.name = f"{settings.stack_name}Reconcile"
        self.bucket = self._bucket()
        self._log_group = self._log("Log", self.name)
        self.role = self._role(statements)
        self.answer_url = ""
        if self._at_once:
            self.answer_url = self._answering()
        self.function = self._function()
        self._schedule(self._machines() if self._at_once else None)
        self._alarms()

    def allow_publishing(self, role: iam.IRole) -> None:
        """Let CI replace the bundle, and sign it if it must be signed; nothing else in the bucket."""
        publish = [iam.PolicyStatement(actions=["s3:PutObject"], resources=[self.bucket.arn_for_objects(BUNDLE_KEY)])]
        if key := self._settings.reconcile_signing_key_arn:
            publish.append(iam.PolicyStatement(actions=["kms:Sign"], resources=[key]))
        attach(role, publish)

    def _log(self, node: str, name: str) -> logs.LogGroup:
        return logs.LogGroup(
            self,
            node,
            log_group_name=f"/aws/lambda/{name}",
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )

    def _schedule(self, machine: sfn.IStateMachine | None) -> None:
        target: events.IRuleTarget
        if machine is None:
            target = targets.LambdaFunction(self.function, retry_attempts=0, max_event_age=Duration.minutes(5))
        else:
            target = targets.SfnStateMachine(machine, retry_attempts=0, max_event_age=Duration.minutes(5))
        events.Rule(
            self,
            "Schedule",
            description="certfleet: reconcile",
            schedule=events.Schedule.rate(Duration.minutes(self._settings.reconcile_every_minutes)),
            targets=[target],
        )

    def _machines(self) -> sfn.IStateMachine:
        """Make the machine of the fleets and the one of questions, each with an alarm; return the first."""
        more = cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD
        fleets = Machine(self, FLEETS, of_fleets(self._at_once), self._grants, self.function)
        questions = Machine(self, QUESTION, of_question(), self._grants, self.function)
        self._alarm("Failed", fleets.broken(), more, "fleets failed in a run of the state machine: see its summary")
        self._alarm(
            "Unasked", questions.broken(), more, "what a person was asked or permitted could not be carried out"
        )
        return fleets.machine

    def _answering(self) -> str:
        """Make the function through which people ask and answer, each with their own credentials; return its URL."""
        name = f"{self.name}Answer"
        log = self._log("AnswerLog", name)
        role = iam.Role(self, "AnswerRole", assumed_by=iam.ServicePrincipal("lambda.amazonaws.com"))
        log.grant_write(role)
        own = [
            iam.PolicyStatement(
                actions=["s3:GetObject", "s3:PutObject"], resources=[self.bucket.arn_for_objects(f"{QUESTIONS}*")]
            ),
            iam.PolicyStatement(actions=["s3:ListBucket"], resources=[self.bucket.bucket_arn]),
            Grants.anywhere("states:SendTaskSuccess"),  # knows no resource
        ]
        attach(role, [*own, *regulated.statements(self._settings, self._storage.key)])
        function = lambda_.Function(
            self,
            "Answer",
            function_name=name,
            description="certfleet: shows and answers questions about refused plans",
            runtime=RUNTIME,
            architecture=lambda_.Architecture.ARM_64,
            memory_size=256,
            code=self._code,
            handler="controller.aws_states.answer",
            timeout=Duration.seconds(30),
            reserved_concurrent_executions=2,
            environment={name: value for name, value in self._environment().items() if name not in OF_THE_LOOP},
            role=role,
            log_group=log,
        )
        url = function.add_function_url(auth_type=lambda_.FunctionUrlAuthType.AWS_IAM)
        through_the_url = Grants.on_arns([function.function_arn], "lambda:InvokeFunction")
        # Whoever invokes a function directly says themselves who they are.
        through_the_url.add_condition("Bool", {"lambda:InvokedViaFunctionUrl": "true"})
        signed = Grants.on_arns([function.function_arn], "lambda:InvokeFunctionUrl")
        signed.add_condition("StringEquals", {"lambda:FunctionUrlAuthType": "AWS_IAM"})
        approvers = iam.ManagedPolicy(
            self,
            "Approvers",
            description="certfleet: may permit a plan that a guardrail refused",
            statements=[through_the_url, signed],
        )
        CfnOutput(Stack.of(self), "ReconcileAnswerUrl", value=url.url)
        CfnOutput(Stack.of(self), "ReconcileApproversPolicyArn", value=approvers.managed_policy_arn)
        return url.url

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
                ),
                *([s3.LifecycleRule(prefix=PLANS, expiration=Duration.days(7))] if self._at_once else []),
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
        if self._at_once:
            own.append(Grants.on_arns([self._question_arn], "states:StartExecution"))
        own += regulated.statements(self._settings, self._storage.key)
        attach(role, [*own, *assuming(self._settings.assumed_to_write)])
        self._storage.topic.grant_publish(role)
        return role

    @property
    def _at_once(self) -> int:
        return self._settings.reconcile_concurrency

    @property
    def _question_arn(self) -> str:
        return self._grants.arn(f"states:stateMachine:{self._settings.stack_name}{QUESTION}")

    def _function(self) -> lambda_.Function:
        return lambda_.Function(
            self,
            "Function",
            function_name=self.name,
            description="certfleet: reconciles the fleets with the desired state that CI published",
            runtime=RUNTIME,
            architecture=lambda_.Architecture.ARM_64,
            memory_size=1024,  # megabytes: a plan of 100,000 devices fits
            ephemeral_storage_size=Size.gibibytes(2),  # the inventory, and what SQLite writes beside it
            code=self._code,
            handler="controller.aws_states.handler" if self._at_once else "controller.aws_lambda.handler",
            timeout=TIMEOUT,
            reserved_concurrent_executions=self._at_once + BESIDES if self._at_once else 1,
            environment=self._environment(),
            role=self.role,
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
            "CERTFLEET_QUESTION_MACHINE_ARN": self._question_arn if self._at_once else "",
            "CERTFLEET_ANSWER_URL": self.answer_url,
        }
        return {name: value for name, value in found.items() if value}

    def _alarms(self) -> None:
        less, more = (
            cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
            cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
        )
        failed = self.function.metric_errors(period=Duration.minutes(5), statistic="Sum")
        self._alarm(
            "Errors", failed, more, "a reconcile run failed: see its log, and its notification if it could send one"
        )
        runs = self.function.metric_invocations(period=Duration.days(1), statistic="Sum")
        self._alarm("Silent", runs, less, "no reconcile run began for a day: see the schedule")

    def _alarm(
        self, name: str, metric: cloudwatch.IMetric, operator: cloudwatch.ComparisonOperator, meaning: str
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
