"""VACUUM and ANALYZE tables as they become ready, so that the target plans well from its first query on.

A table that was copied with FREEZE needs no VACUUM: its tuples are frozen and its pages all-visible (documentation of
COPY; the visibility map is set since PostgreSQL 14). Statistics of partitioned tables are gathered last: autovacuum
never does. So are those of a table of the target that takes the rows of several tables.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Final

from pgcopydb.bootstrap.activity import Activity
from pgcopydb.bootstrap.budget import Slots
from pgcopydb.bootstrap.routes import Routes
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
    """A table, or a partitioned table; ``partitions_done``: its partitions have been seen to."""

    oid: int
    name: Name
    frozen: bool
    partitioned: bool = False
    partitions_done: bool = False

    def __str__(self) -> str:
        return f"statistics of table {self.name}"

    def statement(self, version: int) -> str:
        """The cheapest statement that leaves the table vacuumed and analyzed on a target of this version."""
        if self.partitions_done:
            # Since 18 the partitions, which have their statistics already, can be left alone.
            return f"ANALYZE {'ONLY ' if version >= _ANALYZE_ONLY else ''}{self.name.sql}"
        if self.frozen and version >= _FREEZE_SETS_VISIBILITY:
            return f"ANALYZE {self.name.sql}"
        return f"VACUUM (ANALYZE) {self.name.sql}"


class VacuumQueue:
    """Fed with tables by ``add_table`` from any thread; ``drain`` also does the partitioned tables."""

    def __init__(
        self,
        store: CatalogStore,
        target: Endpoint,
        *,
        slots: Slots,
        routes: Routes,
        activity: Activity,
        failures: Failures,
        stop: Stop,
    ) -> None:
        self._store = store
        self._routes = routes
        self._last: list[VacuumJob] = []
        self._activity = activity
        self._pool: WorkerPool[SingleSession, VacuumJob] = WorkerPool(
            "vacuum",
            slots.total,
            open_session=lambda role: SingleSession(target.connect_patiently(role, stop)),
            work=self._work,
            describe=str,
            failures=failures,
            stop=stop,
            slots=slots,
        )

    def add_table(self, oid: int) -> None:
        row = self._store.row("SELECT schema, name, bytes, frozen, vacuumed FROM copied_table WHERE oid = ?", (oid,))
        if row is None or row["vacuumed"] is not None:
            return
        job = VacuumJob(oid, Name(row["schema"], row["name"]), bool(row["frozen"]))
        route = self._routes.by_oid.get(oid)
        if route is None or not route.shared:
            self._pool.submit(job, cost=row["bytes"])
        elif route.into != job.name:
            self._mark(job)
        else:
            self._last.append(job)

    def drain(self) -> None:
        for row in self._store.rows(
            "SELECT oid, schema, name FROM partitioned_table WHERE is_root AND analyzed IS NULL"
        ):
            name = Name(row["schema"], row["name"])
            if name not in self._routes.lacking:
                done = name not in self._routes.shared_roots()
                job = VacuumJob(row["oid"], name, frozen=False, partitioned=True, partitions_done=done)
                # After the partitions: with the lowest cost of all it is taken last.
                self._pool.submit(job, cost=-1)
        for job in self._last:
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
        self._mark(job)

    def _mark(self, job: VacuumJob) -> None:
        if job.partitioned:
            self._store.execute("UPDATE partitioned_table SET analyzed = ? WHERE oid = ?", (time.time(), job.oid))
        else:
            self._store.execute("UPDATE copied_table SET vacuumed = ? WHERE oid = ?", (time.time(), job.oid))
