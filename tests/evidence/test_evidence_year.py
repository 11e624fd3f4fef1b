"""A year of simulated history, in which all happens that an auditor asks about: no row lies, and each gap has a name.

The truth is known here, the records are what is left of it: some were lost when the table was restored, some
certificates were put there by hand, some commits are in no clone, some have no one who answers for them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import timedelta
from random import Random

import pytest
from test_evidence_tracing import CHANGE, DAY, NOW, SINCE, day, held, record

from controller.desired.policy_history import Edition
from controller.evidence import Approval, DocumentCommit, Fate, FleetEvidence, Gap, trace, whole
from controller.evidence.documents import history_of
from controller.evidence.tracing import IN_SERVICE
from controller.reconcile.values import (
    CertificateAuthority,
    CertificateRule,
    DesiredState,
    Fleet,
    Incident,
    Policy,
    Quarantine,
    Source,
    Waiver,
)

SOURCE = Source("p.yaml", 1)
FLEET = Fleet("factory", "123456789012", "eu-west-1", SOURCE)
LIMITS = [(-900, 180), (90, 60), (120, 180), (200, 90)]  # maxAge in days from that day on; day 120 reverts day 90
RESTORED = (150, 190)  # what was written between these days was lost with the table
NEVER_BY_JOB = 3  # devices that people alone rotate
ISSUE_GAPS = {Gap.ISSUE_DATE, Gap.CHAIN}


@dataclass
class Held:
    """One certificate as it really was."""

    name: str
    issued: object
    ended: object = None
    job: str | None = None
    commit: str | None = None
    is_recorded: bool = False


@dataclass
class History:
    """What really happened to the devices, and what is left of it."""

    spans: dict[str, list[Held]] = field(default_factory=dict)
    records: list = field(default_factory=list)


def edition(at, limit, **documents):
    policy = Policy("line-a", "line-a", SOURCE, certificate=CertificateRule(max_age=limit * DAY))
    desired = DesiredState(FLEET, {"aws-iot": CertificateAuthority("aws-iot")}, (policy,), **documents)
    return Edition(f"{int(at) + 1000:040x}", day(at), desired)


def editions():
    """The policy, a revert, a waiver, an incident, and a quarantine that was lifted."""
    waiver = Waiver("frozen", frozenset({"d-3"}), "Ada", "the oven must not stop", day(300), SOURCE)
    theft = Quarantine("theft", frozenset({"d-4"}), frozenset(), "security", "a laptop was stolen", day(210), SOURCE)
    leak = Incident("leak", "the CA leaks", day(260), SOURCE, issued_before=day(230))
    for at, limit in LIMITS[:3]:
        yield edition(at, limit)
    yield edition(195, 180, waivers=(waiver,))
    yield edition(200, 90, waivers=(waiver,))
    yield edition(210, 90, waivers=(waiver,), quarantines=(theft,))
    yield edition(230, 90, waivers=(waiver,), quarantines=(theft,), incidents=(leak,))
    yield edition(250, 90, waivers=(waiver,))
    yield edition(300, 90)


def lived(seed, devices=30):
    """Play two years and a half of rotations by job, by incident, and by hand."""
    random, found, number = Random(seed), History(), 0
    for device in range(devices):
        thing, at = f"d-{device}", random.uniform(-500, -200)
        own = found.spans[thing] = [Held(f"first-{device}", day(at))]
        while True:
            at += 230 - at if 200 < at < 230 and random.random() < 0.5 else random.uniform(30, 200)
            if at >= 365:
                break
            number += 1
            last, by_hand = own[-1], random.random() < (1 if device < NEVER_BY_JOB else 0.15)
            one = record(number, at, old=last.name, thing=thing, commit=f"{random.choice([900, 901, 902]):040x}")
            if by_hand:
                own.append(Held(f"hand-{number}", day(at)))
            else:
                own.append(Held(one.new_certificate_id, day(at), job=one.job_id, commit=one.commit))
                own[-1].is_recorded = not RESTORED[0] <= at < RESTORED[1]
                found.records += [one] if own[-1].is_recorded else []
            last.ended = day(at) if by_hand else one.committed_at
    return found


def change_of(commit):
    """Of three commits one is in no clone, one has nobody who answers, and one has a reviewer and an override."""
    approvals = (Approval("Grace", "reviewed-by"), Approval("maxChangePercent=80", "override"))
    known = {f"{900:040x}": approvals, f"{901:040x}": ()}
    if commit not in known:
        return None
    return DocumentCommit(commit, CHANGE.author, SINCE, "rotate", known[commit])


def evidence_of(found):
    in_use = [held(own[-1].name, own[-1].issued, thing) for thing, own in found.spans.items()]
    history = history_of(list(editions()))
    rows = trace(found.records, in_use, history, change_of, since=SINCE, until=NOW)
    bare = FleetEvidence("factory", "123456789012", "eu-west-1", SINCE, NOW, None, (), (), ())
    return whole(bare, rows, history)


@pytest.mark.parametrize("seed", range(10))
def test_every_row_has_its_chain_or_names_the_gap_and_none_says_what_was_not(seed):
    found = lived(seed)
    evidence = evidence_of(found)
    truth = {(thing, one.name): one for thing, own in found.spans.items() for one in own}
    shown = {(row.thing, row.certificate_id): row for row in evidence.rows}
    assert shown.keys() <= truth.keys()
    for key, row in shown.items():
        real = truth[key]
        if row.change is not None:
            assert row.change.commit == real.commit
        if Gap.NO_RECORD in row.gaps:
            assert not real.is_recorded
            assert (row.job_id, row.change) == (None, None)
        else:
            assert (row.job_id, row.asked_by) == (real.job, "line-a")
            assert row.issued_at == real.issued
            assert (Gap.COMMIT in row.gaps) == (row.change is None)
            assert (Gap.APPROVAL in row.gaps) == (row.change is not None and not row.change.approvals)
        if row.issued_at is not None:
            assert row.issued_at == real.issued
        if not ISSUE_GAPS & set(row.gaps):
            assert row.ended_at == real.ended
        if real.ended is None:
            assert row.fate is Fate.IN_USE
    for thing, own in found.spans.items():
        for one in own[1:]:
            is_missing = (thing, one.name) not in shown
            if is_missing and (one.ended is None or one.ended > SINCE):
                known = [shown[thing, o.name] for o in own if (thing, o.name) in shown]
                assert any({Gap.CHAIN, Gap.BEFORE, Gap.ISSUE_DATE} & set(row.gaps) for row in known), (thing, one.name)


@pytest.mark.parametrize("seed", range(10))
def test_the_table_of_ages_misses_nobody_whose_certificate_was_too_old(seed):
    found = lived(seed)
    [ages] = evidence_of(found).ages
    for thing, own in found.spans.items():
        for one in own:
            end = one.ended or NOW
            spans = zip(LIMITS, [*LIMITS[1:], (365, 0)], strict=True)
            late = any(
                max(day(start), SINCE, one.issued + limit * DAY) + timedelta(hours=1) < min(day(stop), end)
                for (start, limit), (stop, _) in spans
            )
            if late:
                assert thing in {*ages.exceeding, *ages.not_judged}, (thing, one)
    assert set(ages.exempt) <= set(ages.exceeding)


def test_waivers_and_quarantines_stand_with_the_spans_in_which_the_documents_held_them():
    exemptions = {one.kind: one for one in evidence_of(lived(0)).exemptions}
    assert exemptions.keys() == {"Waiver", "Quarantine"}
    assert (exemptions["Quarantine"].since, exemptions["Quarantine"].until) == (day(210), day(250))
    assert (exemptions["Waiver"].since, exemptions["Waiver"].until) == (day(195), day(300))


def test_the_year_holds_what_it_is_meant_to_hold():
    gaps = {gap for seed in range(10) for row in evidence_of(lived(seed)).rows for gap in row.gaps}
    assert {Gap.NO_RECORD, Gap.BEFORE, Gap.CHAIN, Gap.COMMIT, Gap.APPROVAL, Gap.ISSUE_DATE} <= gaps
    fates = {row.fate for row in evidence_of(lived(0)).rows}
    assert {Fate.IN_USE, Fate.REPLACED} <= fates <= IN_SERVICE
