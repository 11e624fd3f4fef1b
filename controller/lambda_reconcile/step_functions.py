"""The two calls to Step Functions: begin to ask a person, and give the run that asked their answer."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from botocore.exceptions import ClientError

from controller.errors import FleetError
from controller.fleet.aws_errors import FAILURES, explain

_GONE = frozenset({"TaskTimedOut", "TaskDoesNotExist", "InvalidToken"})


class StepFunctions:
    """The calls to Step Functions; raises FleetError if it refuses. ``client`` is a botocore client."""

    def __init__(self, client: Any) -> None:
        self._client = client

    def start(self, machine_arn: str, name: str, given: Mapping[str, Any]) -> bool:
        """Start an execution of a machine with what is ``given``; False if one of that name has been started before."""
        try:
            self._client.start_execution(stateMachineArn=machine_arn, name=name, input=json.dumps(given))
        except FAILURES as error:
            if _code(error) == "ExecutionAlreadyExists":
                return False
            raise self._explain(error, "StartExecution", "may start the state machine of the question") from error
        return True

    def succeed(self, token: str, output: Mapping[str, Any]) -> bool:
        """End the task that waits under a token with this output; False if it waits no more."""
        try:
            self._client.send_task_success(taskToken=token, output=json.dumps(output))
        except FAILURES as error:
            if _code(error) in _GONE:
                return False
            raise self._explain(error, "SendTaskSuccess", "may end the task of the question") from error
        return True

    def _explain(self, error: Exception, operation: str, permission: str) -> FleetError:
        region = f"region {self._client.meta.region_name}"
        found = explain(error, "states", operation, region)
        return FleetError(str(found), f"See that the function's role {permission}.")


def _code(error: Exception) -> str:
    return str(error.response.get("Error", {}).get("Code", "")) if isinstance(error, ClientError) else ""
