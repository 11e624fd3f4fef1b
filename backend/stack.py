"""The backend as one CloudFormation stack.

The sandbox runs the template that this makes, so nothing about the backend is declared twice.
"""

from __future__ import annotations

from typing import Any

from aws_cdk import CfnOutput, Duration, Stack
from aws_cdk import aws_events as events
from aws_cdk import aws_events_targets as targets
from aws_cdk import aws_iot as iot
from aws_cdk import aws_lambda as lambda_
from constructs import Construct

from backend.functions.sweep import EVERY
from protocol.job_document import STOCK_DOCUMENT, JobDocument

from .infrastructure import regulated, rules
from .infrastructure.access import Access, default_ca_arn
from .infrastructure.access_controller import reading, rotating
from .infrastructure.account import AccountSetup
from .infrastructure.acknowledged import acknowledge
from .infrastructure.fleet_roles import FleetRoles
from .infrastructure.forge_roles import ForgeRoles
from .infrastructure.function import FunctionProps, HandlerFunction
from .infrastructure.grants import Grants
from .infrastructure.job_watch import JobWatch
from .infrastructure.published import publish_deployment
from .infrastructure.reconcile import BUNDLE_KEY, Reconcile
from .infrastructure.settings import StackSettings
from .infrastructure.storage import Storage
from .infrastructure.watching import Watching

CREATE_TIMEOUT = 20  # seconds; a private CA takes one or two, a device waits thirty


class BackendStack(Stack):
    """Functions, rules, table, job template, notifications, alarms, access."""

    def __init__(
        self,
        scope: Construct,
        settings: StackSettings,
        code: lambda_.Code,
        reconcile_code: lambda_.Code | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            scope,
            settings.stack_name,
            description="certfleet backend: issues, proves and cleans up certificates of AWS IoT devices",
            analytics_reporting=False,
            **kwargs,
        )
        self._settings = settings
        self._code = code
        self._grants = Grants(self)
        self._storage = Storage(self, settings)
        self._access = Access(self._grants, settings, self._storage.table.table_arn)
        self._account = AccountSetup(self)
        functions = self._functions()
        self._rules(*functions[:3])
        self._schedule(functions[3])
        self._job_template()
        publish_deployment(self, settings)
        Watching(self, settings, self._storage, functions)
        self._reading = reading(self._grants, settings, self._storage)
        FleetRoles(self, self._grants, settings, self._reading)
        forge = (
            ForgeRoles(self, self._grants, settings, self._storage, self._reading)
            if settings.forge_repository
            else None
        )
        reconcile = self._reconcile(reconcile_code, forge)
        makers = [made.role for made in (reconcile,) if made] + [made.reconcile for made in (forge,) if made]
        if makers:
            JobWatch(self, self._storage, makers)
        self._outputs(reconcile)
        regulated.apply(self, settings, self._storage.key)
        acknowledge(self, settings)

    def _functions(self) -> tuple[HandlerFunction, HandlerFunction, HandlerFunction, HandlerFunction]:
        names, access = self._settings.names, self._access
        # A device repeats create and commit by itself, so Lambda need not; nobody else repeats an ended execution.
        create = FunctionProps(names.create_function, "create_certificate", CREATE_TIMEOUT, 0, 60, access.create())
        commit = FunctionProps(names.commit_function, "commit_certificate", 15, 0, 60, access.commit())
        # Each connection of each device of the account is a run: Lambda's own lines would cost more than that.
        ended = FunctionProps(
            names.terminal_function, "job_execution_terminal", 60, 2, 6 * 3600, access.terminal(), logs_each_run=False
        )
        # Longer than it takes to visit all that a sweep visits; what is left over the next one does.
        sweep = FunctionProps(names.sweep_function, "sweep", 600, 0, 300, access.sweep())
        return self._function(create), self._function(commit), self._function(ended), self._function(sweep)

    def _schedule(self, sweep: HandlerFunction) -> None:
        events.Rule(
            self,
            "SweepSchedule",
            description="certfleet: brings to its end what no event has",
            enabled=self._settings.hears,  # who does not hear of connections must not judge by them
            schedule=events.Schedule.rate(Duration.minutes(int(EVERY.total_seconds() // 60))),
            targets=[targets.LambdaFunction(sweep.function, retry_attempts=0, max_event_age=Duration.minutes(5))],
        )

    def _function(self, props: FunctionProps) -> HandlerFunction:
        return HandlerFunction(
            self,
            props,
            code=self._code,
            environment=self._environment(),
            storage=self._storage,
            settings=self._settings,
        )

    def _environment(self) -> dict[str, str]:
        settings = self._settings
        return {
            "STACK_NAME": settings.stack_name,
            **({"REPLACES": settings.replaces} if settings.replaces else {}),
            "TABLE_NAME": self._storage.table.table_name,
            "SNS_TOPIC_ARN": self._storage.topic.topic_arn,
            "IOT_DATA_ENDPOINT": self._account.data_endpoint,
            "IOT_JOBS_ENDPOINT": self._account.jobs_endpoint,
            "AUTHORITIES": settings.authorities_json(),
            "PCA_CA_ARN": default_ca_arn(settings),
            "PCA_VALIDITY_IN_DAYS": str(settings.pca_validity_days),
            "PCA_SIGNING_ALGORITHM": settings.pca_signing_algorithm.value,
        }

    def _rules(self, create: HandlerFunction, commit: HandlerFunction, ended: HandlerFunction) -> None:
        names = self._settings.names
        topic_rules = rules.Rules(self, self._storage, enabled=self._settings.hears)
        topic_rules.add(names.create_function, "certfleet: create", rules.CREATE_SQL, create.function)
        topic_rules.add(names.commit_function, "certfleet: commit", rules.COMMIT_SQL, commit.function)
        topic_rules.add(names.terminal_function, "certfleet: ended", rules.TERMINAL_SQL, ended.function)
        topic_rules.add(names.presence_rule, "certfleet: connected", rules.PRESENCE_SQL, ended.function)

    def _job_template(self) -> None:
        """Make the template for rotations by hand; its description shows the controller that the backend is ours."""
        if dict(STOCK_DOCUMENT) != JobDocument().to_wire():  # the template stays usable by a stock component
            raise AssertionError("a job document that leaves everything open is the stock one")
        iot.CfnJobTemplate(
            self,
            "JobTemplate",
            job_template_id=self._settings.names.job_template,
            description="certfleet: rotates the certificate of each target device",
            document=JobDocument().to_json(),
            job_executions_rollout_config={
                "MaximumPerMinute": 100,
                "ExponentialRolloutRate": {
                    "BaseRatePerMinute": 100,
                    "IncrementFactor": 1.2,
                    "RateIncreaseCriteria": {"NumberOfSucceededThings": 100},
                },
            },
            timeout_config={"InProgressTimeoutInMinutes": 5},
        )

    def _reconcile(self, code: lambda_.Code | None, forge: ForgeRoles | None) -> Reconcile | None:
        """Return the loop as a function; None unless the context turns it on."""
        if not self._settings.reconcile:
            return None
        if code is None:
            raise ValueError("reconcile=true needs the code of the reconcile function")
        statements = [*self._reading, *rotating(self._grants, self._settings)]
        made = Reconcile(self, self._settings, self._storage, code=code, grants=self._grants, statements=statements)
        if forge is not None:
            made.allow_publishing(forge.reconcile)
        return made

    def _outputs(self, reconcile: Reconcile | None) -> None:
        names = self._settings.names
        values = {
            "JobTemplateId": names.job_template,
            "ShadowName": names.shadow,
            "RotationTable": self._storage.table.table_name,
            "NotificationTopicArn": self._storage.topic.topic_arn,
            "DeadLetterQueueUrl": self._storage.dead_letters.queue_url,
        }
        if reconcile is not None:
            values["BundleUrl"] = f"s3://{reconcile.bucket.bucket_name}/{BUNDLE_KEY}"
            values["ReconcileFunction"] = reconcile.function.function_name
            values["ReconcileFunctionRoleArn"] = reconcile.role.role_arn
        for name, value in values.items():
            CfnOutput(self, name, value=value)
