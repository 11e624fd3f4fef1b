"""The lock beside an inventory: one writer at a time, and whoever comes second waits.

SQLite's own lock on an empty file: the operating system releases it however the process ends.
"""

from __future__ import annotations

import os
import sqlite3
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from controller.errors import InventoryError

_LOOK_EVERY = 0.2  # seconds; never inside SQLite, where an interrupt would wait
_TELL_AFTER = 1.0


@dataclass(frozen=True)
class Patience:
    """How long to wait for another process, and how to report that one does; ``sleep`` and ``monotonic`` pace it."""

    seconds: float = 10.0
    tell: Callable[[str], None] = lambda _text: None
    sleep: Callable[[float], None] = time.sleep
    monotonic: Callable[[], float] = time.monotonic


@contextmanager
def only_writer(path: Path, patience: Patience) -> Iterator[None]:
    """Be the only one who writes the inventory at ``path``; InventoryError if another still does when patience ends."""
    lock = path.with_name(f"{path.name}.lock")
    try:
        touch_private(lock)
    except OSError as error:
        raise InventoryError(f"{lock} cannot be made: {error.strerror}", "make its folder writable") from error
    connection = sqlite3.connect(lock, timeout=0, isolation_level=None, check_same_thread=False)
    try:
        _wait(connection, path, lock, patience)
        yield
    finally:
        connection.close()


def touch_private(path: Path) -> None:
    """Make a file that only its owner may read, so that SQLite gives its companions the same mode."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))


def _wait(connection: sqlite3.Connection, path: Path, lock: Path, patience: Patience) -> None:
    started, has_told = patience.monotonic(), False
    while not _is_ours(connection, lock):
        waited = patience.monotonic() - started
        if waited >= patience.seconds:
            raise InventoryError(
                f"another certfleet is refreshing the inventory {path} (waited {waited:.0f} s for it)",
                "wait until it has ended, give this run more time with --lock-timeout, or an inventory file of its own",
            )
        if waited >= _TELL_AFTER and not has_told:
            patience.tell(f"waiting for another certfleet that is refreshing {path}")
            has_told = True
        patience.sleep(_LOOK_EVERY)


def _is_ours(connection: sqlite3.Connection, lock: Path) -> bool:
    try:
        connection.execute("PRAGMA journal_mode = MEMORY")
        connection.execute("BEGIN EXCLUSIVE")
    except sqlite3.OperationalError:
        return False
    except sqlite3.DatabaseError:  # it holds nothing, so whatever stands in it is damage
        os.truncate(lock, 0)
        return False
    return True
