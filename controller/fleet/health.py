"""Devices that hold a rollout up: when silent ones were last connected, which component failing ones run.

Both questions are asked of a bounded number of devices per run, and optional: whatever comes back in the
place of an answer, it is "not known", which reports show, and the run goes on. If more devices are silent than are
asked one by one, fleet indexing is asked first, a hundred a call; many accounts have it turned off.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable
from datetime import datetime, timedelta
from functools import partial
from typing import Any

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
    """Asks AWS IoT for last connections, and Greengrass for component versions; with ``group`` of its things alone."""

    def __init__(self, session: AwsSession, database: Database, now: datetime, group: str | None = None) -> None:
        self._session = session
        self._database = database
        self._now = now
        self._among = _ANY if group is None else _OF_GROUP
        self._group = () if group is None else (group,)

    def run(self) -> None:
        """Bring ``last_seen`` and ``component_version`` up to date; devices of no concern lose theirs."""
        silent_since = (self._now - SILENT_AFTER).timestamp()
        with self._database.transaction() as connection:
            silent = self._due(
                connection, "last_seen", "presence_asked_in_run", _SILENT, (silent_since,), most=MAX_SEARCHED
            )
            failing = self._due(connection, "component_version", "version_asked_in_run", _FAILING, ())
        if len(silent) > MAX_ASKED:
            known = self._searched(silent)
            silent = [thing for thing in silent if thing not in known]
        work = Work()
        for thing in silent[:MAX_ASKED]:
            self._ask(work, thing, self._last_seen, "last_seen", "presence_asked_in_run")
        for thing in failing:
            self._ask(
                work, thing, partial(component_version, self._session), "component_version", "version_asked_in_run"
            )
        work.run()

    def _ask(self, work: Work, thing: str, question: Callable[[str], Any], column: str, asked: str) -> None:
        def keep(value: Any) -> None:
            with self._database.transaction() as connection:
                connection.execute(
                    f"UPDATE things SET {column} = ?, {asked} = (SELECT run FROM binding) WHERE name = ?",  # noqa: S608 (our own columns)
                    (value, thing),
                )

        work.add(lambda: question(thing), keep)

    def _searched(self, silent: list[str]) -> dict[str, float]:
        """Return, and keep, when the silent devices that fleet indexing lists as offline were last connected.

        Others of the account may stand among them: no more than twice the pages are read that the silent ones fill.
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
            connection.executemany(
                "UPDATE things SET last_seen = ?, presence_asked_in_run = (SELECT run FROM binding) WHERE name = ?",
                ((at, name) for name, at in found.items()),
            )
        return found

    def _last_seen(self, thing: str) -> float | None:
        """Now for a connected device, else when its last connection ended; None if that is not known.

        AWS IoT knows this by client id, which is the thing's name for a Greengrass nucleus.
        """
        answer = self._session.ask("iot", "GetThingConnectivityData", thingName=thing) or {}
        if answer.get("connected"):
            return self._now.timestamp()
        at = answer.get("timestamp")
        return at.timestamp() if at is not None else None

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
        """Governed things to ask now; those of no concern any more forget their answer, which would grow stale."""
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
