"""Numbers and instants as a reader of a finding wants them; equal values give equal text."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING
from zoneinfo import ZoneInfo

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY = timedelta(days=1)
_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60  # seconds

NAMES_SHOWN = 3  # of a list of devices inside a sentence


def whole_days(span: timedelta) -> int:
    """Return the full days in the span, rounded towards zero."""
    return int(span / DAY)


def span_text(span: timedelta) -> str:
    """``214 days``, ``31 hours``, ``5 minutes`` or ``12 seconds``: the largest unit that shows enough."""
    seconds = int(span.total_seconds())
    if seconds < 0:
        return f"-{span_text(-span)}"
    if seconds >= 3 * _DAY or (seconds and seconds % _DAY == 0):
        return count_text(seconds // _DAY, "day")
    if seconds >= 3 * _HOUR or (seconds and seconds % _HOUR == 0):
        return count_text(seconds // _HOUR, "hour")
    if seconds >= _MINUTE:
        return count_text(seconds // _MINUTE, "minute")
    return count_text(seconds, "second")


def count_text(number: int, noun: str, plural: str | None = None) -> str:
    """Return a number with its noun: ``1 day``, ``1,200 days``; ``plural`` is the noun with an s unless given."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def instant_text(instant: datetime) -> str:
    """ISO 8601 in UTC, whole seconds: ``2026-11-23T02:00:00Z``."""
    return f"{instant.astimezone(UTC).isoformat(timespec='seconds').removesuffix('+00:00')}Z"


@lru_cache(maxsize=256)  # all devices of a policy wait for one opening
def local_text(instant: datetime, zones: tuple[str, ...]) -> str:
    """Return the instant by clocks of other zones: ``, 03:00 in Europe/Berlin``; nothing if they show UTC."""
    told = []
    for zone in dict.fromkeys(zones):
        local = instant.astimezone(ZoneInfo(zone))
        if local.utcoffset():
            is_same_day = local.date() == instant.astimezone(UTC).date()
            told.append(f", {local:%H:%M} in {zone}" if is_same_day else f", {local:%Y-%m-%d %H:%M} in {zone}")
    return "".join(told)


def percent_text(share: float) -> str:
    """``5``, ``12.5``: at most one decimal, no trailing zero."""
    return f"{share:.1f}".removesuffix(".0")


def names_text(names: Sequence[str], at_most: int = NAMES_SHOWN, *, unnamed: int = 0) -> str:
    """Return ``a, b, c and 12 more``, naming ``at_most`` so many; ``unnamed`` are others that are only counted."""
    shown = ", ".join(names[:at_most])
    more = max(len(names) - at_most, 0) + unnamed
    return f"{shown} and {more:,} more" if more > 0 else shown
