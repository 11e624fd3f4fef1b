"""GitLab's REST API, as far as notes and issues of one project go, in the shape that ``Forge`` has.

Source: GitLab REST API v4: "Notes API", "Issues API", "Users API". The token is sent and never printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote

import urllib3

from controller.errors import CertfleetError
from controller.github.transport import Transport, beginning

PAGE_SIZE = 100  # GitLab's maximum
MAX_PAGES = 50
MAX_BODY_CHARACTERS = 1_000_000  # of a note, or an issue's description
_HTTP_ERROR = 400
_REFUSED = frozenset({401, 403, 404})


class GitLabError(CertfleetError):
    """GitLab refused, or cannot be reached."""


class GitLab:
    """One project through its REST API: notes on merge requests, or on issues, as ``noteable`` says."""

    def __init__(
        self,
        api_url: str,
        project: str,
        token: str,
        noteable: str = "merge_requests",
        transport: Transport | None = None,
    ) -> None:
        self._api = api_url.rstrip("/")
        self._project, self._noteable = f"/projects/{quote(project, safe='')}", noteable
        self._transport = transport or Transport()
        self._headers = {"PRIVATE-TOKEN": token, "User-Agent": "certfleet"}

    def comments(self, number: int) -> Iterator[Mapping[str, Any]]:
        """Notes on the merge request, oldest first; an id says of which it is."""
        fields = {"order_by": "created_at", "sort": "asc"}
        for note in self._pages(f"/{self._noteable}/{number}/notes", fields):
            if not note.get("system"):
                yield {"id": f"{number}/notes/{note['id']}", "body": note["body"], "user": self._author(note)}

    def create_comment(self, number: int, body: str) -> None:
        """Write a note."""
        self._call("POST", f"{self._project}/{self._noteable}/{number}/notes", {"body": _bounded(body)})

    def update_comment(self, comment_id: str, body: str) -> None:
        """Replace a note's text."""
        self._call("PUT", f"{self._project}/{self._noteable}/{comment_id}", {"body": _bounded(body)})

    def open_issues(self, label: str) -> Iterator[Mapping[str, Any]]:
        """Open issues with the label."""
        for issue in self._pages("/issues", {"labels": label, "state": "opened"}):
            yield {"number": issue["iid"], "body": issue["description"], "user": self._author(issue)}

    def create_issue(self, title: str, body: str, labels: list[str]) -> int:
        """Open an issue; returns its number."""
        given = {"title": title, "description": _bounded(body), "labels": ",".join(labels)}
        return int(self._call("POST", f"{self._project}/issues", given)["iid"])

    def update_issue(self, number: int, changes: Mapping[str, str]) -> None:
        """Change an issue's ``body``, or close it."""
        given = {"description": _bounded(changes["body"])} if "body" in changes else {}
        if changes.get("state") == "closed":
            given["state_event"] = "close"
        self._call("PUT", f"{self._project}/issues/{number}", given)

    def _author(self, written: Mapping[str, Any]) -> dict[str, str]:
        """Whether the token's own account wrote it: nobody else's text is replaced, whoever quotes a marker."""
        return {"type": "Bot" if (written.get("author") or {}).get("id") == self._own_id else "User"}

    @cached_property
    def _own_id(self) -> int:
        return int(self._call("GET", "/user")["id"])

    def _pages(self, path: str, fields: dict[str, str]) -> Iterator[Mapping[str, Any]]:
        for page in range(1, MAX_PAGES + 1):
            found = self._call(
                "GET", self._project + path, fields=fields | {"per_page": str(PAGE_SIZE), "page": str(page)}
            )
            yield from found
            if len(found) < PAGE_SIZE:
                return

    def _call(self, method: str, path: str, body: Any = None, fields: dict[str, str] | None = None) -> Any:
        try:
            response = self._transport.request(
                method, self._api + path, headers=self._headers, json=body, fields=fields
            )
        except urllib3.exceptions.HTTPError as error:
            raise GitLabError(
                f"GitLab cannot be reached: {type(error).__name__}",
                "See what stands between (HTTPS_PROXY, CI_API_V4_URL), then run the job again.",
            ) from error
        if response.status >= _HTTP_ERROR:
            raise self._refused(method, path, response)
        try:
            return response.json()
        except ValueError as error:
            raise GitLabError(
                f"GitLab's answer to {method} {path} is no JSON: {beginning(response)}",
                "See what stands between (HTTPS_PROXY, CI_API_V4_URL), then run the job again.",
            ) from error

    def _refused(self, method: str, path: str, response: urllib3.BaseHTTPResponse) -> GitLabError:
        told = f"GitLab answered {response.status} to {method} {path}: {beginning(response)}"
        if self._transport.is_limited(response):
            return GitLabError(told, "The rate limit lasts longer than a job waits: run it again later.")
        if response.status in _REFUSED:
            return GitLabError(
                told,
                "CERTFLEET_GITLAB_TOKEN must be a project access token with the scope api and the role Reporter, "
                "that has not expired: Settings, Access tokens.",
            )
        return GitLabError(told, "Run the job again; if that does not help, see what the message names.")


def _bounded(body: str) -> str:
    if len(body) > MAX_BODY_CHARACTERS:
        raise GitLabError(
            f"the text has {len(body)} characters, GitLab takes {MAX_BODY_CHARACTERS}",
            "Render it with --format markdown, which keeps to less.",
        )
    return body
