"""A faulty proxy before an AWS: answers are cut, replaced, held back or changed, operation by operation.

It speaks HTTP over loopback and knows operations by botocore's own service models, so the programs under
test run unchanged, with AWS_ENDPOINT_URL pointing here.
"""

from __future__ import annotations

import functools
import http.client
import itertools
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, urlencode, urlsplit

import botocore.session

_TOKENS = ("nextToken", "nextMarker", "NextToken")
_PAGING = frozenset({"nextToken", "marker", "NextToken"})


@dataclass(frozen=True)
class Answer:
    """What goes back. ``length`` is what Content-Length claims; None: none, the end of the connection ends it."""

    status: int
    headers: dict[str, str]
    body: bytes
    length: int | None
    is_chunked: bool = False


@dataclass
class Call:
    """One request as it came, and the way to its true answer."""

    operation: str
    number: int  # of this operation, from 1
    path: str
    forward: Callable[[str], Answer]
    until_closed: Callable[[], Any]

    def answer(self) -> Answer:
        return self.forward(self.path)

    def first_page(self) -> Answer:
        parts = urlsplit(self.path)
        query = {key: value for key, value in parse_qs(parts.query).items() if key not in _PAGING}
        return self.forward(parts._replace(query=urlencode(query, doseq=True)).geturl())


Fault = Callable[[Call], Answer]


def cut(call: Call) -> Answer:
    """Half of it, under the length of the whole."""
    answer = call.answer()
    return replace(answer, body=answer.body[: len(answer.body) // 2])


def cut_chunked(call: Call) -> Answer:
    return replace(cut(call), is_chunked=True)


def cut_unnoticed(call: Call) -> Answer:
    """Half of it, and nothing says how long the whole was."""
    return replace(cut(call), length=None)


def html(_: Call) -> Answer:
    """A page of somebody between, with 200."""
    body = b"<html><body>Please accept the terms of this network.</body></html>"
    return Answer(200, {"Content-Type": "text/html"}, body, len(body))


def empty(call: Call) -> Answer:
    return replace(call.answer(), body=b"", length=0)


def not_an_object(call: Call) -> Answer:
    return replace(call.answer(), body=b"[]", length=2)


def bare_object(call: Call) -> Answer:
    return replace(call.answer(), body=b"{}", length=2)


def repeated_token(call: Call) -> Answer:
    return _with_token(call, "again")


def cyclic_token(call: Call) -> Answer:
    return _with_token(call, "ab"[call.number % 2])


def unknown_values(call: Call) -> Answer:
    """Every value that the model knows as one of a list is one that this version has never heard of."""
    answer = call.answer()
    shape = model_of(call.operation).output_shape
    if shape is None or not answer.body:
        return answer
    body = json.dumps(_renamed(json.loads(answer.body), shape)).encode()
    return replace(answer, body=body, length=len(body))


def stall(call: Call) -> Answer:
    call.until_closed()
    return error(503, "ServiceUnavailable")(call)


def error(status: int, code: str, message: str = "because the test says so") -> Fault:
    def fault(_: Call) -> Answer:
        body = json.dumps({"message": message, "__type": code}).encode()
        headers = {"Content-Type": "application/json", "x-amzn-errortype": code}
        return Answer(status, headers, body, len(body))

    return fault


skewed = error(403, "InvalidSignatureException", "Signature expired: 20261129T211600Z is now earlier than …")


def first(times: int, fault: Fault) -> Fault:
    """The fault for the first calls of an operation; after that all is well."""
    return lambda call: fault(call) if call.number <= times else call.answer()


def only_about(text: str, fault: Fault) -> Fault:
    """The fault for calls whose address has the text in it; ``first`` inside counts those only."""
    counter = itertools.count(1)
    return lambda call: fault(replace(call, number=next(counter))) if text in call.path else call.answer()


def is_listing(operation: str) -> bool:
    """Whether an operation's answers come in pages."""
    shape = model_of(operation).output_shape
    return shape is not None and any(name in shape.members for name in _TOKENS)


def _with_token(call: Call, token: str) -> Answer:
    answer = call.first_page()
    shape = model_of(call.operation).output_shape
    name = next(one for one in _TOKENS if one in shape.members)
    body = json.dumps({**json.loads(answer.body), name: token}).encode()
    return replace(answer, body=body, length=len(body))


def _renamed(value: Any, shape: Any) -> Any:
    if isinstance(value, dict) and shape.type_name == "structure":
        known = {
            member.serialization.get("name", name): member
            for name, member in shape.members.items()
            if value is not None
        }
        return {name: _renamed(one, known[name]) if name in known else one for name, one in value.items()}
    if isinstance(value, list) and shape.type_name == "list":
        return [_renamed(one, shape.member) for one in value]
    return "UNHEARD_OF" if getattr(shape, "enum", None) and value is not None else value


@dataclass
class FaultProxy:
    """``faults`` says what is done to which operation; ``calls`` counts what came by. Close it, or use ``with``."""

    upstream: str
    faults: dict[str, Fault] = field(default_factory=dict)
    calls: Counter[str] = field(default_factory=Counter)

    def __post_init__(self) -> None:
        self._lock, self._closed = threading.Condition(), threading.Event()
        handler = type("Handler", (_Handler,), {"proxy": self})
        self._server = _Server(("127.0.0.1", 0), handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True).start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._closed.set()
        self._server.shutdown()
        self._server.server_close()

    def wait_for(self, operation: str, seconds: float) -> bool:
        """Whether the operation was called, by then at the latest."""
        with self._lock:
            return self._lock.wait_for(lambda: self.calls[operation] > 0, seconds)

    def serve(self, method: str, path: str, headers: dict[str, str], body: bytes) -> Answer:
        operation = operation_of(method, path, headers, body)
        with self._lock:
            self.calls[operation] += 1
            number = self.calls[operation]
            self._lock.notify_all()
        call = Call(operation, number, path, self._forward(method, headers, body), self._closed.wait)
        fault = self.faults.get(operation)
        return fault(call) if fault else call.answer()

    def _forward(self, method: str, headers: dict[str, str], body: bytes) -> Callable[[str], Answer]:
        def forward(path: str) -> Answer:
            connection = http.client.HTTPConnection(urlsplit(self.upstream).netloc, timeout=60)
            try:
                connection.request(method, path, body, headers)
                response = connection.getresponse()
                found = response.read()
                kept = {
                    name: value
                    for name, value in response.getheaders()
                    if name.lower() not in {"content-length", "transfer-encoding", "connection"}
                }
                return Answer(response.status, kept, found, len(found))
            finally:
                connection.close()

        return forward


class _Server(ThreadingHTTPServer):
    request_queue_size = 64

    def handle_error(self, *_: object) -> None:
        """A client that has not waited: tests see what became of it."""


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    proxy: FaultProxy

    def do_GET(self) -> None:
        length = int(self.headers.get("Content-Length") or 0)
        answer = self.proxy.serve(self.command, self.path, dict(self.headers), self.rfile.read(length))
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        is_whole = answer.length == len(answer.body) and not answer.is_chunked
        if answer.is_chunked:
            self.send_header("Transfer-Encoding", "chunked")
        elif answer.length is not None:
            self.send_header("Content-Length", str(answer.length))
        if not is_whole:
            self.send_header("Connection", "close")
        self.end_headers()
        if answer.is_chunked:
            self.wfile.write(b"%x\r\n" % (answer.length or 0))
        self.wfile.write(answer.body)

    do_POST = do_PUT = do_PATCH = do_DELETE = do_HEAD = do_GET  # noqa: N815 (names of http.server)

    def log_message(self, *_: object) -> None:
        """Nothing: tests look at ``calls``."""


def operation_of(method: str, path: str, headers: dict[str, str], body: bytes) -> str:
    """The operation's name, by the service that the signature names and by botocore's model of it."""
    known = {name.lower(): value for name, value in headers.items()}
    if "x-amz-target" in known:
        return known["x-amz-target"].rpartition(".")[2]
    service = re.search(r"Credential=[^/]+/[^/]+/[^/]+/([^/]+)/", known["authorization"])[1]
    if service in {"sts", "sns"}:
        return parse_qs(body.decode())["Action"][0]
    if service == "s3":
        return "PutObject" if method == "PUT" else "ListObjectsV2" if "list-type" in path else "GetObject"
    bare = urlsplit(path).path
    found = [
        (len(pattern.pattern), name)
        for verb, pattern, name in _routes(service)
        if verb == method and pattern.fullmatch(bare)
    ]
    return max(found)[1]


@functools.cache
def _routes(signing_name: str) -> list[tuple[str, re.Pattern[str], str]]:
    return list(_routes_of({"greengrass": "greengrassv2", "iotdata": "iot-data"}.get(signing_name, signing_name)))


def _routes_of(service: str) -> Iterator[tuple[str, re.Pattern[str], str]]:
    model = _service(service)
    for name in model.operation_names:
        spec = model.operation_model(name).http
        fixed = re.split(r"(\{[^}]+\})", spec["requestUri"].partition("?")[0])
        pattern = "".join("[^/]+" if part.startswith("{") else re.escape(part) for part in fixed)
        yield spec["method"], re.compile(pattern), name


@functools.cache
def _service(name: str) -> Any:
    return botocore.session.Session().get_service_model(name)


@functools.cache
def model_of(operation: str) -> Any:
    services = ("iot", "greengrassv2", "acm-pca", "sts", "ssm", "sns", "kms", "s3", "lambda", "sqs", "dynamodb")
    services += ("stepfunctions", "service-quotas", "iot-data")
    return next(
        _service(one).operation_model(operation) for one in services if operation in _service(one).operation_names
    )
