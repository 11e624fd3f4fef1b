"""Evidence as text, JSON, CSV and a page."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from controller.evidence import CertificateSpan, DocumentCommit, Exemption, FleetEvidence, PolicyAges, Practice
from controller.plain_text import one_line
from controller.reconcile.values import span_text
from protocol.rotation_record import RefusalRecord

from . import words
from .console import Page, table
from .formats import FORMAT_VERSION, Format, TextStyle, at_need, dump
from .model import FleetFailure

MEANING = {
    "no-record": "no rotation in the backend's table brought this certificate",
    "before-unknown": "nothing shows what the thing held earlier in the period, if it was there at all",
    "chain-broken": "another certificate took its place, and no record shows how or exactly when",
    "no-policy": "the job names no policy: it was made by hand, or by the stock solution",
    "commit-unknown": "this clone does not hold the commit that the job names",
    "approval-unknown": "neither the commit nor a pull request shows who approved",
    "issue-date-unknown": "no thing asked about holds it any more, and no record shows when it was issued",
    "policy-unknown": "the documents of that time do not show what the policy allowed",
}
"""Of each gap, by its name."""

_FORMULA = re.compile(r"(^|;\s*)(?=[=+@-])")  # where a semicolon parts cells, a client id with one makes two of it

COLUMNS = (
    "fleet", "thing", "certificate_id", "fate", "key_type", "authority", "policy", "asked_by", "job_id", "wave", "plan",
    "commit", "author", "approved_by", "issued_at", "connected_at", "ended_at", "ended_by", "oldest_days",
    "exceeded", "gaps",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Found:
    """The evidence of every fleet that could be read; ``document`` is what JSON prints, with its seal."""

    created_at: datetime
    fleets: tuple[FleetEvidence, ...]
    document: Mapping[str, Any]
    failures: tuple[FleetFailure, ...] = ()

    @property
    def signed_by(self) -> str | None:
        """The key that has signed it."""
        key: str | None = self.document["seal"].get("key_id")
        return key


def to_document(
    created_at: datetime, fleets: tuple[FleetEvidence, ...], failures: tuple[FleetFailure, ...]
) -> dict[str, Any]:
    """Return JSON values of the evidence, with its instant ``created_at``, before the seal."""
    return {
        "format_version": FORMAT_VERSION,
        "kind": "Evidence",
        "created_at": words.iso(created_at),
        "fleets": [_fleet(one) for one in fleets],
        "failures": [{"fleet": one.fleet, "message": one.message, "remedy": one.remedy} for one in failures],
    }


def _fleet(found: FleetEvidence) -> dict[str, Any]:
    return {
        "fleet": found.fleet,
        "account": found.account,
        "region": found.region,
        "since": words.iso(found.since),
        "until": words.iso(found.until),
        "commit": found.commit,
        "policies": [_ages(one) for one in found.ages],
        "rows": [_row(row) for row in found.rows],
        "exemptions": [_exemption(one) for one in found.exemptions],
        "drills": [_drill(one) for one in found.drills],
        "refusals": [_refusal(one) for one in found.refusals],
        "unreadable_commits": list(found.unreadable_commits),
        "unreadable_records": list(found.unreadable_records),
    }


def _ages(one: PolicyAges) -> dict[str, Any]:
    return {
        "policy": one.policy,
        "devices": one.devices,
        "certificates": one.certificates,
        "oldest_seconds": _seconds(one.oldest),
        "allowed_seconds": _seconds(one.allowed),
        "exceeding": list(one.exceeding),
        "exempt": list(one.exempt),
        "not_judged": list(one.not_judged),
    }


def _row(row: CertificateSpan) -> dict[str, Any]:
    return {
        "thing": row.thing,
        "certificate_id": row.certificate_id,
        "fate": row.fate.value,
        "key_type": row.key_type,
        "authority": row.authority,
        "policy": row.policy,
        "asked_by": row.asked_by,
        "job_id": row.job_id,
        "wave": row.wave,
        "plan": row.plan,
        "change": None if row.change is None else _change(row.change),
        "issued_at": _instant(row.issued_at),
        "connected_at": _instant(row.connected_at),
        "ended_at": _instant(row.ended_at),
        "ended_by": row.ended_by,
        "oldest_seconds": _seconds(row.oldest),
        "excesses": [
            {"since": words.iso(one.since), "until": words.iso(one.until), "allowed_seconds": _seconds(one.allowed)}
            for one in row.excesses
        ],
        "gaps": [gap.value for gap in row.gaps],
    }


def _change(change: DocumentCommit) -> dict[str, Any]:
    return {
        "commit": change.commit,
        "author": change.author,
        "committed_at": words.iso(change.committed_at),
        "subject": change.subject,
        "approvals": [{"who": one.who, "how": one.how, "pull_request": one.pull_request} for one in change.approvals],
    }


def _exemption(one: Exemption) -> dict[str, Any]:
    return {
        "name": one.name,
        "kind": one.kind,
        "devices": list(one.devices),
        "certificates": list(one.certificates),
        "owner": one.owner,
        "reason": one.reason,
        "expires": _instant(one.expires),
        "since": words.iso(one.since),
        "until": _instant(one.until),
    }


def _drill(one: Practice) -> dict[str, Any]:
    result, whole = one.result, one.result.estimate if one.result else None
    return {
        "name": one.name,
        "policy": one.policy,
        "reason": one.reason,
        "since": words.iso(one.since),
        "deadline": words.iso(one.deadline),
        "until": _instant(one.until),
        "sample": one.sample,
        "devices": list(one.devices),
        "commit": one.commit,
        "change": None if one.change is None else _change(one.change),
        "rotated": list(one.rotated),
        "first_begun_at": _instant(one.first_begun_at),
        "last_rotated_at": _instant(one.last_rotated_at),
        "result": None
        if result is None
        else {
            "rotated": result.rotated,
            "returned": result.returned,
            "offline": result.offline,
            "rotated_at": _instant(result.rotated_at),
            "message": result.message,
        },
        "estimate": None
        if whole is None
        else {
            "devices": whole.devices,
            "about_seconds": _seconds(whole.about),
            "least_seconds": _seconds(whole.least),
            "most_seconds": _seconds(whole.most),
            "assumptions": list(whole.assumptions),
        },
    }


def told_of_drill(one: Practice) -> str:
    """Return a drill in one sentence: what it has come to, else what the records alone show."""
    if one.result is not None:
        return one.result.message
    last = f", the last {span_text(one.last_rotated_at - one.since)} after the decision" if one.last_rotated_at else ""
    return (
        f"drill {one.name}: {len(one.rotated)} of {words.count(len(one.devices), 'device')} rotated{last}; who was "
        "offline when asked is not on record any more"
    )


def told_of_exemption(one: Exemption) -> str:
    """Return who was left out, why, by whose word, and how long."""
    named = [*one.devices, *(f"certificate {certificate[:12]}" for certificate in one.certificates)]
    whom = words.listed(named) if named else "all of its devices"
    by = f", {one.owner} answers for it" if one.owner else ""
    end = f"expires {words.instant(one.expires)}" if one.expires else "still in force"
    until = f"to {words.instant(one.until)}" if one.until else end
    return f"{whom}: {one.reason}{by}; since {words.instant(one.since)}, {until}"


def _refusal(one: RefusalRecord) -> dict[str, Any]:
    return {
        "thing": one.thing_name,
        "job_id": one.job_id,
        "ended_at": words.iso(one.ended_at),
        "ending": one.ending,
        "code": one.code,
        "sentence": one.sentence,
    }


def _instant(when: datetime | None) -> str | None:
    return None if when is None else words.iso(when)


def _seconds(span: timedelta | None) -> int | None:
    return None if span is None else int(span.total_seconds())


def _json(found: Found, _look: TextStyle) -> str:
    return dump(found.document)


def _csv(found: Found, _look: TextStyle) -> str:
    """Return one line a row.

    A text that a spreadsheet would take for a formula begins with an apostrophe, also after a semicolon.
    """
    file = io.StringIO()
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for fleet in found.fleets:
        for row in fleet.rows:
            writer.writerow([_cell(value) for value in _cells(fleet.fleet, row)])
    return file.getvalue()


def _cells(fleet: str, row: CertificateSpan) -> tuple[object, ...]:
    change = row.change
    return (
        fleet,
        row.thing,
        row.certificate_id,
        row.fate.value,
        row.key_type,
        row.authority,
        row.policy,
        row.asked_by,
        row.job_id,
        row.wave,
        row.plan,
        change and change.commit,
        change and change.author,
        approved_by(row),
        _instant(row.issued_at),
        _instant(row.connected_at),
        _instant(row.ended_at),
        row.ended_by,
        None if row.oldest is None else row.oldest.days,
        "; ".join(f"{words.iso(one.since)}/{words.iso(one.until)}" for one in row.excesses),
        " ".join(gap.value for gap in row.gaps),
    )


def _cell(value: object) -> str:
    text = "" if value is None else one_line(str(value))
    return _FORMULA.sub(r"\1'", text)


def approved_by(row: CertificateSpan) -> str:
    """Return who answers for the commit, and how, as one line."""
    approvals = row.change.approvals if row.change else ()
    return "; ".join(f"{one.who} ({one.how}{f' #{one.pull_request}' if one.pull_request else ''})" for one in approvals)


def verdict(one: PolicyAges) -> tuple[str, str]:
    """Return what a policy's line shows, and its style."""
    if one.allowed is None:
        return "any age is allowed", "dim"
    gaps = f"; {words.count(len(one.not_judged), 'device')} with gaps" if one.not_judged else ""
    if one.exceeding:
        return f"yes, of {words.listed(one.exceeding)}{gaps}", "bad"
    return (f"no, as far as shown{gaps}", "wait") if gaps else ("no", "good")


def age(span: timedelta | None) -> str:
    """Return the span in days and hours; None is a dash."""
    return "–" if span is None else words.duration(span)


def _text(found: Found, look: TextStyle) -> str:
    page = Page(look)
    for fleet in found.fleets:
        period = f"{words.instant(fleet.since)} to {words.instant(fleet.until)}"
        page.line((f"{fleet.fleet}: credentials in use, {period}", "head"))
        rows = [
            (
                one.policy,
                f"{one.devices:,}",
                f"{one.certificates:,}",
                age(one.oldest),
                age(one.allowed),
                verdict(one)[0],
            )
            for one in fleet.ages
        ]
        if rows:
            page.add(
                table(
                    ("policy", "keep"), ("devices", "right"), ("certificates", "right"), ("oldest", "right"),
                    ("allowed", "right"), ("was one older than its policy allowed?", "wrap"), rows=rows,
                )
            )  # fmt: skip
        things = {row.thing for row in fleet.rows} | {one.thing_name for one in fleet.refusals}
        if len(things) == 1:
            for row in fleet.rows:
                _certificate(page, row)
        _refused(page, fleet, is_one_thing=len(things) == 1)
        _gaps(page, fleet)
        for one in fleet.exemptions:
            page.line((f"{one.kind} {one.name}", "wait"), f"  {told_of_exemption(one)}")
        for drill in fleet.drills:
            page.line((f"Drill {drill.name}", "head"), f"  {told_of_drill(drill)}")
            _who_asked(page, drill)
    for failure in found.failures:
        page.line(("FAILED ", "bold bad"), (f"{failure.fleet}: ", "bold"), failure.message)
    page.gap()
    page.line(f"signed by {found.signed_by}" if found.signed_by else "not signed: this proves nothing by itself")
    return page.text()


def _certificate(page: Page, row: CertificateSpan) -> None:
    page.gap()
    page.line((f"{row.certificate_id[:12]} ", "head"), row.fate.value, f"  {row.key_type or ''} {row.authority or ''}")
    lines = [
        ("issued", row.issued_at and words.instant(row.issued_at)),
        ("connected", row.connected_at and words.instant(row.connected_at)),
        ("ended", row.ended_at and words.instant(row.ended_at) + (f", by {row.ended_by}" if row.ended_by else "")),
        ("age", row.oldest and age(row.oldest)),
        ("job", row.job_id and f"{row.job_id}{f', plan {row.plan}' if row.plan else ''}"),
        ("commit", row.change and f"{words.commit(row.change.commit)} {row.change.subject}, by {row.change.author}"),
        ("approved", approved_by(row) or None),
    ]
    for name, value in lines:
        if value:
            page.line(f"{name:<10}{value}", indent=2)
    for one in row.excesses:
        span = f"from {words.instant(one.since)} to {words.instant(one.until)}"
        page.line((f"older than {age(one.allowed)} {span}", "bad"), indent=2)
    for gap in row.gaps:
        page.line(("gap       ", "wait"), MEANING[gap.value], indent=2)


def _who_asked(page: Page, one: Practice) -> None:
    if one.change is not None:
        by = f"{words.commit(one.commit)} {one.change.subject}, by {one.change.author}"
        page.line(f"commit    {by}", indent=2)


def _refused(page: Page, fleet: FleetEvidence, *, is_one_thing: bool) -> None:
    if fleet.refusals:
        page.heading("Refused", "last answers to devices under jobs that then failed")
    if is_one_thing:
        for one in fleet.refusals:
            page.line((f"{one.code} ", "wait"), f"{words.instant(one.ended_at)}, job {one.job_id} {one.ending}: "
                      f"{one_line(one.sentence)}", indent=2)  # fmt: skip
        return
    for code, number in sorted(Counter(one.code for one in fleet.refusals).items()):
        page.line((f"{code} ", "wait"), words.count(number, "time"), indent=2)


def _gaps(page: Page, fleet: FleetEvidence) -> None:
    gaps = Counter(gap for row in fleet.rows for gap in row.gaps)
    if gaps or fleet.unreadable_commits or fleet.unreadable_records:
        page.heading("Gaps", "what this evidence does not show")
    for gap, number in sorted(gaps.items()):
        page.line((f"{gap.value} ", "wait"), f"{words.count(number, 'certificate')}: {MEANING[gap.value]}", indent=2)
    for commit in fleet.unreadable_commits:
        page.line(("commit ", "wait"), f"{words.commit(commit)}: its documents have errors, so nobody could apply it",
                  indent=2)  # fmt: skip
    for record in fleet.unreadable_records:
        page.line(("record ", "wait"), record, indent=2)


RENDERERS: Mapping[Format, Callable[[Found, TextStyle], str]] = {
    Format.TEXT: _text,
    Format.JSON: _json,
    Format.CSV: _csv,
    Format.HTML: at_need("html_evidence", "render"),
}
