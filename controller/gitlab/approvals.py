"""The people who approved a commit, as its merge request shows."""

from __future__ import annotations

from controller.evidence import Approval

from .api import GitLab


def approvals_of(gitlab: GitLab, commit: str) -> tuple[Approval, ...]:
    """List who merged the merge requests that brought a commit, and whose approval stands."""
    found: list[Approval] = []
    for merged in gitlab.merge_requests_of(commit):
        if merged.get("state") != "merged":
            continue
        number = int(merged["iid"])
        who = (merged.get("merge_user") or merged.get("merged_by") or {}).get("username")
        if who:
            found.append(Approval(who, "merged", number))
        found += [Approval(one["username"], "approved", number) for one in gitlab.approved_by(number)]
    return tuple(found)
