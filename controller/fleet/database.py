"""The inventory's SQLite file: opened, checked, locked; its failures are InventoryErrors with a remedy.

WAL lets readers go on beside the one writer, and every commit survives kill -9. The writer holds a
lock in a file beside it, which the operating system releases however the process ends.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from controller.errors import InventoryError
from controller.fleet.schema import APPLICATION_ID, SCHEMA, VERSION

BUSY_SECONDS = 10.0
_SQLITE_HEADER = b"SQLite format 3\x00"


class Database:
    """One connection to the inventory file, which is made where it is missing. Close it, or use ``with``."""

    def __init__(self, path: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        with self.errors():
            self._require_own_file()
            self.connection = self._open()

    def close(self) -> None:
        """Close the connection."""
        self.connection.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what SQLite and the file system raise inside into InventoryErrors."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise self._explain(error) from error
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error
        except OSError as error:
            raise InventoryError(
                f"the inventory {self.path} cannot be used: {error}", "make its folder writable, or name another file"
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Write: all of it is committed at the end, or none."""
        with self.errors():
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield self.connection
            except BaseException:
                with suppress(sqlite3.Error):
                    self.connection.rollback()
                raise
            self.connection.commit()

    @contextmanager
    def snapshot(self) -> Iterator[sqlite3.Connection]:
        """Read: a connection of its own that sees one state throughout."""
        with self.errors():
            connection = self._connect()
            try:
                connection.execute("BEGIN")
                yield connection
            finally:
                connection.close()

    @contextmanager
    def only_writer(self) -> Iterator[None]:
        """Be the only one who writes; InventoryError if another still is after the busy time."""
        lock = self.path.with_name(self.path.name + ".lock")
        with self.errors():
            _touch_private(lock)
            connection = sqlite3.connect(
                lock, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
            )
        try:
            try:
                connection.execute("PRAGMA journal_mode = MEMORY")
                connection.execute("BEGIN EXCLUSIVE")
            except sqlite3.OperationalError as error:
                raise InventoryError(
                    f"another certfleet is refreshing the inventory {self.path} "
                    f"(waited {self._busy_seconds:g} s for it)",
                    "wait until it has ended, or give this run an inventory file of its own",
                ) from error
            except sqlite3.DatabaseError as error:
                raise self._damaged(f"its lock file {lock.name}: {error}") from error
            yield
        finally:
            connection.close()

    def _require_own_file(self) -> None:
        """Refuse a file that is not ours before SQLite writes a byte to it."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            _touch_private(self.path)
            return
        with self.path.open("rb") as file:
            header = file.read(100)
        if not header:
            return
        if not header.startswith(_SQLITE_HEADER):
            raise self._damaged("it is no SQLite file")

    def _open(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._migrate(connection)
            self._require_sound(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _require_sound(self, connection: sqlite3.Connection) -> None:
        problem = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise self._damaged(problem)

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA cache_size = -65536")  # KiB
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        application, version = self._identity(connection)
        if (application, version) == (0, 0):
            connection.execute("BEGIN IMMEDIATE")
            if self._identity(connection) == (0, 0):
                self._create(connection)
            connection.commit()
            application, version = self._identity(connection)
        if application != APPLICATION_ID:
            raise InventoryError(
                f"{self.path} is the database of another program (application id {application:#x}), "
                "not a certfleet inventory",
                "name another file; this one was not touched",
            )
        if version != VERSION:
            raise InventoryError(
                f"the inventory {self.path} has schema version {version}; this certfleet knows version {VERSION}",
                "upgrade certfleet, or name another file; deleting this one is safe too, it is rebuilt from AWS",
            )

    def _create(self, connection: sqlite3.Connection) -> None:
        if connection.execute("SELECT count(*) FROM sqlite_master").fetchone()[0]:
            raise InventoryError(
                f"{self.path} is the database of another program, not a certfleet inventory",
                "name another file; this one was not touched",
            )
        for statement in SCHEMA.split(";\n"):
            connection.execute(statement)
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute(f"PRAGMA user_version = {VERSION}")

    @staticmethod
    def _identity(connection: sqlite3.Connection) -> tuple[int, int]:
        application: int = connection.execute("PRAGMA application_id").fetchone()[0]
        version: int = connection.execute("PRAGMA user_version").fetchone()[0]
        return application, version

    def _explain(self, error: sqlite3.OperationalError) -> InventoryError:
        name = getattr(error, "sqlite_errorname", "")
        if name.startswith(("SQLITE_BUSY", "SQLITE_LOCKED")):
            return InventoryError(
                f"the inventory {self.path} is in use by another process",
                "wait until it has ended, or give this run an inventory file of its own",
            )
        if name.startswith(("SQLITE_ERROR", "SQLITE_CORRUPT", "SQLITE_NOTADB")):
            return self._damaged(str(error))
        return InventoryError(
            f"the inventory {self.path} cannot be used: {error} ({name})",
            "check that its folder is writable and that the disk is not full",
        )

    def _damaged(self, detail: str) -> InventoryError:
        return InventoryError(
            f"the inventory {self.path} is damaged: {detail}",
            f"delete it (rm {self.path}*): it holds nothing of its own and is rebuilt from AWS by the next run",
        )


def _touch_private(path: Path) -> None:
    """Make a file that only its owner may read, so that SQLite gives its companions the same mode."""
    os.close(os.open(path, os.O_CREAT | os.O_RDWR, 0o600))
