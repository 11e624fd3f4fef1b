"""The table of evidence and verdicts: its rules over every combination, and how evidence becomes its words."""

from __future__ import annotations

import itertools
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend.functions.verdicts import (
    LASTING,
    QUIET,
    ROWS,
    CertificateRole,
    Commit,
    Ending,
    ExecutionOutcome,
    Notification,
    RotationEvidence,
    Use,
    find,
    use_of,
    weigh,
)

START = datetime(2026, 11, 29, 12, 0, tzinfo=UTC)
EVERY = list(itertools.product(Commit, ExecutionOutcome, Use))
OLD, NEW = CertificateRole.OLD, CertificateRole.NEW
NOBODY, NOTE, PERSON = Notification.NOBODY, Notification.NOTE, Notification.PERSON


def at(seconds):
    return None if seconds is None else START + timedelta(seconds=seconds)


def evidence(now=600, **known):
    instants = {"committed", "ended", "old_seen", "new_seen"}
    values = {name: at(value) if name in instants else value for name, value in known.items()}
    return RotationEvidence(now=at(now), started=START, **values)


@pytest.mark.parametrize(("commit", "end", "use"), EVERY, ids=lambda word: word.name)
def test_a_certificate_goes_only_for_a_reason_that_the_rules_name(commit, end, use):
    row = find(commit, end, use)
    if row.goes is OLD:
        proven = commit is Commit.PROVEN and end not in {ExecutionOutcome.RUNNING, ExecutionOutcome.FAILED}
        assert use is Use.OLD_DEACTIVATED or proven
        assert use is not Use.CONTESTED
    if row.goes is NEW:
        failed = commit is Commit.NONE and end is ExecutionOutcome.FAILED and use in {Use.NEVER_NEW, Use.BACK_ON_OLD}
        assert failed or use in {Use.UNDELIVERED, Use.NEW_DEACTIVATED}


def test_every_row_decides_something():
    assert {find(*words) for words in EVERY} == set(ROWS)


INSTANTS = st.none() | st.integers(0, 7200)
KNOWN = st.builds(
    evidence,
    now=st.integers(0, 3 * 86_400),
    leased=st.booleans(),
    handed_out=st.booleans(),
    committed=INSTANTS,
    old_seen=INSTANTS,
    new_seen=INSTANTS,
    contested=st.booleans(),
    ended=INSTANTS,
    ending=st.sampled_from(Ending),
).map(lambda known: known if known.ended else replace(known, ending=None))


@given(KNOWN, st.integers(1, 9000))
def test_no_sighting_of_the_old_one_after_a_commit_removes_anything(known, later):
    committed = replace(known, committed=known.committed or START, handed_out=True)
    seen = replace(committed, old_seen=committed.committed + timedelta(seconds=later))
    assert weigh(seen).goes is None


@given(KNOWN)
def test_no_sighting_of_the_old_one_and_no_second_key_removes_what_was_committed(known):
    if known.committed is not None and known.handed_out:
        assert weigh(known).goes is not NEW


@given(KNOWN)
def test_what_stays_undecided_for_a_day_is_a_persons_to_decide(known):
    at_last = replace(known, now=max(known.now, known.ended or START) + LASTING, leased=False)
    verdict = weigh(at_last)
    assert verdict.goes is not None or verdict.told is PERSON


CASES = {
    # what is known: what goes, and who is told
    "it has succeeded after its commit": ({"committed": 10, "ended": 12, "ending": "SUCCEEDED"}, OLD, NOBODY),
    "the end was heard of before a commit that was sent earlier": (
        {"committed": 10, "ended": 12, "ending": "SUCCEEDED", "now": 72}, OLD, NOBODY,
    ),
    "the old one connected before the commit": (
        {"committed": 10, "old_seen": 9, "ended": 12, "ending": "SUCCEEDED"}, OLD, NOBODY,
    ),
    "the old one connected after the commit": (
        {"committed": 10, "old_seen": 11, "ended": 12, "ending": "SUCCEEDED"}, None, PERSON,
    ),
    "a second key was asked for, and one was committed": (
        {"committed": 10, "contested": True, "ended": 12, "ending": "SUCCEEDED"}, None, PERSON,
    ),
    "it has failed and never used the new one": ({"ended": 12, "ending": "FAILED"}, NEW, NOTE),
    "it has failed after it used the new one": ({"new_seen": 5, "ended": 12, "ending": "FAILED"}, None, NOTE),
    "it has come back on its old one, just now": (
        {"new_seen": 5, "old_seen": 590, "ended": 12, "ending": "FAILED"}, None, NOTE,
    ),
    "it has come back on its old one, a while ago": (
        {"new_seen": 5, "old_seen": 20, "ended": 12, "ending": "FAILED", "now": 20 + QUIET.seconds}, NEW, NOTE,
    ),
    "it came back on its old one and then failed": (
        {"new_seen": 5, "old_seen": 11, "ended": 12, "ending": "FAILED", "now": 13}, NEW, NOTE,
    ),
    "it came back on its new one after its old one, and then failed": (
        {"old_seen": 5, "new_seen": 11, "ended": 12, "ending": "FAILED", "now": 7200}, None, NOTE,
    ),
    "both are seen since it has failed": (
        {"new_seen": 15, "old_seen": 20, "ended": 12, "ending": "FAILED", "now": 7200}, None, NOTE,
    ),
    "both are seen in the second in which it has failed": (
        {"new_seen": 12.4, "old_seen": 12.9, "ended": 12, "ending": "FAILED", "now": 7200}, None, NOTE,
    ),
    "it has failed after the commit": ({"committed": 10, "ended": 12, "ending": "FAILED"}, None, PERSON),
    "it has failed and then commits": ({"committed": 30, "ended": 12, "ending": "FAILED"}, None, PERSON),
    "its time ran out while it used the new one": (
        {"new_seen": 5, "ended": 12, "ending": "TIMED_OUT"}, None, NOTE,
    ),
    "its time ran out before it used the new one": ({"ended": 12, "ending": "TIMED_OUT"}, None, NOTE),
    "it commits after its time ran out": ({"committed": 30, "ended": 12, "ending": "TIMED_OUT"}, OLD, NOTE),
    "it comes back with the committed one after its time ran out": (
        {"committed": 10, "new_seen": 30, "ended": 12, "ending": "CANCELED"}, OLD, NOTE,
    ),
    "it was seen in the second in which its time ran out": (
        {"committed": 10, "new_seen": 12.9, "ended": 12, "ending": "CANCELED"}, None, NOTE,
    ),
    "the job runs": ({"committed": 10, "old_seen": 20}, None, NOBODY),
    "the job runs for a day": ({"now": LASTING.total_seconds()}, None, PERSON),
    "a create is at work for a job that has ended": (
        {"handed_out": False, "leased": True, "ended": 5, "ending": "CANCELED"}, None, NOBODY,
    ),
    "a create broke off": ({"handed_out": False}, NEW, NOBODY),
    "a person deactivates the old one": (
        {"new_seen": 5, "ended": 12, "ending": "FAILED", "deactivated": OLD}, OLD, NOTE,
    ),
    "a person deactivates the new one": (
        {"committed": 10, "old_seen": 30, "ended": 12, "ending": "SUCCEEDED", "deactivated": NEW}, NEW, NOTE,
    ),
    "somebody deactivates the new one while the job runs": ({"new_seen": 5, "deactivated": NEW}, NEW, NOTE),
}  # fmt: skip


@pytest.mark.parametrize(("known", "goes", "told"), CASES.values(), ids=CASES)
def test_what_goes_and_who_is_told_if(known, goes, told):
    ending = {"ending": Ending(known["ending"])} if "ending" in known else {}
    verdict = weigh(evidence(**known | ending))
    assert (verdict.goes, verdict.told) == (goes, told)


def test_a_commit_is_a_sighting_of_the_new_one():
    assert use_of(evidence(committed=30, ended=12, ending=Ending.DELETED)) is Use.NEW_SINCE_END
