"""GitHub's REST API, as far as comments, issues and artifacts of one repository go.

Source: GitHub REST API, version 2022-11-28. The token is sent and never printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import urllib3

from controller.errors import CertfleetError

from .transport import Transport, beginning

PAGE_SIZE = 100  # GitHub's maximum
MAX_PAGES = 50
MAX_BODY_CHARACTERS = 65_536  # of an issue's or comment's body
_HTTP_ERROR = 400
_GONE = 410


class GitHubError(CertfleetError):
    """GitHub refused, or cannot be reached."""


class IssuesDisabledError(GitHubError):
    """The repository has no issues."""


class GitHub:
    """One repository (``owner/name``) through its REST API."""

    def __init__(self, api_url: str, repository: str, token: str, transport: Transport | None = None) -> None:
        self._root = f"{api_url.rstrip('/')}/repos/{repository}"
        self._transport = transport or Transport()
        self._headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "User-Agent": "certfleet",
            "X-GitHub-Api-Version": "2022-11-28",
        }

    def comments(self, number: int) -> Iterator[Mapping[str, Any]]:
        """Comments of an issue or pull request, oldest first."""
        return self._pages(f"/issues/{number}/comments", {})

    def create_comment(self, number: int, body: str) -> None:
        """Comment on an issue or pull request."""
        self._call("POST", f"/issues/{number}/comments", {"body": _bounded(body)})

    def update_comment(self, comment_id: int, body: str) -> None:
        """Replace a comment's text."""
        self._call("PATCH", f"/issues/comments/{comment_id}", {"body": _bounded(body)})

    def open_issues(self, label: str) -> Iterator[Mapping[str, Any]]:
        """Open issues with the label."""
        return self._pages("/issues", {"labels": label, "state": "open"})

    def create_issue(self, title: str, body: str, labels: list[str]) -> int:
        """Open an issue; returns its number."""
        issue = self._call("POST", "/issues", {"title": title, "body": _bounded(body), "labels": labels})
        return int(issue["number"])

    def update_issue(self, number: int, changes: Mapping[str, str]) -> None:
        """Change an issue's ``body``, ``state`` or ``state_reason``."""
        self._call("PATCH", f"/issues/{number}", dict(changes))

    def pulls_of(self, commit: str) -> Iterator[Mapping[str, Any]]:
        """Pull requests that a commit came by."""
        return self._pages(f"/commits/{commit}/pulls", {})

    def pull(self, number: int) -> Mapping[str, Any]:
        """One pull request."""
        found: Mapping[str, Any] = self._call("GET", f"/pulls/{number}")
        return found

    def reviews(self, number: int) -> Iterator[Mapping[str, Any]]:
        """Reviews of a pull request, oldest first."""
        return self._pages(f"/pulls/{number}/reviews", {})

    def artifacts(self, name: str) -> list[Mapping[str, Any]]:
        """Artifacts of that name, newest first: the first page, a hundred."""
        found = self._call("GET", "/actions/artifacts", fields={"name": name, "per_page": str(PAGE_SIZE)})
        return list(found["artifacts"])

    def artifact(self, artifact_id: int) -> bytes:
        """An artifact's ZIP. GitHub answers with the address of a store, which must not see the token."""
        path = f"/actions/artifacts/{artifact_id}/zip"
        response = self._request("GET", path, redirect=False)
        if response.status in urllib3.HTTPResponse.REDIRECT_STATUSES:
            response = self._stored(str(response.headers["Location"]))
        return bytes(response.data)

    def _stored(self, address: str) -> urllib3.BaseHTTPResponse:
        try:
            response = self._transport.request("GET", address)
        except urllib3.exceptions.HTTPError as error:
            raise GitHubError(
                f"the store of artifacts cannot be reached: {type(error).__name__}", "Run the job again."
            ) from error
        if response.status >= _HTTP_ERROR:
            raise GitHubError(f"the store of artifacts answered {response.status}", "Run the job again.")
        return response

    def _pages(self, path: str, fields: dict[str, str]) -> Iterator[Mapping[str, Any]]:
        for page in range(1, MAX_PAGES + 1):
            found = self._call("GET", path, fields=fields | {"per_page": str(PAGE_SIZE), "page": str(page)})
            yield from found
            if len(found) < PAGE_SIZE:
                return

    def _call(self, method: str, path: str, body: Any = None, fields: dict[str, str] | None = None) -> Any:
        response = self._request(method, path, json=body, fields=fields)
        try:
            return response.json()
        except ValueError as error:
            raise GitHubError(
                f"GitHub's answer to {method} {path} is no JSON: {beginning(response)}",
                "See what stands between (HTTPS_PROXY, GITHUB_API_URL), then run the job again.",
            ) from error

    def _request(self, method: str, path: str, **what: Any) -> urllib3.BaseHTTPResponse:
        try:
            response = self._transport.request(method, self._root + path, headers=self._headers, **what)
        except urllib3.exceptions.HTTPError as error:
            raise GitHubError(
                f"GitHub cannot be reached for {method} {path}: {type(error).__name__}",
                "Run the job again; GITHUB_API_URL names the address that was tried, HTTPS_PROXY the way there.",
            ) from error
        if response.status < _HTTP_ERROR:
            return response
        told = f"GitHub answered {response.status} to {method} {path}: {beginning(response)}"
        if response.status == _GONE:
            raise IssuesDisabledError(told, "Switch issues on (Settings, General, Features).")
        if self._transport.is_limited(response):
            raise GitHubError(
                told, "This token's rate limit is used up for longer than a job waits: run it again later."
            )
        raise GitHubError(
            told,
            "Give the job's token the permission that the call needs: 'pull-requests: write' to comment, "
            "'issues: write' for the tracking issue, 'actions: read' for artifacts.",
        )


def _bounded(body: str) -> str:
    if len(body) > MAX_BODY_CHARACTERS:
        raise GitHubError(
            f"the text has {len(body)} characters, GitHub takes {MAX_BODY_CHARACTERS}",
            "Render it with --format markdown, which keeps to the limit.",
        )
    return body
