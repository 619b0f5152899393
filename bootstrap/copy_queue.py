"""Which parts of which tables are copied, in which order, by how many workers.

Reads the parts that are not done from the store. Empties what is filled in several parts, or from several tables, once
before the first of them. When the last part of a table is in, the table is marked ``copied`` and handed to
``on_copied``, by exactly one worker.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, closing
from dataclasses import dataclass, field, replace
from enum import Enum, auto
from typing import Final

import psycopg

from pgcopydb.bootstrap.activity import Activity
from pgcopydb.bootstrap.budget import Slots
from pgcopydb.bootstrap.copy_plan import PartRange
from pgcopydb.bootstrap.copy_table import CopyJob, CopySession, TableRewritten, copy_part, empty_statement, mark_copied
from pgcopydb.bootstrap.options import CloneOptions, CopyFormat, Step
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.routes import Route, Routes, Unit
from pgcopydb.bootstrap.snapshot import ReadUnder, begin_under
from pgcopydb.bootstrap.store import CatalogStore, Row
from pgcopydb.bootstrap.transactions import Outcome, outcome, server_life
from pgcopydb.bootstrap.workers import Failures, WorkerPool
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.copy_stream import is_plain
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import TargetError
from pgcopydb.runtime.logs import NOTICE
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

_WORTH_BINARY: Final = 1 << 20
_MAY_READ_OTHERS: Final = frozenset({"23514", "P0001", "23503"})
"""``check_violation`` and ``raise_exception``: what a constraint says whose function reads another table; and
``foreign_key_violation``, where the role may not be free of foreign keys."""


class _Emptied(Enum):
    """How a table that is copied whole loses the rows that it has; ``NOT``: it is only right when it has none."""

    BY_TRUNCATE = auto()
    BY_DELETE = auto()
    NOT = auto()


@dataclass(frozen=True, slots=True)
class Refused:
    """A part that did not meet a constraint: perhaps because a table is not filled yet that the constraint reads."""

    job: CopyJob
    error: TargetError


@dataclass(frozen=True, slots=True)
class Round:
    """One pass over what is not copied: all of it or what the one before was refused; what it leaves to another one."""

    slots: Slots
    again: Sequence[Refused] = ()
    refused: list[Refused] = field(default_factory=list)
    rewritten: list[TableRewritten] | None = None
    """None: a table that this snapshot cannot read any more is a failure."""
    routes: Routes = field(default_factory=Routes)


def start_copy(
    store: CatalogStore,
    source: Endpoint,
    target: Endpoint,
    snapshot: ReadUnder,
    *,
    options: CloneOptions,
    activity: Activity,
    on_copied: Callable[[int], None],
    this: Round,
    failures: Failures,
    stop: Stop,
) -> WorkerPool[CopySession, CopyJob]:
    """Queue all that is not done and start the workers; the caller drains the pool."""
    others = _prepare_target(store, target, snapshot, this.routes, stop)
    # Made by somebody else, or by an earlier run whose last marks a loss of power has taken.
    constraints_may_stand = Step.PRE_DATA not in options.steps or bool(others)

    def open_session(role: str) -> CopySession:
        with ExitStack() as opened:
            target_connection = opened.enter_context(closing(target.connect_patiently(role, stop)))
            with server_errors(Side.TARGET, "setting up the connection"):
                if constraints_may_stand:
                    _without_triggers(target_connection)
                life = server_life(target_connection)
            source_connection = opened.enter_context(closing(source.connect_patiently(role, stop)))
            with server_errors(Side.SOURCE, "importing the snapshot"):
                begin_under(source_connection, snapshot.id)
            plain = is_plain(source_connection) and is_plain(target_connection)
            opened.pop_all()
            return CopySession(source_connection, target_connection, snapshot, plain=plain, life=life)

    def work(session: CopySession, job: CopyJob) -> None:
        try:
            complete = copy_part(session, job, store, activity, stop)
        except TableRewritten as error:
            if this.rewritten is None:
                raise
            this.rewritten.append(error)
            return
        except TargetError as error:
            if error.sqlstate not in _MAY_READ_OTHERS:
                raise
            this.refused.append(Refused(job, error))
            return
        if complete:
            on_copied(job.oid)

    pool = WorkerPool(
        "copy",
        options.jobs.tables,
        open_session=open_session,
        work=work,
        describe=str,
        failures=failures,
        stop=stop,
        slots=this.slots,
    )
    for row in store.rows("SELECT oid FROM copied_table WHERE copied IS NULL"):
        # The last part of a split table may have been found committed just now.
        if mark_copied(store, row["oid"]):
            on_copied(row["oid"])
    for row in _unfinished(store, this.again):
        how = others.get(row["oid"], _Emptied.BY_TRUNCATE)
        job = _job(store, row, options.copy_format, how, this.routes.by_oid.get(row["oid"]))
        pool.submit(job, cost=job.bytes_estimate)
    return pool


def _unfinished(store: CatalogStore, again: Sequence[Refused]) -> list[Row]:
    rows = store.rows(
        "SELECT t.oid, t.schema, t.name, t.via_schema, t.via_name, t.filenode, t.part_key,"
        " p.part, p.parts, p.kind, p.lower, p.upper, p.bytes_estimate"
        " FROM copy_part p JOIN copied_table t ON t.oid = p.table_oid"
        " WHERE p.state NOT IN ('done', 'gone') ORDER BY p.bytes_estimate DESC, t.oid, p.part"
    )
    wanted = {(each.job.oid, each.job.part) for each in again}
    return [row for row in rows if not wanted or (row["oid"], row["part"]) in wanted]


def _job(
    store: CatalogStore,
    row: Row,
    copy_format: CopyFormat,
    how: _Emptied,
    route: Route | None,
) -> CopyJob:
    name = Name(row["schema"], row["name"])
    into = Name(row["via_schema"], row["via_name"]) if row["via_name"] else name
    quiet = store.value("SELECT 1 FROM copied_column WHERE table_oid = ? AND NOT built_in", (row["oid"],)) is None
    converted = route is not None and route.converted
    if route is not None:
        into = route.into
    whole = row["parts"] == 1 and (into == name if route is None else not route.shared)
    partitioned = route is not None and route.partitioned
    return CopyJob(
        oid=row["oid"],
        name=name,
        into=into,
        filenode=row["filenode"],
        part=row["part"],
        parts=row["parts"],
        rows=PartRange(row["kind"], row["lower"], row["upper"]),
        part_key=row["part_key"],
        bytes_estimate=row["bytes_estimate"],
        binary=not converted and _as_binary(store, row, copy_format, quiet=quiet),
        quiet=quiet,
        truncate=whole and how is _Emptied.BY_TRUNCATE,
        freeze=whole and how is _Emptied.BY_TRUNCATE and not partitioned,
        delete=whole and how is _Emptied.BY_DELETE,
        partitioned=partitioned,
        columns=None if route is None else route.columns,
    )


def _as_binary(store: CatalogStore, row: Row, copy_format: CopyFormat, *, quiet: bool) -> bool:
    """Small tables go as text unless told otherwise: finding the end of binary rows costs the source a query."""
    if copy_format is CopyFormat.AUTO:
        return quiet and row["bytes_estimate"] >= _WORTH_BINARY and _binary_safe(store, row)
    return copy_format is CopyFormat.BINARY and _binary_safe(store, row)


def _binary_safe(store: CatalogStore, row: Row) -> bool:
    unsafe = store.row(
        "SELECT name, type FROM copied_column WHERE table_oid = ? AND NOT binary_safe AND NOT generated LIMIT 1",
        (row["oid"],),
    )
    if unsafe is not None and row["part"] == 1:
        logger.log(
            NOTICE,
            "table %s: column %s of type %s is not safe for COPY BINARY, using text",
            Name(row["schema"], row["name"]),
            unsafe["name"],
            unsafe["type"],
        )
    return unsafe is None


def _prepare_target(
    store: CatalogStore, target: Endpoint, snapshot: ReadUnder, routes: Routes, stop: Stop
) -> Mapping[int, _Emptied]:
    """Settle what an interrupted run left of what is filled bit by bit; the tables that are not emptied by TRUNCATE."""
    with target.connect_patiently("prepare", stop) as connection:
        with server_errors(Side.TARGET, "asking which tables may be emptied"):
            others, cascades = _not_truncatable(connection, store, routes)
            if others and _without_triggers(connection):
                cascades = {}
        for row in store.rows(
            "SELECT oid, schema, name FROM copied_table WHERE copied IS NULL AND oid NOT IN"
            " (SELECT table_oid FROM copy_part WHERE parts > 1 OR state = 'running')"
        ):
            name = Name(row["schema"], row["name"])
            if others.get(row["oid"]) is _Emptied.BY_DELETE and row["oid"] in cascades:
                _refuse_rows(connection, routes.emptied_with(row["oid"], name), cascades[row["oid"]])
            if others.get(row["oid"]) is _Emptied.NOT and row["oid"] not in routes.by_oid:
                _refuse_rows(connection, name, "because the role may neither TRUNCATE it nor DELETE from it")
        # First those that may be refused: nothing is emptied then.
        for unit in sorted(_filled_bit_by_bit(store, routes), key=lambda unit: unit.whole):
            with server_errors(Side.TARGET, f"preparing table {unit.name} for its parts"):
                if _must_begin_again(connection, store, unit.tables, snapshot, stop):
                    for oid in cascades.keys() & set(unit.tables):
                        _refuse_rows(connection, unit.name, cascades[oid])
                    _begin_again(connection, store, unit, may_truncate=others.keys().isdisjoint(unit.tables))
    return others


def _filled_bit_by_bit(store: CatalogStore, routes: Routes) -> Iterator[Unit]:
    for row in store.rows(
        "SELECT DISTINCT t.oid, t.schema, t.name FROM copied_table t JOIN copy_part p ON p.table_oid = t.oid"
        " WHERE p.parts > 1 AND t.copied IS NULL"
    ):
        route = routes.by_oid.get(row["oid"])
        if route is None:
            yield Unit(Name(row["schema"], row["name"]), partitioned=False, tables=(row["oid"],))
        elif not route.shared:
            yield replace(route.unit, tables=(row["oid"],))
    missing = {row["oid"] for row in store.rows("SELECT oid FROM copied_table WHERE copied IS NULL AND with_rows")}
    yield from (unit for unit in routes.shared_units() if missing.intersection(unit.tables))


def _not_truncatable(
    connection: Connection, store: CatalogStore, routes: Routes
) -> tuple[dict[int, _Emptied], dict[int, str]]:
    """Tables that this role may not TRUNCATE, or that foreign keys of others refer to. Filled without FREEZE.

    And why rows of some of them must not be deleted while foreign keys act: those of others, which may be copied
    already, would go with them.
    """
    rows = store.rows("SELECT oid, schema, name FROM copied_table WHERE copied IS NULL AND with_rows")
    if not rows:
        return {}, {}
    emptied = [(row["oid"], routes.emptied_with(row["oid"], Name(row["schema"], row["name"]))) for row in rows]
    found = connection.execute(query("not_truncatable"), ([name.sql for _, name in emptied],)).fetchall()
    others = {
        emptied[number - 1][0]: _Emptied.BY_DELETE if may_delete else _Emptied.NOT for number, may_delete, _, _ in found
    }
    cascades = {
        emptied[number - 1][0]: f"because foreign key {key} would then delete or change rows of table {table}, and the"
        " role may not set session_replication_role"
        for number, _, key, table in found
        if key is not None
    }
    return others, cascades


def _without_triggers(target: Connection) -> bool:
    """The schema stands already: its triggers and foreign keys say nothing about rows that are copied.

    False where the role may not have that.
    """
    try:
        target.execute("SET session_replication_role = 'replica'")
    except psycopg.errors.InsufficientPrivilege as exc:
        logger.warning(
            "Triggers and foreign keys of the target act on the rows that are copied: %s", exc.diag.message_primary
        )
        return False
    return True


def _must_begin_again(
    connection: Connection, store: CatalogStore, tables: Sequence[int], snapshot: ReadUnder, stop: Stop
) -> bool:
    """Whether no finished part of what is filled bit by bit can be kept.

    Parts read under different snapshots may hold a row twice or not at all: it can move from one range, or from one
    partition, to another.
    """
    forgotten = False
    done: list[Row] = []
    for oid in tables:
        for part in store.rows("SELECT part, xid FROM copy_part WHERE table_oid = ? AND state = 'running'", (oid,)):
            found = outcome(connection, part["xid"], stop)
            forgotten = forgotten or found is Outcome.UNKNOWN
            store.execute(
                "UPDATE copy_part SET state = ?, xid = NULL WHERE table_oid = ? AND part = ?",
                ("done" if found is Outcome.COMMITTED else "pending", oid, part["part"]),
            )
        done += store.rows("SELECT snapshot FROM copy_part WHERE table_oid = ? AND state = 'done'", (oid,))
    return forgotten or not done or any(row["snapshot"] != snapshot.content for row in done)


def _begin_again(connection: Connection, store: CatalogStore, unit: Unit, *, may_truncate: bool) -> None:
    if not unit.whole:
        _refuse_rows(
            connection,
            unit.name,
            "because some of the source's tables whose rows belong into it are left out",
        )
    # In this order: killed in between, no part is done and the table is emptied next time.
    with store.transaction():
        for oid in unit.tables:
            store.execute("UPDATE copy_part SET state = 'pending', xid = NULL WHERE table_oid = ?", (oid,))
            store.execute("UPDATE copied_table SET copied = NULL WHERE oid = ?", (oid,))
    if unit.whole:
        connection.execute(empty_statement(unit.name, truncate=may_truncate, partitioned=unit.partitioned))


def _refuse_rows(connection: Connection, name: Name, why: str) -> None:
    with server_errors(Side.TARGET, f"looking whether table {name} is empty"):
        row = connection.execute(f"SELECT EXISTS (SELECT FROM {name.sql})").fetchone()  # noqa: S608  quoted
    if row is not None and row[0]:
        raise TargetError(
            f"table {name} on the target has rows, and is not emptied, {why}",
            hint="Empty it if its rows are not wanted; or grant what lacks, or copy all that belongs into it.",
        )
