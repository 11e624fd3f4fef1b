"""The kinds of values that speak of time: durations, instants, cron expressions and time zones."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta
from functools import cache
from typing import Any
from zoneinfo import available_timezones

from cronsim import CronSim, CronSimError

from controller.durations import DURATION_EXAMPLES, DURATION_PATTERN, MAX_DURATION, format_duration, parse_duration

from .fields import FieldKind, suggest

_CRON = r"[0-9]{1,2}(?: +[0-9A-Za-z*,/#-]{1,40}){4}"


@dataclass(frozen=True)
class DurationField(FieldKind):
    """A duration between two bounds, both allowed, in whole steps."""

    minimum: timedelta = timedelta(0)
    maximum: timedelta = MAX_DURATION
    step: timedelta = timedelta(seconds=1)

    @property
    def allowed(self) -> str:
        """The bounds, and the step if it is longer than a second."""
        steps = {timedelta(seconds=1): "", timedelta(minutes=1): " in whole minutes", timedelta(days=1): " in days"}
        bounds = f"from {format_duration(self.minimum)} to {format_duration(self.maximum)}"
        return f"a duration such as {', '.join(DURATION_EXAMPLES)}, {bounds}{steps[self.step]}"

    def read(self, found: object) -> timedelta:
        """Return the duration."""
        try:
            duration = parse_duration(found)
        except ValueError:
            raise self.wrong(found) from None
        if not self.minimum <= duration <= self.maximum or duration % self.step:
            raise self.wrong(found)
        return duration

    def json_schema(self) -> dict[str, Any]:
        """Return a string with the pattern of durations."""
        return {"type": "string", "pattern": DURATION_PATTERN, "examples": list(DURATION_EXAMPLES)}


@dataclass(frozen=True)
class Instant(FieldKind):
    """An instant in ISO 8601 with a zone; a bare date is its midnight in UTC."""

    @property
    def allowed(self) -> str:
        """The form."""
        return "an instant with a zone such as 2026-11-01T00:00:00Z, or a date such as 2026-11-01 (midnight UTC)"

    def read(self, found: object) -> datetime:
        """Return the instant, in UTC; raises ValueError."""
        if not isinstance(found, str) or re.match(r"\d{4}-\d{2}-\d{2}(?:[T ]|$)", found, re.ASCII) is None:
            raise self.wrong(found)
        try:
            if len(found) == len("2026-11-01"):
                return datetime.combine(date.fromisoformat(found), time(), UTC)
            instant = datetime.fromisoformat(found)
            in_utc = None if instant.tzinfo is None else instant.astimezone(UTC)
        except (ValueError, OverflowError):
            raise self.wrong(found) from None
        if in_utc is None:
            raise ValueError(f"found {found!r}, which has no zone; allowed: {self.allowed}")
        return in_utc

    def json_schema(self) -> dict[str, Any]:
        """Return a string; the pattern asks for a zone, which the format ``date-time`` of some editors does not."""
        moment = r"[T ]\d{2}:\d{2}(?::\d{2}(?:\.\d{1,6})?)?(?:Z|[+-]\d{2}:\d{2})"
        pattern = rf"^\d{{4}}-\d{{2}}-\d{{2}}(?:{moment})?$"
        return {"type": "string", "pattern": pattern, "examples": ["2026-11-01T00:00:00Z"]}


@dataclass(frozen=True)
class Cron(FieldKind):
    """A cron expression of five fields, read as Debian's cron reads it.

    The minute is one number: a window opens at most once an hour, which also bounds what it costs
    to work out years of windows that somebody proposes in a pull request.
    """

    @property
    def allowed(self) -> str:
        """The form."""
        return "five cron fields (one minute, hour, day-of-month, month, day-of-week), such as '0 2 * * 1-5'"

    def read(self, found: object) -> str:
        """Return the expression; raises ValueError if it cannot fire at all."""
        if not isinstance(found, str) or re.fullmatch(_CRON, found) is None:
            raise self.wrong(found)
        try:
            next(CronSim(found, datetime(2024, 1, 1, tzinfo=UTC)))
        except CronSimError as error:
            raise ValueError(f"{self.wrong(found)} ({str(error).lower()})") from None
        except StopIteration:
            raise ValueError(f"found {found!r}, which never fires; allowed: {self.allowed}") from None
        return found

    def json_schema(self) -> dict[str, Any]:
        """Return a string of five fields."""
        return {"type": "string", "pattern": f"^{_CRON}$", "examples": ["0 2 * * 1-5"]}


_OF_THE_HOST = frozenset({"localtime", "posixrules", "Factory"})  # another zone on every machine, or none


@cache
def _timezones() -> frozenset[str]:
    return frozenset(name for name in available_timezones() if name not in _OF_THE_HOST)


@dataclass(frozen=True)
class TimeZone(FieldKind):
    """A time zone's name in the IANA database."""

    @property
    def allowed(self) -> str:
        """The form."""
        return "a name of the IANA time zone database, such as Europe/London or UTC"

    def read(self, found: object) -> str:
        """Return the name; raises ValueError if the database does not have it."""
        if not isinstance(found, str) or found not in _timezones():
            raise ValueError(f"{self.wrong(found)}{suggest(found, list(_timezones()))}")
        return found

    def json_schema(self) -> dict[str, Any]:
        """Return a string: the hundreds of names would drown an editor's list."""
        return {"type": "string", "examples": ["Europe/London", "UTC"]}
