"""Requests and answers of HTTP as values, between the server and the services."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class HttpRequest:
    """One request. ``path`` is as sent (percent-encoded), ``query`` without its ``?``; header names are lower case."""

    method: str
    path: str
    query: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def signing_name(self) -> str:
        """The service in the credential scope of a SigV4 signature; empty if unsigned."""
        scope = self.headers.get("authorization", "").partition("Credential=")[2].partition(",")[0].split("/")
        return scope[-2] if len(scope) >= 5 else ""  # noqa: PLR2004 (key, date, region, service, "aws4_request")


@dataclass(frozen=True)
class HttpResponse:
    """One answer; ``Content-Length`` is the server's business."""

    status: int
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)


def json_error(status: int, code: str, message: str, members: Mapping[str, Any] | None = None) -> HttpResponse:
    """Return an error in the form that every JSON protocol of AWS understands."""
    body = {"__type": code, "message": message, **(members or {})}
    return HttpResponse(
        status, json.dumps(body).encode(), {"Content-Type": "application/json", "x-amzn-ErrorType": code}
    )


def xml_error(status: int, code: str, message: str) -> HttpResponse:
    """Return an error for the services that speak XML, whose clients cannot read JSON."""
    text = message.replace("&", "&amp;").replace("<", "&lt;")
    body = (
        f"<ErrorResponse><Error><Type>Sender</Type><Code>{code}</Code><Message>{text}</Message></Error></ErrorResponse>"
    )
    return HttpResponse(status, body.encode(), {"Content-Type": "text/xml"})
