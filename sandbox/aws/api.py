"""One AWS service as an API: routes a request by the service's model to the method that answers it.

A handler is any object with methods named like boto3's (``describe_thing``) that take the parameters
as one dict and return the members of the answer, or a function that returns them and runs without the
cloud's lock. Operations that no handler has answer 501.
"""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

import botocore.session
from botocore import xform_name

from .errors import AwsError, UnsupportedError
from .exchange import HttpRequest, HttpResponse, json_error
from .site import Site, new_id
from .wire import RequestReader, rest_answer, to_wire

log = logging.getLogger(__name__)
Handler = Callable[[dict[str, Any]], Any]


@cache
def service_model(service: str) -> Any:
    """Return botocore's model of a service."""
    return botocore.session.Session().get_service_model(service)


@dataclass(frozen=True)
class Route:
    """How one operation looks in a URL."""

    operation: Any
    pattern: re.Pattern[str]
    literals: int  # path segments without a label: the more, the closer the match


class Routes:
    """Finds the operation of a rest-json request."""

    def __init__(self, model: Any) -> None:
        self._by_method: dict[str, list[Route]] = {}
        for name in model.operation_names:
            operation = model.operation_model(name)
            path = operation.http["requestUri"].partition("?")[0].rstrip("/") or "/"
            route = Route(operation, _path_pattern(path), sum("{" not in part for part in path.split("/")))
            self._by_method.setdefault(operation.http["method"], []).append(route)
        for routes in self._by_method.values():
            routes.sort(key=lambda route: -route.literals)

    def find(self, request: HttpRequest) -> tuple[Any, dict[str, str]] | None:
        """Return the operation and the labels of its path."""
        path = request.path.rstrip("/") or "/"
        for route in self._by_method.get(request.method, ()):
            match = route.pattern.fullmatch(path)
            if match:
                return route.operation, {n[1:].replace("__", "-"): v for n, v in match.groupdict().items()}
        return None


def _path_pattern(path: str) -> re.Pattern[str]:
    def label(match: re.Match[str]) -> str:
        name = match[1].replace("-", "__")
        return f"(?P<_{name}>.+)" if match[2] else f"(?P<_{name}>[^/]+)"

    return re.compile(re.sub(r"\\\{([\w-]+)(\+?)\\\}", label, re.escape(path).replace(r"\-", "-").replace(r"\+", "+")))


@cache
def routes_of(service: str) -> Routes:
    """Return the routes of a rest-json service."""
    return Routes(service_model(service))


class ServiceApi:
    """The API of one service; ``invalid_code`` is what the service calls a malformed request."""

    def __init__(self, service: str, site: Site, handlers: list[object], invalid_code: str) -> None:
        self.service = service
        self._model = service_model(service)
        self._site = site
        self._handlers = handlers
        self._reader = RequestReader(invalid_code)
        self._is_rest = self._model.protocol == "rest-json"

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Answer a request; every failure is an answer too."""
        try:
            operation, labels = self._find(request)
            method = self._method(operation.name)
            parameters = (
                self._reader.rest_json(operation, request, labels)
                if self._is_rest
                else self._reader.aws_json(operation, request)
            )
            return self._answer(operation, self._perform(method, parameters))
        except AwsError as error:
            return self._error(error)
        except UnsupportedError as error:
            return json_error(501, "NotImplemented", str(error))
        except Exception:
            log.exception("%s failed on %s %s", self.service, request.method, request.path)
            return json_error(500, "InternalFailure", f"the sandbox's {self.service} failed; its log shows why")

    def call(self, operation: str, parameters: dict[str, Any]) -> dict[str, Any]:
        """Carry out an operation that did not come over the wire; raises AwsError or UnsupportedError."""
        return self._perform(self._method(operation), parameters)

    def _perform(self, method: Handler, parameters: dict[str, Any]) -> dict[str, Any]:
        with self._site.transaction():
            result = method(parameters)
        if callable(result):  # work that must not hold the lock
            result = result()
        return result or {}

    def _find(self, request: HttpRequest) -> tuple[Any, dict[str, str]]:
        if self._is_rest:
            found = routes_of(self.service).find(request)
            if found is None:
                raise UnsupportedError(f"{self.service} has no operation at {request.method} {request.path}")
            return found
        name = request.headers.get("x-amz-target", "").partition(".")[2]
        if name not in self._model.operation_names:
            raise UnsupportedError(f"{self.service} has no operation {name!r}")
        return self._model.operation_model(name), {}

    def _method(self, operation: str) -> Handler:
        name = xform_name(operation)
        for handler in self._handlers:
            method = getattr(handler, name, None)
            if method is not None:
                return method  # type: ignore[no-any-return]  # found by name
        raise UnsupportedError(f"the sandbox does not have {self.service} {operation}; see docs/sandbox.md")

    def _answer(self, operation: Any, result: Mapping[str, Any]) -> HttpResponse:
        status = int(operation.http.get("responseCode", 200))
        headers = {"x-amzn-RequestId": new_id()}
        shape = operation.output_shape
        if shape is None:
            return HttpResponse(status, b"" if self._is_rest else b"{}", headers)
        if self._is_rest:
            body, more = rest_answer(shape, result)
            return HttpResponse(status, b"" if status == 204 else body, headers | more)  # noqa: PLR2004 (no content)
        body = json.dumps(to_wire(shape, result)).encode()
        return HttpResponse(status, body, headers | {"Content-Type": "application/x-amz-json-1.1"})

    def _error(self, error: AwsError) -> HttpResponse:
        shape = self._model.shape_for_error_code(error.code)
        status = int((shape.metadata.get("error") or {}).get("httpStatusCode", 400)) if shape else 400
        return json_error(status, error.code, error.message, error.members)
