"""Rotations to come: the peak and the mean first, then the days against what the rates allow."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from controller.reconcile.outlook import Forecast, ForecastRow
from controller.reconcile.values import DesiredState

from . import words
from .as_json import failure_value
from .console import Page, table
from .formats import FORMAT_VERSION, Format, TextStyle, dump
from .markdown import code, failed
from .markdown import table as markdown_table
from .model import FleetFailure
from .text import tell_failures

_BAR = 10  # columns of the longest bar
_ROOM_FOR_BARS = 90  # columns; narrower terminals keep the words
_ROWS_OF_DAYS = 40  # more than so many are told by the week
_ROWS_SHOWN = 120


@dataclass(frozen=True, slots=True)
class Forecasts:
    """The forecast of each fleet, and the fleets that could not be looked at."""

    fleets: tuple[tuple[DesiredState, Forecast], ...]
    failures: tuple[FleetFailure, ...] = ()


def _sentence(forecast: Forecast) -> str:
    if not forecast.total:
        parts = [f"no rotation in {words.count(forecast.days, 'day')}"]
    else:
        parts = [f"{words.count(forecast.total, 'rotation')} in {words.count(forecast.days, 'day')}"]
        parts += [f"peak {forecast.peak:,} on {forecast.peak_day}", f"mean {forecast.mean:,.1f} a day"]
    if forecast.peak_without_jitter > forecast.peak:
        parts.append(f"without jitter the peak would be {forecast.peak_without_jitter:,}")
    if forecast.blocked:
        parts.append(f"{forecast.blocked:,} blocked and left out")
    if forecast.reported:
        parts.append(f"{words.count(forecast.reported, 'device')} only reported and left out")
    if forecast.seen_at is not None:
        parts.append(f"seen {words.instant(forecast.seen_at)}")
    return " · ".join(parts)


@dataclass(frozen=True, slots=True)
class _Line:
    """Rotations of one policy and authority from a day on, for a day or a week."""

    start: date
    policy: str
    authority: str
    rotations: int
    busiest: ForecastRow  # its busiest day, the first of them

    def cells(self) -> tuple[str, ...]:
        """Return the cells of its row in the tables."""
        on_it = (f"{self.busiest.rotations:,}", f"{self.busiest.capacity:,}")
        return f"{self.start}", self.policy, self.authority, f"{self.rotations:,}", *on_it


_HEADS = ("From", "Policy", "Authority", "Rotations", "Most a day", "Allowed")


def _lines(forecast: Forecast) -> list[_Line]:
    """Return a line for each day, or week if there are too many days; one without rotations is left out."""
    step = 1 if len(forecast.rows) <= _ROWS_OF_DAYS else 7
    periods: dict[tuple[date, str, str], list[ForecastRow]] = {}
    for row in forecast.rows:
        offset = (row.day - forecast.first_day).days // step * step
        start = forecast.first_day + timedelta(days=offset)
        periods.setdefault((start, row.policy, row.authority), []).append(row)
    return [
        _Line(*key, sum(row.rotations for row in rows), max(rows, key=lambda row: row.rotations))
        for key, rows in sorted(periods.items())
    ]


def _text(forecasts: Forecasts, look: TextStyle) -> str:
    page = Page(look)
    for number, (desired, forecast) in enumerate(forecasts.fleets):
        if number:
            page.gap()
        page.line((desired.fleet.name, "head"), "  ", _sentence(forecast))
        lines = _lines(forecast)
        if not lines:
            continue
        page.gap()
        most = max(line.rotations for line in lines)
        bar = _BAR if look.width >= _ROOM_FOR_BARS else 0
        rows = [(*line.cells(), "█" * -(-bar * line.rotations // most)) for line in lines[:_ROWS_SHOWN]]
        kinds = ("keep", "wrap", "wrap", "right", "right", "right")
        page.add(table(*zip(_HEADS, kinds, strict=True), ("", "cut"), rows=rows))
        _tell_rest(page, len(lines) - _ROWS_SHOWN)
        over = forecast.over_capacity
        for one in over[:_ROWS_OF_DAYS]:
            asks = f"{one.rotations:,} of {one.policy}, its rates and windows allow {one.capacity:,}"
            page.line((f"{one.day}  over capacity: {asks}", "bad"))
        _tell_rest(page, len(over) - _ROWS_OF_DAYS)
    tell_failures(page, forecasts.failures)
    return page.text()


def _tell_rest(page: Page, rest: int) -> None:
    if rest > 0:
        page.line((f"and {words.count(rest, 'more row')}: --format json has all", "dim"))


def _json(forecasts: Forecasts, _look: TextStyle) -> str:
    return dump(
        {
            "format_version": FORMAT_VERSION,
            "kind": "Forecast",
            "fleets": [
                {
                    "fleet": desired.fleet.name,
                    "commit": desired.commit,
                    "observed_at": words.iso(forecast.seen_at) if forecast.seen_at else None,
                    "first_day": str(forecast.first_day),
                    "days": forecast.days,
                    "total": forecast.total,
                    "peak": forecast.peak,
                    "peak_day": str(forecast.peak_day) if forecast.peak_day else None,
                    "mean": forecast.mean,
                    "peak_without_jitter": forecast.peak_without_jitter,
                    "blocked": forecast.blocked,
                    "reported": forecast.reported,
                    "rows": [
                        {
                            "day": str(row.day),
                            "policy": row.policy,
                            "authority": row.authority,
                            "rotations": row.rotations,
                            "capacity": row.capacity,
                        }
                        for row in forecast.rows
                    ],
                }
                for desired, forecast in forecasts.fleets
            ],
            "failures": [failure_value(failure) for failure in forecasts.failures],
        }
    )


def _markdown(forecasts: Forecasts, _look: TextStyle) -> str:
    sections = []
    for desired, forecast in forecasts.fleets:
        rows = [
            (start, code(policy), code(by), *rest) for start, policy, by, *rest in map(_Line.cells, _lines(forecast))
        ]
        told = markdown_table(_HEADS, rows, at_most=_ROWS_SHOWN)
        sections.append(f"## {desired.fleet.name}: {_sentence(forecast)}\n\n{told}\n")
    sections += [failed(failure) for failure in forecasts.failures]
    return "\n".join(sections)


def _ics(forecasts: Forecasts, _look: TextStyle) -> str:
    """Return one all-day event per day, policy and authority (RFC 5545)."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//certfleet//forecast//EN"]
    for desired, forecast in forecasts.fleets:
        for row in forecast.rows:
            summary = f"{words.count(row.rotations, 'rotation')}: {row.policy} from {row.authority}"
            lines += [
                "BEGIN:VEVENT",
                f"UID:{row.day:%Y%m%d}-{row.policy}-{row.authority}@{desired.fleet.name}.certfleet",
                f"DTSTAMP:{forecast.seen_at or forecast.first_day:%Y%m%dT%H%M%SZ}",
                f"DTSTART;VALUE=DATE:{row.day:%Y%m%d}",
                f"DTEND;VALUE=DATE:{row.day + timedelta(days=1):%Y%m%d}",
                f"SUMMARY:{summary}",
                "TRANSP:TRANSPARENT",
                "END:VEVENT",
            ]
    lines.append("END:VCALENDAR")
    return "".join(f"{_folded(line)}\r\n" for line in lines)


def _folded(line: str) -> str:
    """Return the line, continued after a blank every 75 octets (RFC 5545, 3.1); everything written here is ASCII."""
    parts = [line[:75], *(line[start : start + 74] for start in range(75, len(line), 74))]
    return "\r\n ".join(parts)


RENDERERS: Mapping[Format, Callable[[Forecasts, TextStyle], str]] = {
    Format.TEXT: _text,
    Format.JSON: _json,
    Format.MARKDOWN: _markdown,
    Format.ICS: _ics,
}
