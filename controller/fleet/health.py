"""Devices that hold a rollout up: when silent ones were last connected, which component failing ones run.

A device that has been away is asked once a day from then on, so that it is known how it comes and goes.
All questions are asked of a bounded number of devices per run, and optional: whatever comes back in the
place of an answer, it is "not known", which reports show, and the run goes on. If more devices are silent than are
asked one by one, fleet indexing is asked first, a hundred a call; many accounts have it turned off.
"""

from __future__ import annotations

import sqlite3
from datetime import datetime, timedelta
from functools import partial

from controller.fleet.absences import COME_AND_GO, LOOKS_EVERY, Sighting, note, note_answers
from controller.fleet.aws import AwsSession
from controller.fleet.component import component_version
from controller.fleet.database import Database
from controller.fleet.work import Work

SILENT_AFTER = timedelta(hours=1)  # a device that is online takes up a queued execution within seconds
MAX_ASKED = 100  # devices per run for each of the two questions, those asked longest ago first
MAX_SEARCHED = 20_000  # silent devices per run that are looked for in fleet indexing
PAGE = 100  # things that one call of SearchIndex gives
OFFLINE = "connectivity.connected:false"

_SILENT = "SELECT thing FROM rotations WHERE status = 'QUEUED' AND queued_at <= ?"
_FAILING = "SELECT thing FROM rotations WHERE status IN ('FAILED', 'TIMED_OUT', 'REJECTED')"


_ANY, _OF_GROUP = "1", "name IN (SELECT thing FROM members WHERE group_name = ?)"


class HealthReader:
    """Asks AWS IoT for last connections, and Greengrass for component versions; with ``group``, of its things alone."""

    def __init__(self, session: AwsSession, database: Database, now: datetime, group: str | None = None) -> None:
        self._session = session
        self._database = database
        self._now = now
        self._among = _ANY if group is None else _OF_GROUP
        self._group = () if group is None else (group,)

    def run(self) -> None:
        """Bring ``last_seen`` and ``component_version`` up to date; clear them for devices of no concern any more."""
        silent_since = (self._now - SILENT_AFTER).timestamp()
        with self._database.transaction() as connection:
            note_answers(connection, self._now)
            silent = self._due(
                connection, "last_seen", "presence_asked_in_run", _SILENT, (silent_since,), most=MAX_SEARCHED
            )
            failing = self._due(connection, "component_version", "version_asked_in_run", _FAILING, ())
        if len(silent) > MAX_ASKED:
            known = self._searched(silent)
            silent = [thing for thing in silent if thing not in known]
        work = Work()
        for thing in silent[:MAX_ASKED]:
            work.add(partial(self._sighted, thing), partial(self._keep_sighting, thing, is_silent=True))
        for thing in self._coming_and_going(silent[:MAX_ASKED]):
            work.add(partial(self._sighted, thing), partial(self._keep_sighting, thing, is_silent=False))
        for thing in failing:
            work.add(partial(component_version, self._session, thing), partial(self._keep_version, thing))
        work.run()

    def _coming_and_going(self, asked: list[str]) -> list[str]:
        """Return other devices to ask, within the same bound: those that have been away before, each once a day."""
        before = (self._now - LOOKS_EVERY).timestamp()
        with self._database.snapshot() as connection:
            rows = connection.execute(
                f"SELECT name FROM things WHERE {COME_AND_GO} AND {self._among} ORDER BY absences_at, name LIMIT ?",  # noqa: S608 (our own text)
                (before, *self._group, MAX_ASKED),
            ).fetchall()
        return [name for (name,) in rows if name not in asked][: MAX_ASKED - len(asked)]

    def _keep_sighting(self, thing: str, found: Sighting | None, *, is_silent: bool) -> None:
        """Keep a sighting; for a silent thing also when it was last connected: now, or when its connection ended."""
        with self._database.transaction() as connection:
            if found is not None:
                note(connection, thing, self._now, found)
            if is_silent:
                seen = found and (self._now.timestamp() if found.is_connected else found.since)
                connection.execute(
                    "UPDATE things SET last_seen = ?, presence_asked_in_run = (SELECT run FROM binding) WHERE name = ?",
                    (seen, thing),
                )

    def _keep_version(self, thing: str, version: str | None) -> None:
        with self._database.transaction() as connection:
            connection.execute(
                "UPDATE things SET component_version = ?, version_asked_in_run = (SELECT run FROM binding) "
                "WHERE name = ?",
                (version, thing),
            )

    def _searched(self, silent: list[str]) -> dict[str, float]:
        """Return, and keep, when the silent devices that fleet indexing lists as offline were last connected.

        The list may hold other devices of the account, so at most twice as many pages are read as the silent ones fill.
        """
        wanted, found, token = set(silent), dict[str, float](), dict[str, str]()
        for _ in range(2 * -(-len(silent) // PAGE)):
            answer = self._session.ask("iot", "SearchIndex", queryString=OFFLINE, maxResults=PAGE, **token) or {}
            for thing in answer.get("things", ()):
                at = thing.get("connectivity", {}).get("timestamp")  # missing of some that have long been away
                if at and thing["thingName"] in wanted:
                    found[thing["thingName"]] = at / 1000
            if not answer.get("nextToken") or len(found) == len(wanted):
                break
            token = {"nextToken": answer["nextToken"]}
        with self._database.transaction() as connection:
            for name, at in found.items():
                note(connection, name, self._now, Sighting(is_connected=False, since=at))
            connection.executemany(
                "UPDATE things SET last_seen = ?, presence_asked_in_run = (SELECT run FROM binding) WHERE name = ?",
                ((at, name) for name, at in found.items()),
            )
        return found

    def _sighted(self, thing: str) -> Sighting | None:
        """Ask AWS IoT about a thing by its client id: a Greengrass nucleus connects under the thing's name."""
        answer = self._session.ask("iot", "GetThingConnectivityData", thingName=thing) or {}
        at = answer.get("timestamp")
        if answer.get("connected"):
            return Sighting(is_connected=True, since=(at or self._now).timestamp())
        return None if at is None else Sighting(is_connected=False, since=at.timestamp())

    def _due(
        self,
        connection: sqlite3.Connection,
        column: str,
        asked: str,
        concerned: str,
        values: tuple[float, ...],
        *,
        most: int = MAX_ASKED,
    ) -> list[str]:
        """Return governed things to ask now; things that need not be asked any more lose their old answer."""
        connection.execute(
            f"UPDATE things SET {column} = NULL, {asked} = 0 WHERE {asked} > 0 AND name NOT IN ({concerned})",  # noqa: S608 (our own text)
            values,
        )
        rows = connection.execute(
            f"SELECT name FROM things WHERE name IN ({concerned}) AND {self._among} "  # noqa: S608 (as above)
            f"ORDER BY {asked}, name LIMIT ?",
            (*values, *self._group, most),
        )
        return [name for (name,) in rows]
