"""From records, registry and git to rows: each certificate with its chain, or the gap in it. Pure."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from itertools import pairwise

from controller.reconcile.values import DrillReport, parse_job_id
from protocol.rotation_record import RefusalRecord, RotationRecord

from .values import (
    IN_SERVICE,
    AgeRule,
    CertificateSpan,
    DocumentCommit,
    Excess,
    Exemption,
    Fate,
    FleetEvidence,
    Gap,
    InUse,
    PolicyAges,
    PolicyHistory,
    Practice,
)

Look = Callable[[str], DocumentCommit | None]
"""A commit by its hash, None if this clone does not hold it."""


def trace(
    records: Iterable[RotationRecord],
    in_use: Iterable[InUse],
    history: PolicyHistory,
    change_of: Look,
    *,
    since: datetime,
    until: datetime,
    plans: Mapping[str, str] | None = None,
) -> tuple[CertificateSpan, ...]:
    """Make the rows of a period.

    Args:
        records: Every rotation that the backend's table holds of the things asked about, in any order.
        in_use: The certificates that the registry shows attached to them now.
        history: The documents over time.
        change_of: Looks up a commit.
        since: Certificates whose use ended before are left out.
        until: Now; ages are reckoned until then.
        plans: The plan of each job, if the job is still known.

    Returns:
        Rows by thing, the oldest certificate first.
    """
    rotations: dict[str, list[RotationRecord]] = defaultdict(list)
    attached: dict[str, list[InUse]] = defaultdict(list)
    for record in records:
        rotations[record.thing_name].append(record)
    known: dict[str, InUse] = {}
    for one in in_use:
        attached[one.thing].append(one)
        known[one.certificate_id] = one  # whatever thing holds it: one that was shared may be others' still
    rows = []
    for thing in sorted({*rotations, *attached}):
        own = sorted(rotations[thing], key=lambda record: record.started_at)
        made = _rows_of(own, attached[thing], known, change_of, plans or {})
        judged = [_judged(row, history, since, until) for row in _without_a_past(made, since)]
        rows += [row for row in judged if row.ended_at is None or row.ended_at >= since]
    return tuple(rows)


def _without_a_past(rows: list[CertificateSpan], since: datetime) -> list[CertificateSpan]:
    """Name the gap before the first row: what no rotation brought may have replaced another."""
    first = rows[0]
    if first.issued_at is None or first.issued_at <= since or Gap.NO_RECORD not in first.gaps:
        return rows
    return [replace(first, gaps=(*first.gaps, Gap.BEFORE)), *rows[1:]]


def _rows_of(
    rotations: Sequence[RotationRecord],
    attached: Sequence[InUse],
    known: Mapping[str, InUse],
    change_of: Look,
    plans: Mapping[str, str],
) -> list[CertificateSpan]:
    """Return the rows of one thing; their ages are not judged yet."""
    kept = [record for record in rotations if record.is_rotated]
    successors = {before.new_certificate_id: after for before, after in pairwise(kept)}
    now = {one.certificate_id: one for one in attached}
    rows = {
        record.new_certificate_id: _issued(record, successors.get(record.new_certificate_id), now, change_of, plans)
        for record in rotations
        if record.new_certificate_id is not None  # else it was given up before anything was issued
    }
    for record in kept:
        if record.old_certificate_id not in rows:
            rows[record.old_certificate_id] = _without_record(record, known, is_first=record is kept[0])
    for before, after in pairwise(kept):
        if after.old_certificate_id != before.new_certificate_id:
            _break(rows, before.new_certificate_id, after.started_at)
    main = _in_use(kept, rotations, now)
    for certificate_id, one in now.items():
        if certificate_id not in rows:
            rows[certificate_id] = _by_registry(one, is_in_use=certificate_id == main)
    if kept and main is not None and main != kept[-1].new_certificate_id:
        _break(rows, kept[-1].new_certificate_id, now[main].created_at)
    governing = next((one.policy for one in attached), None)  # judges what a job without a policy replaced
    judged = [row if row.policy is not None else replace(row, policy=governing) for row in rows.values()]
    return sorted(judged, key=lambda row: (row.issued_at is not None, row.issued_at or row.ended_at))


def _in_use(
    kept: Sequence[RotationRecord], rotations: Sequence[RotationRecord], now: Mapping[str, InUse]
) -> str | None:
    """Return which of the attached certificates the thing uses; None if nobody knows."""
    likely = [kept[-1].new_certificate_id] if kept else []
    likely += [record.old_certificate_id for record in rotations[-1:]]
    found = [one for one in likely if one in now]
    return found[0] if found else (next(iter(now)) if len(now) == 1 else None)


def _break(rows: dict[str, CertificateSpan], certificate_id: str | None, ended_at: datetime) -> None:
    """Record that another certificate has replaced this one, at the latest then: no record has the instant."""
    row = rows[certificate_id or ""]
    gaps = row.gaps if Gap.CHAIN in row.gaps else (*row.gaps, Gap.CHAIN)
    rows[row.certificate_id] = replace(row, fate=Fate.REPLACED, ended_at=ended_at, ended_by=None, gaps=gaps)


def _by_registry(one: InUse, *, is_in_use: bool) -> CertificateSpan:
    fate = Fate.IN_USE if is_in_use else Fate.ATTACHED
    issued = one.not_before or one.created_at
    return CertificateSpan(
        one.thing,
        one.certificate_id,
        fate,
        one.key_type,
        one.authority,
        one.policy,
        issued_at=issued,
        gaps=(Gap.NO_RECORD,),
    )


def _without_record(record: RotationRecord, known: Mapping[str, InUse], *, is_first: bool) -> CertificateSpan:
    """Return what a rotation replaced, of which no record is there: its issue is known if any thing still holds it."""
    there = known.get(record.old_certificate_id)
    gaps = (Gap.NO_RECORD, *((Gap.ISSUE_DATE,) if there is None else ()), *(() if is_first else (Gap.CHAIN,)))
    return CertificateSpan(
        record.thing_name,
        record.old_certificate_id,
        Fate.REPLACED,
        policy=record.policy,
        issued_at=_of_registry(there),
        ended_at=_end_of_use(record),
        ended_by=_who_removed(record, record.old_certificate_id),
        gaps=gaps,
    )


def _issued(
    record: RotationRecord,
    successor: RotationRecord | None,
    now: Mapping[str, InUse],
    change_of: Look,
    plans: Mapping[str, str],
) -> CertificateSpan:
    certificate_id = record.new_certificate_id or ""
    change = None if record.commit is None else change_of(record.commit)
    job = parse_job_id(record.job_id)
    gaps = [
        gap
        for gap, is_open in (
            (Gap.NO_POLICY, record.policy is None),
            (Gap.COMMIT, record.commit is not None and change is None),
            (Gap.APPROVAL, change is not None and not change.approvals),
            (Gap.CHAIN, record.is_rotated and successor is None and certificate_id not in now),
        )
        if is_open
    ]
    there = now.get(certificate_id)
    fate, ended_at, ended_by = Fate.UNDECIDED, None, None
    if record.is_rotated and successor is not None:
        fate, ended_at = Fate.REPLACED, _end_of_use(successor)
        ended_by = _who_removed(successor, certificate_id)
    elif record.is_rotated:
        fate = Fate.GONE if there is None else Fate.IN_USE
    elif record.has_ended:
        fate, ended_by = Fate.TAKEN_BACK, _who_removed(record, certificate_id)
        ended_at = record.history[-1].at if record.history else record.ended_at
    return CertificateSpan(
        record.thing_name,
        certificate_id,
        fate,
        record.key_type or (there.key_type if there else None),
        record.authority,
        _judging_policy(record, successor, there),
        record.job_id,
        record.policy,
        None if job is None else ("standing" if job.wave is None else str(job.wave)),
        plans.get(record.job_id),
        change,
        _of_registry(there) or _issue_of(record),
        record.committed_at,
        ended_at,
        ended_by,
        gaps=tuple(gaps),
    )


def _judging_policy(record: RotationRecord, successor: RotationRecord | None, there: InUse | None) -> str | None:
    if successor is not None and successor.policy is not None:
        return successor.policy
    if there is not None and there.policy is not None:
        return there.policy
    return record.policy


def _of_registry(one: InUse | None) -> datetime | None:
    return None if one is None else one.not_before or one.created_at


def _issue_of(record: RotationRecord) -> datetime:
    """Return when a record shows that its certificate was issued; a history that was cut shows it no more."""
    issued = f"issued {record.new_certificate_id}"
    return next((line.at for line in record.history if line.what == issued), record.started_at)


def _end_of_use(record: RotationRecord) -> datetime:
    """Return when the device has proven the certificate that took the place of its old one."""
    return record.committed_at or record.ended_at or record.started_at


def _who_removed(record: RotationRecord, certificate_id: str) -> str | None:
    """Return who removed a certificate; a shared one goes with the last thing that holds it."""
    words = (f"removing {certificate_id}", f"letting go of {certificate_id}")
    return next((line.who for line in record.history if line.what.startswith(words)), None)


# Ages ------------------------------------------------------------------------------------------------------


def _judged(row: CertificateSpan, history: PolicyHistory, since: datetime, until: datetime) -> CertificateSpan:
    """Return the row with the age that the certificate reached in the period, and the spans in which it was too old."""
    issued = row.issued_at
    if row.fate not in {Fate.IN_USE, Fate.REPLACED} or issued is None:
        return row
    begin, end = max(row.connected_at or issued, since), min(row.ended_at or until, until)
    if end < begin:
        return row
    oldest = max(end - issued, timedelta())
    if row.policy is None:
        return replace(row, oldest=oldest)
    rules = history.rules.get(row.policy, ())
    if not rules or rules[0].since > begin:
        row = replace(row, gaps=(*row.gaps, Gap.POLICY_UNKNOWN))
    return replace(row, oldest=oldest, excesses=_excesses(issued, begin, end, rules))


def _excesses(issued: datetime, begin: datetime, end: datetime, rules: Sequence[AgeRule]) -> tuple[Excess, ...]:
    found: list[Excess] = []
    for number, rule in enumerate(rules):
        last = rules[number + 1].since if number + 1 < len(rules) else end
        if rule.max_age is None:
            continue
        start, stop = max(begin, rule.since, issued + rule.max_age), min(end, last)
        if start < stop:
            found.append(Excess(start, stop, rule.max_age))
    return tuple(found)


def sum_up(rows: Iterable[CertificateSpan], history: PolicyHistory) -> tuple[PolicyAges, ...]:
    """Sum the rows up, one value a policy: who held a certificate older than the policy allowed."""
    by_policy: dict[str, list[CertificateSpan]] = defaultdict(list)
    for row in rows:
        if row.policy is not None and row.fate in IN_SERVICE:
            by_policy[row.policy].append(row)
    return tuple(_ages(policy, own, history) for policy, own in sorted(by_policy.items()))


def _ages(policy: str, rows: Sequence[CertificateSpan], history: PolicyHistory) -> PolicyAges:
    rules = history.rules.get(policy, ())
    exceeding = {row.thing for row in rows if row.excesses}
    exempt = {row.thing for row in rows for excess in row.excesses if _is_exempt(row, excess, history.exemptions)}
    return PolicyAges(
        policy,
        len({row.thing for row in rows}),
        len(rows),
        max((row.oldest for row in rows if row.oldest is not None), default=None),
        rules[-1].max_age if rules else None,
        tuple(sorted(exceeding)),
        tuple(sorted(exempt)),
        tuple(sorted({row.thing for row in rows if _is_unjudged(row)})),
    )


def _is_unjudged(row: CertificateSpan) -> bool:
    return row.oldest is None or not {Gap.BEFORE, Gap.CHAIN, Gap.ISSUE_DATE, Gap.POLICY_UNKNOWN}.isdisjoint(row.gaps)


def _is_exempt(row: CertificateSpan, excess: Excess, exemptions: Iterable[Exemption]) -> bool:
    return any(
        _is_about(one, row) and one.since < excess.until and (one.until is None or one.until > excess.since)
        for one in exemptions
    )


def _is_about(one: Exemption, row: CertificateSpan) -> bool:
    if not one.devices and not one.certificates:
        return one.name == row.policy
    return row.thing in one.devices or row.certificate_id in one.certificates


def practised(
    practices: Iterable[Practice],
    rotations: Iterable[RotationRecord],
    change_of: Look,
    results: Mapping[str, DrillReport],
) -> tuple[Practice, ...]:
    """Return the drills with what the records and ``results`` show; ``change_of`` finds the commit of a decision."""
    kept = [record for record in rotations if record.is_rotated]
    told = []
    for one in practices:
        end, devices = min(one.deadline, one.until or one.deadline), frozenset(one.devices)
        own = [r for r in kept if r.thing_name in devices and one.since <= r.started_at < end]
        told.append(
            replace(
                one,
                change=change_of(one.commit),
                rotated=tuple(sorted({record.thing_name for record in own})),
                first_begun_at=min((record.started_at for record in own), default=None),
                last_rotated_at=max((_end_of_use(record) for record in own), default=None),
                result=results.get(one.name) if one.until is None else None,
            )
        )
    return tuple(told)


def whole(
    evidence: FleetEvidence,
    rows: tuple[CertificateSpan, ...],
    history: PolicyHistory,
    refusals: Iterable[RefusalRecord] = (),
    *,
    policy: str | None = None,
) -> FleetEvidence:
    """Return the evidence with rows, their sums, refusals and exemptions; of one policy's things, if one is named."""
    chosen = rows if policy is None else tuple(row for row in rows if policy in {row.policy, row.asked_by})
    things = None if policy is None else {row.thing for row in chosen}
    told = (one for one in refusals if one.ended_at >= evidence.since and (things is None or one.thing_name in things))
    exemptions = tuple(one for one in history.exemptions if one.until is None or one.until >= evidence.since)
    return replace(
        evidence,
        rows=chosen,
        ages=sum_up(chosen, history),
        exemptions=exemptions,
        refusals=tuple(sorted(told, key=lambda one: (one.thing_name, one.ended_at))),
        unreadable_commits=history.unreadable,
    )
