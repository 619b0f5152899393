"""Refresh materialized views once all data is in, in the order in which they read each other.

pg_restore would refresh them one by one under an empty search_path; here each is refreshed as a session of this
database would, several at once where they do not depend on each other. One that fails does not keep the others from
being refreshed; what reads it fails too, and says that it has not been populated. Step ``matviews``, marked done when
all that hold rows on the source hold rows on the target. ``refresh_after_rows`` is for rows that come after the schema,
in a command of their own.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Collection
from dataclasses import dataclass
from typing import Final

from pgcopydb.bootstrap.budget import Slots
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

logger = logging.getLogger(__name__)

_PINNED: Final = (
    "search_path",
    "row_security",
    "DateStyle",
    "IntervalStyle",
    "TimeZone",
    "bytea_output",
    "extra_float_digits",
)
"""Settings that our sessions pin and that a view's rows may depend on."""

_STAMPS: Final = "matview_stamps"
_WITHOUT_ROWS: Final = "matviews_without_rows"


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
    store.set_setting(_STAMPS, _read_stamps(connection))


def leave_unrefreshed(store: CatalogStore, oids: Collection[int]) -> None:
    """Filters leave out the rows of these, whatever the source does with them."""
    store.executemany("UPDATE matview SET populated = 0 WHERE oid = ?", [(oid,) for oid in oids])
    store.set_setting(_WITHOUT_ROWS, [str(oid) for oid in oids])


def mark_refreshed(connection: Connection, store: CatalogStore) -> None:
    """Have ``refresh_matviews`` refresh again what was refreshed on the source since the copy."""
    with server_errors(Side.SOURCE, "asking which materialized views were refreshed"):
        now = _read_stamps(connection)
    before = store.setting(_STAMPS) or {}
    known = {str(row["oid"]) for row in store.rows("SELECT oid FROM matview")} - set(store.setting(_WITHOUT_ROWS) or ())
    changed = [(int(oid),) for oid, stamp in now.items() if oid in known and before.get(oid) != stamp]
    if changed:
        with store.transaction():
            store.executemany("UPDATE matview SET state = 'pending', populated = 1 WHERE oid = ?", changed)
            store.execute("DELETE FROM step WHERE name = 'matviews'")
            store.set_setting(_STAMPS, {**before, **now})


def _read_stamps(connection: Connection) -> dict[str, str]:
    rows = connection.execute(query("matview_stamps")).fetchall()
    return {str(oid): f"{stamp} {populated}" for oid, stamp, populated in rows if populated}


def refresh_after_rows(
    store: CatalogStore, target: Endpoint, jobs: int, failures: Failures, stop: Stop, slots: Slots | None = None
) -> None:
    """Refresh, whatever was refreshed before; one that a schema of other origin does not have is passed over."""
    if store.step_done("pre_data") and not store.step_done("post_data"):
        # A view that pg_dump had to cut gets its query in post-data: what reads it is refreshed behind that.
        return
    rows = store.rows("SELECT oid, schema, name FROM matview WHERE populated")
    names = [Name(row["schema"], row["name"]).sql for row in rows]
    with target.connect_patiently("matviews", stop) as connection, server_errors(Side.TARGET, "finding matviews"):
        found = connection.execute(
            "SELECT n FROM unnest(%s::text[]) WITH ORDINALITY AS t (name, n) WHERE to_regclass(name) IS NULL", (names,)
        ).fetchall()
    with store.transaction():
        store.execute("UPDATE matview SET state = 'pending'")
        store.executemany("UPDATE matview SET state = 'gone' WHERE oid = ?", [(rows[n - 1]["oid"],) for (n,) in found])
        store.execute("DELETE FROM step WHERE name = 'matviews'")
    refresh_matviews(store, target, jobs, failures, stop, slots)


def refresh_matviews(
    store: CatalogStore, target: Endpoint, jobs: int, failures: Failures, stop: Stop, slots: Slots | None = None
) -> None:
    """Refresh those that hold rows on the source; one that was ``WITH NO DATA`` there stays so."""
    if store.step_done("matviews"):
        return
    started = time.time()
    for row in store.rows("SELECT DISTINCT level FROM matview WHERE populated AND state = 'pending' ORDER BY level"):
        _refresh_level(store, target, row["level"], jobs, failures, stop, slots)
    if store.value("SELECT count(*) FROM matview WHERE populated AND state = 'pending'") == 0:
        store.execute(
            "INSERT OR REPLACE INTO step (name, started, finished) VALUES ('matviews', ?, ?)", (started, time.time())
        )
        refreshed = store.value("SELECT count(*) FROM matview WHERE populated AND state = 'done'")
        logger.info("Refreshed %d materialized views", refreshed)


def _refresh_level(
    store: CatalogStore,
    target: Endpoint,
    level: int,
    jobs: int,
    failures: Failures,
    stop: Stop,
    slots: Slots | None,
) -> None:
    def work(session: SingleSession, job: RefreshJob) -> None:
        started = time.time()
        with server_errors(Side.TARGET, f"refreshing {job}"):
            session.connection.execute(f"REFRESH MATERIALIZED VIEW {job.name.sql}")
            session.connection.execute(f"ANALYZE {job.name.sql}")
        failpoint("matviews.after_refresh")
        store.execute(
            "UPDATE matview SET state = 'done', started = ?, finished = ? WHERE oid = ?",
            (started, time.time(), job.oid),
        )

    if stop.mode is not StopMode.RUN:
        return
    pending = store.rows(
        "SELECT oid, schema, name FROM matview WHERE populated AND state = 'pending' AND level = ?", (level,)
    )
    pool = WorkerPool(
        "matview",
        min(jobs, len(pending)),
        open_session=lambda role: _open_session(target, role, stop),
        work=work,
        describe=str,
        failures=failures,
        stop=stop,
        slots=slots,
    )
    for row in pending:
        pool.submit(RefreshJob(row["oid"], Name(row["schema"], row["name"])))
    pool.drain()


def _open_session(target: Endpoint, role: str, stop: Stop) -> SingleSession:
    """A session as any of this database, with what ALTER DATABASE and ALTER ROLE … SET say."""
    connection = target.connect_patiently(role, stop)
    with server_errors(Side.TARGET, "setting up a session on the target"):
        connection.execute("; ".join(f"RESET {name}" for name in _PINNED))
    return SingleSession(connection)
