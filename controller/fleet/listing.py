"""Listings: every certificate of the account and every thing of the governed groups, page by page.

Pages go to ``*_listing`` tables and are committed one by one with the token of the next, so that a
killed or throttled run goes on there. When all are complete, the inventory adopts them in one
transaction: new, changed and vanished rows come out of the comparison.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from controller.fleet.aws import AwsSession
from controller.fleet.aws_errors import ENDLESS, AwsCallError
from controller.fleet.database import Database
from controller.fleet.progress import Progress
from controller.fleet.work import Work

RESUMABLE_FOR = timedelta(minutes=30)  # an older listing under way begins anew: it and its token are stale
RECENT = timedelta(hours=24)  # a certificate this young may still be about to be attached
MAX_RECENT = 500  # unattached young certificates looked at again per run
_STALE_TOKEN = frozenset({"InvalidRequestException", ENDLESS})
_CERTIFICATES = "certificates"


@dataclass(frozen=True, slots=True)
class _Listing:
    """One List call: its name in the table, how to get a page, and how to keep one."""

    name: str
    fetch: Callable[[str | None, set[str]], tuple[dict[str, Any], str | None]]
    keep: Callable[[sqlite3.Connection, dict[str, Any]], int]  # returns how many entries the page had
    seen: set[str] = field(default_factory=set)  # tokens of pages read in this run


class Lister:
    """Lists what a refresh compares with the inventory."""

    def __init__(self, session: AwsSession, database: Database, now: datetime, progress: Progress) -> None:
        self._session = session
        self._database = database
        self._now = now
        self._progress = progress
        self._listed = 0

    def run(self, groups: Iterable[str]) -> None:
        """List certificates and the things of these groups, and adopt the result."""
        listings = [self._certificates(), *(self._group(group) for group in sorted(groups))]
        self._begin(listing.name for listing in listings)
        work = Work()
        for listing in listings:
            self._next_page(work, listing, is_resumed=True)
        work.run()
        with self._database.transaction() as connection:
            adopt(connection, self._now)

    def _certificates(self) -> _Listing:
        def keep(connection: sqlite3.Connection, answer: dict[str, Any]) -> int:
            rows = [
                (
                    entry["certificateId"],
                    entry["status"],
                    entry["creationDate"].timestamp(),
                    entry.get("certificateMode") == "SNI_ONLY",
                )
                for entry in answer["certificates"]
            ]
            connection.executemany("INSERT OR REPLACE INTO certificate_listing VALUES (?, ?, ?, ?)", rows)
            return len(rows)

        return _Listing(_CERTIFICATES, lambda token, seen: self._session.page("ListCertificates", token, seen), keep)

    def _group(self, group: str) -> _Listing:
        def fetch(token: str | None, seen: set[str]) -> tuple[dict[str, Any], str | None]:
            return self._session.page("ListThingsInThingGroup", token, seen, thingGroupName=group, recursive=True)

        def keep(connection: sqlite3.Connection, answer: dict[str, Any]) -> int:
            rows = [(thing, group) for thing in answer["things"]]
            connection.executemany("INSERT OR IGNORE INTO member_listing VALUES (?, ?)", rows)
            return len(rows)

        return _Listing(f"group:{group}", fetch, keep)

    def _begin(self, names: Iterable[str]) -> None:
        """Go on with what an interrupted run listed, if that is young enough; else start from nothing."""
        wanted = set(names)
        now = self._now.timestamp()
        with self._database.transaction() as connection:
            rows = connection.execute("SELECT name, started_at FROM listings").fetchall()
            usable = {name for name, started in rows if 0 <= now - started <= RESUMABLE_FOR.total_seconds()} & wanted
            for name, _ in rows:
                if name not in usable:
                    _forget(connection, name)
            connection.executemany(
                "INSERT INTO listings (name, started_at) VALUES (?, ?)",
                [(name, now) for name in sorted(wanted - usable)],
            )

    def _next_page(self, work: Work, listing: _Listing, *, is_resumed: bool = False) -> None:
        with self._database.errors():
            token, is_complete = self._database.connection.execute(
                "SELECT token, is_complete FROM listings WHERE name = ?", (listing.name,)
            ).fetchone()
        if is_complete:
            return

        def fetch() -> tuple[dict[str, Any], str | None] | None:
            try:
                return listing.fetch(token, listing.seen)
            except AwsCallError as error:
                if is_resumed and token is not None and error.code in _STALE_TOKEN:
                    return None  # the token of the interrupted run is no longer good
                raise

        def keep(page: tuple[dict[str, Any], str | None] | None) -> None:
            with self._database.transaction() as connection:
                if page is None:
                    _forget(connection, listing.name)
                    connection.execute(
                        "INSERT INTO listings (name, started_at) VALUES (?, ?)",
                        (listing.name, self._now.timestamp()),
                    )
                else:
                    self._listed += listing.keep(connection, page[0])
                    connection.execute(
                        "UPDATE listings SET token = ?, is_complete = ? WHERE name = ?",
                        (page[1], page[1] is None, listing.name),
                    )
            self._progress("list", self._listed, None)
            self._next_page(work, listing)

        work.add(fetch, keep)


def _forget(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("DELETE FROM listings WHERE name = ?", (name,))
    if name == _CERTIFICATES:
        connection.execute("DELETE FROM certificate_listing")
    else:
        connection.execute("DELETE FROM member_listing WHERE group_name = ?", (name.partition(":")[2],))


def adopt(connection: sqlite3.Connection, now: datetime) -> None:
    """Make the complete listings the inventory's view, and mark what must be read because of them."""
    for statement in _ADOPT_CERTIFICATES:
        connection.execute(statement)
    connection.execute(_LOOK_AGAIN, ((now - RECENT).timestamp(), MAX_RECENT))
    for statement in _ADOPT_MEMBERS:
        connection.execute(statement)
    connection.execute("UPDATE binding SET run = run + 1")


_ADOPT_CERTIFICATES = (
    # A thing that loses its last certificate may have got another while pages were read.
    """UPDATE things SET must_read = 1 WHERE name IN (
           SELECT thing FROM attachments WHERE certificate_id NOT IN (SELECT id FROM certificate_listing))
       AND NOT EXISTS (SELECT 1 FROM attachments a JOIN certificate_listing l ON l.id = a.certificate_id
                       WHERE a.thing = things.name)""",
    "DELETE FROM certificates WHERE id NOT IN (SELECT id FROM certificate_listing)",
    """UPDATE certificates SET status = l.status, created_at = l.created_at, are_things_read = 0
       FROM certificate_listing l
       WHERE l.id = certificates.id
       AND (certificates.status, certificates.created_at) IS NOT (l.status, l.created_at)""",
    """INSERT INTO certificates (id, status, created_at, is_registered)
       SELECT id, status, created_at, is_registered FROM certificate_listing
       WHERE id NOT IN (SELECT id FROM certificates)""",
    "DELETE FROM certificate_listing",
)
_LOOK_AGAIN = """
UPDATE certificates SET are_things_read = 0 WHERE id IN (
    SELECT id FROM certificates c WHERE created_at >= ? AND status = 'ACTIVE'
    AND NOT EXISTS (SELECT 1 FROM attachments a WHERE a.certificate_id = c.id)
    ORDER BY created_at DESC, id LIMIT ?)
"""
_ADOPT_MEMBERS = (
    """DELETE FROM members WHERE NOT EXISTS (
       SELECT 1 FROM member_listing l WHERE l.thing = members.thing AND l.group_name = members.group_name)""",
    "INSERT OR IGNORE INTO members SELECT thing, group_name FROM member_listing",
    "DELETE FROM things WHERE name NOT IN (SELECT thing FROM members)",
    "INSERT OR IGNORE INTO things (name) SELECT DISTINCT thing FROM members",
    "DELETE FROM member_listing",
    "DELETE FROM listings",
)
