"""Rows from records, registry and documents: each certificate has its chain, or the gap in it has a name."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from controller.evidence import AgeRule, Approval, DocumentCommit, Exemption, Fate, Gap, InUse, PolicyHistory, trace
from controller.evidence.tracing import sum_up
from protocol.rotation_record import RecordEntry, RotationRecord

DAY = timedelta(days=1)
NOW = datetime(2026, 11, 30, tzinfo=UTC)
SINCE = NOW - 365 * DAY
CHANGE = DocumentCommit(
    "c" * 40, "Ada <ada@plant.example>", SINCE, "rotate line A", (Approval("Grace", "reviewed-by"),)
)


def day(number):
    return SINCE + number * DAY


def record(number, at, *, old, thing="a-1", **changes):
    """A rotation that began on a day, and took an hour."""
    begun, new = day(at), f"cert-{number}"
    rotation = RotationRecord(
        thing, "cf-line-a-w2-0123456789abcdef", "plant-ca", begun, old, "finished", new, "ECDSA-P256", "line-a",
        "c" * 40, begun + timedelta(minutes=2), begun + timedelta(minutes=2), begun + timedelta(minutes=3), "SUCCEEDED",
        "rotated",
        (RecordEntry(begun, "create", f"issued {new}"),
         RecordEntry(begun + timedelta(minutes=4), "terminal", f"removing {old}")),
    )  # fmt: skip
    return replace(rotation, **changes)


def held(certificate_id, created, thing="a-1", policy="line-a"):
    return InUse(thing, certificate_id, created, created, "ECDSA-P256", "plant-ca", policy)


def allowing(*rules):
    """A history of policy line-a: pairs of a day and what it allows from then on."""
    known = (AgeRule(day(at), "c" * 40, None if days is None else days * DAY) for at, days in rules)
    return PolicyHistory({"line-a": tuple(known)})


YEAR = allowing((-900, 180))


def rows_of(records, in_use, history=YEAR, change_of=lambda _commit: CHANGE, **settings):
    return trace(records, in_use, history, change_of, since=SINCE, until=NOW, **settings)


def test_a_rotation_shows_its_whole_chain():
    rows = rows_of(
        [record(1, 100, old="cert-0")], [held("cert-1", day(100))], plans={"cf-line-a-w2-0123456789abcdef": "feed"}
    )
    before, now = rows
    assert (before.certificate_id, before.fate, before.ended_by) == ("cert-0", Fate.REPLACED, "terminal")
    assert before.gaps == (Gap.NO_RECORD, Gap.ISSUE_DATE)
    assert (now.certificate_id, now.fate, now.asked_by, now.wave, now.plan) == (
        "cert-1",
        Fate.IN_USE,
        "line-a",
        "2",
        "feed",
    )
    assert now.change == CHANGE
    assert (now.issued_at, now.connected_at) == (day(100), day(100) + timedelta(minutes=2))
    assert now.gaps == ()


def test_of_a_shared_certificate_it_shows_who_let_go_of_it_and_how_old_it_is():
    letting_go = RecordEntry(day(100), "terminal", "letting go of cert-0")
    split = record(1, 100, old="cert-0", history=(letting_go, RecordEntry(day(100), "terminal", "let go of cert-0")))
    before, *_ = rows_of([split], [held("cert-1", day(100)), held("cert-0", day(-300), thing="a-2")])
    assert (before.thing, before.certificate_id, before.fate) == ("a-1", "cert-0", Fate.REPLACED)
    assert (before.ended_by, before.issued_at, before.gaps) == ("terminal", day(-300), (Gap.NO_RECORD,))


@pytest.mark.parametrize(
    ("records", "in_use", "gaps"),
    [
        ([], [held("x", day(-400))], {"x": {Gap.NO_RECORD}}),
        ([record(1, 9, old="a", policy=None, commit=None)], [held("cert-1", day(9))], {"cert-1": {Gap.NO_POLICY}}),
        ([record(1, 9, old="a", commit="gone")], [held("cert-1", day(9))], {"cert-1": {Gap.COMMIT}}),
        ([record(1, 9, old="a", commit="alone")], [held("cert-1", day(9))], {"cert-1": {Gap.APPROVAL}}),
        # by hand since, or the record is lost
        ([record(1, 9, old="a")], [held("x", day(50))], {"cert-1": {Gap.CHAIN}, "x": {Gap.NO_RECORD}}),
        # a record between two is lost: what it brought, and what it replaced
        (
            [record(1, 9, old="a"), record(3, 200, old="cert-2")],
            [held("cert-3", day(200))],
            {"cert-1": {Gap.CHAIN}, "cert-2": {Gap.NO_RECORD, Gap.ISSUE_DATE, Gap.CHAIN}, "cert-3": set()},
        ),
        # the thing has left the fleet, or holds nothing
        ([record(1, 9, old="a")], [], {"cert-1": {Gap.CHAIN}}),
    ],
)
def test_what_is_not_known_is_a_gap_with_a_name(records, in_use, gaps):
    changes = {"gone": None, "alone": replace(CHANGE, approvals=())}
    rows = rows_of(records, in_use, change_of=lambda commit: changes.get(commit, CHANGE))
    found = {row.certificate_id: set(row.gaps) for row in rows}
    assert {name: found[name] for name in gaps} == gaps


def test_a_rotation_that_came_to_nothing_is_shown_and_the_old_certificate_stays_the_one_in_use():
    back = record(1, 30, old="cert-0", outcome="rolled back", committed_at=None)
    begun = record(2, 60, old="cert-0", phase="created", outcome=None, committed_at=None)
    rows = rows_of([back, begun], [held("cert-0", day(-10)), held("cert-2", day(60))])
    assert {row.certificate_id: row.fate for row in rows} == {
        "cert-0": Fate.IN_USE,
        "cert-1": Fate.TAKEN_BACK,
        "cert-2": Fate.UNDECIDED,
    }
    [in_use] = [row for row in rows if row.fate is Fate.IN_USE]
    assert in_use.oldest == NOW - day(-10)
    assert rows[-1].excesses == ()


def test_a_certificate_that_is_older_than_the_policy_allows_shows_since_when():
    [row] = rows_of([], [held("x", day(0))])
    assert [(one.since, one.until, one.allowed) for one in row.excesses] == [(day(180), NOW, 180 * DAY)]


def test_what_was_allowed_counts_by_the_documents_of_the_time():
    history = allowing((-900, 400), (100, 90), (120, None), (300, 200))
    [row] = rows_of([], [held("x", day(0))], history)
    assert [(one.since, one.until) for one in row.excesses] == [(day(100), day(120)), (day(300), NOW)]


def test_before_the_first_document_nothing_is_judged():
    [row] = rows_of([], [held("x", day(-300))], allowing((10, 180)))
    assert Gap.POLICY_UNKNOWN in row.gaps
    assert sum_up([row], YEAR)[0].not_judged == ("a-1",)


@pytest.mark.parametrize(
    ("exemption", "is_exempt"),
    [
        (Exemption("w", "Waiver", ("a-1",), "Ada", "frozen", NOW, day(150)), True),
        (Exemption("w", "Waiver", ("a-2",), "Ada", "frozen", NOW, day(150)), False),
        (Exemption("w", "Waiver", ("a-1",), "Ada", "frozen", NOW, day(10), day(180)), False),
        (Exemption("line-a", "suspend", (), None, "audit", NOW, day(150)), True),
        (Exemption("line-b", "suspend", (), None, "audit", NOW, day(150)), False),
    ],
)
def test_who_was_left_out_meanwhile_by_a_persons_word_is_told_apart(exemption, is_exempt):
    history = replace(YEAR, exemptions=(exemption,))
    [ages] = sum_up(rows_of([], [held("x", day(0))], history), history)
    assert ages.exceeding == ("a-1",)
    assert ages.exempt == (("a-1",) if is_exempt else ())


def test_what_ended_before_the_period_is_left_out():
    rows = rows_of([record(1, -90, old="a"), record(2, -30, old="cert-1")], [held("cert-2", day(-30))])
    assert [row.certificate_id for row in rows] == ["cert-2"]


# A year of anything ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Use:
    """The truth: a certificate, and when it was in use."""

    certificate_id: str
    issued: datetime
    since: datetime
    until: datetime


EVENTS = st.sampled_from(["rotated", "failed", "by hand", "lost", "no policy"])


@st.composite
def years(draw):
    """What happened to one device in two years, what is left of it in the table, and what was allowed when."""
    days = sorted(draw(st.sets(st.integers(-360, 360), max_size=8)))
    uses, records = [], []
    certificate_id, issued, since = "cert-0", day(draw(st.integers(-700, -361))), day(-361)
    for number, at in enumerate(days, 1):
        event = draw(EVENTS)
        made = record(number, at, old=certificate_id)
        if event == "failed":
            records.append(replace(made, outcome="rolled back", committed_at=None))
            continue
        instant = day(at) if event == "by hand" else made.committed_at
        uses.append(Use(certificate_id, issued, since, instant))
        certificate_id, issued, since = made.new_certificate_id, day(at), instant
        if event in {"rotated", "no policy"}:
            records.append(replace(made, policy=None) if event == "no policy" else made)
    uses.append(Use(certificate_id, issued, since, NOW))
    rules = sorted(
        draw(st.dictionaries(st.integers(-360, 360), st.sampled_from([30, 90, 200, None]), max_size=3)).items()
    )
    return uses, draw(st.permutations(records)), allowing((-900, 100), *rules)


def too_old(use, history):
    """Noons of the period at which the certificate was in use and older than allowed."""
    for number in range(365):
        at = day(number) + timedelta(hours=12)
        allowed = next((rule.max_age for rule in reversed(history.rules["line-a"]) if rule.since <= at), None)
        if use.since <= at < use.until and allowed is not None and at - use.issued > allowed:
            yield at


@given(years())
def test_whatever_was_lost_no_excess_is_passed_over_without_a_gap_and_none_is_made_up(year):
    uses, records, history = year
    last = uses[-1]
    rows = rows_of(records, [held(last.certificate_id, last.issued)], history)
    shown = {row.certificate_id: row for row in rows}
    assert len(shown) == len(rows)
    assert all(row.job_id or Gap.NO_RECORD in row.gaps for row in rows)  # a chain, or its gap
    is_whole = not any({Gap.CHAIN, Gap.NO_RECORD} & set(row.gaps) for row in rows)
    for use in uses:
        excess = set(too_old(use, history))
        row = shown.get(use.certificate_id)
        if row is None:  # nothing of it is left in the table: then the chain is broken somewhere
            assert use.until < SINCE or not is_whole
            continue
        if row.oldest is None or {Gap.CHAIN, Gap.ISSUE_DATE} & set(row.gaps):
            assert sum_up([row], history)[0].not_judged
            continue
        found = {at for at in excess if any(one.since <= at < one.until for one in row.excesses)}
        assert found == excess
        noons = [day(number) + timedelta(hours=12) for number in range(365)]
        assert {at for at in noons if any(one.since <= at < one.until for one in row.excesses)} <= excess
