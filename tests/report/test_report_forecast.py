"""The forecast in words: peak and mean first, then the days, then what the rates cannot do."""

from __future__ import annotations

import json
from datetime import date, timedelta

from report_scene import FAILURE, scene_fleet

from controller.reconcile.forecast import Forecast, ForecastRow
from controller.report.console import Look
from controller.report.forecast import RENDERERS, Forecasts
from controller.report.formats import Format

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
    return RENDERERS[name](found, Look(120))


def test_peak_and_mean_come_first_with_what_jitter_saves():
    text = told(forecasts(30, 60, 10, peak_without_jitter=90, blocked=2))
    assert text.startswith(
        "factory  100 rotations in 30 days · peak 60 on 2026-11-24 · mean 3.3 a day · "
        "without jitter the peak would be 90 · 2\nblocked and left out\n"
    )
    longest, shortest = (text.splitlines()[number].count("█") for number in (6, 7))
    assert (longest, shortest) == (30, 5)


def test_a_day_that_asks_more_than_the_rates_allow_is_named_with_both_numbers():
    text = told(forecasts(30, 160))
    assert "2026-11-24  over capacity: 160 of line-a, its rates and windows allow 100" in text
    assert text.count("over capacity") == 1


def test_many_days_are_told_as_weeks():
    text = told(forecasts(*[1] * 90, days=90))
    assert "2026-11-30           7   " in text
    assert "2026-12-01" not in text


def test_a_quiet_fleet_and_a_second_one_and_a_failure():
    quiet = forecasts()
    both = Forecasts(quiet.fleets + forecasts(5).fleets, (FAILURE,))
    assert told(quiet) == "factory  no rotation in 30 days\n"
    text = told(both)
    assert text.index("no rotation in") < text.index("5 rotations in") < text.index("FAILED  fleet overseas")
    assert "### ❌ Fleet `overseas` could not be read" in told(both, Format.MARKDOWN)
    assert json.loads(told(both, Format.JSON))["failures"][0]["fleet"] == "overseas"
