"""Who approved a commit, as the pull request that brought it tells.

Source: GitHub REST API, "List pull requests associated with a commit", "Get a pull request", "List reviews for a pull
request".
"""

from __future__ import annotations

from controller.evidence import Approval

from .api import GitHub


def approvals_of(github: GitHub, commit: str) -> tuple[Approval, ...]:
    """List who merged the pull requests that brought a commit, and whose approval stood at the end.

    A reviewer's last word counts: an approval that was dismissed, or followed by a request for changes, is none.
    """
    found: list[Approval] = []
    for pull in github.pulls_of(commit):
        if not pull.get("merged_at"):
            continue
        number = int(pull["number"])
        merged_by = github.pull(number).get("merged_by") or {}
        if merged_by.get("login"):
            found.append(Approval(merged_by["login"], "merged", number))
        last: dict[str, str] = {}
        for review in github.reviews(number):
            reviewer = (review.get("user") or {}).get("login")
            if reviewer and review["state"] in {"APPROVED", "CHANGES_REQUESTED", "DISMISSED"}:
                last[reviewer] = review["state"]
        found += [Approval(who, "approved", number) for who, state in last.items() if state == "APPROVED"]
    return tuple(found)
