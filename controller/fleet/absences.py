"""When things that connect rarely went away and came back, as far as looks have found.

The absences of a thing are a list of instants, in whole seconds since 1970: away from, back at, away from, …; while
a thing is away, its list has an odd length. If nobody looked for days before a thing came back, that absence is
dropped, because nobody knows how long it was.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import NamedTuple

from controller.reconcile.values import Absences

LEAST = int(timedelta(hours=1).total_seconds())  # who is back sooner has not been away
MOST = 20  # absences that are kept of a thing, the newest
LOOKS_EVERY = timedelta(days=1)
_UNLOOKED = 2 * int(LOOKS_EVERY.total_seconds())  # for longer than that without a look, nobody knows what was
_FORGOTTEN = int(timedelta(days=180).total_seconds())  # who has been here for so long does not come and go any more


class Sighting(NamedTuple):
    """The answer of AWS IoT about a thing: whether it is connected, and since when, in seconds since 1970."""

    is_connected: bool
    since: float


def noted(known: Sequence[int] | None, looked_at: float | None, now: float, sighting: Sighting) -> list[int] | None:
    """Return what is known of a thing's absences after a sighting; None if the thing does not come and go.

    ``known`` is the list so far, and ``looked_at`` the time when it was last brought up to date.
    """
    if known is None and sighting.is_connected:
        return None
    found, since = list(known or ()), int(min(sighting.since, now))
    if len(found) % 2 and since > found[-1]:  # it has been back
        is_known = looked_at is not None and since - looked_at <= _UNLOOKED
        if is_known and since - found[-1] >= LEAST:
            found.append(since)
        else:
            found.pop()
    is_away = len(found) % 2 == 1
    if not sighting.is_connected and not is_away and (not found or since >= found[-1]):
        found.append(since)
    elif sighting.is_connected and not is_away and now - (found[-1] if found else since) > _FORGOTTEN:
        return None
    return found[max(0, len(found) - 2 * MOST - len(found) % 2) :]


def note(connection: sqlite3.Connection, thing: str, now: datetime, sighting: Sighting) -> None:
    """Keep what follows from a sighting of a thing; nothing is kept of a thing that has never been away."""
    row = connection.execute("SELECT absences, absences_at FROM things WHERE name = ?", (thing,)).fetchone()
    if row is None:
        return
    found = noted(row[0] and json.loads(row[0]), row[1], now.timestamp(), sighting)
    if found is not None or row[0] is not None:
        values = (None, None) if found is None else (json.dumps(found), now.timestamp())
        connection.execute("UPDATE things SET absences = ?, absences_at = ? WHERE name = ?", (*values, thing))


def note_answers(connection: sqlite3.Connection, now: datetime) -> None:
    """Note that a device was back if it was away and has begun with a job since."""
    known = dict(connection.execute("SELECT name, absences FROM things WHERE absences IS NOT NULL"))
    away = {thing: instants[-1] for thing, text in known.items() if len(instants := json.loads(text)) % 2}
    if not away:
        return
    rows = connection.execute(
        "SELECT thing, max(started_at) FROM executions WHERE started_at IS NOT NULL "
        "AND thing IN (SELECT value FROM json_each(?)) GROUP BY thing",
        (json.dumps(sorted(away)),),
    ).fetchall()
    for thing, started_at in rows:
        if started_at > away[thing]:
            note(connection, thing, now, Sighting(is_connected=True, since=started_at))


COME_AND_GO = "absences IS NOT NULL AND absences_at <= ?"
"""Of things that come and go, those that were not looked at since that moment."""


def absences_of(text: str, looked_at: float) -> Absences:
    """Return the value that the core reasons about, as known when the thing was ``looked_at``."""
    known = json.loads(text)
    gaps = tuple(timedelta(seconds=back - away) for away, back in zip(known[::2], known[1::2], strict=False))
    is_away = len(known) % 2 == 1
    return Absences(datetime.fromtimestamp(known[-1] if is_away else looked_at, UTC), is_away, gaps)
