"""Lambda functions that run in this process: state and operators' levers as on AWS, no containers.

``sandbox.stack`` registers what the template declares; each invocation sees the environment and the
reserved concurrency that the levers have set by then.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from .errors import AwsError, UnsupportedError
from .paging import answer, page
from .site import Site, new_id

log = logging.getLogger(__name__)
Invoke = Callable[[Any, Mapping[str, str]], Any]
"""``(event, environment) → result``; runs without the cloud's lock."""


class FunctionThrottledError(Exception):
    """The function's reserved concurrency is zero: an operator has stopped it."""


@dataclass(slots=True, eq=False)
class Function:
    """One function."""

    name: str
    invoke: Invoke
    environment: dict[str, str]
    modified_at: datetime
    properties: dict[str, Any] = field(default_factory=dict)  # Runtime, Handler, Timeout, MemorySize …
    reserved_concurrency: int | None = None
    revision: str = field(default_factory=new_id)


class LambdaService:
    """All functions, and the calls about them."""

    def __init__(self, site: Site) -> None:
        self._site = site
        self._by_name: dict[str, Function] = {}

    # -- for sandbox.stack

    def register(
        self, name: str, invoke: Invoke, environment: Mapping[str, str], properties: Mapping[str, Any] | None = None
    ) -> str:
        """Make or replace a function; returns its ARN."""
        with self._site.transaction():
            self._by_name[name] = Function(name, invoke, dict(environment), self._site.now(), dict(properties or {}))
            return self.arn(name)

    def run(self, name: str, event: Any) -> Any:
        """Invoke as an AWS service does; FunctionThrottledError if it is stopped."""
        with self._site.transaction():
            function = self._require(name)
            if function.reserved_concurrency == 0:
                raise FunctionThrottledError(name)
            environment = dict(function.environment)
        return function.invoke(event, environment)

    def handler_and_limit(self, name: str) -> tuple[str, float]:
        """Return the handler and the time limit in seconds, as they are now."""
        properties = self._require(name).properties
        return properties["Handler"], properties["Timeout"]

    def environment(self, name: str) -> dict[str, str]:
        """Return the environment as it is now."""
        return dict(self._require(name).environment)

    def arn(self, name: str) -> str:
        """Return the ARN of a function."""
        return self._site.arn(f"function:{name}", "lambda")

    # -- the API

    def get_function_configuration(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the configuration, with the environment."""
        return self._configuration(self._require(request["FunctionName"]))

    def get_function(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the same with concurrency; the code is this project's own."""
        function = self._require(request["FunctionName"])
        found: dict[str, Any] = {"Configuration": self._configuration(function)}
        if function.reserved_concurrency is not None:
            found["Concurrency"] = {"ReservedConcurrentExecutions": function.reserved_concurrency}
        return found

    def update_function_configuration(self, request: dict[str, Any]) -> dict[str, Any]:
        """Change environment, timeout or memory; the next invocation sees it."""
        function = self._require(request["FunctionName"])
        supported = ("FunctionName", "Environment", "Timeout", "MemorySize", "Description", "RevisionId")
        for name in request:
            if name not in supported:
                raise UnsupportedError(f"the sandbox does not support {name} of lambda UpdateFunctionConfiguration")
        if request.get("RevisionId") not in (None, function.revision):
            raise AwsError("PreconditionFailedException", "the function has another RevisionId by now")
        if "Environment" in request:
            function.environment = dict(request["Environment"].get("Variables", {}))
        function.properties |= {k: request[k] for k in ("Timeout", "MemorySize", "Description") if k in request}
        function.revision, function.modified_at = new_id(), self._site.now()
        return self._configuration(function)

    def list_functions(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the functions in name order."""
        found, marker = page(self._by_name.values(), lambda f: f.name, request, size="MaxItems", marker="Marker")
        return answer("Functions", [self._configuration(f) for f in found], marker, "NextMarker")

    def put_function_concurrency(self, request: dict[str, Any]) -> dict[str, Any]:
        """Zero stops the function, any other number lets it run."""
        function = self._require(request["FunctionName"])
        function.reserved_concurrency = request["ReservedConcurrentExecutions"]
        return {"ReservedConcurrentExecutions": function.reserved_concurrency}

    def get_function_concurrency(self, request: dict[str, Any]) -> dict[str, Any]:
        """Return the reserved concurrency that was put; nothing if there is none."""
        reserved = self._require(request["FunctionName"]).reserved_concurrency
        return {} if reserved is None else {"ReservedConcurrentExecutions": reserved}

    def delete_function_concurrency(self, request: dict[str, Any]) -> None:
        """Let the function run again."""
        self._require(request["FunctionName"]).reserved_concurrency = None

    def invoke(self, request: dict[str, Any]) -> dict[str, Any] | Callable[[], dict[str, Any]]:
        """Run the function, without the cloud's lock: its code calls the cloud."""
        function = self._require(request["FunctionName"])
        kind = request.get("InvocationType", "RequestResponse")
        if kind == "DryRun":
            return {"StatusCode": 204}
        if function.reserved_concurrency == 0:
            raise AwsError("TooManyRequestsException", f"{function.name} has a reserved concurrency of 0")
        payload = request.get("Payload") or b"null"
        try:
            event = json.loads(payload)
        except ValueError as error:
            raise AwsError("InvalidRequestContentException", f"the payload is not JSON: {error}") from None
        if kind == "Event":
            self._site.outbox.post(lambda: self._run_quietly(function.name, event))
            return {"StatusCode": 202}
        return lambda: self._answered(function, event)

    # -- inside

    def _answered(self, function: Function, event: Any) -> dict[str, Any]:
        try:
            result = function.invoke(event, dict(function.environment))
        except Exception as error:  # noqa: BLE001 (whatever the code raises is the answer, as on AWS)
            problem = {"errorType": type(error).__name__, "errorMessage": str(error)}
            return {"StatusCode": 200, "FunctionError": "Unhandled", "Payload": json.dumps(problem).encode(),
                    "ExecutedVersion": "$LATEST"}  # fmt: skip
        return {"StatusCode": 200, "Payload": json.dumps(result).encode(), "ExecutedVersion": "$LATEST"}

    def _run_quietly(self, name: str, event: Any) -> None:
        try:
            self.run(name, event)
        except Exception:
            log.exception("the function %s failed", name)

    def _require(self, name: str) -> Function:
        short = name.rpartition("function:")[2].partition(":")[0]
        if short not in self._by_name:
            raise AwsError("ResourceNotFoundException", f"Function not found: {self.arn(short)}")
        return self._by_name[short]

    def _configuration(self, function: Function) -> dict[str, Any]:
        known = ("Runtime", "Handler", "Timeout", "MemorySize", "Description", "Role")
        return {
            "FunctionName": function.name,
            "FunctionArn": self.arn(function.name),
            "Environment": {"Variables": dict(function.environment)},
            "LastModified": function.modified_at.strftime("%Y-%m-%dT%H:%M:%S.000+0000"),
            "RevisionId": function.revision,
            "State": "Active",
            "LastUpdateStatus": "Successful",
            "Version": "$LATEST",
            "PackageType": "Zip",
            **{key: function.properties[key] for key in known if key in function.properties},
        }
