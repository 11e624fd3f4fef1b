"""Maintenance windows: which instants are open. Deny beats allow; no allow window means always allowed.

A window starts wherever its cron expression fires in its time zone and lasts its duration in elapsed
time. cronsim follows Debian's cron at a changeover: a start that falls into the skipped hour moves to
the first instant after it, a start in the repeated hour happens once, the first time.

Open time is worked out block by block on demand and kept, so that asking for a million devices costs
a few binary searches each. Instants are whole epoch seconds in here; callers speak datetimes.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from itertools import accumulate, takewhile
from typing import TYPE_CHECKING, NamedTuple
from zoneinfo import ZoneInfo

from cronsim import CronSim

from controller.reconcile.values import Window, WindowKind, instant_text, span_text

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence

    from controller.reconcile.values import Policy

BLOCK_SECONDS = 64 * 86_400  # open time is computed and cached in blocks of this length
SEARCH_LIMIT = timedelta(days=5 * 366)  # how far ahead the next opening is looked for: past a leap day

_LAST_SECOND = int(datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC).timestamp())  # what certificates say that have no end
Span = tuple[int, int]  # [start, end) in epoch seconds


class Interval(NamedTuple):
    """Open time from ``start`` until just before ``end``."""

    start: datetime
    end: datetime


class OpenTime:
    """The open time of one set of windows."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._blocks = _Blocks(windows)
        self.is_always = not windows

    def is_open(self, instant: datetime) -> bool:
        """Return whether a rotation may start at the instant."""
        if self.is_always:
            return True
        second = _floor(instant)
        return self._blocks[second // BLOCK_SECONDS].is_open(second)

    def seconds_between(self, start: datetime, end: datetime) -> int:
        """Return seconds of open time in [start, end)."""
        first = _floor(start)
        last = max(first, _floor(end))
        if self.is_always:
            return last - first
        return sum(block.seconds_in(first, last) for block in self._blocks_in(first, last))

    def at_share(self, start: datetime, end: datetime, share: float) -> datetime | None:
        """Return the instant at that share (0 ≤ share < 1) of the open time in [start, end); None if there is none."""
        first, last = _floor(start), _floor(end)
        found, total = [], 0
        for block in self._blocks_in(first, last):
            before = block.opened_before(first)
            here = block.opened_before(last) - before
            found.append((block, before, here))
            total += here
        left = int(total * share)
        for block, before, here in found:
            if left < here:
                return _datetime(block.when(before + left + 1) - 1)
            left -= here
        return None

    def after(self, instant: datetime, seconds: int) -> datetime | None:
        """Return when so many seconds (at least one) of open time have passed since the instant.

        None if that is beyond SEARCH_LIMIT.
        """
        if self.is_always:
            return instant + timedelta(seconds=seconds)
        first, left = _floor(instant), seconds
        limit = first + int(SEARCH_LIMIT.total_seconds())
        for block in self._blocks_in(first, limit):
            here = block.seconds_in(first, limit)
            if left <= here:
                return _datetime(block.when(block.opened_before(first) + left))
            left -= here
        return None

    def next_open(self, instant: datetime) -> Interval | None:
        """Return the open time that holds the instant or comes next, from the instant on; None within SEARCH_LIMIT."""
        if self.is_always:
            return Interval(instant, instant + SEARCH_LIMIT)
        first = _floor(instant)
        joined: Span | None = None
        for start, end in self._spans_from(first, first + int(SEARCH_LIMIT.total_seconds())):
            if joined is not None and start > joined[1]:
                break
            joined = (start, end) if joined is None else (joined[0], end)
        return None if joined is None else Interval(_datetime(joined[0]), _datetime(joined[1]))

    def longest_closed(self, start: datetime, end: datetime) -> Interval:
        """Return the longest stretch without open time inside [start, end)."""
        first, last = _floor(start), _floor(end)
        longest, edge = (first, first), first
        for span_start, span_end in (*self._spans_from(first, last), (last, last)):
            if span_start - edge > longest[1] - longest[0]:
                longest = (edge, span_start)
            edge = span_end
        return Interval(_datetime(longest[0]), _datetime(longest[1]))

    def _spans_from(self, first: int, last: int) -> Iterator[Span]:
        """Yield the open spans inside [first, last), clipped to it, in order; a span may be split at a block's edge."""
        for block in self._blocks_in(first, last):
            for start, end in block.spans:
                if start >= last:
                    return
                if end > first:
                    yield max(start, first), min(end, last)

    def _blocks_in(self, first: int, last: int) -> Iterator[_Block]:
        """Yield the blocks that hold the seconds from first to last, in order."""
        for number in range(first // BLOCK_SECONDS, last // BLOCK_SECONDS + 1):
            yield self._blocks[number]


class _Blocks(dict[int, "_Block"]):
    """The blocks of a set of windows by their number, each worked out when it is asked for first."""

    def __init__(self, windows: Sequence[Window]) -> None:
        self._allow = tuple(w for w in windows if w.kind is WindowKind.ALLOW)
        self._deny = tuple(w for w in windows if w.kind is WindowKind.DENY)

    def __missing__(self, number: int) -> _Block:
        bounds = (number * BLOCK_SECONDS, (number + 1) * BLOCK_SECONDS)
        allowed = _union(_occurrences(self._allow, bounds), bounds) if self._allow else (bounds,)
        block = self[number] = _Block(_without(allowed, _union(_occurrences(self._deny, bounds), bounds)))
        return block


@lru_cache(maxsize=256)
def open_time_of(windows: tuple[Window, ...]) -> OpenTime:
    """Return the open time of these windows; what has been worked out of it is kept from run to run."""
    return OpenTime(windows)


class _Block:
    """The open spans of one block, with running totals, so that any question is a binary search."""

    __slots__ = ("_before", "_starts", "spans")

    def __init__(self, spans: tuple[Span, ...]) -> None:
        self.spans = spans
        self._starts = [start for start, _end in spans]
        self._before = [0, *accumulate(end - start for start, end in spans)]

    def is_open(self, second: int) -> bool:
        """Return whether the second is open time."""
        index = bisect_right(self._starts, second) - 1
        return index >= 0 and second < self.spans[index][1]

    def opened_before(self, second: int) -> int:
        """Return seconds of open time in this block before the second."""
        index = bisect_right(self._starts, second) - 1
        if index < 0:
            return 0
        start, end = self.spans[index]
        return self._before[index] + min(second, end) - start

    def seconds_in(self, first: int, last: int) -> int:
        """Return seconds of open time in this block from first until just before last."""
        return self.opened_before(last) - self.opened_before(first)

    def when(self, opened: int) -> int:
        """Return the second by which so many (at least one) seconds of the block's open time have passed."""
        index = bisect_left(self._before, opened) - 1
        return self.spans[index][0] + opened - self._before[index]


def never_met(policy: Policy, validity: timedelta | None, now: datetime) -> str | None:
    """Return why the policy's windows cannot be met before maxAge or expiry, with the numbers; None if they can.

    A certificate is issued inside a window. If the longest closed stretch ahead is at least as
    long as the certificate may be used (``maxAge``, or ``validity`` minus ``renewBefore``), one
    issued just before that stretch finds no open time before it is due. ``validity`` is that of the
    policy's authority, None if it is not known or practically endless.
    """
    rule = policy.certificate
    lives = [(rule.max_age, "maxAge")] if rule.max_age is not None else []
    if validity is not None:
        lives.append((validity - (rule.renew_before or timedelta(0)), "validity minus renewBefore"))
    if not policy.schedule.windows:
        return None
    open_time = open_time_of(policy.schedule.windows)
    if open_time.next_open(now) is None:
        return f"no window opens within {span_text(SEARCH_LIMIT)} of {instant_text(now)}"
    if not lives:
        return None
    life, source = min(lives)
    horizon = min(SEARCH_LIMIT, max(timedelta(days=800), 2 * life))
    closed = open_time.longest_closed(now, now + horizon)
    if closed.end - closed.start < life:
        return None
    return (
        f"the windows leave {span_text(closed.end - closed.start)} closed in a row, "
        f"from {instant_text(closed.start)} to {instant_text(closed.end)}, "
        f"but a certificate must be replaced within {span_text(life)} ({source})"
    )


def _occurrences(windows: Iterable[Window], block: Span) -> Iterator[Span]:
    """Yield every span of these windows that touches the block."""
    for window in windows:
        length = int(window.duration.total_seconds())
        local = _datetime(block[0] - length).astimezone(ZoneInfo(window.timezone))
        starts = takewhile(lambda start: start < block[1], _fired(window.cron, local))
        yield from ((start, start + length) for start in starts if start + length > block[0])


def _fired(cron: str, after: datetime) -> Iterator[int]:
    """Yield when the expression fires after that instant, as long as the calendar goes."""
    try:
        yield from map(_floor, CronSim(cron, after))
    except OverflowError:
        return


def _union(spans: Iterable[Span], block: Span) -> tuple[Span, ...]:
    """Merge overlapping and touching spans and clip them to the block."""
    merged: list[Span] = []
    for raw_start, raw_end in sorted(spans):
        start, end = max(raw_start, block[0]), min(raw_end, block[1])
        if merged and start <= merged[-1][1]:
            merged[-1] = (merged[-1][0], max(end, merged[-1][1]))
        else:
            merged.append((start, end))
    return tuple(merged)


def _without(spans: Iterable[Span], denied: Sequence[Span]) -> tuple[Span, ...]:
    """Cut the denied spans out."""
    rest: list[Span] = []
    for start, end in spans:
        edge = start
        for denied_start, denied_end in denied:
            if denied_end > edge and denied_start < end:
                if denied_start > edge:
                    rest.append((edge, denied_start))
                edge = denied_end
        if edge < end:
            rest.append((edge, end))
    return tuple(rest)


def _floor(instant: datetime) -> int:
    return int(instant.timestamp())


def _datetime(second: int) -> datetime:
    return datetime.fromtimestamp(min(second, _LAST_SECOND), UTC)
