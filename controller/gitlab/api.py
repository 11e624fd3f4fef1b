"""GitLab's REST API, as far as notes, issues and approvals of one project go, in the shape that ``Forge`` has.

Source: GitLab REST API v4: "Notes API", "Issues API", "Users API", "Commits API", "Merge request approvals API". The
token is sent and never printed.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from functools import cached_property
from typing import Any
from urllib.parse import quote

from controller.forge.rest import ForgeError, Rest
from controller.forge.transport import Transport

_REFUSED = frozenset({401, 403, 404})


class GitLabError(ForgeError):
    """GitLab refused, or cannot be reached."""


class GitLab(Rest):
    """One project through its REST API: notes on merge requests, or on issues, as ``noteable`` shows."""

    name, address, max_body, error = "GitLab", "CI_API_V4_URL", 1_000_000, GitLabError

    def __init__(
        self,
        api_url: str,
        project: str,
        token: str,
        noteable: str = "merge_requests",
        transport: Transport | None = None,
    ) -> None:
        super().__init__(api_url.rstrip("/"), {"PRIVATE-TOKEN": token}, transport)
        self._project, self._noteable = f"/projects/{quote(project, safe='')}", noteable

    def comments(self, number: int) -> Iterator[Mapping[str, Any]]:
        """Return the notes on the merge request, oldest first; an id names the one."""
        fields = {"order_by": "created_at", "sort": "asc"}
        for note in self._pages(f"{self._project}/{self._noteable}/{number}/notes", fields):
            if not note.get("system"):
                yield {"id": f"{number}/notes/{note['id']}", "body": note["body"], "user": self._author(note)}

    def create_comment(self, number: int, body: str) -> None:
        """Write a note, the body, on the merge request or issue of this number."""
        self._call("POST", f"{self._project}/{self._noteable}/{number}/notes", {"body": self._bounded(body)})

    def update_comment(self, comment_id: str, body: str) -> None:
        """Replace the body of the note ``comment_id``."""
        self._call("PUT", f"{self._project}/{self._noteable}/{comment_id}", {"body": self._bounded(body)})

    def open_issues(self, label: str) -> Iterator[Mapping[str, Any]]:
        """Return the open issues with the label."""
        for issue in self._pages(f"{self._project}/issues", {"labels": label, "state": "opened"}):
            yield {"number": issue["iid"], "body": issue["description"], "user": self._author(issue)}

    def create_issue(self, title: str, body: str, labels: list[str]) -> int:
        """Open an issue with title, body and labels; returns its number."""
        given = {"title": title, "description": self._bounded(body), "labels": ",".join(labels)}
        return int(self._call("POST", f"{self._project}/issues", given)["iid"])

    def update_issue(self, number: int, changes: Mapping[str, str]) -> None:
        """Change the ``body`` of the issue of this number, or close it."""
        given = {"description": self._bounded(changes["body"])} if "body" in changes else {}
        if changes.get("state") == "closed":
            given["state_event"] = "close"
        self._call("PUT", f"{self._project}/issues/{number}", given)

    def merge_requests_of(self, commit: str) -> Iterator[Mapping[str, Any]]:
        """Return the merge requests that brought a commit."""
        return self._pages(f"{self._project}/repository/commits/{commit}/merge_requests")

    def approved_by(self, number: int) -> list[Mapping[str, Any]]:
        """Return the accounts whose approval of a merge request stands."""
        found = self._call("GET", f"{self._project}/merge_requests/{number}/approvals")
        return [one["user"] for one in found.get("approved_by", ())]

    def _author(self, written: Mapping[str, Any]) -> dict[str, str]:
        """Return whether the token's own account wrote it: nobody else's text is replaced, whoever quotes a marker."""
        return {"type": "Bot" if (written.get("author") or {}).get("id") == self._own_id else "User"}

    @cached_property
    def _own_id(self) -> int:
        return int(self._call("GET", "/user")["id"])

    def _refused(self, told: str, status: int) -> GitLabError:
        if status in _REFUSED:
            return GitLabError(
                told,
                "CERTFLEET_GITLAB_TOKEN must be a project access token with the scope api and the role Reporter, "
                "that has not expired: Settings, Access tokens.",
            )
        return GitLabError(told, "Run the job again; if that does not help, see what the message names.")
