"""Durations are read and written as the documents spell them."""

from datetime import timedelta

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from controller.durations import MAX_DURATION, format_duration, parse_duration


@settings(deadline=None)
@given(st.timedeltas(timedelta(0), MAX_DURATION))
def test_a_written_duration_reads_as_itself(duration):
    whole = timedelta(seconds=int(duration.total_seconds()))
    assert parse_duration(format_duration(duration)) == whole


@settings(deadline=None)
@given(st.text())
def test_any_text_is_a_duration_or_a_sentence(text):
    try:
        message = "" if parse_duration(text) >= timedelta(0) else "negative"
    except ValueError as error:
        message = str(error)
    assert message == "" or "allowed:" in message


@pytest.mark.parametrize(
    ("text", "duration", "written"),
    [
        pytest.param("90d", timedelta(days=90), "90d", id="days"),
        pytest.param("2w", timedelta(days=14), "14d", id="weeks are written as days"),
        pytest.param("36h", timedelta(hours=36), "36h", id="hours that are not whole days stay hours"),
        pytest.param("1440m", timedelta(days=1), "1d", id="minutes that are a day become a day"),
        pytest.param("0m", timedelta(0), "0s", id="nothing is nothing in any unit"),
        pytest.param("45s", timedelta(seconds=45), "45s", id="seconds"),
    ],
)
def test_durations_have_one_spelling(text, duration, written):
    assert parse_duration(text) == duration
    assert format_duration(duration) == written


@pytest.mark.parametrize(
    ("found", "message"),
    [
        pytest.param("90", "found '90'; allowed: a whole number and a unit, such as 90d, 12h, 30m, 2w", id="no unit"),
        pytest.param("1.5d", "found '1.5d'; allowed: a whole number and a unit, such as 90d, 12h, 30m, 2w", id="parts"),
        pytest.param(
            "-1d", "found '-1d'; allowed: a whole number and a unit, such as 90d, 12h, 30m, 2w", id="negative"
        ),
        pytest.param(
            "\u0661d",
            "found '\u0661d'; allowed: a whole number and a unit, such as 90d, 12h, 30m, 2w",
            id="other digits",
        ),
        pytest.param(90, "found 90; allowed: a whole number and a unit, such as 90d, 12h, 30m, 2w", id="a number"),
        pytest.param("36526d", "found '36526d'; allowed: at most 36525d", id="more than a hundred years"),
    ],
)
def test_what_is_no_duration_is_told_so(found, message):
    with pytest.raises(ValueError) as raised:  # noqa: PT011 - the whole message is compared
        parse_duration(found)
    assert str(raised.value) == message
