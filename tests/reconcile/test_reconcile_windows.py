"""Windows on real calendars: changeovers, leap days, midnight, deny over allow."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reconcile.schedule import OpenTime, never_met
from controller.reconcile.schedule.windows import BLOCK_SECONDS, SEARCH_LIMIT
from controller.reconcile.values import Window, WindowKind

DAY, HOUR, MINUTE = timedelta(days=1), timedelta(hours=1), timedelta(minutes=1)
LONDON, NEW_YORK = "Europe/London", "America/New_York"


def utc(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


# sentence → (cron, zone, duration, day that is looked at (UTC), open spans on it in UTC)
CALENDAR = {
    "a winter night in London is UTC": ("0 2 * * *", LONDON, 4 * HOUR, "2026-11-23", [("02:00", "06:00")]),
    "a summer night in London is an hour earlier": ("0 2 * * *", LONDON, 4 * HOUR, "2026-07-01", [("01:00", "05:00")]),
    "London, clocks go forward: a start before the gap lasts its time": (
        "30 0 * * *", LONDON, 2 * HOUR, "2026-03-29", [("00:30", "02:30"), ("23:30", "24:00")]),
    "London, clocks go forward: a start in the skipped hour moves to its end": (
        "30 1 * * *", LONDON, HOUR, "2026-03-29", [("01:00", "02:00")]),
    "London, clocks go back: a start in the repeated hour happens once, the first time": (
        "30 1 * * *", LONDON, HOUR, "2026-10-25", [("00:30", "01:30")]),
    "London, clocks go back: a window across the changeover lasts its time": (
        "0 0 * * *", LONDON, 4 * HOUR, "2026-10-25", [("00:00", "03:00")]),
    "New York, clocks go forward: a start in the skipped hour moves to its end": (
        "30 2 * * *", NEW_YORK, HOUR, "2026-03-08", [("07:00", "08:00")]),
    "New York, clocks go forward: the night before is still winter": (
        "0 1 * * *", NEW_YORK, 30 * MINUTE, "2026-03-08", [("06:00", "06:30")]),
    "New York, clocks go back: once, the first time": (
        "30 1 * * *", NEW_YORK, HOUR, "2026-11-01", [("05:30", "06:30")]),
    "New York, after the changeover": ("30 1 * * *", NEW_YORK, HOUR, "2026-11-02", [("06:30", "07:30")]),
    "across midnight": ("0 22 * * *", "UTC", 4 * HOUR, "2026-11-23", [("00:00", "02:00"), ("22:00", "24:00")]),
    "Mondays to Fridays: Saturday is closed": ("0 2 * * 1-5", "UTC", 4 * HOUR, "2026-11-28", []),
    "29 February in a leap year": ("0 2 29 2 *", "UTC", HOUR, "2028-02-29", [("02:00", "03:00")]),
    "28 February in a leap year is not the 29th": ("0 2 29 2 *", "UTC", HOUR, "2028-02-28", []),
    "the last day of a month": ("0 2 L * *", "UTC", HOUR, "2027-02-28", [("02:00", "03:00")]),
    "windows that overlap are one": ("*/30 1 * * *", "UTC", HOUR, "2026-11-23", [("01:00", "02:30")]),
    "a window longer than a day": ("0 12 * * SAT", "UTC", 48 * HOUR, "2026-11-29", [("00:00", "24:00")]),
}  # fmt: skip


@pytest.mark.parametrize("row", CALENDAR.values(), ids=CALENDAR)
def test_open_time_on_the_calendar(row):
    cron, zone, duration, day, expected = row
    open_time = OpenTime([Window(cron, zone, duration)])
    start = utc(f"{day}T00:00:00")
    minutes = [start + n * MINUTE for n in range(24 * 60)]
    spans, inside = [], False
    for minute in [*minutes, start + DAY]:
        is_open = minute < start + DAY and open_time.is_open(minute)
        if is_open and not inside:
            spans.append([minute])
        elif inside and not is_open:
            spans[-1].append(minute)
        inside = is_open
    texts = [(a.strftime("%H:%M"), "24:00" if b == start + DAY else b.strftime("%H:%M")) for a, b in map(tuple, spans)]
    assert texts == expected
    assert open_time.seconds_between(start, start + DAY) == sum((b - a).total_seconds() for a, b in map(tuple, spans))


def test_deny_beats_allow_and_cuts_it_in_two():
    open_time = OpenTime([
        Window("0 2 * * *", "UTC", 4 * HOUR),
        Window("0 3 * * *", "UTC", HOUR, WindowKind.DENY),
    ])  # fmt: skip
    night = utc("2026-11-23T00:00:00")
    assert [open_time.is_open(night + h * HOUR) for h in range(7)] == [False, False, True, False, True, True, False]
    assert open_time.seconds_between(night, night + DAY) == 3 * 3600


def test_only_deny_leaves_everything_else_open():
    open_time = OpenTime([Window("0 0 20 12 *", "UTC", 15 * DAY, WindowKind.DENY)])
    assert open_time.is_open(utc("2026-12-19T23:59:59"))
    assert not open_time.is_open(utc("2026-12-20T00:00:00"))
    assert open_time.next_open(utc("2026-12-25T00:00:00")).start == utc("2027-01-04T00:00:00")


def test_no_windows_are_always_open():
    open_time = OpenTime([])
    now = utc("2026-11-23T12:00:00")
    assert open_time.is_open(now)
    assert open_time.seconds_between(now, now + HOUR) == 3600
    assert open_time.seconds_between(now, now - HOUR) == 0
    assert open_time.after(now, 60) == now + MINUTE
    assert open_time.next_open(now) == (now, now + SEARCH_LIMIT)


def test_the_next_opening_of_a_leap_day_is_found_years_ahead():
    assert OpenTime([Window("0 2 29 2 *", "UTC", HOUR)]).next_open(utc("2026-11-23T12:00:00")).start == utc(
        "2028-02-29T02:00:00"
    )


def test_open_time_that_never_comes_is_none():
    shut = OpenTime([Window("0 0 * * *", "UTC", 25 * HOUR, WindowKind.DENY)])
    now = utc("2026-11-23T12:00:00")
    assert shut.next_open(now) is None
    assert shut.after(now, 1) is None
    assert shut.at_share(now, now + 10 * DAY, 0.5) is None


def test_an_empty_stretch_has_no_open_time():
    open_time, now = OpenTime([Window("0 2 * * *", "UTC", HOUR)]), utc("2026-11-23T02:30:00")
    assert open_time.seconds_between(now, now) == 0
    assert open_time.longest_closed(now, now + HOUR).end == now + HOUR


NIGHTLY = Window("0 2 * * *", "UTC", HOUR)
EDGE = datetime.fromtimestamp(BLOCK_SECONDS * 325, UTC)  # between two blocks, at midnight


def test_a_window_that_ends_is_not_the_next_one():
    end = utc("2026-11-23T03:00:00")
    assert OpenTime([NIGHTLY]).next_open(end) == (end + 23 * HOUR, end + DAY)


def test_an_opening_across_two_blocks_is_one():
    open_time = OpenTime([Window("0 22 * * *", "UTC", 4 * HOUR)])
    assert open_time.next_open(EDGE - HOUR) == (EDGE - HOUR, EDGE + 2 * HOUR)


def test_open_time_that_lasts_to_the_end_of_a_block_ends_there():
    """The first hour of the next block does not count: the last second is found in this one."""
    assert OpenTime([NIGHTLY]).after(EDGE - DAY, 3600) == EDGE - 21 * HOUR


def test_a_window_that_ends_in_the_first_second_of_a_block_is_open_then():
    open_time = OpenTime([Window("59 23 * * *", "UTC", 61 * timedelta(seconds=1))])
    assert [open_time.is_open(EDGE + n * timedelta(seconds=1)) for n in (-61, -60, 0, 1)] == [False, True, True, False]


def test_what_opens_at_the_limit_of_the_search_is_not_found_yet():
    """There is no 29 February between 2096 and 2104."""
    leap, opens = OpenTime([Window("0 2 29 2 *", "UTC", HOUR)]), utc("2104-02-29T02:00:00")
    assert leap.next_open(opens - SEARCH_LIMIT) is None
    assert leap.next_open(opens - SEARCH_LIMIT + timedelta(seconds=1)).start == opens


LAST = datetime(9999, 12, 31, 23, 59, 59, tzinfo=UTC)  # what certificates say that have no end


@pytest.mark.parametrize(
    "windows",
    [[NIGHTLY], [Window("0 2 1 1 *", "UTC", HOUR)], [Window("0 2 * * *", NEW_YORK, HOUR)]],
    ids=["nightly", "yearly", "New York"],
)
def test_there_is_open_time_as_long_as_the_calendar_goes(windows):
    open_time = OpenTime(windows)
    for instant in (LAST, LAST - DAY, LAST - 366 * DAY):
        opens = open_time.next_open(instant)
        assert opens is None or open_time.is_open(opens.start)
        assert open_time.is_open(instant) == (opens is not None and opens.start == instant)
        open_time.at_share(instant - DAY, instant, 0.5)
        open_time.after(instant, 3600)


def test_of_closed_stretches_that_are_as_long_the_first_is_told():
    noon = utc("2026-11-23T12:00:00")
    assert OpenTime([NIGHTLY]).longest_closed(noon, noon + 10 * DAY) == (noon + 15 * HOUR, noon + 38 * HOUR)


@given(
    hour=st.integers(0, 23), length=st.integers(1, 30), start=st.integers(0, 400 * 86_400),
    span=st.integers(1, 150 * 86_400), share=st.floats(0, 1, exclude_max=True),
    zone=st.sampled_from(["UTC", LONDON, NEW_YORK, "Asia/Kolkata", "Pacific/Chatham"]),
)  # fmt: skip
def test_a_share_of_open_time_lies_in_open_time_at_that_share(hour, length, start, span, share, zone):
    open_time = OpenTime([Window(f"0 {hour} * * 1-5", zone, length * HOUR)])
    first = utc("2026-01-01T00:00:00") + timedelta(seconds=start)
    last = first + timedelta(seconds=span)
    total = open_time.seconds_between(first, last)
    found = open_time.at_share(first, last, share)
    assert (found is None) is (total == 0)
    if found is not None:
        assert first <= found < last
        assert open_time.is_open(found)
        assert open_time.seconds_between(first, found) == int(total * share)


@given(start=st.integers(0, 300 * 86_400), seconds=st.integers(1, 500_000))
def test_open_seconds_after_an_instant_are_counted_exactly(start, seconds):
    open_time = OpenTime([Window("0 2 * * *", LONDON, 4 * HOUR), Window("0 3 * * SUN", LONDON, HOUR, WindowKind.DENY)])
    first = utc("2026-01-01T00:00:00") + timedelta(seconds=start)
    assert open_time.seconds_between(first, open_time.after(first, seconds)) == seconds


@pytest.mark.parametrize(
    ("sentence", "windows", "rule", "validity", "text"),
    [
        ("no windows", (), {}, None, None),
        ("every night", (("0 2 * * *", 4 * HOUR),), {}, None, None),
        ("once a year with 180 days of age", (("0 2 1 1 *", HOUR),), {}, None,
         "but a certificate must be replaced within 180 days (maxAge)"),
        ("once a year with a validity of 100 days", (("0 2 1 1 *", HOUR),),
         {"max_age": None, "renew_before": 30 * DAY}, 100 * DAY, "within 70 days (validity minus renewBefore)"),
        ("once a year with nothing demanded", (("0 2 1 1 *", HOUR),), {"max_age": None}, None, None),
        ("once a year with a validity of 100 days to its end", (("0 2 1 1 *", HOUR),), {"max_age": None}, 100 * DAY,
         "within 100 days (validity minus renewBefore)"),
        ("the shorter of two lives", (("0 2 1 1 *", HOUR),), {"renew_before": 30 * DAY}, 100 * DAY,
         "within 70 days (validity minus renewBefore)"),
        ("monthly with 180 days of age", (("0 2 1 * *", HOUR),), {}, 365 * DAY, None),
        ("closed for just as long as it may be used", (("0 2 * * *", 4 * HOUR),), {"max_age": 20 * HOUR}, None,
         "the windows leave 20 hours closed in a row"),
        ("open a minute sooner", (("0 2 * * *", 4 * HOUR + MINUTE),), {"max_age": 20 * HOUR}, None, None),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)  # fmt: skip
def test_windows_that_can_never_be_met_are_told_with_numbers(make, sentence, windows, rule, validity, text):
    policy = make.policy(rule=make.rule(**rule), windows=[make.window(*window) for window in windows])
    found = never_met(policy, validity, make.now)
    assert (found is None) is (text is None), sentence
    assert text is None or text in found


@pytest.mark.parametrize(
    ("sentence", "days", "closed", "max_age", "is_told"),
    [
        ("far beyond twice its life", 700, 40, 30, True),
        ("just within two years and a bit", 770, 60, 30, True),
        ("just beyond", 771, 60, 30, False),
        ("just within twice a long life", 850, 1000, 850, True),
        ("just beyond that", 851, 1000, 850, False),
        ("beyond five years", 463, 1400, 1380, False),
    ],
)
def test_a_closed_stretch_is_looked_for_two_years_ahead_or_twice_the_life_and_five_years_at_most(
    make, sentence, days, closed, max_age, is_told
):
    """It begins on the one 29 February that is near, so many days from now."""
    shut = make.window("0 0 29 2 *", closed * DAY, kind=WindowKind.DENY)
    policy = make.policy(rule=make.rule(max_age=max_age * DAY), windows=[shut])
    found = never_met(policy, None, utc("2028-02-29T00:00:00") - days * DAY)
    assert (found is not None) is is_told, sentence


def test_windows_that_are_denied_altogether_are_told(make):
    policy = make.policy(windows=[make.window("0 0 * * *", 25 * HOUR, kind=WindowKind.DENY)])
    assert "no window opens within 1830 days" in never_met(policy, None, make.now).replace(",", "")
