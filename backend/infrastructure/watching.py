"""Alarms to the notification topic, and one dashboard."""

from __future__ import annotations

from collections.abc import Sequence

from aws_cdk import Duration
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_cloudwatch_actions as actions
from aws_cdk import aws_logs as logs
from constructs import Construct

from .function import HandlerFunction
from .settings import StackSettings
from .storage import Storage

PERIOD = Duration.minutes(5)
REJECTIONS_TOLERATED = 5  # of devices and causes that are new today, per function and period
NAMESPACE, RUNS = "certfleet", "ReconcileRuns"  # of the metric that is written by .github/workflows/reconcile.yml
ANSWERING = {"CreateCertificate", "CommitCertificate"}
OLDEST_TOLERATED = Duration.hours(26)  # a person is told after a day (backend/functions/verdicts.py)


class Watching(Construct):
    """The watched metrics: errors, throttles and rejections of each function, and failed events."""

    def __init__(
        self, scope: Construct, settings: StackSettings, storage: Storage, functions: Sequence[HandlerFunction]
    ) -> None:
        super().__init__(scope, "Watching")
        self._settings = settings
        self._action = actions.SnsAction(storage.topic)
        widgets: list[cloudwatch.IWidget] = []
        for handler in functions:
            function = handler.function
            name = handler.node.id
            errors = function.metric_errors(period=PERIOD, statistic="Sum")
            shown = [function.metric_invocations(period=PERIOD), errors]
            shown.append(function.metric_throttles(period=PERIOD, statistic="Sum"))
            self._alarm(f"{name}Errors", errors, 1, "the function failed: see its log and the dead-letter queue")
            if name in ANSWERING:
                rejections = self._rejections(name, handler.log_group)
                tolerated = REJECTIONS_TOLERATED + 1
                self._alarm(
                    f"{name}Rejections",
                    rejections,
                    tolerated,
                    "several devices, or causes, are rejected: see the codes",
                )
                shown.append(rejections)
            duration = [function.metric_duration(period=PERIOD, statistic="p99")]
            widgets.append(cloudwatch.GraphWidget(title=name, left=shown, right=duration))
        depth = storage.dead_letters.metric_approximate_number_of_messages_visible(period=PERIOD, statistic="Maximum")
        self._alarm("DeadLetters", depth, 1, "events were given up: a certificate may be left over")
        widgets.append(cloudwatch.GraphWidget(title="Dead letters", left=[depth]))
        widgets.append(self._open_rotations(functions[-1]))
        if settings.github_repository:
            self._loop_in_ci(settings.github_repository)
        rows = [widgets[start : start + 2] for start in range(0, len(widgets), 2)]
        cloudwatch.Dashboard(self, "Dashboard", dashboard_name=settings.stack_name, widgets=rows)

    def _open_rotations(self, sweep: HandlerFunction) -> cloudwatch.GraphWidget:
        """Return what each sweep reports: how many rotations are open, and the age of the oldest."""
        count, oldest = (self._reported(sweep, field) for field in ("open", "oldest_seconds"))
        meaning = "a rotation has been undecided for longer than a day: see its notification"
        self._alarm("OldestRotation", oldest, OLDEST_TOLERATED.to_seconds(), meaning)
        runs = sweep.function.metric_invocations(period=Duration.hours(1), statistic="Sum")
        self._alarm("SweepSilent", runs, 1, "no sweep has run for an hour: see the schedule", is_silence=True)
        return cloudwatch.GraphWidget(title="Open rotations", left=[count], right=[oldest])

    def _loop_in_ci(self, repository: str) -> None:
        """Add an alarm for a loop that falls silent, because GitHub ends schedules by itself and notifies nobody."""
        runs = cloudwatch.Metric(
            namespace=NAMESPACE,
            metric_name=RUNS,
            dimensions_map={"Repository": repository},
            period=Duration.hours(6),
            statistic="Sum",
        )
        meaning = "no run of the workflow reconcile has looked at all fleets for six hours: see Actions in GitHub"
        self._alarm("LoopSilent", runs, 1, meaning, is_silence=True)

    def _reported(self, sweep: HandlerFunction, field: str) -> cloudwatch.Metric:
        name = "".join(part.capitalize() for part in field.split("_"))
        return logs.MetricFilter(
            self,
            f"Sweep{name}Filter",
            log_group=sweep.log_group,
            filter_pattern=logs.FilterPattern.string_value("$.decision", "=", "swept"),
            metric_namespace=self._settings.stack_name,
            metric_name=f"Sweep{name}",
            metric_value=f"$.{field}",
        ).metric(period=Duration.minutes(15), statistic="Maximum")

    def _rejections(self, name: str, log_group: logs.LogGroup) -> cloudwatch.Metric:
        return logs.MetricFilter(
            self,
            f"{name}RejectionFilter",
            log_group=log_group,
            filter_pattern=logs.FilterPattern.all(
                logs.FilterPattern.string_value("$.decision", "=", "rejected"),
                logs.FilterPattern.string_value("$.distinct", "=", "yes"),
            ),
            metric_namespace=self._settings.stack_name,
            metric_name=f"{name}Rejections",
            metric_value="1",
            default_value=0,
        ).metric(period=PERIOD, statistic="Sum")

    def _alarm(
        self, name: str, metric: cloudwatch.IMetric, threshold: float, meaning: str, *, is_silence: bool = False
    ) -> None:
        """Add an alarm from the threshold on; with ``is_silence``, below the threshold and if there is no figure."""
        more, less = (
            cloudwatch.ComparisonOperator.GREATER_THAN_OR_EQUAL_TO_THRESHOLD,
            cloudwatch.ComparisonOperator.LESS_THAN_THRESHOLD,
        )
        missing = cloudwatch.TreatMissingData
        alarm = cloudwatch.Alarm(
            self,
            name,
            alarm_name=f"{self._settings.stack_name}{name}",
            alarm_description=meaning,
            metric=metric,
            threshold=threshold,
            evaluation_periods=1,
            comparison_operator=less if is_silence else more,
            treat_missing_data=missing.BREACHING if is_silence else missing.NOT_BREACHING,
        )
        alarm.add_alarm_action(self._action)
