"""Every quarter of an hour: what no event has brought to its end is brought to it by the same table of verdicts.

An end whose event was lost is asked for, a create that broke off is undone, a removal that broke off goes on, a
certificate that a person has deactivated goes, and of what stays undecided for a day a person is notified. So does what
several things held and none holds any more. Each is tried by itself: one that fails is logged, and tried again by the
next sweep.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any, TypeAlias

from . import ending, shared
from .errors import ConflictError, error_code
from .operator import decided
from .rotation import MAKING, Rotation
from .services import Services, services
from .verdicts import CertificateRole

FUNCTION = "sweep"
EVERY = timedelta(minutes=15)
MOST = 250
"""Things a sweep visits; if there are more, the next one goes on with those behind."""
MOST_SHARED = 50
"""Certificates that several things held, likewise."""
Visit: TypeAlias = tuple[Callable[[], None], Mapping[str, str]]
"""The action, and its owner, for the log."""
_OFF = frozenset({"INACTIVE", "REVOKED", None})  # statuses by which a person decides; None: deleted
PAUSE = 0.25  # seconds between two things, each of which costs up to three of an account's ten calls a second


def handler(_event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Lambda entry point; the schedule's event holds nothing."""
    return sweep(services(), time.sleep)


def sweep(services: Services, pause: Any) -> dict[str, Any]:
    """Visit what is open for longer than a rotation takes, with a ``pause`` between; report how much that is."""
    now = services.clock()
    found = services.table.open_since_before(now - EVERY)
    due: list[Visit] = [
        (partial(_visit_thing, services, name), {"thing": name}) for name in _turn([one for _, one in found], now, MOST)
    ]
    due.append((lambda: due.extend(_shared_due(services, now)), {}))  # which the loop then comes to
    failed = 0
    for act, whom in due:
        failed += not _visited(act, whom)
        pause(PAUSE)
    oldest = min((started for started, _ in found), default=now)
    numbers = {"open": len(found), "failed": failed, "oldest_seconds": int((now - oldest).total_seconds())}
    decided("swept", function=FUNCTION, **numbers)
    return {"status": "swept", **numbers}


def _turn(names: Sequence[str], now: datetime, most: int) -> Sequence[str]:
    """Return those whose turn it is: all of them, or the part that belongs to this quarter of an hour."""
    if len(names) <= most:
        return names
    start = int(now.timestamp() / EVERY.total_seconds()) * most % len(names)
    return [*names[start:], *names[:start]][:most]


def _visited(act: Callable[[], None], whom: Mapping[str, str]) -> bool:
    try:
        act()
    except ConflictError:
        return True  # somebody is at work on it
    except Exception as error:  # noqa: BLE001  # one must not keep the others waiting
        decided("failed", function=FUNCTION, detail=error_code(error), **whom)
        return False
    return True


def _visit_thing(services: Services, thing_name: str) -> None:
    rotation = services.table.current(thing_name)
    if rotation is not None and rotation.is_active:
        visit(services, rotation)


def _shared_due(services: Services, now: datetime) -> list[Visit]:
    """Of what several things held, that which none holds any more goes in its time; see ``shared``."""
    if not services.table.shared().certificate_ids:
        return []
    known = services.table.note_heard(now, is_heard=services.registry.hears_connections())
    return [
        (partial(shared.visit, services, one, known.heard_since), {"certificate": one})
        for one in _turn(sorted(known.certificate_ids), now, MOST_SHARED)
    ]


def visit(services: Services, rotation: Rotation) -> None:
    """Ask for what nobody has reported, then conclude."""
    known = rotation
    if rotation.phase not in MAKING and rotation.ended_at is None:
        known = ending.with_end(services, rotation)
    # Asked before the statuses are: what comes back of a quarantine in between is not a person's decision.
    is_a_persons = rotation.awaits_a_person and not services.table.is_quarantined(rotation.thing_name)
    deactivated = _deactivated(services, rotation) if is_a_persons else None
    ending.conclude(services, rotation, known, f"{FUNCTION}: job {rotation.job_id}", deactivated=deactivated)


def _deactivated(services: Services, rotation: Rotation) -> CertificateRole | None:
    """Return which of the two a person has decided against.

    By its status, or by detaching what is shared; None if not one.
    """
    old, new = rotation.old_certificate_id, rotation.new_certificate_id or ""
    if rotation.is_shared:
        is_old_off = rotation.thing_name not in (services.registry.things_of(rotation.arn(old)) or ())
    else:
        is_old_off = services.registry.status(old) in _OFF
    states = {CertificateRole.OLD: is_old_off, CertificateRole.NEW: services.registry.status(new) in _OFF}
    off = [which for which, is_off in states.items() if is_off]
    return off[0] if len(off) == 1 else None
