"""GitHub's REST API, as far as comments, issues and artifacts of one repository go.

Source: GitHub REST API, version 2022-11-28. The token is sent and never printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import urllib3

from controller.errors import CertfleetError

PAGE_SIZE = 100  # GitHub's maximum
MAX_PAGES = 50
MAX_BODY_CHARACTERS = 65_536  # of an issue's or comment's body
TIMEOUT_SECONDS = 20.0
_HTTP_ERROR = 400

RETRIES = urllib3.Retry(
    total=4,
    connect=1,
    backoff_factor=0.5,
    status_forcelist=(429, 500, 502, 503, 504),
    allowed_methods=("GET", "PATCH"),  # a POST that was lost on the way back would post twice
    raise_on_status=False,
)


class GitHubError(CertfleetError):
    """GitHub refused, or cannot be reached."""


class GitHub:
    """One repository (``owner/name``) through its REST API."""

    def __init__(self, api_url: str, repository: str, token: str) -> None:
        self._root = f"{api_url.rstrip('/')}/repos/{repository}"
        self._pool = urllib3.PoolManager(
            headers={
                "Accept": "application/vnd.github+json",
                "Authorization": f"Bearer {token}",
                "User-Agent": "certfleet",
                "X-GitHub-Api-Version": "2022-11-28",
            },
            retries=RETRIES,
            timeout=TIMEOUT_SECONDS,
        )

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
            response = urllib3.PoolManager(retries=RETRIES, timeout=TIMEOUT_SECONDS).request("GET", address)
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
        return self._request(method, path, json=body, fields=fields).json()

    def _request(self, method: str, path: str, **what: Any) -> urllib3.BaseHTTPResponse:
        try:
            response = self._pool.request(method, self._root + path, **what)
        except urllib3.exceptions.HTTPError as error:
            raise GitHubError(
                f"GitHub cannot be reached for {method} {path}: {type(error).__name__}",
                "Run the job again; GITHUB_API_URL names the address that was tried.",
            ) from error
        if response.status >= _HTTP_ERROR:
            raise GitHubError(
                f"GitHub answered {response.status} to {method} {path}: {response.data[:300].decode(errors='replace')}",
                "Give the job's token the permission that the call needs: 'pull-requests: write' to comment, "
                "'issues: write' for the tracking issue, 'actions: read' for artifacts.",
            )
        return response


def _bounded(body: str) -> str:
    if len(body) > MAX_BODY_CHARACTERS:
        raise GitHubError(
            f"the text has {len(body)} characters, GitHub takes {MAX_BODY_CHARACTERS}",
            "Render it with --format markdown, which keeps to the limit.",
        )
    return body
