"""Every 15 minutes, bring to its end what no event has, by the same table of verdicts.

The sweep asks AWS IoT for an end whose event was lost, undoes a create that broke off, goes on with a removal that
broke off, removes a certificate that a person has deactivated, and notifies a person of what stays undecided for a day.
It also visits the certificates that several things held. Each visit stands by itself: one that fails is logged, and the
next sweep tries it again.
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
"""How many things one sweep visits; if there are more, the next sweep goes on with the rest."""
MOST_SHARED = 50
"""How many certificates that several things held one sweep visits."""
Visit: TypeAlias = tuple[Callable[[], None], Mapping[str, str]]
"""An action, and the thing or certificate that the log names for it."""
_OFF = frozenset({"INACTIVE", "REVOKED", None})  # statuses by which a person decides; None: deleted
PAUSE = 0.25  # seconds between two things, each of which costs up to three of an account's ten calls a second


def handler(_event: Mapping[str, Any], _context: object) -> dict[str, Any]:
    """Sweep once (Lambda's entry point); the schedule's event holds nothing."""
    return sweep(services(), time.sleep)


def sweep(services: Services, pause: Any) -> dict[str, Any]:
    """Visit each rotation that is open for longer than one takes, with a ``pause`` between; report the number."""
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
    """Return the ``names`` whose turn it is: all, or the ``most`` that belong to these 15 minutes."""
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
    """Return the visits to certificates that several things held and whose turn it is; see ``shared``."""
    if not services.table.shared().certificate_ids:
        return []
    known = services.table.note_heard(now, is_heard=services.registry.hears_connections())
    return [
        (partial(shared.visit, services, one, known.heard_since), {"certificate": one})
        for one in _turn(sorted(known.certificate_ids), now, MOST_SHARED)
    ]


def visit(services: Services, rotation: Rotation) -> None:
    """Ask AWS IoT for an end or a deactivation that nobody has reported, then conclude the rotation."""
    known = rotation
    if rotation.phase not in MAKING and rotation.ended_at is None:
        known = ending.with_end(services, rotation)
    # Asked before the statuses are: what comes back of a quarantine in between is not a person's decision.
    is_a_persons = rotation.awaits_a_person and not services.table.is_quarantined(rotation.thing_name)
    deactivated = _deactivated(services, rotation) if is_a_persons else None
    ending.conclude(services, rotation, known, f"{FUNCTION}: job {rotation.job_id}", deactivated=deactivated)


def _deactivated(services: Services, rotation: Rotation) -> CertificateRole | None:
    """Return which of the two certificates a person has decided against; None if it is not exactly one.

    A person decides by deactivating a certificate, or by detaching one that is shared.
    """
    old, new = rotation.old_certificate_id, rotation.new_certificate_id or ""
    if rotation.is_shared:
        is_old_off = rotation.thing_name not in (services.registry.things_of(rotation.arn(old)) or ())
    else:
        is_old_off = services.registry.status(old) in _OFF
    states = {CertificateRole.OLD: is_old_off, CertificateRole.NEW: services.registry.status(new) in _OFF}
    off = [which for which, is_off in states.items() if is_off]
    return off[0] if len(off) == 1 else None
