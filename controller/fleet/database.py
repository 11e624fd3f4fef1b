"""The inventory's SQLite file: opened, checked, locked; its failures are InventoryErrors with a remedy.

WAL lets readers go on beside the one writer, and every commit survives kill -9. The file's schema is
compared before a row is read, because a trigger or a view that somebody planted could show us false rows.
The check does not read every page: a damaged page raises an error when it is met, and is looked for once a day.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from controller.errors import InventoryError
from controller.fleet.lock import touch_private
from controller.fleet.schema import APPLICATION_ID, VERSION, build, expected_objects, objects

BUSY_SECONDS = 10.0
_SQLITE_HEADER = b"SQLite format 3\x00"
_APPLICATION_ID_AT = 68  # bytes into the file (SQLite file format)


class UnusableInventoryError(InventoryError):
    """The inventory cannot be used as it is, but can be rebuilt from AWS.

    If ``is_removed``, the file is gone, and the next attempt rebuilds it.
    """

    is_removed = False


class Database:
    """One connection to the inventory file, which is made if it is missing. Close it, or use ``with``."""

    def __init__(self, path: Path, busy_seconds: float = BUSY_SECONDS) -> None:
        self.path = path
        self._busy_seconds = busy_seconds
        self._frozen: sqlite3.Connection | None = None
        with self.errors():
            self._require_own_file()
            self.connection = self._open()

    def close(self) -> None:
        """Close what is open."""
        self.thaw()
        self.connection.close()

    @contextmanager
    def errors(self) -> Iterator[None]:
        """Turn what SQLite and the file system raise inside into InventoryErrors."""
        try:
            yield
        except sqlite3.OperationalError as error:
            raise self._explain(error) from error
        except (sqlite3.ProgrammingError, sqlite3.InterfaceError):
            raise  # a defect of ours, and no fault of the file
        except sqlite3.DatabaseError as error:
            raise self._damaged(str(error)) from error
        except OSError as error:
            raise InventoryError(
                f"the inventory {self.path} cannot be used: {error}", "make its folder writable, or name another file"
            ) from error

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """Open a transaction for writing: all of it is committed at the end, or none."""
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
        """Open a connection for reading that sees one state throughout."""
        with self.errors():
            connection = self._frozen or self._begun()
            try:
                yield connection
            finally:
                if connection is not self._frozen:
                    connection.close()

    def freeze(self) -> None:
        """Let every snapshot from now on show the present state."""
        with self.errors():
            self._frozen = self._begun()
            self._frozen.execute("SELECT 1 FROM binding").fetchone()  # SQLite begins with the first read

    def thaw(self) -> None:
        """Let every snapshot show what is present when it is taken."""
        if self._frozen is not None:
            self._frozen.close()
            self._frozen = None

    def _begun(self) -> sqlite3.Connection:
        connection = self._connect()
        connection.execute("BEGIN")
        return connection

    def clear(self) -> None:
        """Forget everything but whose registry the file describes."""
        with self.transaction() as connection:
            for kind, name, _ in expected_objects(VERSION):
                if kind == "table" and name != "binding":
                    connection.execute(f"DELETE FROM {name}")  # noqa: S608 (a name of ours)
            connection.execute(
                "UPDATE binding SET run = 0, refreshed_at = NULL, jobs_listed_at = NULL, listed_at = NULL, "
                "unmanaged = NULL, look_run = NULL, look = NULL"
            )

    def require_sound(self) -> None:
        """Read every page; UnusableInventoryError if one is damaged."""
        with self.errors():
            problem = self.connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise self._damaged(problem)

    def copy_to(self, path: Path) -> None:
        """Write all that is committed to another file, whoever writes meanwhile."""
        with self.snapshot() as connection, self.errors(), closing(sqlite3.connect(path)) as copy:
            connection.backup(copy)

    def empty(self) -> None:
        """Put everything into the one file; nothing is left in its companions."""
        with self.errors():
            self.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def _require_own_file(self) -> None:
        """Refuse a file that is not ours before SQLite writes a byte to it."""
        if not self.path.exists():
            self.path.parent.mkdir(parents=True, exist_ok=True)
            touch_private(self.path)
            return
        with self.path.open("rb") as file:
            header = file.read(100)
        if not header:
            return
        if not header.startswith(_SQLITE_HEADER):
            raise self._damaged("it is not a SQLite file")

    def _open(self) -> sqlite3.Connection:
        connection = self._connect()
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("PRAGMA synchronous = NORMAL")
            self._migrate(connection)
        except BaseException:
            connection.close()
            raise
        return connection

    def _connect(self) -> sqlite3.Connection:
        connection = sqlite3.connect(
            self.path, timeout=self._busy_seconds, isolation_level=None, check_same_thread=False
        )
        connection.execute("PRAGMA foreign_keys = ON")
        connection.execute("PRAGMA trusted_schema = OFF")
        connection.execute("PRAGMA cache_size = -65536")  # KiB
        return connection

    def _migrate(self, connection: sqlite3.Connection) -> None:
        application, version = self._identity(connection)
        if application not in (0, APPLICATION_ID):
            raise self._of_another_program(f" (application id {application:#x})")
        if version < VERSION:
            connection.execute("BEGIN IMMEDIATE")
            application, version = self._identity(connection)
            self._require_schema(connection, version)
            build(connection, since=version)
            connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
            connection.commit()
            version = VERSION
        if version > VERSION:
            raise UnusableInventoryError(
                f"the inventory {self.path} has schema version {version}; this certfleet knows version {VERSION}",
                self._delete_it,
            )
        self._require_schema(connection, version)

    def _require_schema(self, connection: sqlite3.Connection, version: int) -> None:
        found, expected = objects(connection), expected_objects(version)
        if found == expected:
            return
        if version == 0:
            raise self._of_another_program("")
        names = sorted({f"{kind} {name}" for kind, name, _ in found ^ expected})
        raise self._damaged(f"its schema is not certfleet's: {', '.join(names[:3])}")

    def _of_another_program(self, detail: str) -> InventoryError:
        return InventoryError(
            f"{self.path} is the database of another program{detail}, not a certfleet inventory",
            "name another file; this one was not touched",
        )

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

    def _damaged(self, detail: str) -> UnusableInventoryError:
        return UnusableInventoryError(f"the inventory {self.path} is damaged: {detail}", self._delete_it)

    @property
    def _delete_it(self) -> str:
        return f"delete it (rm {self.path}*): it holds nothing of its own and is rebuilt from AWS by the next run"


def is_inventory(path: Path) -> bool:
    """Return whether a file is marked as an inventory of ours, even if the rest of it is damaged.

    True as well if there is no file: a new one may be made there.
    """
    if not path.exists():
        return True
    with path.open("rb") as file:
        header = file.read(100)
    mark = header[_APPLICATION_ID_AT : _APPLICATION_ID_AT + 4]
    return header.startswith(_SQLITE_HEADER) and mark == APPLICATION_ID.to_bytes(4, "big")
