"""The past and the future: rotations that ended, drift over past reports, and the forecast."""

from __future__ import annotations

from collections import Counter
from datetime import date, timedelta

from controller.reconcile.outlook import Forecast
from controller.reconcile.values import FAILED
from controller.report import words
from controller.report.model import FleetReport
from protocol.messages import ExecutionStatus

from .chart import OTHERS, Chart, Series, absent, table_of
from .drawing import columns

WEEK = timedelta(days=7)
AUTHORITIES = 4  # told apart in the forecast; the rest are added up
DAYS_SHOWN = 14  # of ended rotations
REPORTS_SHOWN = 30
OVER_SHOWN = 3


def forecast(fleet: FleetReport) -> Chart:
    """Return rotations to come by week, and the days that ask more than the rates allow."""
    title, found = "Rotations to come", fleet.forecast
    if found is None:
        return absent("forecast", title, "this report was made without a forecast: certfleet drift makes one")
    if not found.total:
        return absent("forecast", title, f"no rotation falls due in {words.count(found.days, 'day')}")
    first = found.first_day
    weeks = [first + WEEK * number for number in range(-(-found.days // 7))]
    totals: Counter[str] = Counter()
    cells: Counter[tuple[str, int]] = Counter()
    for row in found.rows:
        totals[row.authority] += row.rotations
        # The last instant of the horizon may fall on the day after the last whole one.
        cells[row.authority, min((row.day - first).days // 7, len(weeks) - 1)] += row.rotations
    names = [name for name, _ in totals.most_common(AUTHORITIES)]
    series = [
        Series(name, f"hue-{hue}", tuple(cells[name, number] for number in range(len(weeks))))
        for hue, name in enumerate(names)
    ]
    rest = set(totals) - set(names)
    if rest:
        values = tuple(sum(cells[name, number] for name in rest) for number in range(len(weeks)))
        series.append(Series(OTHERS, "soft", values))
    labels = [f"{week:%d %b}" for week in weeks]
    return Chart(
        "forecast",
        title,
        f"{words.count(found.total, 'rotation')} in {words.count(found.days, 'day')}, by week and authority: "
        f"mean {found.mean:,.1f} a day, peak {found.peak:,} on {found.peak_day}; rates and windows allow "
        f"{_allowed(found, found.peak_day):,} on that day.{_saved(found)}",
        columns(labels, series),
        tuple((row.name, row.meaning) for row in series),
        ("Week from", *(row.name for row in series), "on its busiest day", "allowed that day"),
        _weekly(found, weeks, table_of([str(week) for week in weeks], series)),
        _over(found),
    )


def _weekly(found: Forecast, weeks: list[date], table: tuple[tuple[str, ...], ...]) -> tuple[tuple[str, ...], ...]:
    """Return the table, with each week's busiest day and what the rates and windows allow on it."""
    per_day = found.per_day
    rows = []
    for week, row in zip(weeks, table, strict=True):
        days = [day for day in per_day if week <= day < week + WEEK]
        busiest = max(days, key=lambda day: (per_day[day], -day.toordinal()), default=None)
        told = ("–", "–") if busiest is None else (f"{per_day[busiest]:,}", f"{_allowed(found, busiest):,}")
        rows.append((*row, *told))
    return tuple(rows)


def _allowed(found: Forecast, day: date | None) -> int:
    """Return what the policies that rotate on that day can do on it."""
    return sum({row.policy: row.capacity for row in found.rows if row.day == day}.values())


def _saved(found: Forecast) -> str:
    """Return what the jitter buys, if it buys something."""
    without = found.peak_without_jitter
    return f" Without jitter the peak would be {without:,}." if without > found.peak else ""


def _over(found: Forecast) -> tuple[str, ...]:
    over = found.over_capacity
    notes = [
        f"{one.day}: {one.policy} asks {one.rotations:,}, its rates and windows allow {one.capacity:,}"
        for one in over[:OVER_SHOWN]
    ]
    if len(over) > OVER_SHOWN:
        notes.append(f"and {words.count(len(over) - OVER_SHOWN, 'more day')} over capacity")
    return tuple(notes)


def rotations(fleet: FleetReport) -> Chart:
    """Return rotations that ended, by day."""
    title = "Rotations done"
    succeeded: Counter[date] = Counter()
    failed: Counter[date] = Counter()
    for job in fleet.state.jobs:
        for execution in job.executions.values():
            day = execution.last_updated_at.date()
            if execution.status is ExecutionStatus.SUCCEEDED:
                succeeded[day] += 1
            elif execution.status in FAILED:
                failed[day] += 1
    today = fleet.state.observed_at.date()
    days = [today - timedelta(days=back) for back in reversed(range(DAYS_SHOWN))]
    good = Series("succeeded", "good", tuple(succeeded[day] for day in days))
    bad = Series("failed", "bad", tuple(failed[day] for day in days))
    if not any(good.values + bad.values):
        return absent("rotations", title, f"no rotation has ended in {DAYS_SHOWN} days, as far as jobs are kept")
    description = (
        f"{words.count(sum(good.values), 'rotation')} succeeded and {sum(bad.values):,} failed in {DAYS_SHOWN} days."
    )
    series = (good, bad)
    return Chart(
        "rotations",
        title,
        description,
        columns([f"{day:%d %b}" for day in days], series),
        tuple((row.name, row.meaning) for row in series),
        ("Day", "succeeded", "failed"),
        table_of([str(day) for day in days], series),
    )


def trend(fleet: FleetReport) -> Chart:
    """Return the drift over the past reports, with this one as the last."""
    title, records = "Drift over past reports", fleet.trend[-REPORTS_SHOWN:]
    if not records:
        return absent("trend", title, "no past reports are kept: certfleet drift --history PLACE keeps them")
    if len(records) == 1:
        return absent("trend", title, "this is the first report that is kept; the next ones show where the fleet goes")
    series = (
        Series("to rotate", "change", tuple(record.rotate for record in records)),
        Series("waiting", "wait", tuple(record.waiting for record in records)),
        Series("need a person", "bad", tuple(record.blocked - record.left_out for record in records)),
        Series("left out", "soft", tuple(record.left_out for record in records)),
    )
    first, last = records[0], records[-1]
    description = (
        f"Devices out of sync in {words.count(len(records), 'report')}: "
        f"{first.governed - first.in_sync:,} on {first.created_at:%Y-%m-%d}, "
        f"{last.governed - last.in_sync:,} now; {words.percent(last.in_sync, last.governed)} are in sync."
    )
    rows = tuple(
        (
            words.instant(record.created_at),
            words.percent(record.in_sync, record.governed),
            *(f"{row.values[number]:,}" for row in series),
            f"{record.succeeded:,}",
            f"{record.failed:,}",
        )
        for number, record in enumerate(records)
    )
    heads = ("Report", "in sync", *(row.name for row in series), "rotations succeeded", "failed")
    labels = [f"{record.created_at:%d %b}" for record in records]
    legend = tuple((row.name, row.meaning) for row in series)
    return Chart("trend", title, description, columns(labels, series), legend, heads, rows)
