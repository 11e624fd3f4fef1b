"""Alarms to the notification topic, and one dashboard."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_logs as logs
from constructs import Construct

from .function import HandlerFunction
from .settings import Settings
from .storage import Storage

PERIOD = Duration.minutes(5)
REJECTIONS_TOLERATED = 5  # per function and period; a device whose job timed out may ask once too late


class Watching(Construct):
    """What is watched: errors, throttles and rejections of each function, and failed events."""

    def __init__(
        self, scope: Construct, settings: Settings, storage: Storage, functions: Sequence[HandlerFunction]
    ) -> None:
        super().__init__(scope, "Watching")
        self._settings = settings
        self._action = actions.SnsAction(storage.topic)
        widgets: list[cloudwatch.IWidget] = []
        for handler in functions:
            function = handler.function
            name = handler.node.id
            rejections = self._rejections(name, handler.log_group)
            errors = function.metric_errors(period=PERIOD, statistic="Sum")
            throttles = function.metric_throttles(period=PERIOD, statistic="Sum")
            self._alarm(f"{name}Errors", errors, 1, "the function failed: see its log and the dead-letter queue")
            self._alarm(
                f"{name}Rejections", rejections, REJECTIONS_TOLERATED + 1, "devices are rejected: see the codes"
            )
            widgets += [
                cloudwatch.GraphWidget(
                    title=name,
                    left=[function.metric_invocations(period=PERIOD), errors, throttles, rejections],
                    right=[function.metric_duration(period=PERIOD, statistic="p99")],
                )
            ]
        depth = storage.dead_letters.metric_approximate_number_of_messages_visible(period=PERIOD, statistic="Maximum")
        self._alarm("DeadLetters", depth, 1, "events were given up: a certificate may be left over")
        widgets.append(cloudwatch.GraphWidget(title="Dead letters", left=[depth]))
        cloudwatch.Dashboard(self, "Dashboard", dashboard_name=settings.stack_name, widgets=[widgets[:2], widgets[2:]])

    def _rejections(self, name: str, log_group: logs.LogGroup) -> cloudwatch.Metric:
        return logs.MetricFilter(
            self,
            f"{name}RejectionFilter",
            log_group=log_group,
            filter_pattern=logs.FilterPattern.string_value("$.decision", "=", "rejected"),
            metric_namespace=self._settings.stack_name,
            metric_name=f"{name}Rejections",
            metric_value="1",
            default_value=0,
        ).metric(period=PERIOD, statistic="Sum")

    def _alarm(self, name: str, metric: cloudwatch.IMetric, threshold: int, meaning: str) -> None:
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_name=f"{self._settings.stack_name}{name}",
            alarm_description=meaning,
            metric=metric,
            threshold=threshold,
            evaluation_periods=1,
            comparison_operator=cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            treat_missing_data=cloudwatch.TreatMissingData.NOT_BREACHING,
        )
        alarm.add_alarm_action(self._action)
