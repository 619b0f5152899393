"""The catalog on disk: what the source holds, what is to be done, what is done.

One SQLite file, written by one process (any of its threads), read by any number of others. A change is in the file when
the ``transaction`` block ends, so that a killed process finds it again. What a state means to a step is that step's
business.
"""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, Final

import orjson

from pgcopydb.bootstrap.queries import query
from pgcopydb.runtime.durable import disk_errors, fsync_file
from pgcopydb.runtime.errors import CorruptState, DiskFull, StateError

FORMAT: Final = 3
"""Layout of the tables; an older or newer file is refused."""

_SQLITE_FULL: Final = 13
_SQLITE_IOERR: Final = 10

Row = sqlite3.Row


class CatalogStore:
    """Thread-safe access to the catalog. Rows come back as ``sqlite3.Row`` (by name or position)."""

    def __init__(self, connection: sqlite3.Connection, path: Path) -> None:
        self._connection = connection
        self._lock = threading.RLock()
        self.path = path

    @classmethod
    def create(cls, path: Path) -> CatalogStore:
        """Open the file for writing and lay out its tables where they are missing."""
        store = cls(_open(f"{path.as_uri()}?mode=rwc", path), path)
        with _sqlite_errors(path):
            store._connection.execute("PRAGMA journal_mode = WAL")
            # A loss of power may take the last marks with it: what must not be done twice asks for make_durable.
            store._connection.execute("PRAGMA synchronous = NORMAL")
            found = store._connection.execute("PRAGMA user_version").fetchone()[0]
            if found == 0:
                store._connection.executescript(f"BEGIN;{query('store')};PRAGMA user_version = {FORMAT};COMMIT;")
            elif found != FORMAT:
                raise StateError(
                    f"{path} has format {found}, this pgcopydb writes format {FORMAT}",
                    hint="Finish with the version that began this run, or begin again with --restart.",
                )
        return store

    @classmethod
    def read(cls, path: Path) -> CatalogStore:
        """Open the file of a run, which may be going on in another process, for reading."""
        if not path.exists():
            raise StateError(
                f"{path.parent.parent} holds no pgcopydb run", hint="Name the run's work directory with --dir."
            )
        return cls(_open(f"{path.as_uri()}?mode=ro", path), path)

    @property
    def is_laid_out(self) -> bool:
        """Whether the process that made the file has made its tables too."""
        return bool(self.value("PRAGMA user_version"))

    def close(self) -> None:
        with self._lock:
            self._connection.close()

    @contextmanager
    def transaction(self) -> Iterator[sqlite3.Connection]:
        """All or nothing, and in the file when the block ends; ``make_durable`` puts it on the disk."""
        with self._lock, _sqlite_errors(self.path):
            if self._connection.in_transaction:
                yield self._connection
                return
            self._connection.execute("BEGIN IMMEDIATE")
            try:
                yield self._connection
            except BaseException:
                self._connection.rollback()
                raise
            self._connection.commit()

    def execute(self, sql: str, parameters: Sequence[Any] = ()) -> int:
        """Run one statement in a transaction of its own (or the one that is open); the number of rows it changed."""
        with self.transaction() as connection:
            return connection.execute(sql, parameters).rowcount

    def executemany(self, sql: str, parameters: Iterable[Sequence[Any]]) -> None:
        with self.transaction() as connection:
            connection.executemany(sql, parameters)

    def make_durable(self) -> None:
        """Return when all that was committed survives a loss of power too."""
        path = self.path.with_name(f"{self.path.name}-wal")
        with disk_errors(path, "flushing"):
            fsync_file(path)

    def rows(self, sql: str, parameters: Sequence[Any] = ()) -> list[Row]:
        with self._lock, _sqlite_errors(self.path), closing(self._connection.execute(sql, parameters)) as cursor:
            return cursor.fetchall()

    def row(self, sql: str, parameters: Sequence[Any] = ()) -> Row | None:
        found = self.rows(sql, parameters)
        return found[0] if found else None

    def value(self, sql: str, parameters: Sequence[Any] = ()) -> Any:
        """The first column of the first row; none when there is no row."""
        found = self.row(sql, parameters)
        return found[0] if found is not None else None

    def setting(self, key: str) -> Any:
        """A value of the ``setup`` table; none when it was never set."""
        text = self.value("SELECT value FROM setup WHERE key = ?", (key,))
        return None if text is None else orjson.loads(text)

    def set_setting(self, key: str, value: Any) -> None:
        self.execute("INSERT OR REPLACE INTO setup (key, value) VALUES (?, ?)", (key, orjson.dumps(value).decode()))

    def step_done(self, name: str) -> bool:
        return self.value("SELECT finished FROM step WHERE name = ?", (name,)) is not None

    @contextmanager
    def step(self, name: str) -> Iterator[None]:
        """Record when a step begins, and that it is done when the block ends without an error."""
        self.execute("INSERT OR REPLACE INTO step (name, started) VALUES (?, ?)", (name, time.time()))
        yield
        self.execute("UPDATE step SET finished = ? WHERE name = ?", (time.time(), name))


def _open(uri: str, path: Path) -> sqlite3.Connection:
    with _sqlite_errors(path):
        connection = sqlite3.connect(uri, uri=True, isolation_level=None, check_same_thread=False, timeout=30)
        connection.row_factory = sqlite3.Row
        return connection


@contextmanager
def _sqlite_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as exc:
        code = getattr(exc, "sqlite_errorcode", 0) & 0xFF
        if code in {_SQLITE_FULL, _SQLITE_IOERR}:
            raise DiskFull(
                f"writing {path}: {exc}", hint="Free some room on this file system, then run again with --resume."
            ) from exc
        if isinstance(exc, sqlite3.DatabaseError) and not isinstance(exc, sqlite3.OperationalError):
            raise CorruptState(f"{path} cannot be read: {exc}", hint="Begin again with --restart.") from exc
        raise StateError(f"{path}: {exc}") from exc
