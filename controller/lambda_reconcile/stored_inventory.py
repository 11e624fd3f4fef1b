"""The inventory file of one fleet, kept in the bucket between runs.

It holds nothing of its own: a damaged file is rebuilt, and if another run was faster this run's file is
discarded. The inventory of an interrupted refresh is kept, and the next run goes on there; that of a long refresh is
kept every few minutes, too, because a function may be killed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from controller.errors import CertfleetError
from controller.fleet import Inventory
from controller.fleet.progress import Progress
from controller.reconcile.values import Fleet

from .bucket import Bucket, LostRaceError
from .budget import TimeBudget

KEPT_EVERY = 180.0  # seconds of a look: what a function that is killed may lose


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
            self.is_kept = not self._path.exists() or self._keep(self._path)

    def keeping(self, inventory: Inventory, budget: TimeBudget) -> Progress:
        """Return the progress of a look: it ends with the budget, and what was read is kept from time to time."""
        left = budget.left

        def tell(phase: str, done: int, total: int | None) -> None:
            nonlocal left
            budget.tell(phase, done, total)
            if left - budget.left >= KEPT_EVERY:
                left = budget.left
                self._keep_a_copy(inventory)

        return tell

    def _keep_a_copy(self, inventory: Inventory) -> None:
        copy = Path(f"{self._path}.copy")
        try:
            inventory.database.copy_to(copy)
            self._keep(copy)
        except CertfleetError as error:  # the look goes on, and its end is kept
            self._say(f"what was read so far could not be kept: {error}")
        finally:
            copy.unlink(missing_ok=True)

    def _keep(self, path: Path) -> bool:
        """Write the file to the bucket; False if another was faster."""
        try:
            self._version = self._bucket.write(self._version, path)
        except LostRaceError as error:
            self._say(str(error))
            return False
        return True

    def _remove(self) -> None:
        for path in self._path.parent.glob(f"{self._path.name}*"):
            path.unlink()
