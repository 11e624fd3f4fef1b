"""The rotation that a start finds: in its own journal, or left by a stock component that was replaced in the middle.

A stock component copies certificate and key into its working folder, overwrites those in place, one after the other,
and removes the copies once the backend has accepted its commit. So the two copies together show that the credential in
place is not confirmed. They become the old generation of a rotation that is carried on, and are removed: a stock
component that comes back one day would put them in place, when their certificate is long gone.
"""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Optional, Tuple

from .errors import StoreError
from .journal import UNNOTED, Journal, JournalRecord, Step
from .store import CredentialStore, Generation
from .system import System

log = logging.getLogger(__name__)


class StockBackup:
    """The copies; a copy counts only if nobody but this user can have written it."""

    def __init__(self, folder: Path, system: System) -> None:
        self._paths = folder / "certificate.bak", folder / "private_key.bak"
        self._system = system

    def adopt(self, store: CredentialStore) -> Optional[JournalRecord]:
        """Return the rotation that was under way, None if none was; the id of its job is not known."""
        copies = self._copies()
        placed = store.adopt(*copies) if copies else None
        if placed is None:
            return None
        reason = "the stock component was replaced before it had put a whole credential in place"
        torn = JournalRecord(Step.SWITCHING, UNNOTED, target=Generation.OLD, reason=reason)
        # It may have been the stock backend: that refuses a second commit.
        return torn if placed is Generation.OLD else JournalRecord(Step.RETRYING, UNNOTED, repeats=False)

    def remove(self) -> None:
        """Remove the copies, once they are kept elsewhere or show nothing; raises StoreError."""
        try:
            for path in self._paths:
                self._system.remove(path)
        except OSError as error:
            raise StoreError(f"cannot remove what the stock component left behind: {error}; repair the disk") from error

    def _copies(self) -> Optional[Tuple[bytes, bytes]]:
        try:
            certificate, key = map(self._system.read_own, self._paths)
        except OSError as error:
            raise StoreError(f"cannot read what the stock component left behind: {error}; repair the disk") from error
        return (certificate.data, key.data) if certificate and key else None


def take_up(journal: Journal, store: CredentialStore, stock: Optional[StockBackup]) -> Optional[JournalRecord]:
    """Return the rotation to carry on; None if there is none, or somebody else has put another credential in place."""
    record = journal.load()
    if record is not None:
        store.resume(record.notes)
        if store.is_overtaken():
            log.warning("another credential was put in place since the last rotation: the copies of before are removed")
            store.settle()
            journal.clear()
            record = None
    if stock is not None:
        if record is None and (record := stock.adopt(store)) is not None:
            log.warning("the stock component was replaced in the middle of a rotation, which is carried on")
            journal.save(record)
        stock.remove()
    return record
