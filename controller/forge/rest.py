"""A REST API of one project: pages, refusals, and texts no longer than the API takes."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping
from typing import Any, ClassVar

import urllib3

from controller.errors import CertfleetError

from .transport import Transport, beginning

PAGE_SIZE = 100  # the maximum of both
MAX_PAGES = 50
HTTP_ERROR = 400


class ForgeError(CertfleetError):
    """The forge refused, or cannot be reached."""


class Rest(ABC):
    """One API; the token is in ``headers``, is sent, and never printed."""

    name: ClassVar[str]
    address: ClassVar[str]  # the variable that names where it is
    max_body: ClassVar[int]  # characters of a comment, or an issue's text
    error: ClassVar[type[ForgeError]] = ForgeError

    def __init__(self, root: str, headers: Mapping[str, str], transport: Transport | None) -> None:
        self._root, self._headers = root, {"User-Agent": "certfleet", **headers}
        self._transport = transport or Transport()

    def _pages(self, path: str, fields: Mapping[str, str] | None = None) -> Iterator[Mapping[str, Any]]:
        for page in range(1, MAX_PAGES + 1):
            asked = {**(fields or {}), "per_page": str(PAGE_SIZE), "page": str(page)}
            found = self._call("GET", path, fields=asked)
            yield from found
            if len(found) < PAGE_SIZE:
                return

    def _call(self, method: str, path: str, body: Any = None, fields: Mapping[str, str] | None = None) -> Any:
        response = self._request(method, path, json=body, fields=fields)
        try:
            return response.json()
        except ValueError as error:
            raise self.error(
                f"{self.name}'s answer to {method} {path} is not JSON: {beginning(response)}",
                f"See what stands between (HTTPS_PROXY, {self.address}), then run the job again.",
            ) from error

    def _request(self, method: str, path: str, **what: Any) -> urllib3.BaseHTTPResponse:
        try:
            response = self._transport.request(method, self._root + path, headers=self._headers, **what)
        except urllib3.exceptions.HTTPError as error:
            raise self.error(
                f"{self.name} cannot be reached for {method} {path}: {type(error).__name__}",
                f"Run the job again; {self.address} names the address that was tried, HTTPS_PROXY the way there.",
            ) from error
        if response.status < HTTP_ERROR:
            return response
        told = f"{self.name} answered {response.status} to {method} {path}: {beginning(response)}"
        if self._transport.is_limited(response):
            limit = "This token's rate limit is used up for longer than a job waits: run it again later."
            raise self.error(told, limit)
        raise self._refused(told, response.status)

    @abstractmethod
    def _refused(self, told: str, status: int) -> ForgeError:
        """Return what to do about a refusal; each forge has its own words."""

    def _bounded(self, body: str) -> str:
        if len(body) > self.max_body:
            raise self.error(
                f"the text has {len(body)} characters, {self.name} takes {self.max_body}",
                "Render it with --format markdown, which keeps to the limit.",
            )
        return body
