"""Build indexes, then constraints, then what depends on them, table by table.

All indexes of a table are queued as soon as its rows are in. After the last one come the constraints and the settings
that pg_restore cannot re-create, because they stand in the archive entries of the indexes built here: REPLICA IDENTITY
USING INDEX, CLUSTER ON, statistics targets of index columns, dependencies on extensions. Then the table is marked
``indexed`` and handed to ``on_indexed``. Work that an interrupted run did without marking it is found on the target and
not done again. A table that has another shape on the target keeps what it has there.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import orjson

from pgcopydb.bootstrap.activity import Activity
from pgcopydb.bootstrap.budget import Slots
from pgcopydb.bootstrap.options import CloneOptions, Step
from pgcopydb.bootstrap.placement import DATABASE_DEFAULT, Placement
from pgcopydb.bootstrap.routes import Routes
from pgcopydb.bootstrap.session import SingleSession
from pgcopydb.bootstrap.store import CatalogStore, Row
from pgcopydb.bootstrap.workers import Failures, WorkerPool
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name, quote_ident, quote_literal
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

_ADD_KIND = {"p": "PRIMARY KEY", "u": "UNIQUE"}


@dataclass(frozen=True, slots=True)
class IndexJob:
    """One index of a table, or (``index_oid`` is none) the constraints and settings that come after the last one."""

    table_oid: int
    table: Name
    index_oid: int | None
    index: Name | None

    def __str__(self) -> str:
        return f"index {self.index}" if self.index else f"constraints of table {self.table}"


@dataclass(frozen=True, slots=True)
class Ground:
    """What indexes are built on: settings of the sessions, where everything goes, which tables take which rows."""

    settings: dict[str, str]
    placement: Placement
    routes: Routes


class IndexQueue:
    """Fed with tables by ``add_table`` from any thread; ``drain`` waits for the last one."""

    def __init__(
        self,
        store: CatalogStore,
        target: Endpoint,
        *,
        options: CloneOptions,
        ground: Ground,
        activity: Activity,
        on_indexed: Callable[[int], None],
        failures: Failures,
        stop: Stop,
        slots: Slots,
    ) -> None:
        self._store = store
        self._placement = placement = ground.placement
        self._routes = ground.routes
        self._resumed = options.resume
        self._steps = options.steps
        self._activity = activity
        self._on_indexed = on_indexed
        self._lock = threading.Lock()
        self._indexes_left: dict[int, int] = {}
        self._begun: set[int] = set()
        # What says nothing is where the database is, whatever a setting of the role or of the server says.
        session = {**ground.settings, "default_tablespace": DATABASE_DEFAULT} if placement.wanted else ground.settings
        self._pool: WorkerPool[SingleSession, IndexJob] = WorkerPool(
            "index",
            options.jobs.indexes,
            open_session=lambda role: SingleSession(target.connect_patiently(role, stop, settings=session)),
            work=self._work,
            describe=str,
            failures=failures,
            stop=stop,
            slots=slots,
        )

    def add_table(self, oid: int) -> None:
        """Queue what is not done of a table whose rows are in."""
        if self._routes.reshaped(oid):
            self._store.execute("UPDATE copied_table SET indexed = ? WHERE oid = ?", (time.time(), oid))
            self._on_indexed(oid)
            return
        table = self._store.row("SELECT schema, name FROM copied_table WHERE oid = ?", (oid,))
        assert table is not None  # noqa: S101  the caller took the oid from this table
        name = Name(table["schema"], table["name"])
        indexes: list[Row] = []
        if Step.INDEXES in self._steps:
            indexes = self._store.rows(
                "SELECT oid, schema, name, bytes FROM built_index WHERE table_oid = ? AND state <> 'done'", (oid,)
            )
        with self._lock:
            self._indexes_left[oid] = len(indexes)
        for index in indexes:
            job = IndexJob(oid, name, index["oid"], Name(index["schema"], index["name"]))
            self._pool.submit(job, cost=index["bytes"])
        if not indexes:
            self._queue_constraints(oid, name)

    def drain(self) -> None:
        """No table comes any more: return when all are indexed."""
        self._pool.drain()

    def _queue_constraints(self, oid: int, name: Name) -> None:
        if Step.CONSTRAINTS not in self._steps:
            return
        # Before any index: it is short, and the table is only complete, and vacuumed, after it.
        self._pool.submit(IndexJob(oid, name, None, None), cost=1 << 62)

    def _work(self, session: SingleSession, job: IndexJob) -> None:
        task = self._activity.begin(f"building {job}", job.table_oid)
        try:
            if job.index_oid is None:
                self._constraints_and_settings(session.connection, job)
            else:
                self._build(session.connection, job.index_oid, job)
        finally:
            self._activity.end(task)
        if job.index_oid is not None and self._was_last(job.table_oid):
            self._queue_constraints(job.table_oid, job.table)

    def _was_last(self, oid: int) -> bool:
        with self._lock:
            self._indexes_left[oid] -= 1
            return self._indexes_left[oid] == 0

    def _build(self, connection: Connection, oid: int, job: IndexJob) -> None:
        row = self._store.row("SELECT * FROM built_index WHERE oid = ?", (oid,))
        assert row is not None  # noqa: S101  the job was made from this row
        index = Name(row["schema"], row["name"])
        started = time.time()
        with server_errors(Side.TARGET, f"creating index {index}"):
            if not (self._may_be_there(oid) and _index_exists(connection, index, job.table)):
                self._run(connection, row["sql"], row["tablespace"])
        failpoint("index.after_create")
        self._store.execute(
            "UPDATE built_index SET state = 'done', started = ?, finished = ? WHERE oid = ?",
            (started, time.time(), oid),
        )
        failpoint("index.after_mark")

    def _may_be_there(self, oid: int) -> bool:
        """Whether an earlier attempt, of this process or another one, may have made the object without marking it."""
        with self._lock:
            again = oid in self._begun
            self._begun.add(oid)
        return self._resumed or again

    def _run(self, connection: Connection, statement: str, tablespace: str | None) -> None:
        place = self._placement.on_target(tablespace)
        if place == DATABASE_DEFAULT or not self._placement.wanted:
            connection.execute(statement)
            return
        connection.execute(f"SET default_tablespace = {quote_literal(place)}")
        connection.execute(statement)
        connection.execute(f"SET default_tablespace = {quote_literal(DATABASE_DEFAULT)}")

    def _constraints_and_settings(self, connection: Connection, job: IndexJob) -> None:
        constraints = self._store.rows(
            "SELECT c.*, i.name AS index_name FROM built_constraint c LEFT JOIN built_index i ON i.oid = c.index_oid"
            " WHERE c.table_oid = ? AND c.state <> 'done'",
            (job.table_oid,),
        )
        marks: list[tuple[float, float, int]] = []
        for row in constraints:
            started = time.time()
            self._add_constraint(connection, row, job.table)
            marks.append((started, time.time(), row["oid"]))
        with server_errors(Side.TARGET, f"settings of the indexes of table {job.table}"):
            for statement in settings_statements(self._store, job.table_oid):
                connection.execute(statement)
        failpoint("settings.after_apply")
        with self._store.transaction():
            self._store.executemany(
                "UPDATE built_constraint SET state = 'done', started = ?, finished = ? WHERE oid = ?", marks
            )
            self._store.execute("UPDATE copied_table SET indexed = ? WHERE oid = ?", (time.time(), job.table_oid))
        self._on_indexed(job.table_oid)

    def _add_constraint(self, connection: Connection, row: Row, table: Name) -> None:
        with server_errors(Side.TARGET, f"adding constraint {row['name']} to table {table}"):
            if not (self._may_be_there(row["oid"]) and _constraint_exists(connection, row["name"], table)):
                self._run(connection, constraint_statement(row, table, row["index_name"]), row["tablespace"])
        failpoint("constraint.after_create")


def constraint_statement(row: Row, table: Name, index: str | None) -> str:
    """From a ready index where there is one; an exclusion constraint or a temporal key builds its own."""
    constraint = quote_ident(row["name"])
    if index is None:
        return f"ALTER TABLE ONLY {table.sql} ADD CONSTRAINT {constraint} {row['definition']}"
    deferrable = " DEFERRABLE" if row["is_deferrable"] else ""
    deferred = " INITIALLY DEFERRED" if row["is_deferred"] else ""
    return (
        f"ALTER TABLE ONLY {table.sql} ADD CONSTRAINT {constraint} {_ADD_KIND[row['kind']]}"
        f" USING INDEX {quote_ident(index)}{deferrable}{deferred}"
    )


def settings_statements(store: CatalogStore, oid: int) -> Iterator[str]:
    """Statements that may be run twice; none for most tables."""
    table = store.row("SELECT * FROM copied_table WHERE oid = ?", (oid,))
    assert table is not None  # noqa: S101  the caller took the oid from this table
    name = Name(table["schema"], table["name"])
    if table["replica_identity_index"]:
        yield f"ALTER TABLE ONLY {name.sql} REPLICA IDENTITY USING INDEX {quote_ident(table['replica_identity_index'])}"
    if table["clustered_index"]:
        yield f"ALTER TABLE {name.sql} CLUSTER ON {quote_ident(table['clustered_index'])}"
    for row in store.rows(
        "SELECT schema, name, statistics, extensions FROM built_index"
        " WHERE table_oid = ? AND (statistics <> '[]' OR extensions <> '[]')",
        (oid,),
    ):
        index = Name(row["schema"], row["name"]).sql
        for column, target in orjson.loads(row["statistics"]):
            yield f"ALTER INDEX {index} ALTER COLUMN {int(column)} SET STATISTICS {int(target)}"
        for extension in orjson.loads(row["extensions"]):
            yield f"ALTER INDEX {index} DEPENDS ON EXTENSION {quote_ident(extension)}"


def _index_exists(connection: Connection, index: Name, table: Name) -> bool:
    return (
        connection.execute(
            "SELECT FROM pg_catalog.pg_index i WHERE i.indexrelid = to_regclass(%s) AND i.indrelid = to_regclass(%s)"
            " AND i.indisvalid",
            (index.sql, table.sql),
        ).fetchone()
        is not None
    )


def _constraint_exists(connection: Connection, name: str, table: Name) -> bool:
    return (
        connection.execute(
            "SELECT FROM pg_catalog.pg_constraint c WHERE c.conname = %s AND c.conrelid = to_regclass(%s)",
            (name, table.sql),
        ).fetchone()
        is not None
    )


def build_settings(connection: Connection, jobs: int) -> dict[str, str]:
    """Memory and parallel workers of one index build, from what the target has for all of them.

    ``maintenance_work_mem``: the builds together get twice shared_buffers, one at most 1 GB, none less than the
    server's own setting. ``max_parallel_maintenance_workers``: the server's own, as far as max_parallel_workers serves
    all builds at once.
    """
    with server_errors(Side.TARGET, "reading the memory settings of the target"):
        row = connection.execute(
            "SELECT pg_catalog.pg_size_bytes(current_setting('shared_buffers')) / 1024,"
            " pg_catalog.pg_size_bytes(current_setting('maintenance_work_mem')) / 1024,"
            " current_setting('max_parallel_workers')::int,"
            " current_setting('max_parallel_maintenance_workers', true)::int"
        ).fetchone()
    assert row is not None  # noqa: S101  a SELECT without FROM returns one row
    shared, own, workers, per_build = row
    settings = {"maintenance_work_mem": f"{max(own, min(1 << 20, 2 * shared // jobs))}kB"}
    if per_build is not None:
        settings["max_parallel_maintenance_workers"] = str(min(per_build, workers // jobs))
    logger.info("Index builds use %s", ", ".join(f"{name} = {value}" for name, value in settings.items()))
    return settings
