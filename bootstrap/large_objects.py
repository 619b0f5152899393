"""Large objects with owner, grants and comments, in parallel.

Reads them under the snapshot with ``lo_get``, which needs no superuser; writes one target transaction a batch of
consecutive oids. Doing a batch again removes what it wrote before, so that a batch whose mark was lost is simply done
again. An owner, grant or comment that the target refuses is a failure that names the object; the data stays, and the
batch counts as not done. Memory: one chunk of data, and the names of one batch. Step ``large_objects``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
import psycopg

from pgcopydb.bootstrap.budget import Slots
from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.session import cancel_statement
from pgcopydb.bootstrap.snapshot import begin_under
from pgcopydb.bootstrap.store import CatalogStore, Row
from pgcopydb.bootstrap.workers import Failures, WorkerPool
from pgcopydb.postgres.classify import classify, is_transient, server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import quote_ident, quote_literal
from pgcopydb.runtime.errors import PgcopydbError, TargetError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.sizes import pretty_size
from pgcopydb.runtime.stop import Stop, StopMode

logger = logging.getLogger(__name__)

BATCH: Final = 500
"""Each object takes a lock on the target until its batch commits; the workers' batches share the default lock table."""

_CHUNK_BYTES: Final = 1 << 20
_SMALL_BYTES: Final = 1 << 14
"""Objects up to this size are read many at once: 64 of them are no more than one chunk."""
_SMALL_AT_ONCE: Final = 64
_LOOKUP: Final = 10_000

_MADE: Final = "large_objects_made"
_OF_ATTRIBUTES: Final = ("no_owner", "no_acl", "no_comments")


class AttributeRefused(TargetError):
    """An owner, a grant or a comment; the data is there."""


@dataclass(frozen=True, slots=True)
class BatchJob:
    """Objects whose oids are ``first`` to ``last``."""

    batch: int
    first: int
    last: int
    objects: int

    def __str__(self) -> str:
        if self.first == self.last:
            return f"large object {self.first}"
        return f"large objects {self.first} to {self.last}"


@dataclass(frozen=True, slots=True)
class LargeObjectSession:
    source: Connection
    target: Connection

    def cancel(self) -> None:
        cancel_statement(self.source)
        cancel_statement(self.target)

    def close(self) -> None:
        self.source.close()
        self.target.close()


def fetch_large_objects(connection: Connection, store: CatalogStore) -> None:
    """Divide the objects into batches; their number does not matter here."""
    rows = connection.execute(query("large_object_batches"), {"size": BATCH}).fetchall()
    store.executemany("INSERT INTO large_object_batch (batch, first_oid, last_oid, objects) VALUES (?, ?, ?, ?)", rows)


def copy_large_objects(
    store: CatalogStore,
    source: Endpoint,
    target: Endpoint,
    snapshot: str,
    jobs: int,
    options: RestoreOptions,
    failures: Failures,
    stop: Stop,
    slots: Slots | None = None,
) -> None:
    """Returns when every batch is done, failed, or a stop is requested; failed ones are in ``failures``."""
    if store.step_done("large_objects"):
        return
    batches = store.rows("SELECT * FROM large_object_batch WHERE state <> 'done' ORDER BY batch")
    started = time.time()
    if batches:
        _refuse_strangers(store, source, target, snapshot, options, stop)
        _run(store, source, target, snapshot, min(jobs, len(batches)), options, failures, stop, batches, slots)
    if store.value("SELECT count(*) FROM large_object_batch WHERE state <> 'done'") == 0:
        store.execute(
            "INSERT OR REPLACE INTO step (name, started, finished) VALUES ('large_objects', ?, ?)",
            (started, time.time()),
        )
        if batches:
            copied = store.value("SELECT coalesce(sum(bytes), 0) FROM large_object_batch")
            logger.info("Copied the large objects, %s", pretty_size(copied))


def _refuse_strangers(
    store: CatalogStore, source: Endpoint, target: Endpoint, snapshot: str, options: RestoreOptions, stop: Stop
) -> None:
    """Objects that stood on the target before the first batch are not ours to overwrite."""
    if options.drop_if_exists or store.setting("large_objects_begun"):
        return
    with (
        source.connect_patiently("large objects", stop) as reader,
        target.connect_patiently("large objects", stop) as writer,
    ):
        with server_errors(Side.SOURCE, "importing the snapshot"):
            begin_under(reader, snapshot)
        for there in _pages_of_oids(writer):
            with server_errors(Side.SOURCE, "looking for large objects on the source"):
                row = reader.execute(
                    "SELECT oid::bigint FROM pg_catalog.pg_largeobject_metadata WHERE oid = ANY (%s::oid[]) LIMIT 1",
                    (there,),
                ).fetchone()
            if row is not None:
                raise TargetError(
                    f"the target already has large objects of the source's oids, {row[0]} for one",
                    hint="Replace them with --drop-if-exists, or leave large objects out with --skip-large-objects.",
                )
    store.set_setting("large_objects_begun", value=True)


def _pages_of_oids(connection: Connection) -> Iterator[list[int]]:
    """All large objects of a server, some thousand at a time."""
    last = 0
    while True:
        with server_errors(Side.TARGET, "looking for large objects on the target"):
            rows = connection.execute(
                "SELECT oid::bigint FROM pg_catalog.pg_largeobject_metadata WHERE oid > %s::oid ORDER BY oid LIMIT %s",
                (last, _LOOKUP),
            ).fetchall()
        if not rows:
            return
        yield [row[0] for row in rows]
        last = rows[-1][0]


def _run(
    store: CatalogStore,
    source: Endpoint,
    target: Endpoint,
    snapshot: str,
    jobs: int,
    options: RestoreOptions,
    failures: Failures,
    stop: Stop,
    batches: Sequence[Row],
    slots: Slots | None,
) -> None:
    pool: WorkerPool[LargeObjectSession, BatchJob] = WorkerPool(
        "lo",
        jobs,
        open_session=lambda role: open_session(role, source, target, snapshot, stop),
        work=lambda session, job: _copy_batch(session, job, store, options, failures, stop),
        describe=str,
        failures=failures,
        stop=stop,
        slots=slots,
    )
    for row in batches:
        pool.submit(BatchJob(row["batch"], row["first_oid"], row["last_oid"], row["objects"]), cost=row["objects"])
    pool.drain()


def open_session(role: str, source: Endpoint, target: Endpoint, snapshot: str, stop: Stop) -> LargeObjectSession:
    """What a worker reads with, under the snapshot, and writes with."""
    reader = source.connect_patiently(role, stop)
    try:
        with server_errors(Side.SOURCE, "importing the snapshot"):
            begin_under(reader, snapshot)
        return LargeObjectSession(reader, target.connect_patiently(role, stop))
    except PgcopydbError:
        reader.close()
        raise


def _copy_batch(
    session: LargeObjectSession,
    job: BatchJob,
    store: CatalogStore,
    options: RestoreOptions,
    failures: Failures,
    stop: Stop,
) -> None:
    started = time.time()
    with server_errors(Side.SOURCE, f"reading {job}"):
        objects = session.source.execute(query("large_objects"), (job.first, job.last)).fetchall()
    remember_copied(store, [row[0] for row in objects])
    copied, refused = write_objects(session, objects, [], job, options, stop)
    store.execute(
        "UPDATE large_object_batch SET state = ?, bytes = ?, started = ?, finished = ?, error = ? WHERE batch = ?",
        (
            "failed" if refused else "done",
            copied,
            started,
            time.time(),
            str(refused[0][1]) if refused else None,
            job.batch,
        ),
    )
    for what, error in refused:
        failures.add(what, error)


def write_objects(
    session: LargeObjectSession,
    objects: Sequence[Sequence[Any]],
    removed: Sequence[int],
    job: BatchJob,
    options: RestoreOptions,
    stop: Stop,
) -> tuple[int, list[tuple[str, PgcopydbError]]]:
    """Write these objects anew, rows of ``large_objects.sql``, and remove others, in one transaction of the target.

    How many bytes, and what the target refused of owners, grants and comments, with the object's name.
    """
    with server_errors(Side.TARGET, f"writing {job}"):
        session.target.execute("BEGIN")
        session.target.execute(
            "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid = ANY (%s::oid[])",
            ([*(row[0] for row in objects), *removed],),
        )
    copied = sum(
        _copy_data(session, [row[0] for row in objects[start : start + _SMALL_AT_ONCE]], job, stop)
        for start in range(0, len(objects), _SMALL_AT_ONCE)
    )
    refused = _set_attributes(session.target, objects, job, options)
    failpoint("large_objects.before_commit")
    with server_errors(Side.TARGET, f"committing {job}"):
        session.target.execute("COMMIT")
    failpoint("large_objects.after_commit")
    return copied, refused


def remember_made(store: CatalogStore, options: RestoreOptions | None) -> None:
    """With which options objects are made here: those that change later are made so too. None: they are left out."""
    store.set_setting(_MADE, options and {name: getattr(options, name) for name in _OF_ATTRIBUTES})


def made(store: CatalogStore) -> RestoreOptions | None:
    """None where none were to be copied in this work directory, or not all of them are yet."""
    stored = store.setting(_MADE)
    return RestoreOptions(**stored) if stored is not None and store.step_done("large_objects") else None


def remember_copied(store: CatalogStore, oids: Sequence[int]) -> None:
    """Before they are there: an object that is ours on paper alone is never removed, one that is not on it never is
    again."""
    if oids:
        store.execute(
            "INSERT INTO large_object_copied VALUES (?, ?, ?)", (min(oids), max(oids), orjson.dumps(oids).decode())
        )


def forget_copied(store: CatalogStore, oids: Sequence[int]) -> None:
    """What is there no more: another one of that number is none of ours."""
    if oids:
        store.execute(
            "UPDATE large_object_copied SET oids = (SELECT json_group_array(value) FROM json_each(oids)"
            " WHERE value NOT IN (SELECT value FROM json_each(?))) WHERE first_oid <= ? AND last_oid >= ?",
            (orjson.dumps(oids).decode(), max(oids), min(oids)),
        )


def _copy_data(session: LargeObjectSession, oids: Sequence[int], job: BatchJob, stop: Stop) -> int:
    """Bytes copied. Most objects are small and travel together; what is longer is fetched piece by piece."""
    with server_errors(Side.SOURCE, f"reading {job}"):
        heads = session.source.execute(
            "SELECT oid::bigint, pg_catalog.lo_get(oid, 0, %s) FROM unnest(%s::oid[]) AS o (oid)",
            (_SMALL_BYTES, list(oids)),
            binary=True,
        ).fetchall()
    with server_errors(Side.TARGET, f"writing {job}"):
        session.target.execute(
            "SELECT pg_catalog.lo_from_bytea(oid, data) FROM unnest(%b::oid[], %b::bytea[]) AS o (oid, data)",
            ([oid for oid, _ in heads], [data for _, data in heads]),
        )
    copied = 0
    for oid, head in heads:
        copied += len(head)
        if len(head) == _SMALL_BYTES:
            copied += _copy_rest(session, oid, stop)
    return copied


def _copy_rest(session: LargeObjectSession, oid: int, stop: Stop) -> int:
    copied = 0
    while True:
        if stop.mode is StopMode.FAST:
            stop.check()
        offset = _SMALL_BYTES + copied
        with server_errors(Side.SOURCE, f"reading large object {oid}"):
            row = session.source.execute(
                "SELECT pg_catalog.lo_get(%s::oid, %s, %s)", (oid, offset, _CHUNK_BYTES), binary=True
            ).fetchone()
        data: bytes = row[0] if row else b""
        if data:
            with server_errors(Side.TARGET, f"writing large object {oid}"):
                session.target.execute("SELECT pg_catalog.lo_put(%s::oid, %s, %b)", (oid, offset, data))
        copied += len(data)
        if len(data) < _CHUNK_BYTES:
            return copied


def _set_attributes(
    target: Connection, objects: Sequence[Sequence[Any]], job: BatchJob, options: RestoreOptions
) -> list[tuple[str, PgcopydbError]]:
    """What the target refuses, with the object's name. All statements travel at once, and one by one if any fails."""
    statements = [(row[0], statement) for row in objects for statement in attributes(row, options)]
    if not statements:
        return []
    doing = f"setting owners, grants and comments of {job}"
    with server_errors(Side.TARGET, doing):
        target.execute("SAVEPOINT attributes")
        try:
            with target.pipeline():
                for _, statement in statements:
                    target.execute(statement)
        except psycopg.Error as exc:
            if exc.sqlstate is None or is_transient(exc.sqlstate):
                raise
            target.execute("ROLLBACK TO SAVEPOINT attributes")
            return list(_one_by_one(target, statements))
    return []


def _one_by_one(target: Connection, statements: Sequence[tuple[int, str]]) -> Iterator[tuple[str, PgcopydbError]]:
    for oid, statement in statements:
        target.execute("SAVEPOINT attribute")
        try:
            target.execute(statement)
        except psycopg.Error as exc:
            if exc.sqlstate is None or is_transient(exc.sqlstate):
                raise
            target.execute("ROLLBACK TO SAVEPOINT attribute")
            cause = classify(Side.TARGET, exc, _without_text(statement))
            hint = cause.hint or "Create the role on the target and go on with --resume, or use --no-owner or --no-acl."
            yield f"large object {oid}", AttributeRefused(cause.message, hint=hint, sqlstate=cause.sqlstate)
        target.execute("RELEASE SAVEPOINT attribute")


def _without_text(statement: str) -> str:
    """A comment may be long and is of no help here."""
    return statement.partition(" IS ")[0] if statement.startswith("COMMENT ") else statement


def attributes(row: Sequence[Any], options: RestoreOptions) -> Iterator[str]:
    """The owner comes before the grants: a change of owner would rewrite them."""
    oid, owner, comment, grants = row
    name = f"LARGE OBJECT {int(oid)}"
    if comment is not None and not options.no_comments:
        yield f"COMMENT ON {name} IS {quote_literal(comment)}"
    if not options.no_owner:
        yield f"ALTER {name} OWNER TO {quote_ident(owner)}"
    if grants is None or options.no_acl:
        return
    if not options.no_owner:
        yield f"REVOKE ALL ON {name} FROM {quote_ident(owner)}"
    for grantee, privilege, grantable in grants:
        if options.no_owner and grantee == owner:
            # What the owner may do belongs to the owner, who is another role on the target.
            continue
        to = "PUBLIC" if grantee is None else quote_ident(grantee)
        yield f"GRANT {privilege} ON {name} TO {to}{' WITH GRANT OPTION' if grantable else ''}"
