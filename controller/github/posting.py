"""What is posted where: found again by a marker, replaced and never repeated.

The marker is an HTML comment in the first line of the body, which GitHub does not show. Only texts of
the posting account's own kind (bots) are replaced, so that nobody can have theirs overwritten by
quoting a marker.
"""

from __future__ import annotations

from enum import StrEnum

from .api import GitHub

TRACKING_LABEL = "certfleet"


class Posted(StrEnum):
    """What a call did."""

    CREATED = "created"
    UPDATED = "updated"
    CLOSED = "closed"
    NOTHING = "nothing to do"


def sticky_comment(github: GitHub, number: int, key: str, text: str) -> Posted:
    """Post ``text`` on the pull request, in place of the comment that this key left before."""
    body = f"{_marker(key)}\n{text}"
    for comment in github.comments(number):
        if comment["body"].startswith(_marker(key)) and comment["user"]["type"] == "Bot":
            if comment["body"] == body:
                return Posted.NOTHING
            github.update_comment(comment["id"], body)
            return Posted.UPDATED
    github.create_comment(number, body)
    return Posted.CREATED


def tracking_issue(github: GitHub, fleet: str, text: str, *, is_solved: bool) -> Posted:
    """Keep one open issue per fleet while something needs a person; close it when that is solved."""
    marker = _marker(f"fleet-{fleet}")
    body = f"{marker}\n{text}"
    for issue in github.open_issues(TRACKING_LABEL):
        if (issue["body"] or "").startswith(marker) and "pull_request" not in issue:
            number = issue["number"]
            if is_solved:
                github.create_comment(number, text)
                github.update_issue(number, {"state": "closed", "state_reason": "completed"})
                return Posted.CLOSED
            if issue["body"] == body:
                return Posted.NOTHING
            github.update_issue(number, {"body": body})
            return Posted.UPDATED
    if is_solved:
        return Posted.NOTHING
    github.create_issue(f"certfleet: fleet {fleet} needs a person", body, [TRACKING_LABEL])
    return Posted.CREATED


def _marker(key: str) -> str:
    return f"<!-- certfleet:{key} -->"
