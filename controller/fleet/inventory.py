"""The inventory: what is known of one account's registry, in one SQLite file.

A certificate never changes, so it is described once ever and remembered here. The file holds
nothing secret and nothing of its own: deleted, it is rebuilt from AWS.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import AbstractContextManager, closing
from pathlib import Path
from types import TracebackType
from typing import Self, TypeVar

from controller.errors import InventoryError
from controller.fleet.database import BUSY_SECONDS, Database, UnusableInventoryError, is_inventory
from controller.fleet.devices import stream_devices
from controller.fleet.lock import Patience, only_writer
from controller.plain_text import one_line
from controller.reconcile.values import DesiredState, Device, Fleet, FleetState

_KNOWN = """
WITH names AS (SELECT name FROM things UNION SELECT thing FROM member_listing)
SELECT count(*) - (SELECT count(*) FROM things WHERE read_in_run > 0 AND name NOT IN (
    SELECT a.thing FROM certificates c JOIN attachments a ON a.certificate_id = c.id WHERE c.is_described = 0
)), count(*) FROM names
"""
_SITES = """
SELECT name, site FROM things WHERE site IS NOT NULL AND ? IS (SELECT site_attribute FROM binding)
AND name IN (SELECT value FROM json_each(?))
"""

T = TypeVar("T")


def rebuilt_where_damaged(work: Callable[[], T]) -> T:
    """Do the work; once more if it met an inventory that was damaged, and has been removed for that."""
    try:
        return work()
    except UnusableInventoryError as error:
        if not error.is_removed:
            raise
    return work()


class Inventory:
    """One inventory file, made if it is missing; raises InventoryError if it cannot be used.

    A file of ours that is of another version, or damaged, is rebuilt, which ``tell`` reports in one line. If
    ``is_cache``, nobody else keeps a file at ``path``, and any other file there is rebuilt too. Damage that shows only
    later is an UnusableInventoryError, and the file is gone once the ``with`` block has ended by it. Safe under kill -9
    at any instant. Many may read while one refreshes; ``patience`` is how long a second refresh waits for the first.
    """

    def __init__(
        self,
        path: Path | str,
        *,
        patience: Patience | None = None,
        tell: Callable[[str], None] = lambda _text: None,
        is_cache: bool = False,
    ) -> None:
        self._path, self._patience, self.tell = Path(path), patience or Patience(), tell
        self._is_cache = is_cache
        try:
            self.database = self._open()
        except UnusableInventoryError as error:
            self._remove(error)
            self.database = self._open()

    def _remove(self, why: UnusableInventoryError) -> None:
        """Remove the file, unless another run was faster and the one that lies there now is sound."""
        if not (self._is_cache or is_inventory(self._path)):
            raise why
        with only_writer(self._path, self._patience):
            if not self._is_sound():
                for file in self._path.parent.glob(f"{self._path.name}*"):
                    if not file.name.endswith(".lock"):
                        file.unlink()
                self.tell(f"{why}; it is built anew from AWS")
        why.is_removed = True

    def _is_sound(self) -> bool:
        try:
            with closing(self._open()) as database:
                database.require_sound()
        except UnusableInventoryError:
            return False
        return True

    def _open(self) -> Database:
        return Database(self._path, min(BUSY_SECONDS, self._patience.seconds))

    def only_writer(self) -> AbstractContextManager[None]:
        """Be the only one who refreshes; InventoryError if another still does when patience ends."""
        return only_writer(self._path, self._patience)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
        if isinstance(error, UnusableInventoryError):
            self._remove(error)

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def bind(self, fleet: Fleet, endpoint: str) -> None:
        """Tie a new inventory to account, region and the endpoint of ``iot``; InventoryError if it is of others.

        One of the same account that another endpoint filled (a sandbox, or AWS itself) is begun anew.
        """
        with self.database.transaction() as connection:
            row = connection.execute("SELECT account, region, endpoint FROM binding").fetchone()
        if row is None:
            self._tie(fleet, endpoint)
        elif row[:2] != (fleet.account, fleet.region):
            raise InventoryError(
                f"the inventory {self.database.path} is of account {row[0]} in {row[1]}, "
                f"but Fleet {fleet.name!r} is account {fleet.account} in {fleet.region}",
                "name another inventory file for this fleet",
            )
        elif row[2] != endpoint:
            is_older_and_of_aws = row[2] is None and ".amazonaws." in endpoint
            if not is_older_and_of_aws:
                self.begin_anew(f"was filled from {row[2] or 'an unknown endpoint'}, this run speaks to {endpoint}")
            self._tie(fleet, endpoint)

    def begin_anew(self, why: str) -> None:
        """Forget everything, because the content is about another registry than the one that answers now."""
        self.tell(f"the inventory {self.database.path} {why}; it is built anew")
        self.database.clear()

    def _tie(self, fleet: Fleet, endpoint: str) -> None:
        with self.database.transaction() as connection:
            if connection.execute("UPDATE binding SET endpoint = ?", (endpoint,)).rowcount == 0:
                connection.execute(
                    "INSERT INTO binding (account, region, endpoint) VALUES (?, ?, ?)",
                    (fleet.account, fleet.region, endpoint),
                )

    def unread(self) -> tuple[int, int]:
        """Return how many things are not wholly read yet, what they hold included, and how many are known by name."""
        with self.database.errors():
            unread, listed = self.database.connection.execute(_KNOWN).fetchone()
        return unread, listed

    def members(self, group: str) -> tuple[str, ...]:
        """Return the things of a governed group."""
        return self._names("SELECT thing FROM members WHERE group_name = ? ORDER BY thing", group)

    def groups_of(self, thing: str) -> tuple[str, ...]:
        """Return the governed groups that a thing is in; none if it is not known."""
        return self._names("SELECT group_name FROM members WHERE thing = ? ORDER BY group_name", thing)

    def foreign_jobs(self) -> dict[str, float]:
        """Return jobs that have been looked into and are not rotations, with when they were made."""
        with self.database.snapshot() as connection:
            return dict(connection.execute("SELECT id, created_at FROM jobs WHERE is_read AND NOT is_rotation"))

    def sites(self, attribute: str, things: Iterable[str]) -> dict[str, str]:
        """Return the known sites of these things, by thing; none if they were read by another attribute."""
        shared: dict[str, str] = {}
        with self.database.snapshot() as connection:
            rows = connection.execute(_SITES, (attribute, json.dumps(list(things))))
            return {name: shared.setdefault(site, one_line(site)) for name, site in rows}

    def settings(self) -> dict[str, str]:
        """Return, by thing, the key that its component is set to make, if that is known."""
        with self.database.snapshot() as connection:
            return dict(connection.execute("SELECT name, key_algorithm FROM things WHERE key_algorithm IS NOT NULL"))

    def _names(self, query: str, name: str) -> tuple[str, ...]:
        with self.database.snapshot() as connection:
            return tuple(found for (found,) in connection.execute(query, (name,)))

    def devices(
        self, desired: DesiredState, state: FleetState, *, only: Collection[str] | None = None
    ) -> Iterator[Device]:
        """Yield every device of the governed groups, in name order; ``only`` these things if given.

        Streams in bounded memory from one snapshot of the file, so a refresh by someone else does not show. Raises
        InventoryError.
        """
        with self.database.snapshot() as connection:
            row = connection.execute("SELECT account, region, refreshed_at FROM binding").fetchone()
            is_new = row is None or (only is None and row[2] is None)  # of a few, who asks has looked at them
            if is_new or row[:2] != (desired.fleet.account, desired.fleet.region):
                raise InventoryError(
                    f"the inventory {self.database.path} has not been refreshed from account {desired.fleet.account} "
                    f"in {desired.fleet.region} yet",
                    "refresh it first: certfleet status; an interrupted refresh goes on where it stopped",
                )
            yield from stream_devices(connection, desired, state, only)
