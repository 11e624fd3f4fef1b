"""The guardrail on going back: a commit that does not contain the one applied last would quietly undo that one."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.reconcile.values import SHORT, Refusal, follows

if TYPE_CHECKING:
    from controller.reconcile.values import DesiredState, FleetState, Overrides


def goes_back(desired: DesiredState, state: FleetState, overrides: Overrides) -> Refusal | None:
    """Refuse a commit that does not contain the one applied last; None if it does, or may go back."""
    last = state.baseline
    if last is None or not last.commit or not desired.commit or last.commit == desired.commit:
        return None
    short = desired.commit[:SHORT]
    is_next = follows(desired.ancestors, desired.committed_at, last.commit, last.committed_at)
    if is_next or any(desired.commit.startswith(given) for given in overrides.older if len(given) >= SHORT):
        return None
    return Refusal(
        guardrail="older",
        policy=None,
        message=(
            f"commit {short} does not follow {last.commit[:SHORT]}, which was applied last: devices would go back to "
            "what it asks for. Take the newest commit; to go back for good, revert in git"
        ),
        override=f"--override older={short}",
    )
