"""Refresh materialized views once all data is in, in the order in which they read each other.

pg_restore would refresh them one by one under an empty search_path; here each is refreshed as a session of this
database would, several at once where they do not depend on each other. One that fails does not keep the others from
being refreshed. Step ``matviews``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass

from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.session import SingleSession
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.workers import Failures, WorkerPool
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop, StopMode


@dataclass(frozen=True, slots=True)
class RefreshJob:
    oid: int
    name: Name

    def __str__(self) -> str:
        return f"materialized view {self.name}"


def fetch_matviews(connection: Connection, store: CatalogStore) -> None:
    """Names, whether they hold rows, and on which level of dependency they stand."""
    rows = connection.execute(query("matviews")).fetchall()
    store.executemany("INSERT INTO matview (oid, schema, name, populated, level) VALUES (?, ?, ?, ?, ?)", rows)


def refresh_matviews(store: CatalogStore, target: Endpoint, jobs: int, failures: Failures, stop: Stop) -> None:
    """Refresh those that hold rows on the source; one that was ``WITH NO DATA`` there stays so."""
    if store.step_done("matviews"):
        return
    before = len(failures.all)
    for level in store.rows("SELECT DISTINCT level FROM matview WHERE populated AND state <> 'done' ORDER BY level"):
        _refresh_level(store, target, level["level"], jobs, failures, stop)
    if len(failures.all) == before and stop.mode is StopMode.RUN:
        with store.step("matviews"):
            return


def _refresh_level(
    store: CatalogStore, target: Endpoint, level: int, jobs: int, failures: Failures, stop: Stop
) -> None:
    def work(session: SingleSession, job: RefreshJob) -> None:
        started = time.time()
        with server_errors(Side.TARGET, f"refreshing {job}"):
            # What a session of this database has, ALTER DATABASE … SET search_path included.
            session.connection.execute("RESET search_path")
            session.connection.execute(f"REFRESH MATERIALIZED VIEW {job.name.sql}")
            session.connection.execute(f"ANALYZE {job.name.sql}")
        failpoint("matviews.after_refresh")
        store.execute(
            "UPDATE matview SET state = 'done', started = ?, finished = ? WHERE oid = ?",
            (started, time.time(), job.oid),
        )

    pool = WorkerPool(
        "matview",
        jobs,
        open_session=lambda role: SingleSession(target.connect_patiently(role, stop)),
        work=work,
        describe=str,
        failures=failures,
        stop=stop,
    )
    for row in store.rows(
        "SELECT oid, schema, name FROM matview WHERE populated AND state <> 'done' AND level = ?", (level,)
    ):
        pool.submit(RefreshJob(row["oid"], Name(row["schema"], row["name"])))
    pool.drain()
