"""Reading requests and writing answers by botocore's service models: rest-json and AWS JSON.

The same models that clients serialise by show us where each member stands (path, query, header,
body), its type, and the limits that AWS enforces (required, length, range, enum, pattern).
"""

from __future__ import annotations

import base64
import binascii
import json
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache
from typing import Any
from urllib.parse import parse_qs, unquote

from .errors import AwsError
from .exchange import HttpRequest


class RequestReader:
    """Turns HTTP requests into parameters; what the model forbids is an AwsError with ``invalid_code``."""

    def __init__(self, invalid_code: str) -> None:
        self._invalid_code = invalid_code

    def rest_json(self, operation: Any, request: HttpRequest, uri: Mapping[str, str]) -> dict[str, Any]:
        """Return the parameters of a rest-json request; ``uri`` holds the raw path labels."""
        shape = operation.input_shape
        if shape is None:
            return {}
        query = parse_qs(request.query, keep_blank_values=True)
        payload = shape.serialization.get("payload")
        in_body = self._body(request.body) if payload is None else {}
        found: dict[str, Any] = {}
        for name, member in shape.members.items():
            location = member.serialization.get("location")
            wire_name = member.serialization.get("name", name)
            if name == payload:
                found[name] = (
                    request.body if member.type_name == "blob" else self._value(member, self._body(request.body), name)
                )
            elif location == "uri":
                found[name] = self._text(member, unquote(uri[wire_name]), name)
            elif location == "querystring":
                if wire_name in query:
                    values = query[wire_name]
                    found[name] = values if member.type_name == "list" else self._text(member, values[0], name)
            elif location == "header":
                if wire_name.lower() in request.headers:
                    found[name] = self._text(member, request.headers[wire_name.lower()], name)
            elif in_body.get(wire_name) is not None:
                found[name] = self._value(member, in_body[wire_name], name)
        return self.checked(shape, found)

    def aws_json(self, operation: Any, request: HttpRequest) -> dict[str, Any]:
        """Return the parameters of an AWS JSON request."""
        shape = operation.input_shape
        return self.checked(shape, self._value(shape, self._body(request.body), "body")) if shape else {}

    def checked(self, shape: Any, value: dict[str, Any]) -> dict[str, Any]:
        """Return the value, if it keeps the model's limits."""
        problem = violation(shape, value, "")
        if problem:
            raise AwsError(self._invalid_code, f"1 validation error detected: {problem}")
        return value

    def _body(self, body: bytes) -> dict[str, Any]:
        if not body:
            return {}
        try:
            parsed = json.loads(body)
        except ValueError as error:
            raise AwsError(self._invalid_code, f"the body is not JSON: {error}") from None
        if not isinstance(parsed, dict):
            raise AwsError(self._invalid_code, f"the body is a JSON {type(parsed).__name__}, expected an object")
        return parsed

    def _text(self, shape: Any, text: str, path: str) -> Any:
        """Return a member that travels as text, outside the body."""
        try:
            match shape.type_name:
                case "boolean":
                    return {"true": True, "false": False}[text.lower()]
                case "integer" | "long":
                    return int(text)
                case "timestamp":
                    return _instant(text)
                case _:
                    return text
        except (KeyError, ValueError):
            raise self._wrong(shape, text, path) from None

    def _value(self, shape: Any, value: Any, path: str) -> Any:  # noqa: C901, PLR0911 (one arm per type)
        """Return a member of a JSON body; unknown members are left out, as AWS does."""
        try:
            match shape.type_name:
                case "structure" if isinstance(value, dict):
                    names = {m.serialization.get("name", n): (n, m) for n, m in shape.members.items()}
                    return {
                        names[k][0]: self._value(names[k][1], v, f"{path}.{k}")
                        for k, v in value.items()
                        if k in names and v is not None
                    }
                case "list" if isinstance(value, list):
                    return [self._value(shape.member, v, f"{path}[{i}]") for i, v in enumerate(value)]
                case "map" if isinstance(value, dict):
                    return {k: self._value(shape.value, v, f"{path}.{k}") for k, v in value.items()}
                case "string" | "character" if isinstance(value, str):
                    return value
                case "boolean" if isinstance(value, bool):
                    return value
                case "integer" | "long" if isinstance(value, int) and not isinstance(value, bool):
                    return value
                case "double" | "float" if isinstance(value, int | float) and not isinstance(value, bool):
                    return float(value)
                case "blob" if isinstance(value, str):
                    return base64.b64decode(value, validate=True)
                case "timestamp" if isinstance(value, int | float | str):
                    return _instant(value)
        except (binascii.Error, ValueError):
            pass
        raise self._wrong(shape, value, path)

    def _wrong(self, shape: Any, value: Any, path: str) -> AwsError:
        return AwsError(self._invalid_code, f"{path} is {value!r}, expected a {shape.type_name}")


def violation(shape: Any, value: Any, path: str) -> str | None:
    """Return the first limit of the model that the value breaks, in AWS's words; None if it keeps all."""
    match shape.type_name:
        case "structure":
            for name in shape.required_members:
                if value.get(name) in (None, ""):
                    return f"Value null at '{path}{name}' failed to satisfy constraint: Member must not be null"
            found = (violation(shape.members[n], v, f"{path}{n}.") for n, v in value.items())
        case "list":
            size = _out_of_range(shape, len(value), path, "Member must have length")
            if size:
                return size
            found = (violation(shape.member, v, f"{path}{i}.") for i, v in enumerate(value))
        case "map":
            found = (
                violation(s, v, f"{path}{k}.") for k, x in value.items() for s, v in ((shape.key, k), (shape.value, x))
            )
        case "string":
            return _text_violation(shape, value, path)
        case "integer" | "long" | "double" | "float":
            return _out_of_range(shape, value, path, "Member must have value")
        case _:
            return None
    return next((problem for problem in found if problem), None)


def _text_violation(shape: Any, value: str, path: str) -> str | None:
    at = f"Value '{value[:120]}' at '{path.rstrip('.')}' failed to satisfy constraint: "
    enum = shape.metadata.get("enum")
    if enum and value not in enum:
        return f"{at}Member must satisfy enum value set: [{', '.join(enum)}]"
    problem = _out_of_range(shape, len(value), path, "Member must have length")
    if problem:
        return problem
    pattern = _compiled(shape.metadata.get("pattern"))
    if pattern and not pattern.search(value):
        return f"{at}Member must satisfy regular expression pattern: {shape.metadata['pattern']}"
    return None


def _out_of_range(shape: Any, number: float, path: str, what: str) -> str | None:
    low, high = shape.metadata.get("min"), shape.metadata.get("max")
    where = f"Value at '{path.rstrip('.')}' failed to satisfy constraint: {what}"
    if low is not None and number < low:
        return f"{where} greater than or equal to {low}"
    if high is not None and number > high:
        return f"{where} less than or equal to {high}"
    return None


@cache
def _compiled(pattern: str | None) -> re.Pattern[str] | None:
    """Return the model's pattern, anchored; None if it uses character classes that only Java knows."""
    if pattern is None:
        return None
    try:
        return re.compile(rf"\A(?:{pattern})\Z", re.DOTALL)
    except re.error:
        return None


def to_wire(shape: Any, value: Any) -> Any:
    """Return a value as JSON, by its shape; KeyError on a member that the shape does not have (a bug of ours)."""
    match shape.type_name:
        case "structure":
            members = {n: shape.members[n] for n in value}
            return {
                m.serialization.get("name", n): to_wire(m, value[n]) for n, m in members.items() if value[n] is not None
            }
        case "list":
            return [to_wire(shape.member, v) for v in value]
        case "map":
            return {k: to_wire(shape.value, v) for k, v in value.items()}
        case "timestamp":
            return _timestamp(shape, value)
        case "blob":
            return base64.b64encode(value).decode()
        case _:
            return value


def rest_answer(shape: Any, result: Mapping[str, Any]) -> tuple[bytes, dict[str, str]]:
    """Return body and headers of a rest-json answer."""
    headers, body = {}, {}
    payload = shape.serialization.get("payload")
    for name, value in result.items():
        member = shape.members[name]
        if value is None or name == payload:
            continue
        if member.serialization.get("location") == "header":
            headers[member.serialization.get("name", name)] = str(value)
        elif member.serialization.get("location") != "statusCode":
            body[name] = value
    if payload is None:
        return json.dumps(to_wire(shape, body)).encode(), {"Content-Type": "application/json", **headers}
    content = result.get(payload, b"")
    raw = content if isinstance(content, bytes) else json.dumps(to_wire(shape.members[payload], content)).encode()
    return raw, {"Content-Type": "application/json", **headers}


def _timestamp(shape: Any, value: datetime) -> float | str:
    writers: Mapping[str, Callable[[datetime], float | str]] = {
        "unixTimestamp": lambda v: round(v.timestamp(), 3),
        "unixtimestamp": lambda v: round(v.timestamp(), 3),
        "iso8601": lambda v: v.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "rfc822": lambda v: format_datetime(v.astimezone(UTC), usegmt=True),
    }
    return writers[shape.serialization.get("timestampFormat", "unixTimestamp")](value)


def _instant(value: float | str) -> datetime:
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    return datetime.fromtimestamp(value, UTC)
