"""Listings: the things of the governed groups, and the part of the account that has to be looked at today.

Groups are listed on every run. Certificates come newest first, so that a few pages show the new ones. All
certificates and all things are listed once a day (on every run if that is a few pages), to find changed statuses and
things that nobody governs. A first look needs neither: it asks governed things and describes what they hold. A page
of things brings their attributes: if the fleet names the one that is a thing's site, the first look lists all things.

Pages go to ``*_listing`` tables and are committed one by one with the token of the next, so that a
killed or throttled run goes on there. When all are complete, the inventory adopts them in one
transaction: new, changed and vanished rows come out of the comparison.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Collection, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

from controller.fleet.aws import AwsSession
from controller.fleet.aws_errors import ENDLESS, AwsCallError
from controller.fleet.database import Database
from controller.fleet.progress import Progress
from controller.fleet.work import Work

RESUMABLE_FOR = timedelta(minutes=30)  # an older listing under way begins anew: it and its token are stale
WHOLE_EVERY = timedelta(days=1)
SHORT = 4  # pages of the account that are read on every run
OVERLAP = timedelta(hours=1)  # before the last look, for what was made while it went on
RECENT = timedelta(hours=24)  # a certificate this young may still be about to be attached
MAX_NEW = 200  # certificates that a run asks for their things, newest first; what they hide the slice finds
MAX_RECENT = 50  # unattached young certificates looked at again per run
MAX_UNMANAGED = 1000  # names that are kept
_STALE_TOKEN = frozenset({"InvalidRequestException", ENDLESS})
_CERTIFICATES, _THINGS, _GROUP = "certificates", "things", "group:"

_Page = tuple[dict[str, Any], str | None]


@dataclass(frozen=True, slots=True)
class _Listing:
    """One List call: its name in the table, how to get a page, and how to keep one."""

    name: str
    fetch: Callable[[str | None, set[str]], _Page]
    keep: Callable[[sqlite3.Connection, dict[str, Any]], int]  # returns how many entries the page had
    seen: set[str] = field(default_factory=set)  # tokens of pages read in this run
    is_enough: Callable[[dict[str, Any]], bool] = lambda _answer: False  # what follows this page need not be read today
    is_optional: bool = False  # a run goes on where it is not allowed to ask


@dataclass(frozen=True, slots=True)
class Listed:
    """The certificates of a listing, compared with the inventory before it.

    ``new``: the creation date of each ACTIVE one made since the last look, by id. ``lost``: those that are no longer
    listed, by the thing that held them, as (certificate id, attachment type).
    """

    new: dict[str, float]
    lost: dict[str, list[tuple[str, str]]]


class Lister:
    """Lists what a refresh compares with the inventory."""

    def __init__(
        self,
        session: AwsSession,
        database: Database,
        now: datetime,
        progress: Progress,
        *,
        whole_every: timedelta = WHOLE_EVERY,
        site_attribute: str | None = None,
    ) -> None:
        self._session = session
        self._database = database
        self._now = now
        self._progress = progress
        self._listed = 0
        self._site_attribute = site_attribute
        with database.errors():
            row = database.connection.execute(
                "SELECT refreshed_at, listed_at, site_attribute, are_sites_listed FROM binding"
            ).fetchone()
        self._refreshed_at: float | None = row[0]
        self._has_other_sites = row[2] != site_attribute
        self._must_list_sites = site_attribute is not None and (self._has_other_sites or not row[3])
        age = None if row[1] is None else now.timestamp() - row[1]
        self.is_whole_due = row[0] is not None and (age is None or not 0 <= age < whole_every.total_seconds())

    def run(self, governed: Collection[str], only: str | None = None) -> Listed:
        """List what this run needs of the account, and the things of the governed groups, and adopt the result.

        With ``only`` a group, list that one, and each other group of which nothing is known: a thing may be in several.
        """
        groups = set(governed) if only is None else {only, *set(governed).difference(self._known_groups())}
        listings = [*self._of_the_account(), *(self._group(group) for group in sorted(groups))]
        self._begin(listing.name for listing in listings)
        work = Work()
        for listing in listings:
            self._next_page(work, listing, is_resumed=True)
        work.run()
        with self._database.transaction() as connection:
            return adopt(connection, self._now, self._new_since, governed)

    def _known_groups(self) -> set[str]:
        with self._database.errors():
            return {name for (name,) in self._database.connection.execute("SELECT DISTINCT group_name FROM members")}

    @property
    def _new_since(self) -> float:
        """The instant, in seconds since 1970, from which on a certificate counts as new."""
        return (self._refreshed_at or self._now.timestamp()) - OVERLAP.total_seconds()

    def _of_the_account(self) -> Iterator[_Listing]:
        if self._refreshed_at is not None:
            yield self._certificates()
        yield self._things()

    def _certificates(self) -> _Listing:
        def keep(connection: sqlite3.Connection, answer: dict[str, Any]) -> int:
            rows = [(one["certificateId"], one["status"], _created(one)) for one in answer["certificates"]]
            connection.executemany("INSERT OR REPLACE INTO certificate_listing VALUES (?, ?, ?, 0)", rows)
            return len(rows)

        def is_enough(answer: dict[str, Any]) -> bool:
            created = list(map(_created, answer["certificates"]))
            is_newest_first = all(one >= other for one, other in pairwise(created))
            is_old = bool(created) and created[0] < self._new_since
            return not self.is_whole_due and len(seen) >= SHORT and is_newest_first and is_old

        def fetch(token: str | None, seen: set[str]) -> _Page:
            return self._session.page("ListCertificates", token, seen)

        seen: set[str] = set()
        return _Listing(_CERTIFICATES, fetch, keep, seen, is_enough)

    def _things(self) -> _Listing:
        def keep(connection: sqlite3.Connection, answer: dict[str, Any]) -> int:
            rows = [(one["thingName"], self._site(one)) for one in answer["things"]]
            connection.executemany("INSERT OR IGNORE INTO thing_listing VALUES (?, ?)", rows)
            return len(rows)

        def fetch(token: str | None, seen: set[str]) -> _Page:
            return self._session.page("ListThings", token, seen)

        def is_enough(_answer: dict[str, Any]) -> bool:
            return not (self.is_whole_due or self._must_list_sites) and len(seen) >= SHORT

        seen: set[str] = set()
        return _Listing(_THINGS, fetch, keep, seen, is_enough, is_optional=True)

    def _site(self, thing: dict[str, Any]) -> str | None:
        return None if self._site_attribute is None else thing.get("attributes", {}).get(self._site_attribute) or None

    def _group(self, group: str) -> _Listing:
        def fetch(token: str | None, seen: set[str]) -> _Page:
            return self._session.page("ListThingsInThingGroup", token, seen, thingGroupName=group, recursive=True)

        def keep(connection: sqlite3.Connection, answer: dict[str, Any]) -> int:
            things = answer["things"]
            query = "INSERT OR IGNORE INTO member_listing SELECT value, ? FROM json_each(?)"
            connection.execute(query, (group, json.dumps(things)))
            return len(things)

        return _Listing(f"{_GROUP}{group}", fetch, keep)

    def _begin(self, names: Iterable[str]) -> None:
        """Go on with what an interrupted run listed, if that is young enough; else start from nothing."""
        wanted = set(names)
        now = self._now.timestamp()
        with self._database.transaction() as connection:
            if self._has_other_sites:  # those of pages that an interrupted run listed, too
                _forget(connection, _THINGS)
                connection.execute("UPDATE things SET site = NULL WHERE site IS NOT NULL")
                connection.execute(
                    "UPDATE binding SET site_attribute = ?, are_sites_listed = 0", (self._site_attribute,)
                )
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

        def fetch() -> _Page | AwsCallError:
            try:
                return listing.fetch(token, listing.seen)
            except AwsCallError as error:
                is_stale = is_resumed and token is not None and error.code in _STALE_TOKEN  # of the interrupted run
                if is_stale or (listing.is_optional and error.is_denied):
                    return error
                raise

        def keep(page: _Page | AwsCallError) -> None:
            with self._database.transaction() as connection:
                if isinstance(page, AwsCallError):
                    _forget(connection, listing.name)
                    if page.is_denied:
                        return
                    row = (listing.name, self._now.timestamp())
                    connection.execute("INSERT INTO listings (name, started_at) VALUES (?, ?)", row)
                else:
                    self._listed += listing.keep(connection, page[0])
                    connection.execute(
                        "UPDATE listings SET token = ?, is_complete = ? WHERE name = ?",
                        (page[1], page[1] is None or listing.is_enough(page[0]), listing.name),
                    )
            self._progress("list", self._listed, None)
            self._next_page(work, listing)

        work.add(fetch, keep)


def _created(entry: dict[str, Any]) -> float:
    return float(entry["creationDate"].timestamp())


def _forget(connection: sqlite3.Connection, name: str) -> None:
    connection.execute("DELETE FROM listings WHERE name = ?", (name,))
    if name == _CERTIFICATES:
        connection.execute("DELETE FROM certificate_listing")
    elif name == _THINGS:
        connection.execute("DELETE FROM thing_listing")
    else:
        connection.execute("DELETE FROM member_listing WHERE group_name = ?", (name.removeprefix(_GROUP),))


def adopt(connection: sqlite3.Connection, now: datetime, new_since: float, governed: Iterable[str]) -> Listed:
    """Make the complete listings the inventory's view; mark what is ``new_since`` or governed and must be read."""
    whole = {name for (name,) in connection.execute("SELECT name FROM listings WHERE is_complete AND token IS NULL")}
    _adopt_members(connection, governed)
    listed = Listed(dict(connection.execute(_NEW, (new_since,)).fetchall()), {})
    if _CERTIFICATES in whole:
        for thing, *held in connection.execute(_LOST):
            listed.lost.setdefault(thing, []).append((held[0], held[1]))
        for statement in _ADOPT_ABSENT:
            connection.execute(statement)
        connection.execute("UPDATE binding SET listed_at = ?", (now.timestamp(),))
    for statement in _ADOPT_STATUSES:
        connection.execute(statement)
    connection.execute(_ADOPT_NEW, (new_since, MAX_NEW))
    connection.execute(_LOOK_AGAIN, ((now - RECENT).timestamp(), MAX_RECENT))
    if connection.execute("SELECT site_attribute FROM binding").fetchone()[0] is not None:
        connection.execute(_ADOPT_SITES)
    if _THINGS in whole:
        connection.execute("UPDATE binding SET are_sites_listed = site_attribute IS NOT NULL")
        for statement in _ADOPT_UNMANAGED:
            connection.execute(statement)
    for table in ("certificate_listing", "thing_listing", "listings"):
        connection.execute(f"DELETE FROM {table}")  # noqa: S608 (names of ours)
    connection.execute("UPDATE binding SET run = run + 1")
    return listed


def _adopt_members(connection: sqlite3.Connection, governed: Iterable[str]) -> None:
    gone = connection.execute(_DROP_GROUPS, (json.dumps(sorted(governed)),)).rowcount
    gone += connection.execute(_DROP_MEMBERS).rowcount
    if connection.execute(_ADD_MEMBERS).rowcount:
        connection.execute("INSERT OR IGNORE INTO things (name) SELECT DISTINCT thing FROM members")
    if gone:
        connection.execute("DELETE FROM things WHERE name NOT IN (SELECT thing FROM members)")
    connection.execute("DELETE FROM member_listing")


def forget_strangers(connection: sqlite3.Connection, now: datetime) -> None:
    """Forget each certificate that no governed thing holds, unless it is so young that one may still get it."""
    connection.execute(
        """DELETE FROM certificates WHERE are_things_read = 1 AND coalesce(created_at, 0) < ?
           AND NOT EXISTS (SELECT 1 FROM attachments a JOIN things t ON t.name = a.thing
                           WHERE a.certificate_id = certificates.id)""",
        ((now - RECENT).timestamp(),),
    )


_DROP_GROUPS = "DELETE FROM members WHERE group_name NOT IN (SELECT value FROM json_each(?))"
_DROP_MEMBERS = """
DELETE FROM members WHERE 'group:' || group_name IN (SELECT name FROM listings) AND NOT EXISTS (
SELECT 1 FROM member_listing l WHERE l.thing = members.thing AND l.group_name = members.group_name)
"""
_ADD_MEMBERS = "INSERT OR IGNORE INTO members SELECT thing, group_name FROM member_listing"
_NEW = "SELECT id, created_at FROM certificate_listing WHERE created_at >= ? AND status = 'ACTIVE'"
_LOST = """
SELECT thing, certificate_id, type FROM attachments WHERE certificate_id NOT IN (SELECT id FROM certificate_listing)
"""
_ADOPT_ABSENT = (
    # A thing that loses its last certificate may have got another.
    """UPDATE things SET must_read = 1 WHERE name IN (
           SELECT thing FROM attachments WHERE certificate_id NOT IN (SELECT id FROM certificate_listing))
       AND NOT EXISTS (SELECT 1 FROM attachments a JOIN certificate_listing l ON l.id = a.certificate_id
                       WHERE a.thing = things.name)""",
    "DELETE FROM certificates WHERE id NOT IN (SELECT id FROM certificate_listing)",
)
_ADOPT_STATUSES = (
    # Whoever changes a certificate's status often puts another one in its place.
    """UPDATE things SET must_read = 1 WHERE name IN (
           SELECT a.thing FROM certificate_listing l CROSS JOIN certificates c ON c.id = l.id
           JOIN attachments a ON a.certificate_id = c.id WHERE c.status IS NOT l.status)""",  # what was listed first
    """UPDATE certificates SET status = l.status, created_at = l.created_at FROM certificate_listing l
       WHERE l.id = certificates.id
       AND (certificates.status, certificates.created_at) IS NOT (l.status, l.created_at)""",
)
_ADOPT_NEW = """
INSERT INTO certificates (id, status, created_at)
    SELECT id, status, created_at FROM certificate_listing
    WHERE created_at >= ? AND id NOT IN (SELECT id FROM certificates) ORDER BY created_at DESC, id LIMIT ?
"""
_LOOK_AGAIN = """
UPDATE certificates SET are_things_read = 0 WHERE id IN (
    SELECT id FROM certificates c WHERE created_at >= ? AND status = 'ACTIVE'
    AND NOT EXISTS (SELECT 1 FROM attachments a WHERE a.certificate_id = c.id)
    ORDER BY created_at DESC, id LIMIT ?)
"""
_ADOPT_SITES = """
UPDATE things SET site = l.site FROM thing_listing l
WHERE l.name = things.name AND things.site IS NOT l.site
"""
_ADOPT_UNMANAGED = (
    "DELETE FROM thing_listing WHERE name IN (SELECT name FROM things)",
    "UPDATE binding SET unmanaged = (SELECT count(*) FROM thing_listing)",
    "DELETE FROM unmanaged",
    f"INSERT INTO unmanaged SELECT name FROM thing_listing ORDER BY name LIMIT {MAX_UNMANAGED}",  # noqa: S608 (a number)
)
