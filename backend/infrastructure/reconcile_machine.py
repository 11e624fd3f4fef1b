"""The state machine of the reconcile loop, for more fleets than one function reads in time.

Two machines: one reads the fleets side by side, sums up and ends; the other waits for a person, who may permit one
refused plan, and then applies that plan. They are apart, so that a question that nobody answers holds up no run. Both
pass on names only (controller/aws_states.py). Both are Standard: a task runs once, unless its definition repeats it.
"""

from __future__ import annotations

import json
from typing import Any

from aws_cdk import Aws, Duration, RemovalPolicy, Stack
from aws_cdk import aws_cloudwatch as cloudwatch
from aws_cdk import aws_iam as iam
from aws_cdk import aws_lambda as lambda_
from aws_cdk import aws_logs as logs
from aws_cdk import aws_stepfunctions as sfn
from constructs import Construct

from .grants import Grants, attach

QUESTION_SECONDS = 24 * 3600  # until a question expires; the next run asks anew
RUN_SECONDS = 3 * 24 * 3600  # longer than one fleet is given functions (controller/aws_states.py)
FUNCTION_SECONDS = 15 * 60 + 30  # what a function lives, and a little
WORKER, INVOKE = "${Worker}", "arn:${Partition}:states:::lambda:invoke"  # filled in by CloudFormation

State = dict[str, Any]

# What Lambda itself answers while it has no room, or is being changed. Nothing has run then.
_BUSY = {
    "ErrorEquals": [
        "Lambda.ClientExecutionTimeoutException",
        "Lambda.ServiceException",
        "Lambda.AWSLambdaException",
        "Lambda.SdkClientException",
        "Lambda.TooManyRequestsException",
    ],
    "IntervalSeconds": 5,
    "BackoffRate": 2,
    "MaxDelaySeconds": 300,
    "MaxAttempts": 20,
    "JitterStrategy": "FULL",
}
# A function says what failed as its answer; one that raises was ended from outside. Its lease is its own run's.
_KILLED = {"ErrorEquals": ["States.ALL"], "IntervalSeconds": 5, "MaxAttempts": 1}


def of_fleets(concurrency: int) -> State:
    """Return the definition of a run: fleets from the bundle → a child for each → summary.

    The run fails if the summary counts a failure. ``concurrency`` is how many children run at once.
    """
    of_run = {"run.$": "$$.Execution.Name", "started.$": "$$.Execution.StartTime"}
    item = {**of_run, "fleet.$": "$$.Map.Item.Value", "bundle.$": "$.bundle", "last": {"rounds": 0}}
    names = ("run", "started", "fleet", "bundle")
    return {
        "Comment": "certfleet: fleets of the bundle, one child each, then the summary",
        "StartAt": "Fleets",
        "TimeoutSeconds": RUN_SECONDS,
        "States": {
            "Fleets": _task("fleets", {}, {"fleets.$": "$.Payload.fleets", "bundle.$": "$.Payload.bundle"}, "Each"),
            "Each": {
                "Type": "Map",
                "ItemsPath": "$.fleets",
                "ItemSelector": item,
                "MaxConcurrency": concurrency,
                "ToleratedFailurePercentage": 100.0,  # the summary decides
                "ItemProcessor": {
                    "ProcessorConfig": {"Mode": "DISTRIBUTED", "ExecutionType": "STANDARD"},
                    "StartAt": "Fleet",
                    "States": _one_fleet({f"{name}.$": f"$.{name}" for name in names}),
                },
                "ResultPath": None,
                "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": "$.error", "Next": "Summary"}],
                "Next": "Summary",
            },
            "Summary": _task(
                "summary",
                {**of_run, "fleets.$": "$.fleets", "bundle.$": "$.bundle"},
                {"failed.$": "$.Payload.failed", "left.$": "$.Payload.left", "asked.$": "$.Payload.asked"},
                "Judge",
            ),
            "Judge": {
                "Type": "Choice",
                "Choices": [{"Variable": "$.failed", "NumericGreaterThan": 0, "Next": "Failed"}],
                "Default": "Done",
            },
            "Failed": {"Type": "Fail", "Error": "FleetsFailed", "Cause": "The log of the function names each."},
            "Done": {"Type": "Succeed"},
        },
    }


def of_question() -> State:
    """Return the definition of a question: ask, wait, apply what was permitted."""
    given = {f"{name}.$": f"$.{name}" for name in ("fleet", "bundle", "plan")}
    share = {**given, "run.$": "$$.Execution.Name", "started.$": "$$.Execution.StartTime", "by.$": "$.answer.by"}
    return {
        "Comment": "certfleet: asks a person about one refused plan, and applies that plan if they permit it",
        "StartAt": "Ask",
        "TimeoutSeconds": QUESTION_SECONDS + RUN_SECONDS,
        "States": {
            "Ask": {
                "Type": "Task",
                "Resource": f"{INVOKE}.waitForTaskToken",
                "Parameters": {
                    "FunctionName": WORKER,
                    "Payload": {**given, "task": "ask", "token.$": "$$.Task.Token", "seconds": QUESTION_SECONDS},
                },
                "TimeoutSeconds": QUESTION_SECONDS,
                "ResultPath": "$.answer",
                "Retry": [_BUSY],
                "Catch": [{"ErrorEquals": ["States.Timeout"], "ResultPath": None, "Next": "Expired"}],
                "Next": "Permitted",
            },
            "Permitted": {"Type": "Pass", "Result": {"rounds": 0}, "ResultPath": "$.last", "Next": "Fleet"},
            **_one_fleet(share),
            "Expired": {"Type": "Succeed"},
        },
    }


def _one_fleet(share: State) -> dict[str, State]:
    """Return the states of a fleet's child, which invokes the function until the fleet is whole.

    The outcome lies in the bucket.
    """
    answer = {f"{name}.$": f"$.Payload.{name}" for name in ("again", "wait", "rounds")}
    task = _task("fleet", {**share, "rounds.$": "$.last.rounds"}, answer, "Whole")
    return {
        "Fleet": {
            **task,
            "ResultPath": "$.last",
            "Retry": [_BUSY, _KILLED],
            "Catch": [{"ErrorEquals": ["States.ALL"], "ResultPath": None, "Next": "Told"}],
        },
        "Whole": {
            "Type": "Choice",
            "Choices": [{"Variable": "$.last.again", "BooleanEquals": True, "Next": "Wait"}],
            "Default": "Told",
        },
        "Wait": {"Type": "Wait", "SecondsPath": "$.last.wait", "Next": "Fleet"},
        "Told": {"Type": "Pass", "Result": {}, "End": True},
    }


def _task(name: str, payload: State, answer: State, following: str) -> State:
    return {
        "Type": "Task",
        "Resource": INVOKE,
        "Parameters": {"FunctionName": WORKER, "Payload": {"task": name, **payload}},
        "ResultSelector": answer,
        "TimeoutSeconds": FUNCTION_SECONDS,
        "Retry": [_BUSY],
        "Next": following,
    }


class Machine(Construct):
    """One state machine with its role and log, which invokes one function."""

    def __init__(
        self, scope: Construct, name: str, definition: State, grants: Grants, worker: lambda_.IFunction
    ) -> None:
        super().__init__(scope, name.removeprefix("Reconcile"))
        self.name = f"{Stack.of(scope).stack_name}{name}"
        self.role = iam.Role(self, "Role", assumed_by=iam.ServicePrincipal("states.amazonaws.com"))
        executions = [f"states:execution:{self.name}:*", f"states:execution:{self.name}/*:*"]
        own = [
            Grants.on_arns([worker.function_arn], "lambda:InvokeFunction"),
            # The children of a distributed map are executions of the same machine.
            grants.on(f"states:stateMachine:{self.name}", "states:StartExecution"),
            grants.on(executions, "states:DescribeExecution", "states:StopExecution"),
        ]
        attach(self.role, own if "Each" in definition["States"] else own[:1])
        log = logs.LogGroup(
            self,
            "Log",
            log_group_name=f"/aws/vendedlogs/states/{self.name}",
            retention=logs.RetentionDays.THREE_MONTHS,
            removal_policy=RemovalPolicy.DESTROY,
        )
        self.machine = sfn.StateMachine(
            self,
            "Machine",
            state_machine_name=self.name,
            definition_body=sfn.DefinitionBody.from_string(json.dumps(definition)),
            definition_substitutions={"Worker": worker.function_arn, "Partition": Aws.PARTITION},
            role=self.role,
            # Without data: the token of a task that waits is a secret.
            logs=sfn.LogOptions(destination=log, level=sfn.LogLevel.ALL, include_execution_data=False),
        )

    def broken(self) -> cloudwatch.MathExpression:
        """Return the number of executions that failed or took too long, as a metric."""
        period = Duration.minutes(5)
        metrics = {
            "failed": self.machine.metric_failed(period=period, statistic="Sum"),
            "late": self.machine.metric_timed_out(period=period, statistic="Sum"),
        }
        return cloudwatch.MathExpression(expression="failed + late", using_metrics=metrics, period=period)
