"""From the inventory's tables to Device values: one pass over sorted rows, no query per device.

If only a few devices are wanted, each query is restricted to them by the text that replaces its ``{among}``.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import fields, make_dataclass
from datetime import UTC, datetime
from typing import Any, ParamSpec, TypeVar, cast

from controller.fleet.absences import absences_of
from controller.fleet.authorities import AuthorityNames
from controller.plain_text import one_line
from controller.reconcile.values import (
    Attachment,
    AttachmentType,
    Certificate,
    CertificateStatus,
    DesiredState,
    Device,
    DeviceExecution,
    FleetState,
    Preflight,
    execution_status,
)
from protocol.errors import ProtocolError
from protocol.job_document import JobDocument, parse_job_document
from protocol.messages import ExecutionStatus

MAX_SHARED_WITH = 10  # names; a claim certificate may hang on thousands of things

_ATTACHMENTS = """
SELECT a.thing, a.type, c.id, c.status, c.created_at, c.key_type, c.signature_algorithm, c.issuer, c.issuer_key,
       c.not_before, c.not_after, CASE WHEN c.is_described THEN c.parse_error ELSE 'a refresh is still reading it' END
FROM attachments a JOIN certificates c ON c.id = a.certificate_id
WHERE c.status IS NOT NULL AND a.thing {among}
ORDER BY a.thing, a.certificate_id
"""
_FAILURES = """
SELECT thing, job_id, status, queued_at, last_updated_at, started_at, failure_reason, component_version, first_queued_at
FROM rotations WHERE status IN ('FAILED', 'TIMED_OUT', 'REJECTED') AND thing {among}
ORDER BY thing, last_updated_at, job_id
"""
_SHARED = """
SELECT certificate_id, thing FROM attachments WHERE certificate_id IN
    (SELECT certificate_id FROM attachments {held} GROUP BY certificate_id HAVING count(*) > 1)
ORDER BY certificate_id, thing
"""
_MEMBERS = """
SELECT m.thing, t.last_seen, t.component_version, t.key_algorithm, t.setting_unknown, t.absences, t.absences_at,
    m.group_name
FROM members m JOIN things t ON t.name = m.thing
WHERE +m.group_name IN (SELECT value FROM json_each(:groups)) AND m.thing {among}
ORDER BY m.thing, m.group_name
"""  # with +, lest it goes by group and sorts them all
_ALL = {"among": "IS NOT NULL", "held": ""}
_ONLY = {
    "among": "IN (SELECT value FROM json_each(:only))",
    "held": "WHERE certificate_id IN "
    "(SELECT certificate_id FROM attachments WHERE thing IN (SELECT value FROM json_each(:only)))",
}

P = ParamSpec("P")
T = TypeVar("T")

_from_timestamp = datetime.fromtimestamp
_STATUSES = {status.value: status for status in CertificateStatus}
_TYPES = {kind.value: kind for kind in AttachmentType}


def maker_of(kind: Callable[P, T]) -> Callable[P, T]:
    """Return a function that makes values of a frozen dataclass in a quarter of the time.

    Such a class sets each field by a call. Its twin, which is not frozen, stores them, and then becomes one of the
    class. Every field must be given: ``__post_init__`` and defaults are not looked at.
    """
    twin = make_dataclass(kind.__name__, [each.name for each in fields(cast("Any", kind))], slots=True)

    def make(*values: P.args, **named: P.kwargs) -> T:
        made: Any = twin(*values, **named)
        made.__class__ = kind
        it: T = made
        return it

    return make


_certificate, _attachment, _device = maker_of(Certificate), maker_of(Attachment), maker_of(Device)


def stream_devices(
    connection: sqlite3.Connection, desired: DesiredState, state: FleetState, only: Collection[str] | None
) -> Iterator[Device]:
    """Yield the devices of the groups that policies name, in name order; ``only`` these if given."""
    groups = sorted({policy.thing_group for policy in desired.policies})
    builder = _CertificateBuilder(AuthorityNames(desired, dict(connection.execute("SELECT arn, key FROM issuers"))))
    among = _ALL if only is None else _ONLY
    names = {"groups": json.dumps(groups), "only": json.dumps(sorted(only or ()))}

    def ask(query: str) -> sqlite3.Cursor:
        return connection.execute(query.format(**among), names)

    attachments, failures, shared = _Rows(ask(_ATTACHMENTS)), _Rows(ask(_FAILURES)), _shared(ask(_SHARED))
    executions, preflights = _executions_by_thing(state), _preflights(state)
    for (name, last_seen, version, key_algorithm, setting_unknown, absences, looked_at, _), member_of in _members(
        ask(_MEMBERS)
    ):
        held = tuple([builder.attachment(row, shared) for row in attachments.take(name)])
        failed = failures.take(name)
        yield _device(
            name,
            member_of,
            held,
            executions.get(name, ()),
            _since_certificate(failed, held) if failed else (),
            None if last_seen is None else _from_timestamp(last_seen, UTC),
            said(version),
            key_algorithm,
            setting_unknown,
            preflights.get(name),
            None if absences is None else absences_of(absences, looked_at),
        )


class _Rows:
    """Rows sorted by thing (their first column), taken thing by thing in that order."""

    def __init__(self, cursor: sqlite3.Cursor) -> None:
        self._cursor = cursor
        self._head: Any = cursor.fetchone()

    def take(self, thing: str) -> list[Any]:
        """Return the rows of this thing; those of things before it are passed over."""
        head, cursor = self._head, self._cursor
        while head is not None and head[0] < thing:
            head = next(cursor, None)
        rows: list[Any] = []
        while head is not None and head[0] == thing:
            rows.append(head)
            head = next(cursor, None)
        self._head = head
        return rows


class _CertificateBuilder:
    """Builds certificates; the strings that thousands of them share are kept once."""

    def __init__(self, names: AuthorityNames) -> None:
        self._names = names
        self._shared_text: dict[str | None, str | None] = {}

    def attachment(self, row: Any, shared: dict[str, tuple[list[str], int]]) -> Attachment:
        (thing, kind, certificate_id, status, created_at, key_type, signature, issuer, issuer_key, nb, na, error) = row
        not_before = None if nb is None else _from_timestamp(nb, UTC)
        not_after = None if na is None else _from_timestamp(na, UTC)
        validity = not_after - not_before if not_before and not_after else None
        once = self._shared_text.setdefault
        certificate = _certificate(
            certificate_id,
            _STATUSES.get(status) or CertificateStatus(status),
            _from_timestamp(created_at, UTC),
            once(key_type, key_type),
            once(signature, signature),
            once(issuer, issuer),
            self._names.name(issuer_key, signature, validity),
            not_before,
            not_after,
            error,
        )
        type_ = _TYPES.get(kind) or AttachmentType(kind)
        if certificate_id not in shared:
            return _attachment(certificate, type_, (), 0)
        names, number = shared[certificate_id]
        others = tuple(other for other in names if other != thing)[:MAX_SHARED_WITH]
        return Attachment(certificate, type_, others, number - 1 - len(others))


def _members(rows: Iterable[Any]) -> Iterator[tuple[Any, tuple[str, ...]]]:
    """Yield, for each governed thing, its row and its groups, in name order."""
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}
    cursor = iter(rows)
    first = next(cursor, None)
    while first is not None:
        member_of: tuple[str, ...] = (first[-1],)
        following = next(cursor, None)
        while following is not None and following[0] == first[0]:
            member_of, following = (*member_of, following[-1]), next(cursor, None)
        yield first, shared.setdefault(member_of, member_of)
        first = following


def _shared(rows: Iterable[tuple[str, str]]) -> dict[str, tuple[list[str], int]]:
    """Return, for each certificate of several things, the first things' names, and how many things there are."""
    shared: dict[str, tuple[list[str], int]] = {}
    for certificate_id, thing in rows:
        names, number = shared.get(certificate_id, ([], 0))
        if number <= MAX_SHARED_WITH:
            names.append(thing)
        shared[certificate_id] = names, number + 1
    return shared


def _executions_by_thing(state: FleetState) -> dict[str, tuple[DeviceExecution, ...]]:
    by_thing: dict[str, tuple[DeviceExecution, ...]] = {}
    for job in state.jobs:
        for thing, execution in job.executions.items():
            if not execution.status.is_terminal:
                by_thing[thing] = (*by_thing.get(thing, ()), execution)
    return by_thing


def _preflights(state: FleetState) -> dict[str, Preflight]:
    """Return the newest answer of each thing that has answered."""
    newest: dict[str, Preflight] = {}
    for job in state.checks:
        try:
            asked = parse_job_document(json.loads(job.document or ""))
        except (ValueError, ProtocolError):
            continue  # by hand, and wrong: whatever is answered is about no rotation of ours
        for thing, execution in job.executions.items():
            found = _answer(job.job_id, asked, execution)
            if found is not None and (thing not in newest or newest[thing].at <= found.at):
                newest[thing] = found
    return newest


def _answer(job_id: str, asked: JobDocument, execution: DeviceExecution) -> Preflight | None:
    if execution.status is ExecutionStatus.SUCCEEDED:
        return Preflight(job_id, execution.last_updated_at, asked)
    if execution.status is ExecutionStatus.FAILED:
        return Preflight(job_id, execution.last_updated_at, asked, execution.failure_reason or "it reports no reason")
    return None


def _since_certificate(rows: list[Any], held: tuple[Attachment, ...]) -> tuple[DeviceExecution, ...]:
    since = max((attachment.certificate.created_at.timestamp() for attachment in held), default=0.0)
    return tuple(
        DeviceExecution(
            job_id=job_id,
            status=execution_status(status),
            queued_at=datetime.fromtimestamp(queued_at, UTC),
            last_updated_at=datetime.fromtimestamp(last_updated_at, UTC),
            started_at=_instant(started_at),
            failure_reason=said(reason),
            component_version=said(version),
            first_queued_at=_instant(first),
        )
        for _, job_id, status, queued_at, last_updated_at, started_at, reason, version, first in rows
        if last_updated_at >= since
    )


def said(text: str | None) -> str | None:
    """Return what a device reported, fit for one line of any report; None if it reported nothing."""
    return None if text is None else one_line(text)


def _instant(seconds: float | None) -> datetime | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC)
