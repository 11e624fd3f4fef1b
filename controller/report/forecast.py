"""Rotations to come: the peak and the mean first, then the days against what the rates allow."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, timedelta

from controller.reconcile.forecast import Forecast
from controller.reconcile.policy import DesiredState

from . import words
from .as_json import FORMAT_VERSION, dump, failure_value
from .console import Look, Page, table
from .formats import Format
from .markdown import failed
from .markdown import table as markdown_table
from .model import FleetFailure
from .text import tell_failures

_BAR = 30  # columns of the longest bar
_PERIODS_SHOWN = 40


@dataclass(frozen=True, slots=True)
class Forecasts:
    """The forecast of each fleet, and the fleets that could not be looked at."""

    fleets: tuple[tuple[DesiredState, Forecast], ...]
    failures: tuple[FleetFailure, ...] = ()


def _sentence(forecast: Forecast) -> str:
    if not forecast.total:
        return f"no rotation in {words.count(forecast.days, 'day')}"
    peak = f"peak {forecast.peak:,} on {forecast.peak_day}" if forecast.peak_day else ""
    parts = [f"{words.count(forecast.total, 'rotation')} in {words.count(forecast.days, 'day')}", peak]
    parts.append(f"mean {forecast.mean:,.1f} a day")
    if forecast.peak_without_jitter > forecast.peak:
        parts.append(f"without jitter the peak would be {forecast.peak_without_jitter:,}")
    if forecast.blocked:
        parts.append(f"{forecast.blocked:,} blocked and left out")
    return " · ".join(parts)


def _periods(forecast: Forecast) -> Iterator[tuple[date, int]]:
    """Days, or weeks where there are too many days: first day and rotations; empty ones are left out."""
    step = 1 if len(forecast.per_day) <= _PERIODS_SHOWN else 7
    counts: Counter[date] = Counter()
    for day, number in forecast.per_day.items():
        offset = (day - forecast.first_day).days // step * step
        counts[forecast.first_day + timedelta(days=offset)] += number
    yield from sorted(counts.items())


def _text(forecasts: Forecasts, look: Look) -> str:
    page = Page(look)
    for number, (desired, forecast) in enumerate(forecasts.fleets):
        if number:
            page.gap()
        page.line((desired.fleet.name, "head"), "  ", _sentence(forecast))
        periods = list(_periods(forecast))
        if not periods:
            continue
        page.gap()
        most = max(count for _, count in periods)
        rows = [(f"{day}", f"{count:,}", "█" * max(1, round(_BAR * count / most))) for day, count in periods]
        page.add(table(("From", "keep"), ("Rotations", "right"), ("", "cut"), rows=rows))
        over = [row for row in forecast.rows if row.is_over]
        for row in over[:_PERIODS_SHOWN]:
            asks = f"{row.rotations:,} of {row.policy}, its rates and windows allow {row.capacity:,}"
            page.line((f"{row.day}  over capacity: {asks}", "bad"))
    tell_failures(page, forecasts.failures)
    return page.text()


def _json(forecasts: Forecasts, _look: Look) -> str:
    return dump(
        {
            "format_version": FORMAT_VERSION,
            "kind": "Forecast",
            "fleets": [
                {
                    "fleet": desired.fleet.name,
                    "commit": desired.commit,
                    "first_day": str(forecast.first_day),
                    "days": forecast.days,
                    "total": forecast.total,
                    "peak": forecast.peak,
                    "peak_day": str(forecast.peak_day) if forecast.peak_day else None,
                    "mean": forecast.mean,
                    "peak_without_jitter": forecast.peak_without_jitter,
                    "blocked": forecast.blocked,
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


def _markdown(forecasts: Forecasts, _look: Look) -> str:
    sections = []
    for desired, forecast in forecasts.fleets:
        rows = [(f"{day}", f"{count:,}") for day, count in _periods(forecast)]
        sections.append(
            f"## {desired.fleet.name}: {_sentence(forecast)}\n\n{markdown_table(('From', 'Rotations'), rows)}\n"
        )
    sections += [failed(failure) for failure in forecasts.failures]
    return "\n".join(sections)


def _ics(forecasts: Forecasts, _look: Look) -> str:
    """One all-day event per day, policy and authority (RFC 5545)."""
    lines = ["BEGIN:VCALENDAR", "VERSION:2.0", "PRODID:-//certfleet//forecast//EN"]
    for desired, forecast in forecasts.fleets:
        for row in forecast.rows:
            summary = f"{words.count(row.rotations, 'rotation')}: {row.policy} from {row.authority}"
            lines += [
                "BEGIN:VEVENT",
                f"UID:{row.day:%Y%m%d}-{row.policy}-{row.authority}@{desired.fleet.name}.certfleet",
                f"DTSTAMP:{forecast.first_day:%Y%m%d}T000000Z",
                f"DTSTART;VALUE=DATE:{row.day:%Y%m%d}",
                f"DTEND;VALUE=DATE:{row.day + timedelta(days=1):%Y%m%d}",
                f"SUMMARY:{summary}",
                "TRANSP:TRANSPARENT",
                "END:VEVENT",
            ]
    lines.append("END:VCALENDAR")
    return "".join(f"{_folded(line)}\r\n" for line in lines)


def _folded(line: str) -> str:
    """Lines above 75 octets continue after a blank (RFC 5545, 3.1); everything written here is ASCII."""
    parts = [line[:75], *(line[start : start + 74] for start in range(75, len(line), 74))]
    return "\r\n ".join(parts)


RENDERERS: Mapping[Format, Callable[[Forecasts, Look], str]] = {
    Format.TEXT: _text,
    Format.JSON: _json,
    Format.MARKDOWN: _markdown,
    Format.ICS: _ics,
}
