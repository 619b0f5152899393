"""Large objects that have changed since they were copied: no stream of changes carries them.

Reads all of the source's under one snapshot, a range of oids at a time, several ranges at once, and those of the target
that have the same numbers: their digests, which the servers take, owners, grants and comments. Writes those that differ
or are missing, and removes those that the copy of this work directory has made and the source has no more. What
somebody else has made on the target is never touched: where the source has an object of the same number, that is a
failure. An object that cannot be read or written is one too, and holds up no other. Can be run again at any time.
Memory: as the copy, and the names of one range of each side for each worker.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field, replace
from typing import Any, Final

import orjson

from pgcopydb.bootstrap.activity import Activity
from pgcopydb.bootstrap.large_objects import (
    BATCH,
    BatchJob,
    LargeObjectSession,
    attributes,
    forget_copied,
    open_session,
    remember_copied,
    write_objects,
)
from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.progress import COMPARED_LARGE_OBJECTS
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.snapshot import begin_under, export_snapshot
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.workers import Failures, WorkerPool
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.runtime.errors import PgcopydbError, TargetError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

_LAST_OID: Final = (1 << 32) - 1

_RANGES_A_WORKER: Final = 4
"""At least, where there are so many objects: some are larger than others."""

_ABOUT_OBJECTS: Final = ("0A", "22", "42", "53200", "54", "55", "XX")
"""How SQLSTATEs begin that say something about objects, or that there were too many locks at once."""

Rows = Mapping[int, Sequence[Any]]


@dataclass(slots=True)
class Changed:
    """How many objects, of all workers."""

    written: int = 0
    removed: int = 0
    compared: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock, repr=False)

    def add(self, written: int, removed: int) -> None:
        with self.lock:
            self.written += written
            self.removed += removed

    def __str__(self) -> str:
        return f"{self.written} large objects written that were new or had changed, {self.removed} removed"


@dataclass(frozen=True, slots=True)
class _Work:
    """What is the same for all workers."""

    store: CatalogStore
    snapshot: str
    total: int
    options: RestoreOptions
    activity: Activity
    failures: Failures
    stop: Stop
    done: Changed = field(default_factory=Changed)


def copy_changed(
    store: CatalogStore,
    source: Endpoint,
    target: Endpoint,
    jobs: int,
    options: RestoreOptions,
    failures: Failures,
    stop: Stop,
) -> Changed:
    """Make the target's large objects what the source's are now.

    Returns when each of them is as on the source or in ``failures``, or when a stop is requested.
    """
    held = export_snapshot(source, lambda error: failures.abort("snapshot", error), stop)
    try:
        total, ranges = _divide(source, target, held.under.id, jobs, stop)
        logger.info("Comparing the %d large objects of the source with those of the target", total)
        with Activity(store) as activity:
            work = _Work(store, held.under.id, total, options, activity, failures, stop)
            _count_compared(work, ())
            _run(work, source, target, min(jobs, len(ranges)), ranges)
    finally:
        held.release()
    logger.info("%s", work.done)
    return work.done


def _run(work: _Work, source: Endpoint, target: Endpoint, jobs: int, ranges: Iterable[tuple[int, int]]) -> None:
    pool: WorkerPool[LargeObjectSession, BatchJob] = WorkerPool(
        "lo",
        jobs,
        open_session=lambda role: open_session(role, source, target, work.snapshot, work.stop),
        work=lambda session, job: _compare_range(work, session, job, pool),
        describe=str,
        failures=work.failures,
        stop=work.stop,
    )
    for number, (first, last) in enumerate(ranges, 1):
        pool.submit(BatchJob(number, first, last, BATCH))
    pool.drain()


def _divide(
    source: Endpoint, target: Endpoint, snapshot: str, jobs: int, stop: Stop
) -> tuple[int, list[tuple[int, int]]]:
    """How many objects the source has, and the ranges that are compared."""
    with (
        closing(open_session("large objects", source, target, snapshot, stop)) as session,
        stop.on_fast_stop(session.cancel),
    ):
        with server_errors(Side.SOURCE, "counting large objects"):
            total = session.source.execute("SELECT count(*) FROM pg_catalog.pg_largeobject_metadata").fetchall()[0][0]
        size = max(1, min(BATCH, total // (jobs * _RANGES_A_WORKER)))
        ends = [
            *_ends(session.source, Side.SOURCE, size),
            *_ends(session.target, Side.TARGET, BATCH),
        ]
    return total, [*ranges_between(ends)]


def _ends(connection: Connection, side: Side, size: int) -> list[int]:
    with server_errors(side, f"reading which large objects the {side} has"):
        batches = connection.execute(query("large_object_batches"), {"size": size}).fetchall()
    return [last for _, _, last, _ in batches[:-1]]


def ranges_between(ends: Iterable[int]) -> Iterator[tuple[int, int]]:
    """All numbers that an object may have, cut behind each of these. Pure."""
    first = 1
    for last in sorted({*ends} - {_LAST_OID}):
        yield first, last
        first = last + 1
    yield first, _LAST_OID


def _compare_range(
    work: _Work, session: LargeObjectSession, job: BatchJob, pool: WorkerPool[LargeObjectSession, BatchJob]
) -> None:
    work.stop.check()
    task = work.activity.begin(str(job))
    try:
        wanted, there = _rows(session.source, Side.SOURCE, job), _rows(session.target, Side.TARGET, job)
        try:
            _bring(work, session, job, wanted, there)
        except PgcopydbError as error:
            if job.first == job.last or not is_about_objects(error):
                raise
            # One of them is to blame, and the others are not left out for it.
            logger.debug("%s: divided: %s", job, error)
            _begin_again(session, work.snapshot)
            for first, last in halves(wanted.keys() | there.keys()):
                pool.submit(replace(job, first=first, last=last))
            return
        _count_compared(work, wanted)
    finally:
        work.activity.end(task)


def is_about_objects(error: PgcopydbError) -> bool:
    """Whether fewer objects at once may do: others speak of the server or of the connection. Pure."""
    return error.sqlstate is not None and error.sqlstate.startswith(_ABOUT_OBJECTS)


def halves(oids: Collection[int]) -> Iterator[tuple[int, int]]:
    """Ranges that hold all of these; one of a single oid for a single oid. Pure."""
    found = sorted(oids)
    middle = (len(found) + 1) // 2
    for half in (found[:middle], found[middle:]):
        if half:
            yield half[0], half[-1]


def _begin_again(session: LargeObjectSession, snapshot: str) -> None:
    """Out of transactions that have failed."""
    with server_errors(Side.TARGET, "rolling back"):
        session.target.rollback()
    with server_errors(Side.SOURCE, "importing the snapshot"):
        session.source.rollback()
        begin_under(session.source, snapshot)


def _bring(work: _Work, session: LargeObjectSession, job: BatchJob, wanted: Rows, there: Rows) -> None:
    ours = _ours(work.store, job)
    of_source, of_target = _digests_of_both(session, wanted.keys() & there.keys())
    differing = {
        oid
        for oid, row in wanted.items()
        if oid not in there
        or of_source.get(oid) != of_target.get(oid)
        or _shown(row, work.options) != _shown(there[oid], work.options)
    }
    strangers = set() if work.options.drop_if_exists else (differing & there.keys()) - ours
    written = sorted(differing - strangers)
    removed = sorted(ours.intersection(there).difference(wanted))
    refused: Sequence[tuple[str, PgcopydbError]] = ()
    if written or removed:
        work.stop.check()
        remember_copied(work.store, written)
        failpoint("large_objects.after_remember")
        _, refused = write_objects(session, [wanted[oid] for oid in written], removed, job, work.options, work.stop)
        work.done.add(len(written), len(removed))
    forget_copied(work.store, sorted(ours.difference(wanted)))
    for what, error in [*((f"large object {oid}", _stranger(oid)) for oid in sorted(strangers)), *refused]:
        work.failures.add(what, error)


def _stranger(oid: int) -> TargetError:
    return TargetError(
        f"the target has a large object {oid} that this copy has not made, and it is not the source's",
        hint="Take it with `pgcopydb copy blobs --changed --drop-if-exists`, or give it another number on the target.",
    )


def _rows(connection: Connection, side: Side, job: BatchJob) -> Rows:
    with server_errors(side, f"reading {job} of the {side}"):
        return {row[0]: row for row in connection.execute(query("large_objects"), (job.first, job.last)).fetchall()}


def _digests_of_both(session: LargeObjectSession, oids: Collection[int]) -> tuple[dict[int, str], dict[int, str]]:
    """At the same time: the slower server is waited for once."""
    if not oids:
        return {}, {}
    with ThreadPoolExecutor(max_workers=1) as beside:
        of_target = beside.submit(_digests, session.target, Side.TARGET, oids)
        of_source = _digests(session.source, Side.SOURCE, oids)
        return of_source, of_target.result()


def _digests(connection: Connection, side: Side, oids: Collection[int]) -> dict[int, str]:
    with server_errors(side, f"reading large objects of the {side}"):
        rows = connection.execute(query("large_object_digests"), {"oids": [str(oid) for oid in oids]}).fetchall()
    return {row[0]: row[1] for row in rows}


def _shown(row: Sequence[Any], options: RestoreOptions) -> list[str]:
    """Owner, grants and comment as statements. Whose grants these are is not comparable where owners are others."""
    return sorted(attributes(row, replace(options, no_acl=options.no_acl or options.no_owner)))


def _ours(store: CatalogStore, job: BatchJob) -> set[int]:
    rows = store.rows(
        "SELECT oids FROM large_object_copied WHERE first_oid <= ? AND last_oid >= ?", (job.last, job.first)
    )
    return {oid for row in rows for oid in orjson.loads(row["oids"]) if job.first <= oid <= job.last}


def _count_compared(work: _Work, objects: Collection[int]) -> None:
    """For those who look at the progress."""
    with work.done.lock:
        work.done.compared += len(objects)
        work.store.set_setting(COMPARED_LARGE_OBJECTS, {"total": work.total, "done": work.done.compared})
