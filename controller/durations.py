"""Durations as the documents spell them: a whole number and one unit, such as ``90d``.

Units are ``s`` seconds, ``m`` minutes, ``h`` hours, ``d`` days of 24 hours and ``w`` weeks.
"""

from __future__ import annotations

import re
from datetime import timedelta

DURATION_PATTERN = r"^[0-9]{1,10}[smhdw]$"
DURATION_EXAMPLES = ("90d", "12h", "30m", "2w")
MAX_DURATION = timedelta(days=36_525)  # a hundred years

_SECONDS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400, "w": 604_800}
_ALLOWED = "allowed: a whole number and a unit, such as " + ", ".join(DURATION_EXAMPLES)


def parse_duration(found: object) -> timedelta:
    """Read ``90d``, ``12h``, ``30m``, ``45s`` or ``2w``; ValueError shows what was found and what is allowed."""
    if not isinstance(found, str) or re.fullmatch(DURATION_PATTERN[1:-1], found) is None:
        raise ValueError(f"found {found!r}; {_ALLOWED}")
    seconds = int(found[:-1]) * _SECONDS[found[-1]]
    if seconds > MAX_DURATION.total_seconds():
        raise ValueError(f"found {found!r}; allowed: at most {format_duration(MAX_DURATION)}")
    return timedelta(seconds=seconds)


def format_duration(duration: timedelta) -> str:
    """Write a duration in the largest unit up to days that divides it: ``14d``, ``36h``, ``0s``.

    Weeks are read and never written, so that two durations are compared at a glance. Parts of a
    second are dropped.
    """
    seconds = int(duration.total_seconds())
    for unit in "dhm":
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{seconds // _SECONDS[unit]}{unit}"
    return f"{seconds}s"
