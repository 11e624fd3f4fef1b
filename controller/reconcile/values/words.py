"""Numbers and instants as a reader of a finding wants them; equal values give equal text."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

DAY = timedelta(days=1)
_DAY, _HOUR, _MINUTE = 86_400, 3_600, 60  # seconds

NAMES_SHOWN = 3  # of a list of devices inside a sentence

# What steers a terminal, ends a line or turns the direction of writing; but for the line feed and the escape.
_STEERING = r"\x00-\x09\x0b-\x1a\x1c-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069"
_NO_TEXT = re.compile(rf"[\x1b{_STEERING}]")
_NO_COLOR = re.compile(rf"\x1b(?!\[[0-9;]*m)|[{_STEERING}]")
_COMMAND = re.compile(r"^(\s*)(:|##)(:|\[)", re.MULTILINE)  # of GitHub's runner, which looks at the start of lines


def one_line(text: str) -> str:
    """What a device, a certificate, a foreign job or a server said, as text that is one line and steers nothing."""
    return _NO_TEXT.sub("\ufffd", " ".join(text.split()))


def inert(text: str, *, may_color: bool = False) -> str:
    """A text of several lines in which nothing steers a terminal or gives a CI's runner a command."""
    tame = (_NO_COLOR if may_color else _NO_TEXT).sub("\ufffd", text)
    return _COMMAND.sub(r"\1\2 \3", tame)


def whole_days(span: timedelta) -> int:
    """Full days in the span, rounded towards zero."""
    return int(span / DAY)


def span_text(span: timedelta) -> str:
    """``214 days``, ``31 hours``, ``5 minutes`` or ``12 seconds``: the largest unit that says enough."""
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
    """``1 day``, ``1,200 days``."""
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def instant_text(instant: datetime) -> str:
    """ISO 8601 in UTC, whole seconds: ``2026-11-23T02:00:00Z``."""
    return f"{instant.astimezone(UTC).replace(tzinfo=None).isoformat(timespec='seconds')}Z"


def percent_text(share: float) -> str:
    """``5``, ``12.5``: at most one decimal, no trailing zero."""
    return f"{share:.1f}".removesuffix(".0")


def names_text(names: Sequence[str], at_most: int = NAMES_SHOWN) -> str:
    """``a, b, c and 12 more``."""
    shown = ", ".join(names[:at_most])
    more = len(names) - at_most
    return f"{shown} and {more:,} more" if more > 0 else shown
