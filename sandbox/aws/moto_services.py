"""The services that moto plays as they are: tables, topics, queues, buckets, keys, identities.

moto keeps its state in module globals, one for all clouds of a process. Here each cloud owns the
state of its account: it is put into moto's globals for the length of a request, under one lock, so
that two clouds with the same account never see each other's tables.
"""

from __future__ import annotations

import importlib
import io
import logging
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from types import ModuleType
from typing import Any
from urllib.parse import unquote_to_bytes

import moto.backends as moto_backends
import moto.core.responses as moto_responses
from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app

from . import step_functions, tables
from .exchange import HttpRequest, HttpResponse, json_error, xml_error

log = logging.getLogger(__name__)

SERVICES = {
    "dynamodb": "dynamodb",
    "sns": "sns",
    "sqs": "sqs",
    "s3": "s3",
    "sts": "sts",
    "iam": "iam",
    "kms": "kms",
    "monitoring": "cloudwatch",
    "logs": "logs",
    "events": "events",
    "scheduler": "scheduler",
    "ssm": "ssm",
    "secretsmanager": "secretsmanager",
    "cloudformation": "cloudformation",
    "servicequotas": "servicequotas",
    step_functions.SERVICE: "stepfunctions",
}
"""Signing name → moto's name."""
_XML = ("sns", "sts", "s3", "iam", "cloudformation")
_lock = threading.RLock()  # moto's globals belong to one cloud at a time


class _Dispatcher(DomainDispatcherApplication):  # type: ignore[misc]  # moto has no types
    """moto's way to the service of a request, which looks through moto's folders each time, once for each host."""

    def __init__(self) -> None:
        super().__init__(create_backend_app)
        self._by_host: dict[str | None, Any] = {}

    def get_backend_for_host(self, host: str | None) -> Any:
        if host not in self._by_host:
            self._by_host[host] = super().get_backend_for_host(host)
        return self._by_host[host]


_application = _Dispatcher()
_backends: dict[str, Any] = {}
moto_responses.method_names_from_class = cache(moto_responses.method_names_from_class)  # asked at each call


class MotoServices:
    """moto's services with the state of one cloud."""

    def __init__(self, account: str, region: str) -> None:
        self._account, self._region = account, region
        self._state: dict[str, Any] = {}
        self._bucket_owners: dict[str, Any] = {}  # S3's one name space, which moto keeps beside its state

    def handle(self, request: HttpRequest) -> HttpResponse:
        """Let moto answer; what it does not have is 501."""
        signing_name = request.signing_name or "sts"
        if signing_name == step_functions.SERVICE:
            step_functions.prepare(self._region, f"http://{request.headers['host']}")
        if signing_name == tables.SERVICE:
            tables.prepare()
        try:
            with _lock:
                if signing_name == "ssm":
                    _load_parameter_store()
                with self._installed():
                    return self._call(request)
        except NotImplementedError as error:
            reason = f"the sandbox does not have this call of {signing_name}: {error or request.path}"
            return _error(signing_name, 501, "NotImplemented", reason)
        except Exception:
            log.exception("moto's %s failed on %s %s", signing_name, request.method, request.path)
            return _error(signing_name, 500, "InternalFailure", f"the sandbox's {signing_name} failed; see its log")

    def close(self) -> None:
        """Forget all state."""
        self._state.clear()

    @contextmanager
    def _installed(self) -> Iterator[None]:
        for name, backend in _loaded():
            if name == "s3":
                backend.bucket_accounts = self._bucket_owners
            if name in self._state:
                dict.__setitem__(backend, self._account, self._state[name])
        try:
            yield
        finally:
            for name, backend in _loaded():
                if dict.__contains__(backend, self._account):
                    self._state[name] = dict.pop(backend, self._account)
                if name == "s3":
                    self._bucket_owners = backend.bucket_accounts

    def _call(self, request: HttpRequest) -> HttpResponse:
        answered: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], _error: Any = None) -> Any:
            answered.extend((status, headers))

        chunks = _application(self._environ(request), start_response)
        body = b"".join(chunks)
        status, headers = int(answered[0].split()[0]), dict(answered[1])
        if request.method != "HEAD":
            headers = {name: value for name, value in headers.items() if name.lower() != "content-length"}
        return HttpResponse(status, body, headers)

    def _environ(self, request: HttpRequest) -> dict[str, Any]:
        environ: dict[str, Any] = {
            "REQUEST_METHOD": request.method,
            "SCRIPT_NAME": "",
            "PATH_INFO": unquote_to_bytes(request.path).decode("latin-1"),
            "RAW_URI": request.path + (f"?{request.query}" if request.query else ""),
            "QUERY_STRING": request.query,
            "SERVER_NAME": "127.0.0.1",
            "SERVER_PORT": "80",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_LENGTH": str(len(request.body)),
            "CONTENT_TYPE": request.headers.get("content-type", ""),
            "wsgi.version": (1, 0),
            "wsgi.url_scheme": "http",
            "wsgi.input": io.BytesIO(request.body),
            "wsgi.errors": io.StringIO(),
            "wsgi.multithread": True,
            "wsgi.multiprocess": False,
            "wsgi.run_once": False,
        }
        skipped = ("content-length", "content-type", "transfer-encoding")
        for name, value in request.headers.items():
            if name not in skipped:
                environ[f"HTTP_{name.upper().replace('-', '_')}"] = value
        environ["HTTP_X_MOTO_ACCOUNT_ID"] = self._account
        return environ


@cache
def _load_parameter_store() -> None:
    """Load moto's SSM without EC2, which takes a second: only Run Command looks there, for instances."""
    if "moto.ec2" in sys.modules:
        return
    nothing = ModuleType("moto.ec2")
    nothing.ec2_backends = {}  # type: ignore[attr-defined]
    sys.modules["moto.ec2"] = nothing
    try:
        importlib.import_module("moto.ssm.models")
    finally:
        del sys.modules["moto.ec2"]


def _loaded() -> Iterator[tuple[str, Any]]:
    """Yield the services that this process has used: loading one takes moto a second, so none is loaded in vain."""
    for name in SERVICES.values():
        if name not in _backends and f"moto.{name}.models" in sys.modules:
            _backends[name] = moto_backends.get_backend(name)
        if name in _backends:
            yield name, _backends[name]
    if (machines := step_functions.backends()) is not None:
        yield step_functions.SERVICE, machines


def _error(signing_name: str, status: int, code: str, message: str) -> HttpResponse:
    return (xml_error if signing_name in _XML else json_error)(status, code, message)
