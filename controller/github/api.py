"""GitHub's REST API, as far as comments, issues and artifacts of one repository go.

Source: GitHub REST API, version 2022-11-28. The token is sent and never printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import urllib3

from controller.forge.rest import HTTP_ERROR, PAGE_SIZE, ForgeError, Rest
from controller.forge.transport import Transport

_GONE = 410


class GitHubError(ForgeError):
    """GitHub refused, or cannot be reached."""


class IssuesDisabledError(GitHubError):
    """The repository has no issues."""


class GitHub(Rest):
    """One repository (``owner/name``) through its REST API."""

    name, address, max_body, error = "GitHub", "GITHUB_API_URL", 65_536, GitHubError

    def __init__(self, api_url: str, repository: str, token: str, transport: Transport | None = None) -> None:
        headers = {
            "Accept": "application/vnd.github+json",
            "Authorization": f"Bearer {token}",
            "X-GitHub-Api-Version": "2022-11-28",
        }
        super().__init__(f"{api_url.rstrip('/')}/repos/{repository}", headers, transport)

    def comments(self, number: int) -> Iterator[Mapping[str, Any]]:
        """Return the comments of an issue or pull request, oldest first."""
        return self._pages(f"/issues/{number}/comments")

    def create_comment(self, number: int, body: str) -> None:
        """Write a comment, the body, on the issue or pull request of this number."""
        self._call("POST", f"/issues/{number}/comments", {"body": self._bounded(body)})

    def update_comment(self, comment_id: int, body: str) -> None:
        """Replace a comment's body."""
        self._call("PATCH", f"/issues/comments/{comment_id}", {"body": self._bounded(body)})

    def open_issues(self, label: str) -> Iterator[Mapping[str, Any]]:
        """Return the open issues with the label."""
        return self._pages("/issues", {"labels": label, "state": "open"})

    def create_issue(self, title: str, body: str, labels: list[str]) -> int:
        """Open an issue with title, body and labels; returns its number."""
        issue = self._call("POST", "/issues", {"title": title, "body": self._bounded(body), "labels": labels})
        return int(issue["number"])

    def update_issue(self, number: int, changes: Mapping[str, str]) -> None:
        """Change ``body``, ``state`` or ``state_reason`` of the issue of this number."""
        self._call("PATCH", f"/issues/{number}", dict(changes))

    def pulls_of(self, commit: str) -> Iterator[Mapping[str, Any]]:
        """Return the pull requests that brought a commit."""
        return self._pages(f"/commits/{commit}/pulls")

    def pull(self, number: int) -> Mapping[str, Any]:
        """Return one pull request."""
        found: Mapping[str, Any] = self._call("GET", f"/pulls/{number}")
        return found

    def reviews(self, number: int) -> Iterator[Mapping[str, Any]]:
        """Return the reviews of a pull request, oldest first."""
        return self._pages(f"/pulls/{number}/reviews")

    def run_reviews(self, run: str) -> list[Mapping[str, Any]]:
        """Return what reviewers of environments have answered for a run."""
        return list(self._call("GET", f"/actions/runs/{run}/approvals"))

    def artifacts(self, name: str) -> list[Mapping[str, Any]]:
        """Return the newest hundred artifacts of that name, newest first."""
        found = self._call("GET", "/actions/artifacts", fields={"name": name, "per_page": str(PAGE_SIZE)})
        return list(found["artifacts"])

    def artifact(self, artifact_id: int) -> bytes:
        """Return an artifact's ZIP. GitHub answers with the address of a store, which must not see the token."""
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
        if response.status >= HTTP_ERROR:
            raise GitHubError(f"the store of artifacts answered {response.status}", "Run the job again.")
        return response

    def _refused(self, told: str, status: int) -> GitHubError:
        if status == _GONE:
            return IssuesDisabledError(told, "Switch issues on (Settings, General, Features).")
        return GitHubError(
            told,
            "Give the job's token the permission that the call needs: 'pull-requests: write' to comment, "
            "'issues: write' for the tracking issue, 'actions: read' for artifacts and reviews.",
        )
