"""The people who approved: a commit, as its pull request shows; a run, as the reviewers of its environment did.

Source: GitHub REST API, "List pull requests associated with a commit", "Get a pull request", "List reviews for a pull
request", "Get the review history for a workflow run".
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


def reviewers_of(github: GitHub, run: str, environment: str) -> list[str]:
    """Return who approved that a run goes on in an environment.

    If nobody has set up an environment, GitHub creates it without reviewers; other forges have no environments. So a
    job that only people may let run must not rely on its ``environment`` alone.
    """
    return [
        review["user"]["login"]
        for review in github.run_reviews(run)
        if review["state"] == "approved" and environment in {one["name"] for one in review["environments"]}
    ]
