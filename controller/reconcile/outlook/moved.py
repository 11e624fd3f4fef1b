"""Devices that must rotate under both refs: whether their turn comes at another time because of the change."""

from __future__ import annotations

from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import accumulate
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from controller.reconcile.values import Outlook

WORTH_TELLING = timedelta(minutes=15)  # by which a start or an end is another one

Turn = tuple[tuple[bool, bool, float, str], str | None]  # a due device by order_of, and the policy under the other ref


@dataclass(frozen=True, slots=True)
class Span:
    """When devices rotate as the outlook has it; None: never, or nobody can tell."""

    start: datetime | None  # when the first may begin
    finish: datetime | None  # when the last has rotated


@dataclass(frozen=True, slots=True)
class Moved:
    """Devices that must rotate with and without the change, but at another time."""

    devices: int
    base: Span
    head: Span


def moved_of(
    policy: str, base: Mapping[str, list[Turn]], was: Mapping[str, Outlook], head: list[Turn], will: Outlook
) -> Moved | None:
    """Of the head's policy. They may come from several policies; each ref has queues and outlooks by policy."""
    number = sum(before is not None for _order, before in head)
    if not number:
        return None
    after = _span(will, head, lambda before: before is not None)
    befores = [
        _span(was[name], queue, lambda after: after == policy)
        for name, queue in base.items()
        if any(after == policy for _order, after in queue)
    ]
    starts, ends = [span.start for span in befores], [span.finish for span in befores]
    before = Span(
        min((start for start in starts if start), default=None),
        max((end for end in ends if end), default=None) if all(ends) else None,
    )
    is_moved = _differ(before.start, after.start) or _differ(before.finish, after.finish)
    return Moved(number, before, after) if is_moved else None


def _span(outlook: Outlook, queue: list[Turn], is_meant: Callable[[str | None], bool]) -> Span:
    """When those of a policy's queue rotate that are meant, by their policy under the other ref."""
    turns = [turn for turn, (_order, other) in enumerate(sorted(queue)) if is_meant(other)]
    ends = list(accumulate(stage.devices for stage in outlook.stages))
    first, last = bisect_right(ends, turns[0]), bisect_right(ends, turns[-1])
    return Span(
        outlook.stages[first].start if first < len(ends) else None,
        outlook.stages[last].end if last < len(ends) else None,
    )


def _differ(one: datetime | None, other: datetime | None) -> bool:
    """Whether by so much that it is worth telling."""
    return one != other and (one is None or other is None or abs(one - other) >= WORTH_TELLING)
