"""Notes and issues: found again by a marker, replaced and never repeated.

The marker is an HTML comment in the first line of the body, which GitHub does not show. Only texts of
the posting account's own kind (bots) are replaced, so that no text of a
person is overwritten because it quotes a marker.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from enum import StrEnum
from typing import Any, Protocol

TRACKING_LABEL = "certfleet"
_MARKER = re.compile(r"<!-- certfleet:([a-z0-9-]+) -->")
_GITEA_ACTIONS = -2  # who a job is on Gitea; no person has a number below zero


class Forge(Protocol):
    """Where comments and issues are: GitHub, or GitLab. An entry has ``body`` and ``user``; a Bot's is our own."""

    def comments(self, number: int) -> Iterable[Mapping[str, Any]]: ...  # noqa: D102 (the names say it)
    def create_comment(self, number: int, body: str) -> None: ...  # noqa: D102
    def update_comment(self, comment_id: Any, body: str) -> None: ...  # noqa: D102
    def open_issues(self, label: str) -> Iterable[Mapping[str, Any]]: ...  # noqa: D102
    def create_issue(self, title: str, body: str, labels: list[str]) -> int: ...  # noqa: D102
    def update_issue(self, number: int, changes: Mapping[str, str]) -> None: ...  # noqa: D102


class Posted(StrEnum):
    """The effect of a call."""

    CREATED = "created"
    UPDATED = "updated"
    CLOSED = "closed"
    NOTHING = "nothing to do"


def sticky_comment(forge: Forge, number: int, key: str, text: str, *, only_replace: bool = False) -> Posted:
    """Post ``text`` on pull request ``number``, in place of this key's last; ``only_replace`` posts no first one."""
    body = f"{_marker(key)}\n{text}"
    for comment in forge.comments(number):
        if (comment["body"] or "").startswith(_marker(key)) and _is_ours(comment):
            if comment["body"] == body:
                return Posted.NOTHING
            forge.update_comment(comment["id"], body)
            return Posted.UPDATED
    if only_replace:
        return Posted.NOTHING
    forge.create_comment(number, body)
    return Posted.CREATED


def keep_issue(forge: Forge, key: str, title: str, text: str, note: str = "") -> Posted:
    """Keep one open issue of this key and title; a new ``note`` (the run's address) alone changes nothing."""
    body = f"{_marker(key)}\n{text}"
    issue = _open_issue(forge, key)
    if issue is None:
        forge.create_issue(title, body + note, [TRACKING_LABEL])
        return Posted.CREATED
    if issue["body"].startswith(body):
        return Posted.NOTHING
    forge.update_issue(issue["number"], {"body": body + note})
    return Posted.UPDATED


def close_issue(forge: Forge, key: str, text: str) -> Posted:
    """Report that it is solved and close the issue of this key, if one is open."""
    issue = _open_issue(forge, key)
    if issue is None:
        return Posted.NOTHING
    forge.create_comment(issue["number"], text)
    forge.update_issue(issue["number"], {"state": "closed", "state_reason": "completed"})
    return Posted.CLOSED


def comment_issue(forge: Forge, key: str, text: str) -> Posted:
    """Add a comment to the issue of this key, if one is open."""
    issue = _open_issue(forge, key)
    if issue is None:
        return Posted.NOTHING
    forge.create_comment(issue["number"], text)
    return Posted.CREATED


def close_others(forge: Forge, prefix: str, keys: Collection[str], text: str) -> int:
    """Close the issues of keys with that prefix that are none of these; returns how many there were."""
    others = [
        (issue, key)
        for issue in forge.open_issues(TRACKING_LABEL)
        if (key := _key_of(issue)) is not None and key.startswith(prefix) and key not in keys
    ]
    for issue, _ in others:
        forge.create_comment(issue["number"], text)
        forge.update_issue(issue["number"], {"state": "closed", "state_reason": "not_planned"})
    return len(others)


def _key_of(issue: Mapping[str, Any]) -> str | None:
    found = _MARKER.match(issue["body"] or "")
    is_ours = found is not None and _is_ours(issue) and "pull_request" not in issue
    return found[1] if found is not None and is_ours else None


def _is_ours(written: Mapping[str, Any]) -> bool:
    """Return whether a bot wrote it; GitHub names nobody for a deleted account, and Gitea no kind of account."""
    user = written.get("user") or {}
    return user.get("type") == "Bot" or user.get("id") == _GITEA_ACTIONS


def _open_issue(forge: Forge, key: str) -> Mapping[str, Any] | None:
    return next((issue for issue in forge.open_issues(TRACKING_LABEL) if _key_of(issue) == key), None)


def _marker(key: str) -> str:
    return f"<!-- certfleet:{key} -->"
