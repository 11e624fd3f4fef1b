"""The inventory: what is known of one account's registry, in one SQLite file.

A certificate never changes, so it is described once ever and remembered here. The file holds
nothing secret and nothing of its own: deleted, it is rebuilt from AWS.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator
from pathlib import Path
from types import TracebackType
from typing import Self

from controller.errors import InventoryError
from controller.fleet.database import BUSY_SECONDS, Database
from controller.fleet.devices import stream_devices
from controller.reconcile.device import Device, FleetState
from controller.reconcile.policy import DesiredState, Fleet


class Inventory:
    """One inventory file, made where it is missing; raises InventoryError where it cannot be used.

    Safe under kill -9 at any instant. Many may read while one refreshes; ``busy_seconds`` is how long
    a second refresh waits for the first.
    """

    def __init__(self, path: Path | str, *, busy_seconds: float = BUSY_SECONDS) -> None:
        self.database = Database(Path(path), busy_seconds)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self.database.close()

    def bind(self, fleet: Fleet) -> None:
        """Tie a new inventory to the fleet's account and region; InventoryError where it is tied to others."""
        with self.database.transaction() as connection:
            row = connection.execute("SELECT account, region FROM binding").fetchone()
            if row is None:
                connection.execute("INSERT INTO binding (account, region) VALUES (?, ?)", (fleet.account, fleet.region))
        if row is not None and row != (fleet.account, fleet.region):
            raise InventoryError(
                f"the inventory {self.database.path} is of account {row[0]} in {row[1]}, "
                f"but Fleet {fleet.name!r} is account {fleet.account} in {fleet.region}",
                "name another inventory file for this fleet",
            )

    def devices(
        self, desired: DesiredState, state: FleetState, *, only: Collection[str] | None = None
    ) -> Iterator[Device]:
        """Every device of the governed groups, in name order; ``only`` these things where given.

        Streams in bounded memory from one snapshot of the file, so a refresh by someone else does not show.
        """
        with self.database.snapshot() as connection:
            row = connection.execute("SELECT account, region, refreshed_at FROM binding").fetchone()
            if row is None or row[2] is None or row[:2] != (desired.fleet.account, desired.fleet.region):
                raise InventoryError(
                    f"the inventory {self.database.path} has not been refreshed from account {desired.fleet.account} "
                    f"in {desired.fleet.region} yet",
                    "refresh it first; an interrupted refresh goes on where it stopped",
                )
            yield from stream_devices(connection, desired, state, only)
