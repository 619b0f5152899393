"""Large objects with owner, grants and comments, in parallel.

Reads them under the snapshot with ``lo_get``, which needs no superuser; writes one target transaction a batch of
consecutive oids. Doing a batch again removes what it wrote before, so that a batch whose mark was lost is simply done
again. Memory: one chunk of data, and the names of one batch. Step ``large_objects``.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.session import cancel_statement
from pgcopydb.bootstrap.snapshot import begin_under
from pgcopydb.bootstrap.store import CatalogStore, Row
from pgcopydb.bootstrap.workers import Failures, WorkerPool
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import quote_ident, quote_literal
from pgcopydb.runtime.errors import TargetError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.sizes import pretty_size
from pgcopydb.runtime.stop import Stop, StopMode

logger = logging.getLogger(__name__)

BATCH: Final = 500
_CHUNK_BYTES: Final = 1 << 20
_SMALL_BYTES: Final = 1 << 14
"""Objects up to this size are read many at once: 64 of them are no more than one chunk."""
_SMALL_AT_ONCE: Final = 64


@dataclass(frozen=True, slots=True)
class BatchJob:
    """Objects whose oids are ``first`` to ``last``."""

    batch: int
    first: int
    last: int
    objects: int

    def __str__(self) -> str:
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
) -> None:
    """Returns when every batch is done, failed, or a stop is requested; failed ones are in ``failures``."""
    if store.step_done("large_objects"):
        return
    batches = store.rows("SELECT * FROM large_object_batch WHERE state <> 'done' ORDER BY batch")
    started = time.time()
    if batches:
        _refuse_strangers(store, target, batches, options, stop)
        _run(store, source, target, snapshot, min(jobs, len(batches)), options, failures, stop, batches)
    if store.value("SELECT count(*) FROM large_object_batch WHERE state <> 'done'") == 0:
        with store.step("large_objects"):
            copied = store.value("SELECT coalesce(sum(bytes), 0) FROM large_object_batch")
        store.execute("UPDATE step SET started = ? WHERE name = 'large_objects'", (started,))
        if batches:
            logger.info("Copied the large objects, %s", pretty_size(copied))


def _refuse_strangers(
    store: CatalogStore, target: Endpoint, batches: Sequence[Row], options: RestoreOptions, stop: Stop
) -> None:
    """Objects that stood on the target before the first batch are not ours to overwrite."""
    if options.drop_if_exists or store.setting("large_objects_begun"):
        return
    with (
        target.connect_patiently("large objects", stop) as connection,
        server_errors(Side.TARGET, "looking for large objects on the target"),
    ):
        row = connection.execute(
            "SELECT m.oid::bigint FROM pg_catalog.pg_largeobject_metadata m"
            " JOIN unnest(%s::bigint[], %s::bigint[]) AS b (first, last) ON m.oid::bigint BETWEEN first AND last"
            " LIMIT 1",
            ([batch["first_oid"] for batch in batches], [batch["last_oid"] for batch in batches]),
        ).fetchone()
    if row is not None:
        raise TargetError(
            f"the target already has large objects among those to be copied, {row[0]} for one",
            hint="Replace them with --drop-if-exists, or leave large objects out with --skip-large-objects.",
        )
    store.set_setting("large_objects_begun", value=True)


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
) -> None:
    def open_session(role: str) -> LargeObjectSession:
        reader = source.connect_patiently(role, stop)
        with server_errors(Side.SOURCE, "importing the snapshot"):
            begin_under(reader, snapshot)
        return LargeObjectSession(reader, target.connect_patiently(role, stop))

    pool: WorkerPool[LargeObjectSession, BatchJob] = WorkerPool(
        "lo",
        jobs,
        open_session=open_session,
        work=lambda session, job: _copy_batch(session, job, store, options, stop),
        describe=str,
        failures=failures,
        stop=stop,
    )
    for row in batches:
        pool.submit(BatchJob(row["batch"], row["first_oid"], row["last_oid"], row["objects"]), cost=row["objects"])
    pool.drain()


def _copy_batch(
    session: LargeObjectSession, job: BatchJob, store: CatalogStore, options: RestoreOptions, stop: Stop
) -> None:
    started = time.time()
    with server_errors(Side.SOURCE, f"reading {job}"):
        objects = session.source.execute(query("large_objects"), (job.first, job.last)).fetchall()
    with server_errors(Side.TARGET, f"writing {job}"):
        session.target.execute("BEGIN")
        session.target.execute(
            "SELECT pg_catalog.lo_unlink(oid) FROM pg_catalog.pg_largeobject_metadata WHERE oid = ANY (%s::oid[])",
            ([row[0] for row in objects],),
        )
    copied = sum(
        _copy_data(session, [row[0] for row in objects[start : start + _SMALL_AT_ONCE]], job, stop)
        for start in range(0, len(objects), _SMALL_AT_ONCE)
    )
    with server_errors(Side.TARGET, f"owner, grants and comments of {job}"):
        for row in objects:
            for statement in _attributes(row, options):
                session.target.execute(statement)
    failpoint("large_objects.before_commit")
    with server_errors(Side.TARGET, f"committing {job}"):
        session.target.execute("COMMIT")
    failpoint("large_objects.after_commit")
    store.execute(
        "UPDATE large_object_batch SET state = 'done', bytes = ?, started = ?, finished = ? WHERE batch = ?",
        (copied, started, time.time(), job.batch),
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


def _attributes(row: Sequence[Any], options: RestoreOptions) -> Iterator[str]:
    oid, owner, comment, grants = row
    name = f"LARGE OBJECT {int(oid)}"
    if not options.no_owner:
        yield f"ALTER {name} OWNER TO {quote_ident(owner)}"
    if comment is not None and not options.no_comments:
        yield f"COMMENT ON {name} IS {quote_literal(comment)}"
    if grants is None or options.no_acl:
        return
    if not options.no_owner:
        # Grants are written as their owner, or a superuser's name would stand in them as the grantor.
        yield f"SET LOCAL ROLE {quote_ident(owner)}"
        yield f"REVOKE ALL ON {name} FROM {quote_ident(owner)}"
    for grantee, privilege, grantable in grants:
        to = "PUBLIC" if grantee is None else quote_ident(grantee)
        yield f"GRANT {privilege} ON {name} TO {to}{' WITH GRANT OPTION' if grantable else ''}"
    if not options.no_owner:
        yield "RESET ROLE"
