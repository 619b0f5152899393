"""VACUUM and ANALYZE tables as they become ready, so that the target plans well from its first query on.

A table that was copied with FREEZE needs no VACUUM: its tuples are frozen and its pages all-visible (documentation of
COPY; the visibility map is set since PostgreSQL 14). Statistics of partitioned tables are gathered last: autovacuum
never does.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Final

from pgcopydb.bootstrap.activity import Activity
from pgcopydb.bootstrap.session import SingleSession
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.workers import Failures, WorkerPool
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

_FREEZE_SETS_VISIBILITY: Final = 140000
_ANALYZE_ONLY: Final = 180000


@dataclass(frozen=True, slots=True)
class VacuumJob:
    """A table, or a partitioned table whose partitions are done."""

    oid: int
    name: Name
    frozen: bool
    partitioned: bool = False

    def __str__(self) -> str:
        return f"statistics of table {self.name}"

    def statement(self, version: int) -> str:
        """The cheapest statement that leaves the table vacuumed and analyzed on a target of this version."""
        if self.partitioned:
            # Since 18 the partitions, which have their statistics already, can be left alone.
            return f"ANALYZE {'ONLY ' if version >= _ANALYZE_ONLY else ''}{self.name.sql}"
        if self.frozen and version >= _FREEZE_SETS_VISIBILITY:
            return f"ANALYZE {self.name.sql}"
        return f"VACUUM (ANALYZE) {self.name.sql}"


class VacuumQueue:
    """Fed with tables by ``add_table`` from any thread; ``drain`` also does the partitioned tables."""

    def __init__(
        self, store: CatalogStore, target: Endpoint, *, jobs: int, activity: Activity, failures: Failures, stop: Stop
    ) -> None:
        self._store = store
        self._activity = activity
        self._pool: WorkerPool[SingleSession, VacuumJob] = WorkerPool(
            "vacuum",
            jobs,
            open_session=lambda role: SingleSession(target.connect_patiently(role, stop)),
            work=self._work,
            describe=str,
            failures=failures,
            stop=stop,
        )

    def add_table(self, oid: int) -> None:
        row = self._store.row("SELECT schema, name, bytes, frozen, vacuumed FROM copied_table WHERE oid = ?", (oid,))
        if row is not None and row["vacuumed"] is None:
            job = VacuumJob(oid, Name(row["schema"], row["name"]), bool(row["frozen"]))
            self._pool.submit(job, cost=row["bytes"])

    def drain(self) -> None:
        for row in self._store.rows(
            "SELECT oid, schema, name FROM partitioned_table WHERE is_root AND analyzed IS NULL"
        ):
            job = VacuumJob(row["oid"], Name(row["schema"], row["name"]), frozen=False, partitioned=True)
            # After the partitions: with the lowest cost of all it is taken last.
            self._pool.submit(job, cost=-1)
        self._pool.drain()

    def _work(self, session: SingleSession, job: VacuumJob) -> None:
        statement = job.statement(session.connection.info.server_version)
        task = self._activity.begin(statement, job.oid)
        try:
            with server_errors(Side.TARGET, str(job)):
                session.connection.execute(statement)
        finally:
            self._activity.end(task)
        failpoint("vacuum.after_run")
        if job.partitioned:
            self._store.execute("UPDATE partitioned_table SET analyzed = ? WHERE oid = ?", (time.time(), job.oid))
        else:
            self._store.execute("UPDATE copied_table SET vacuumed = ? WHERE oid = ?", (time.time(), job.oid))
