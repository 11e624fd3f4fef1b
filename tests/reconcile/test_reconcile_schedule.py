"""Dates by formula: the properties that an operator relies on."""

from __future__ import annotations

import re
from collections import Counter
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.reconcile.outlook import explain
from controller.reconcile.schedule import OpenTime, dates_of, dates_of_validity, life_under, share_of, timing_of

DAY, HOUR = timedelta(days=1), timedelta(hours=1)
START = datetime(2026, 1, 1, tzinfo=UTC)

windows = st.sampled_from([(), (("0 2 * * *", 4 * HOUR),), (("0 2 * * SUN", HOUR),), (("0 2 1 1 *", HOUR),)])


@given(
    max_age=st.none() | st.integers(1, 400), renew=st.none() | st.integers(0, 90), validity=st.integers(1, 900),
    jitter=st.integers(0, 100), name=st.text("abcdef0123456789", min_size=1, max_size=8), of=windows,
)  # fmt: skip
def test_never_later_than_due_unless_no_window_allows_it_and_then_it_is_said(
    make, max_age, renew, validity, jitter, name, of
):
    rule = make.rule(
        max_age=None if max_age is None else max_age * DAY, renew_before=None if renew is None else renew * DAY
    )
    policy = make.policy(rule=rule, jitter=jitter, windows=[make.window(*one) for one in of])
    open_time = OpenTime(policy.schedule.windows)
    certificate = make.certificate(name=name, not_before=START, not_after=START + validity * DAY)
    dates = dates_of_validity(policy, START, START + validity * DAY)
    timing = timing_of(policy, certificate, dates, open_time)
    assert (timing is None) is (max_age is None and renew is None)
    if timing is None:
        return
    assert timing.due - dates.jitter <= timing.target <= timing.due
    assert open_time.is_open(timing.start)
    assert (timing.start > timing.due) is timing.misses_max_age
    if timing.misses_max_age:
        assert open_time.seconds_between(timing.due - dates.jitter, timing.due) == 0
    else:
        assert timing.start >= timing.due - dates.jitter - timedelta(seconds=1)


@pytest.mark.parametrize(
    ("sentence", "rule", "validity", "due", "jitter"),
    [
        ("the earlier of two bounds, by age", {"max_age": 90 * DAY, "renew_before": 30 * DAY}, 365, 90, 9),
        ("the earlier of two bounds, by expiry", {"max_age": 340 * DAY, "renew_before": 30 * DAY}, 365, 335, 34),
        ("due early in its life: half of the time until then", {"max_age": None, "renew_before": 30 * DAY}, 40, 10, 4),
        ("due half a day after its birth", {"max_age": None, "renew_before": 39.5 * DAY}, 40, 0.5, 0.25),
        (
            "due before its birth: nothing is left to bring forward",
            {"max_age": None, "renew_before": 41 * DAY},
            40,
            -1,
            0,
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_when_a_certificate_is_due_and_by_how_much_it_may_be_brought_forward(
    make, sentence, rule, validity, due, jitter
):
    policy = make.policy(rule=make.rule(**rule), jitter=10)
    dates = dates_of_validity(policy, START, START + validity * DAY)
    assert (dates.due, dates.jitter) == (START + due * DAY, jitter * DAY), sentence


@pytest.mark.parametrize(
    ("not_before", "rule", "bound"),
    [
        (
            datetime(9999, 11, 1, tzinfo=UTC),
            {"max_age": 90 * DAY, "renew_before": None},
            datetime(9000, 1, 1, tzinfo=UTC),
        ),
        (datetime(1, 2, 1, tzinfo=UTC), {"max_age": None, "renew_before": 90 * DAY}, datetime(1000, 1, 1, tzinfo=UTC)),
    ],
    ids=["beyond the last year", "before the first"],
)
def test_a_date_that_no_calendar_has_becomes_one_far_away(make, not_before, rule, bound):
    dates = dates_of_validity(make.policy(rule=make.rule(**rule)), not_before, not_before + 10 * DAY)
    assert dates.due == bound


@pytest.mark.parametrize("unknown", ["not_before", "not_after"])
def test_a_certificate_of_which_an_end_is_not_known_has_no_dates(make, unknown):
    assert dates_of(make.policy(), make.replace(make.certificate(), **{unknown: None})) is None


def test_a_device_hurries_when_a_twentieth_of_its_life_is_left(make):
    policy = make.policy(rule=make.rule(max_age=20 * DAY))
    assert dates_of_validity(policy, START, START + 400 * DAY).urgent_from == START + 399 * DAY


@given(
    age=st.integers(1, 400),
    more=st.integers(0, 400),
    renew=st.none() | st.integers(0, 90),
    validity=st.integers(1, 900),
)
def test_raising_max_age_never_makes_a_device_due_earlier(make, age, more, renew, validity):
    def due(days):
        rule = make.rule(max_age=days * DAY, renew_before=None if renew is None else renew * DAY)
        return dates_of_validity(make.policy(rule=rule), START, START + validity * DAY).due

    assert due(age) <= due(age + more)


@pytest.mark.parametrize("jitter", [5, 10, 50])
def test_jitter_of_so_many_per_cent_spreads_devices_over_it_within_a_fifth_of_uniform(make, jitter):
    policy, end = make.policy(jitter=jitter), START + 900 * DAY
    dates, always = dates_of_validity(policy, START, end), OpenTime(())
    assert dates.jitter == 180 * DAY * jitter / 100
    buckets: Counter[int] = Counter()
    for number in range(5_000):
        certificate = make.certificate(certificate_id=f"{number:064x}", not_before=START, not_after=end)
        timing = timing_of(policy, certificate, dates, always)
        buckets[int(10 * ((timing.due - timing.target) / dates.jitter))] += 1
    assert set(buckets) == set(range(10))
    assert all(abs(number - 500) < 100 for number in buckets.values()), buckets


def test_the_share_is_that_of_the_formula():
    # printf 'line-adeadbeef' | sha256sum gives the digest; its first eight bytes over 2^64
    from hashlib import sha256

    expected = int(sha256(b"line-adeadbeef").hexdigest()[:16], 16) / 2**64
    assert abs(share_of("line-a", "deadbeef") - expected) < 1e-12


def test_urgent_devices_do_not_wait_for_a_window(make):
    policy = make.policy(windows=[make.window()])
    certificate = make.certificate(name="x", not_before=START, not_after=START + 400 * DAY)
    dates = dates_of_validity(policy, START, START + 400 * DAY)
    timing = timing_of(policy, certificate, dates, OpenTime(policy.schedule.windows), is_urgent=True)
    assert timing.start == timing.target == START + 180 * DAY
    assert timing.is_urgent


def test_windows_that_never_open_put_the_start_at_the_end_of_time(make):
    shut = make.policy(windows=[make.window("0 0 * * *", 25 * HOUR, kind=make.window().kind.DENY)])
    timing = make.assess(make.device(age=179 * DAY), make.desired(shut)).timing
    assert (timing.start.year, timing.misses_max_age) == (9999, True)


def test_a_certificate_life_under_a_rule_is_the_shorter_of_age_and_validity(make):
    assert life_under(make.rule(renew_before=30 * DAY), 100 * DAY) == 70 * DAY
    assert life_under(make.rule(), 365 * DAY) == 180 * DAY
    assert life_under(make.rule(max_age=None), 365 * DAY) == 365 * DAY


def test_late_devices_are_spread_over_the_first_day_of_a_long_opening(make):
    freeze = make.window("0 0 1 6 *", 60 * DAY, kind=make.window().kind.DENY)
    policy = make.policy(jitter=5, windows=[freeze])
    start = datetime(2027, 1, 10, tzinfo=UTC)  # due on 9 July, in the freeze
    open_time = OpenTime(policy.schedule.windows)
    dates = dates_of_validity(policy, start, start + 900 * DAY)
    certificates = [make.certificate(name=f"{n}", not_before=start, not_after=start + 900 * DAY) for n in range(20)]
    starts = [timing_of(policy, certificate, dates, open_time).start for certificate in certificates]
    assert all(datetime(2027, 7, 31, tzinfo=UTC) <= one < datetime(2027, 8, 1, tzinfo=UTC) for one in starts)
    assert len(set(starts)) == 20


def test_explain_shows_the_arithmetic_with_its_numbers_and_the_yaml_line(make):
    device = make.device(age=214 * DAY)
    told = explain(device, make.desired(make.policy(jitter=10, windows=[make.window()])), make.state(), make.now)
    lines = {line.name: (line.formula, line.value) for line in told.arithmetic}
    assert lines["L"] == ("min(na - nb, maxAge 180 days)", "180 days")
    assert lines["due"] == ("nb + maxAge 180 days", "2026-10-20T12:00:00Z")
    assert lines["J"] == ("min(10 % of L, (due - nb) / 2)", "18 days")
    assert lines["urgent"][1] == "no"
    assert told.places == ("demo/policies.yaml:11", "demo/policies.yaml:3")
    assert told.commit == "c" * 40


def test_explain_says_the_same_in_words(make):
    def words(device, *windows, **rule):
        told = explain(
            device,
            make.desired(make.policy(jitter=10, windows=windows, rule=make.rule(**rule))),
            make.state(),
            make.now,
        )
        return " ".join(told.words)

    told = words(make.device(), make.window("0 2 * * *", timezone="Asia/Tokyo"))
    assert "so that it is 10 days old, until " in told
    assert re.search(
        r"It is due on 2027-05-\d\dT12:00:00Z: then it is 180 days old, which is the policy's maxAge", told
    )
    assert re.search(r"of the 18 days before that, its share is \d+ days, so that it aims at 2027-0[45]-", told)
    assert re.search(
        r"It starts from \S+Z, (\S+ )?\d\d:\d\d in Asia/Tokyo on: the maintenance window is open then\.", told
    )
    assert "30 days before its end, which is the policy's renewBefore" in words(
        make.device(left=40 * DAY), renew_before=30 * DAY
    )
    assert "nothing holds it back" in words(make.device(age=200 * DAY))
    assert "no maintenance window opens before it is due" in words(make.device(), make.window("0 2 1 1 *", HOUR))
    assert "by its dates it is never due" in words(make.device(), max_age=None)
    assert "It is urgent, so that windows are ignored." in words(
        make.device(age=195 * DAY, left=5 * DAY), make.window(), max_age=None, renew_before=DAY
    )
    assert words(make.device(certificates=())) == ""


def test_explain_tells_the_date_of_a_device_in_sync(make):
    rule = make.rule(renew_before=30 * DAY)
    told = explain(make.device(left=365 * DAY), make.desired(make.policy(rule=rule)), make.state(), make.now)
    assert told.assessment.findings == ()
    assert {line.name: line.value for line in told.arithmetic}["start"] == "2027-05-12T12:00:00Z"
    assert {line.name: line.formula for line in told.arithmetic}["due"] == (
        "min(na - renewBefore 30 days, nb + maxAge 180 days)"
    )


def test_explain_says_how_the_start_was_found(make):
    def formula(device, *windows, jitter=10, **rule):
        policy = make.policy(jitter=jitter, windows=windows, rule=make.rule(**rule))
        told = explain(device, make.desired(policy), make.state(), make.now)
        return {line.name: line.formula for line in told.arithmetic}["start"]

    assert formula(make.device(), jitter=0) == "target: it falls in open time"
    assert formula(make.device(), make.window()) == "at share u of the open time in [due - J, due]"
    assert "maxAge is missed" in formula(make.device(), make.window("0 2 1 1 *", HOUR))
    ends_soon = make.device(age=195 * DAY, left=5 * DAY)
    assert formula(ends_soon, make.window(), jitter=0, max_age=None, renew_before=DAY) == (
        "target: urgent, windows are ignored"
    )
    assert formula(make.device(age=200 * DAY)) == "now: it is overdue"
    assert formula(make.device(key_type="RSA-2048")) == "now: nothing holds it back"
    assert formula(make.device(age=200 * DAY), make.window("0 2 * * *")) == "the next open time"


def test_explain_of_the_ungoverned_the_tied_and_the_unreadable(make):
    desired = make.desired(make.policy("line-a"), make.policy("line-b"))
    assert explain(make.device(groups=()), desired, make.state(), make.now) is None
    tied = explain(make.device(groups=("line-a", "line-b")), desired, make.state(), make.now)
    assert tied.places == ("demo/policies.yaml:5", "demo/policies.yaml:5")
    assert explain(make.device(certificates=()), desired, make.state(), make.now).arithmetic == ()
    bare = make.desired(make.policy(rule=make.rule(max_age=None)))
    assert "due" not in {line.name for line in explain(make.device(), bare, make.state(), make.now).arithmetic}


def test_jitter_makes_no_certificate_due_at_birth(make):
    """renewBefore takes most of the life away, and jitter must not take the rest."""
    rule = make.rule(max_age=None, renew_before=6 * DAY, authority=None)
    policy = make.policy(rule=rule, jitter=50)
    dates = dates_of_validity(policy, START, START + 7 * DAY)
    assert dates.due == START + DAY
    assert dates.jitter == DAY / 2
    fresh = [make.device(f"g{n}", age=timedelta(0), left=7 * DAY) for n in range(40)]
    assert not make.plan(fresh, make.desired(policy)).jobs
