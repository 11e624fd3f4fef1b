"""The guardrail on going back: a commit that lies behind the one applied last would quietly undo what came after it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from controller.reconcile.values import Refusal

if TYPE_CHECKING:
    from controller.reconcile.values import DesiredState, FleetState, Overrides

SHORT = 12  # characters of a commit, as people name it


def goes_back(
    desired: DesiredState, state: FleetState, overrides: Overrides, *, is_behind: bool | None
) -> Refusal | None:
    """Refuse a commit behind the one applied last.

    ``is_behind`` is what git says of the two; None where it cannot tell (a bundle, a shallow clone, branches that
    have parted): then their dates decide.
    """
    last = state.baseline
    if last is None or not last.commit or not desired.commit or last.commit == desired.commit:
        return None
    if is_behind is None:
        is_behind = bool(desired.committed_at and last.committed_at and desired.committed_at < last.committed_at)
    short = desired.commit[:SHORT]
    if not is_behind or any(desired.commit.startswith(given) for given in overrides.older if len(given) >= SHORT):
        return None
    return Refusal(
        guardrail="older",
        policy=None,
        message=(
            f"commit {short} lies behind {last.commit[:SHORT]}, which was applied last: devices would go back to what "
            "it asks for. Take the newest commit; to go back for good, revert in git"
        ),
        override=f"--override older={short}",
    )
