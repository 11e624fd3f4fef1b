"""The forecast in words: peak and mean first, then the days, then what the rates cannot do."""

from __future__ import annotations

import json
from dataclasses import replace
from datetime import date, timedelta

from report_scene import FAILURE, scene_fleet

from controller.reconcile.outlook import Forecast, ForecastRow
from controller.report.forecast import RENDERERS, Forecasts
from controller.report.formats import Format, TextStyle

FIRST = date(2026, 11, 23)


def forecasts(*numbers: int, days: int = 30, capacity: int = 100, **changes) -> Forecasts:
    """One fleet with so many rotations on the first days."""
    rows = tuple(
        ForecastRow(FIRST + timedelta(n), "line-a", "plant-ca", number, capacity) for n, number in enumerate(numbers)
    )
    peak = max(numbers, default=0)
    day = FIRST + timedelta(numbers.index(peak)) if numbers else None
    values = {"peak_without_jitter": peak, "blocked": 0, **changes}
    found = Forecast(FIRST, days, rows, sum(numbers), peak, day, sum(numbers) / days, **values)
    return Forecasts(((scene_fleet().desired, found),))


def told(found: Forecasts, name: Format = Format.TEXT) -> str:
    return RENDERERS[name](found, TextStyle(120))


def test_peak_and_mean_come_first_with_what_jitter_saves_and_what_is_left_out():
    text = told(forecasts(30, 60, 10, peak_without_jitter=90, blocked=2, reported=1))
    assert " ".join(text.split()).startswith(
        "factory 100 rotations in 30 days · peak 60 on 2026-11-24 · mean 3.3 a day · "
        "without jitter the peak would be 90 · 2 blocked and left out · 1 device only reported and left out From"
    )
    assert "no rotation in 30 days · 3 blocked and left out" in told(forecasts(blocked=3))


def test_each_day_is_told_by_policy_and_authority_against_what_is_allowed():
    def row(policy, authority, number):
        return ForecastRow(FIRST, policy, authority, number, 100)

    rows = (row("line-a", "aws-iot", 40), row("line-a", "plant-ca", 80), row("line-b", "aws-iot", 20))
    ((desired, found),) = forecasts(140).fleets
    both = Forecasts(((desired, replace(found, rows=rows)),))
    lines = [line.split() for line in told(both).splitlines() if line.startswith("2026-11-23 ")]
    assert lines == [
        ["2026-11-23", "line-a", "aws-iot", "40", "40", "100", "█████"],
        ["2026-11-23", "line-a", "plant-ca", "80", "80", "100", "█" * 10],
        ["2026-11-23", "line-b", "aws-iot", "20", "20", "100", "███"],
        ["2026-11-23", "over", "capacity:", "120", "of", "line-a,", "its", "rates", "and", "windows", "allow", "100"],
    ]
    assert "| 2026-11-23 | `line-a` | `plant-ca` | 80 | 80 | 100 |" in told(both, Format.MARKDOWN)
    narrow = RENDERERS[Format.TEXT](both, TextStyle(62))
    assert "█" not in narrow
    assert all(len(line) <= 62 for line in narrow.splitlines())
    assert "line-a" in narrow


def test_a_day_that_asks_more_than_the_rates_allow_is_named_with_both_numbers():
    text = told(forecasts(30, 160))
    assert "2026-11-24  over capacity: 160 of line-a, its rates and windows allow 100" in text
    assert text.count("over capacity") == 1


def test_many_days_are_told_as_weeks():
    text = told(forecasts(*[1] * 6, 3, *[1] * 83, days=90))
    weeks = [line.split()[:6] for line in text.splitlines() if line.startswith("2026-1")]
    assert weeks[0] == ["2026-11-23", "line-a", "plant-ca", "9", "3", "100"]
    assert weeks[1][0] == "2026-11-30"


def test_more_rows_than_anybody_reads_are_counted():
    text = told(forecasts(*[1] * 7 * 150, days=7 * 150))
    assert text.count("line-a") == 120
    assert "and 30 more rows: --format json has all" in text
    crowded = told(forecasts(*[101] * 42, days=42))
    assert crowded.count("over capacity") == 40
    assert "and 2 more rows" in crowded
    assert "… and 30 more" in told(forecasts(*[1] * 7 * 150, days=7 * 150), Format.MARKDOWN)


def test_a_quiet_fleet_and_a_second_one_and_a_failure():
    quiet = forecasts()
    both = Forecasts(quiet.fleets + forecasts(5).fleets, (FAILURE,))
    assert told(quiet) == "factory  no rotation in 30 days\n"
    text = told(both)
    assert text.index("no rotation in") < text.index("5 rotations in") < text.index("FAILED  fleet overseas")
    assert "### ❌ Fleet `overseas` could not be read" in told(both, Format.MARKDOWN)
    assert json.loads(told(both, Format.JSON))["failures"][0]["fleet"] == "overseas"
