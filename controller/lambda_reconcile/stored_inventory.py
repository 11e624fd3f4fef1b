"""The inventory file of one fleet, kept in the bucket between runs.

It holds nothing of its own: a damaged file is rebuilt, and if another run was faster this run's file is
discarded. The inventory of an interrupted refresh is kept, and the next run goes on there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.fleet import Inventory
from controller.reconcile.values import Fleet

from .bucket import Bucket, LostRaceError


class StoredInventory:
    """One fleet's inventory: fetched into ``folder``, used there, kept again."""

    def __init__(self, bucket: Bucket, prefix: str, fleet: Fleet, folder: Path, say: Callable[[str], None]) -> None:
        self._bucket, self._say = bucket, say
        name = f"{fleet.account}-{fleet.region}.sqlite"
        self._path = folder / name
        self._remove()  # of an earlier invocation in the same environment
        self._version = bucket.fetch(f"{prefix}inventory/{name}", self._path)
        self.is_kept = True  # what was last opened was written to the bucket

    @contextmanager
    def opened(self) -> Iterator[Inventory]:
        """Yield the inventory: the kept one, or a new one if that cannot be used.

        However the block ends, the inventory is kept, unless it is damaged.
        """
        try:
            with Inventory(self._path, tell=self._say, is_cache=True) as inventory:
                try:
                    yield inventory
                finally:
                    inventory.database.empty()
        finally:
            self.is_kept = not self._path.exists() or self._keep()

    def _keep(self) -> bool:
        """Write the file to the bucket; False if another was faster."""
        try:
            self._version = self._bucket.write(self._version, self._path)
        except LostRaceError as error:
            self._say(str(error))
            return False
        return True

    def _remove(self) -> None:
        for path in self._path.parent.glob(f"{self._path.name}*"):
            path.unlink()
