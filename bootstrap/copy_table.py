"""Copy one part of one table: rows from the source under the snapshot into one target transaction.

Reads the table's columns from the store. Writes the part's state: ``running`` with the target's transaction id before
any row is sent, ``done`` after the commit. What is true when ``copy_part`` returns: the part's rows are on the target's
disk exactly once and the store says so, or the table is ``gone``. A part whose earlier attempt may have committed is
looked up on the target first.
Leaves to others: which part comes when, and emptying a table that is copied in several parts (copy_queue).
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Final

import psycopg
from psycopg import pq

from pgcopydb.bootstrap.activity import Activity
from pgcopydb.bootstrap.copy_plan import PartRange
from pgcopydb.bootstrap.session import cancel_statement
from pgcopydb.bootstrap.snapshot import ReadUnder, begin_under
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.transactions import Outcome, current_xid_expression, note, outcome
from pgcopydb.postgres.classify import classify, server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.copy_stream import CancelToken, CopyCounts, copy_between, kept_encoding
from pgcopydb.postgres.names import Name, quote_ident, quote_literal
from pgcopydb.runtime.errors import Kind, PgcopydbError, SourceError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

_TABLES_PER_TRANSACTION: Final = 200
"""Each copied table leaves a lock in the source transaction; the lock table of a default server holds some 6,000."""


class TableRewritten(SourceError):
    """The snapshot cannot see a table's rows any more; a later one can."""


_GONE: Final = frozenset({"42P01", "3F000"})


@dataclass(slots=True)
class CopySession:
    """A copy worker's two connections; the source's is inside a transaction under the snapshot."""

    source: Connection
    target: Connection
    snapshot: ReadUnder
    plain: bool
    """Whether rows can go from socket to socket."""
    life: str
    """Of the target, in which its session began."""
    token: CancelToken = field(default_factory=CancelToken)
    tables_read: int = 0

    def cancel(self) -> None:
        self.token.cancel()
        cancel_statement(self.source)
        cancel_statement(self.target)

    def close(self) -> None:
        self.source.close()
        self.target.close()
        self.token.close()

    def renew_source_transaction(self) -> None:
        """Give the locks back and see the same snapshot again."""
        self.source.execute("ROLLBACK")
        begin_under(self.source, self.snapshot.id)
        self.tables_read = 0


@dataclass(frozen=True, slots=True)
class CopyJob:
    """One part of one table, with all that decides its two COPY statements."""

    oid: int
    name: Name
    into: Name
    filenode: int
    part: int
    parts: int
    rows: PartRange
    part_key: str | None
    bytes_estimate: int
    binary: bool
    quiet: bool
    truncate: bool
    freeze: bool
    delete: bool = False
    """Emptied row by row: TRUNCATE does not do for a table that others refer to."""
    partitioned: bool = False
    """Whether ``into`` hands its rows on to partitions."""
    columns: tuple[str, ...] | None = None
    """None: all that the source does not generate."""

    def __str__(self) -> str:
        suffix = f" (part {self.part} of {self.parts})" if self.parts > 1 else ""
        return f"table {self.name}{suffix}"


def copy_out_statement(job: CopyJob, columns: list[str], encoding: str | None = None) -> str:
    """The query form for every table: it names the columns, and ``ONLY`` leaves inheritance children to themselves."""
    condition = job.rows.condition(job.part_key)
    where = f" WHERE {condition}" if condition else ""
    chosen = ", ".join(quote_ident(column) for column in columns)
    form = f" WITH ({', '.join(_form(job, encoding))})" if job.binary or encoding else ""
    return f"COPY (SELECT {chosen} FROM ONLY {job.name.sql}{where}) TO STDOUT{form}"  # noqa: S608  all quoted


def copy_in_statement(job: CopyJob, columns: list[str], encoding: str | None = None) -> str:
    """No column list means all that are not generated, which is also how a table without columns is written."""
    chosen = f" ({', '.join(quote_ident(column) for column in columns)})" if columns else ""
    options = [*(["FREEZE"] if job.freeze else []), *_form(job, encoding)]
    form = f" WITH ({', '.join(options)})" if options else ""
    return f"COPY {job.into.sql}{chosen} FROM STDIN{form}"


def _form(job: CopyJob, encoding: str | None) -> list[str]:
    chosen = ["FORMAT binary"] if job.binary else []
    return [*chosen, f"ENCODING {quote_literal(encoding)}"] if encoding else chosen


def copy_part(session: CopySession, job: CopyJob, store: CatalogStore, activity: Activity, stop: Stop) -> bool:
    """True for the one part that makes its table complete.

    Raises ``SourceError`` or ``TargetError``; both connections can then be used again, or are closed.
    """
    if _committed_before(session, job, store, stop):
        return _mark(store, job, "done")
    task = activity.begin(f"copying {job}", job.oid)
    try:
        if not _still_there(session, job):
            # What changes there were of it, the target has no rows for.
            store.execute("UPDATE copied_table SET read_at = ? WHERE oid = ?", (_gone_since(session, job), job.oid))
            logger.warning("%s was dropped on the source meanwhile; it is left out", job)
            return _mark(store, job, "gone")
        xid = _begin_target(session, job)
        _mark_running(store, job, xid, session.snapshot)
        if not job.truncate:
            # Its transaction empties nothing: copied once more, its rows would be there twice.
            store.make_durable()
        failpoint("copy.after_truncate")
        counts = _stream(session, job, _columns(store, job), task.add_bytes)
        failpoint("copy.before_commit")
        with server_errors(Side.TARGET, f"committing {job}"):
            session.target.execute("COMMIT")
        failpoint("copy.after_commit")
        complete = _mark(store, job, "done", counts)
        failpoint("copy.after_mark")
        return complete
    except PgcopydbError:
        _roll_back(session)
        raise
    finally:
        activity.end(task)


def empty_statement(table: Name, *, truncate: bool, partitioned: bool) -> str:
    """Without what inherits from the table; partitions are the rows of a partitioned one."""
    rows = table.sql if partitioned else f"ONLY {table.sql}"
    return f"TRUNCATE {rows}" if truncate else f"DELETE FROM {rows}"  # noqa: S608  quoted


def _columns(store: CatalogStore, job: CopyJob) -> list[str]:
    if job.columns is not None:
        return list(job.columns)
    rows = store.rows(
        "SELECT name FROM copied_column WHERE table_oid = ? AND NOT generated ORDER BY number", (job.oid,)
    )
    return [row["name"] for row in rows]


def _committed_before(session: CopySession, job: CopyJob, store: CatalogStore, stop: Stop) -> bool:
    """Whether an attempt whose end was never heard of has in fact committed."""
    row = store.row("SELECT state, xid FROM copy_part WHERE table_oid = ? AND part = ?", (job.oid, job.part))
    if row is None or row["state"] != "running" or row["xid"] is None:
        return False
    with server_errors(Side.TARGET, f"asking what became of {job}"):
        found = outcome(session.target, row["xid"], stop)
    if found is Outcome.UNKNOWN and not (job.truncate or job.delete):
        # What is filled bit by bit is begun again by the next run.
        raise Side.TARGET.error(
            f"{job}: the target cannot say whether transaction {row['xid']} committed",
            hint="Run again with --resume; if it stays like this, begin again with --restart --drop-if-exists.",
            kind=Kind.RETRY if job.parts > 1 or job.into != job.name else Kind.OPERATOR,
        )
    if found is Outcome.COMMITTED:
        logger.info("%s had been copied before the interruption", job)
    return found is Outcome.COMMITTED


def _still_there(session: CopySession, job: CopyJob) -> bool:
    """Lock the table; false when it is gone, ``SourceError`` when its rows may no longer be what the snapshot saw."""
    try:
        session.tables_read += 1
        if session.tables_read > _TABLES_PER_TRANSACTION:
            session.renew_source_transaction()
        cursor = session.source.execute(
            f"LOCK TABLE ONLY {job.name.sql} IN ACCESS SHARE MODE;"
            f"SELECT to_regclass({quote_literal(job.name.sql)})::oid::bigint,"
            f" pg_catalog.pg_relation_filenode({job.oid}::oid)::bigint"
        )
        cursor.nextset()
        row = cursor.fetchone()
    except psycopg.Error as exc:
        if exc.sqlstate not in _GONE:
            raise classify(Side.SOURCE, exc, f"locking {job}") from exc
        with server_errors(Side.SOURCE, f"looking for {job}"):
            session.renew_source_transaction()
        row = None
    if row is None or row[0] != job.oid:
        _refuse_renamed(session, job)
        return False
    if row[1] != job.filenode:
        # TRUNCATE and rewriting forms of ALTER TABLE are not MVCC-safe (documentation, "Caveats" of concurrency
        # control): the snapshot would see an empty table.
        raise TableRewritten(
            f"{job} was truncated or rewritten after the snapshot was taken, its rows can no longer be read under it",
            hint="Do not run TRUNCATE, VACUUM FULL, CLUSTER or a rewriting ALTER TABLE during the copy; run again with "
            "--restart --drop-if-exists, or with --resume --not-consistent to copy this table as it is now.",
        )
    return True


def _gone_since(session: CopySession, job: CopyJob) -> str:
    """A position up to which the table's name has meant none but the one that is gone.

    Raises ``SourceError`` when it means another one now.
    """
    with server_errors(Side.SOURCE, f"looking for another {job}"):
        position = session.source.execute(
            "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()"
            " ELSE pg_catalog.pg_current_wal_insert_lsn() END::text"
        ).fetchone()
        row = session.source.execute("SELECT to_regclass(%s)::oid::bigint", (job.name.sql,)).fetchone()
    assert position is not None  # noqa: S101  a query without FROM returns one row
    if row is not None and row[0] is not None:
        raise SourceError(
            f"{job} was dropped after the snapshot was taken, and another one was made with its name",
            hint="Begin again with --restart --drop-if-exists.",
        )
    return str(position[0])


def _refuse_renamed(session: CopySession, job: CopyJob) -> None:
    """Its rows are wanted, and its new name is none that the target's schema has."""
    with server_errors(Side.SOURCE, f"looking for {job}"):
        row = session.source.execute("SELECT %s::oid::regclass::text", (job.oid,)).fetchone()
    if row is not None and not row[0].isdigit():
        raise SourceError(
            f"{job} was renamed to {row[0]} after the snapshot was taken",
            hint="Give it its old name back and run again with --resume, or begin again with --restart "
            "--drop-if-exists.",
        )


def _begin_target(session: CopySession, job: CopyJob) -> str:
    """Open the target's transaction, empty the table in it where it is copied whole, and return its id."""
    empty = ""
    if job.truncate or job.delete:
        empty = f"{empty_statement(job.into, truncate=job.truncate, partitioned=job.partitioned)};"
    with server_errors(Side.TARGET, f"beginning {job}"):
        cursor = session.target.execute(f"BEGIN;{empty}SELECT {current_xid_expression(session.target)}")
        while cursor.nextset():
            pass
        row = cursor.fetchone()
    assert row is not None  # noqa: S101  a function call returns one row
    return note(str(row[0]), session.life)


def _stream(session: CopySession, job: CopyJob, columns: list[str], on_bytes: Callable[[int], None]) -> CopyCounts:
    encoding = kept_encoding(session.source, session.target)
    if encoding is not None:
        job = replace(job, binary=False)
    return copy_between(
        session.source,
        session.target,
        copy_out_statement(job, columns, encoding),
        copy_in_statement(job, columns, encoding),
        binary=job.binary,
        quiet=job.quiet,
        cancel=session.token,
        through_libpq=not session.plain,
        on_bytes=on_bytes,
    )


def _roll_back(session: CopySession) -> None:
    """Leave both connections usable for the next job; one that is not is noticed, and replaced, by its next use."""
    try:
        if session.target.info.transaction_status is not pq.TransactionStatus.IDLE:
            session.target.execute("ROLLBACK")
        session.renew_source_transaction()
    except psycopg.Error as exc:
        logger.debug("rolling back: %s", exc)
        session.source.close()


def _mark_running(store: CatalogStore, job: CopyJob, xid: str, snapshot: ReadUnder) -> None:
    with store.transaction():
        store.execute(
            "UPDATE copy_part SET state = 'running', xid = ?, snapshot = ?, started = ?"
            " WHERE table_oid = ? AND part = ?",
            (xid, snapshot.content, time.time(), job.oid, job.part),
        )
        store.execute("UPDATE copied_table SET read_at = ? WHERE oid = ?", (snapshot.read_at, job.oid))


def mark_copied(store: CatalogStore, oid: int) -> bool:
    """Note that a table is complete; true for the one caller that finds its last part done."""
    return (
        store.execute(
            "UPDATE copied_table SET copied = ? WHERE oid = ? AND copied IS NULL AND EXISTS"
            " (SELECT 1 FROM copy_part p WHERE p.table_oid = copied_table.oid) AND NOT EXISTS"
            " (SELECT 1 FROM copy_part p WHERE p.table_oid = copied_table.oid AND p.state NOT IN ('done', 'gone'))",
            (time.time(), oid),
        )
        == 1
    )


def _mark(store: CatalogStore, job: CopyJob, state: str, counts: CopyCounts | None = None) -> bool:
    with store.transaction():
        store.execute(
            "UPDATE copy_part SET state = ?, finished = ?, started = coalesce(started, ?), rows = ?, bytes = ?"
            " WHERE table_oid = ? AND part = ?",
            (
                state,
                time.time(),
                time.time(),
                counts.rows if counts else None,
                counts.bytes if counts else None,
                job.oid,
                job.part,
            ),
        )
        if job.freeze and state == "done":
            store.execute("UPDATE copied_table SET frozen = 1 WHERE oid = ?", (job.oid,))
        return mark_copied(store, job.oid)
