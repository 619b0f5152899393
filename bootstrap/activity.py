"""What each worker does right now, for displays in this process and in others.

Workers note it in memory; a ticker thread writes it to the store about once a second, so that a row that is copied
costs no write. Meaningful only while the run goes on.
"""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass, field
from typing import Final

from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.runtime.errors import PgcopydbError
from pgcopydb.runtime.logs import in_this_context

logger = logging.getLogger(__name__)

_TICK_SECONDS: Final = 1.0


@dataclass(slots=True)
class Task:
    """One worker's current work. ``bytes`` counts what has been copied of it so far."""

    worker: str
    doing: str
    table_oid: int | None
    started: float = field(default_factory=time.time)
    bytes: int = 0

    def add_bytes(self, count: int) -> None:
        self.bytes += count


class Activity:
    """A context manager: the ticker runs for the length of the block."""

    def __init__(self, store: CatalogStore) -> None:
        self._store = store
        self._lock = threading.Lock()
        self._tasks: dict[str, Task] = {}
        self._end = threading.Event()
        self._thread = threading.Thread(target=in_this_context(self._tick), name="activity", daemon=True)

    def __enter__(self) -> Activity:
        self._write([])
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._end.set()
        self._thread.join()
        self._write([])

    def begin(self, doing: str, table_oid: int | None = None) -> Task:
        """Note what the calling worker thread begins; replaces what it did before."""
        task = Task(threading.current_thread().name, doing, table_oid)
        with self._lock:
            self._tasks[task.worker] = task
        return task

    def end(self, task: Task) -> None:
        with self._lock:
            if self._tasks.get(task.worker) is task:
                del self._tasks[task.worker]

    def _tick(self) -> None:
        while not self._end.wait(_TICK_SECONDS):
            with self._lock:
                tasks = list(self._tasks.values())
            try:
                self._write(tasks)
            except PgcopydbError as error:
                # Whoever marks work done next meets the same error, and ends the run with it.
                logger.debug("not noting what the workers do: %s", error)

    def _write(self, tasks: list[Task]) -> None:
        with self._store.transaction():
            self._store.execute("DELETE FROM activity")
            self._store.executemany(
                "INSERT INTO activity (worker, doing, table_oid, bytes, started) VALUES (?, ?, ?, ?, ?)",
                [(task.worker, task.doing, task.table_oid, task.bytes, task.started) for task in tasks],
            )
