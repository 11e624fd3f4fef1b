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
class RotationSpan:
    """When devices rotate as the outlook has it; None: never, or nobody can know."""

    start: datetime | None  # when the first may begin
    finish: datetime | None  # when the last has rotated


@dataclass(frozen=True, slots=True)
class Moved:
    """Devices that must rotate with and without the change, but at another time."""

    devices: int
    base: RotationSpan
    head: RotationSpan
    sooner: int = 0  # of them: who starts with the first under head alone, where that is at the same time
    later: int = 0  # likewise under base alone


@dataclass(frozen=True, slots=True)
class Queue:
    """The due devices of one policy under one ref, and what becomes of them."""

    turns: list[Turn]  # in order
    outlook: Outlook
    most: int  # devices that are started at once

    def span(self, is_meant: Callable[[str | None], bool]) -> RotationSpan:
        """Return when the devices rotate whose policy under the other ref ``is_meant``; there must be some."""
        turns = [turn for turn, (_order, other) in enumerate(self.turns) if is_meant(other)]
        stages = self.outlook.stages
        ends = list(accumulate(stage.devices for stage in stages))
        first, last = bisect_right(ends, turns[0]), bisect_right(ends, turns[-1])
        return RotationSpan(
            stages[first].start if first < len(ends) else None,
            stages[last].end if last < len(ends) else None,
        )

    def first(self, is_meant: Callable[[str | None], bool]) -> frozenset[str]:
        """Return the names of the devices that start first, if their policy under the other ref ``is_meant``."""
        at_once = min(self.outlook.stages[0].devices, self.most) if self.outlook.stages else 0
        return frozenset(order[-1] for order, other in self.turns[:at_once] if is_meant(other))


def moved_of(policy: str, base: Mapping[str, Queue], head: Queue) -> Moved | None:
    """Return how due devices move into the head's queue of a policy, from theirs under base; None if none does."""

    def is_due_before(before: str | None) -> bool:
        return before is not None

    def goes_there(after: str | None) -> bool:
        return after == policy

    number = sum(is_due_before(before) for _order, before in head.turns)
    if not number:
        return None
    after = head.span(is_due_before)
    sources = [queue for queue in base.values() if any(goes_there(after) for _order, after in queue.turns)]
    befores = [queue.span(goes_there) for queue in sources]
    starts, ends = [span.start for span in befores], [span.finish for span in befores]
    before = RotationSpan(
        min((start for start in starts if start), default=None),
        max((end for end in ends if end), default=None) if all(ends) else None,
    )
    if _differ(before.start, after.start):
        return Moved(number, before, after)
    firsts = frozenset[str]().union(*(queue.first(goes_there) for queue in sources))
    sooner, later = head.first(is_due_before) - firsts, firsts - head.first(is_due_before)
    is_moved = sooner or later or _differ(before.finish, after.finish)
    return Moved(number, before, after, len(sooner), len(later)) if is_moved else None


def _differ(one: datetime | None, other: datetime | None) -> bool:
    """Return whether the two differ by so much that it is worth reporting."""
    return one != other and (one is None or other is None or abs(one - other) >= WORTH_TELLING)
