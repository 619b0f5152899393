"""Large objects that have changed since they were copied: no stream of changes carries them.

Reads all of the source's under one snapshot, some at a time, and those of the target that have the same numbers: their
digests, owners, grants and comments. Writes those that differ or are missing, and removes those that the copy of this
work directory has made and the source has no more. What somebody else has made on the target is never touched: where
the source has an object of the same number, that is a failure. Can be run again at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

import orjson

from pgcopydb.bootstrap.large_objects import (
    BATCH,
    BatchJob,
    LargeObjectSession,
    attributes,
    remember_copied,
    write_objects,
)
from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.snapshot import begin_under
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.workers import Failures
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.runtime.errors import TargetError
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

_LAST_OID: Final = (1 << 32) - 1

Rows = Mapping[int, Sequence[Any]]


@dataclass(slots=True)
class Changed:
    """How many objects."""

    written: int = 0
    removed: int = 0

    def __str__(self) -> str:
        return f"{self.written} large objects written that were new or had changed, {self.removed} removed"


def copy_changed(
    store: CatalogStore, source: Endpoint, target: Endpoint, options: RestoreOptions, failures: Failures, stop: Stop
) -> Changed:
    """Make the target's large objects what the source's are now."""
    done = Changed()
    with (
        source.connect_patiently("large objects", stop) as reader,
        target.connect_patiently("large objects", stop) as writer,
        stop.on_fast_stop(LargeObjectSession(reader, writer).cancel),
    ):
        with server_errors(Side.SOURCE, "reading large objects"):
            begin_under(reader, None)
        session = LargeObjectSession(reader, writer)
        for first, last in _ranges(reader):
            stop.check()
            _compare_range(store, session, BatchJob(0, first, last, BATCH), options, failures, stop, done)
    logger.info("%s", done)
    return done


def _ranges(source: Connection) -> Iterator[tuple[int, int]]:
    """All numbers, cut where the source has so many objects."""
    first = 1
    with server_errors(Side.SOURCE, "reading which large objects there are"):
        batches = source.execute(query("large_object_batches"), {"size": BATCH}).fetchall()
    for _, _, last, _ in batches[:-1]:
        yield first, last
        first = last + 1
    yield first, _LAST_OID


def _compare_range(
    store: CatalogStore,
    session: LargeObjectSession,
    job: BatchJob,
    options: RestoreOptions,
    failures: Failures,
    stop: Stop,
    done: Changed,
) -> None:
    wanted = _rows(session.source, Side.SOURCE, job)
    there = _rows(session.target, Side.TARGET, job)
    ours = _ours(store, job)
    digests, digests_there = (
        _digests(connection, side, wanted.keys() & there.keys())
        for connection, side in ((session.source, Side.SOURCE), (session.target, Side.TARGET))
    )
    differing = {
        oid
        for oid, row in wanted.items()
        if oid not in there
        or digests.get(oid) != digests_there.get(oid)
        or _shown(row, options) != _shown(there[oid], options)
    }
    strangers = set() if options.drop_if_exists else (differing & there.keys()) - ours
    for oid in sorted(strangers):
        failures.add(
            f"large object {oid}",
            TargetError(
                f"the target has a large object {oid} that this copy has not made, and it is not the source's",
                hint="Take it with --drop-if-exists, or give it another number on the target.",
            ),
        )
    written = sorted(differing - strangers)
    removed = sorted(ours.intersection(there).difference(wanted))
    if not written and not removed:
        return
    # Before they are there: an object that is ours on paper alone is never removed, but one that is not on it might be.
    remember_copied(store, written)
    _, refused = write_objects(session, [wanted[oid] for oid in written], removed, job, options, stop)
    for what, error in refused:
        failures.add(what, error)
    done.written += len(written)
    done.removed += len(removed)


def _rows(connection: Connection, side: Side, job: BatchJob) -> Rows:
    with server_errors(side, f"reading {job} of the {side}"):
        return {row[0]: row for row in connection.execute(query("large_objects"), (job.first, job.last)).fetchall()}


def _digests(connection: Connection, side: Side, oids: Collection[int]) -> dict[int, str]:
    if not oids:
        return {}
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
