"""boto3 clients of one sandbox cloud, made once each: they are safe to share between threads.

Their requests are written as for the wire, and answered in this process without one: a connection, a thread and a
signature for each were most of what a call cost, and whoever uses these clients is part of the sandbox.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import boto3
from botocore import UNSIGNED
from botocore.awsrequest import AWSPreparedRequest, AWSRequest, AWSResponse
from botocore.config import Config

from sandbox.aws import Cloud
from sandbox.aws.exchange import HttpRequest

_CONFIG = Config(
    connect_timeout=5,
    read_timeout=30,
    retries={"mode": "standard", "total_max_attempts": 3},
    max_pool_connections=32,
    user_agent="sandbox",  # botocore's own is put together anew for each call
)


class Clients:
    """Makes clients that talk to the cloud with dummy credentials, whatever the process environment holds."""

    def __init__(self, cloud: Cloud) -> None:
        self._cloud = cloud
        self._lock = threading.Lock()
        self._made: dict[tuple[str, str], Any] = {}
        self._session = boto3.session.Session(
            aws_access_key_id="sandbox",
            aws_secret_access_key="sandbox",  # noqa: S106  # the sandbox takes any
            region_name=cloud.site.region,
        )
        self._session.events.register("choose-signer", _leave_unsigned)
        self._session.events.register("before-sign", _name_scope)
        self._session.events.register("before-send", self._answer)

    def get(self, service: str, endpoint_url: str | None = None) -> Any:
        """Return the client of a service, at the cloud's address unless another is named."""
        url = endpoint_url or self._cloud.endpoint_url
        with self._lock:
            if (service, url) not in self._made:
                self._made[service, url] = self._session.client(
                    service, endpoint_url=url, verify=str(self._cloud.ca_bundle), config=_CONFIG
                )
            return self._made[service, url]

    def _answer(self, request: AWSPreparedRequest, **_: Any) -> AWSResponse | None:
        return answered(self._cloud, request)


def answered(cloud: Cloud, request: AWSPreparedRequest) -> AWSResponse | None:
    """Return what the cloud answers, without a wire.

    None for a body that is a stream and for other addresses: those go over the wire.
    """
    url, body = urlsplit(request.url), request.body or b""
    if f"{url.scheme}://{url.netloc}" != cloud.endpoint_url or not isinstance(body, str | bytes | bytearray):
        return None
    sent = {"host": url.netloc, **{name.lower(): _text(value) for name, value in request.headers.items()}}
    content = body.encode() if isinstance(body, str) else bytes(body)
    answer = cloud.answer(HttpRequest(request.method, url.path, url.query, sent, content))
    headers = {"Content-Length": str(len(answer.body)), **answer.headers}
    return AWSResponse(request.url, answer.status, headers, _AnswerBody(answer.body))


def _leave_unsigned(signature_version: Any, signing_name: str, region_name: str, context: Any, **_: Any) -> Any:
    """Leave out the signature of a request, which nobody here verifies; a URL that is signed keeps its own."""
    if signature_version != "v4":
        return None
    context["scope"] = f"sandbox/20260101/{region_name}/{signing_name}/aws4_request"
    return UNSIGNED


def _name_scope(request: AWSRequest, **_: Any) -> None:
    """Write the scope of the signature that was left out: by it the cloud knows which service is meant."""
    if scope := request.context.get("scope"):
        request.headers["Authorization"] = f"AWS4-HMAC-SHA256 Credential={scope}, SignedHeaders=host, Signature=0"


class _AnswerBody(io.BytesIO):
    """An answer's body as botocore reads it."""

    def stream(self, *_: Any, **__: Any) -> Iterator[bytes]:
        """Yield the whole."""
        yield self.read()


def _text(value: str | bytes) -> str:
    return value if isinstance(value, str) else value.decode("latin-1")
