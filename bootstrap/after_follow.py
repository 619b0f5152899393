"""What a stream of changes does not carry, once everything up to the end position is applied: sequences, views, large
objects, and that a table is not the one any more that was copied.

Reads the source, writes the target. Sequences get the values that the source's have now, unless somebody has used them
on the target and got further; materialized views that were refreshed on the source since the copy are refreshed; large
objects become what they are on the source now. Can be run again at any time.
"""

from __future__ import annotations

import logging
from collections.abc import Collection
from contextlib import ExitStack, closing
from dataclasses import replace
from typing import Final

from pgcopydb.bootstrap.changed_large_objects import copy_changed
from pgcopydb.bootstrap.filtering import relations_left_out
from pgcopydb.bootstrap.large_objects import AttributeRefused, made
from pgcopydb.bootstrap.matviews import mark_refreshed, refresh_matviews
from pgcopydb.bootstrap.options import Jobs, RestoreOptions
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.run_state import end_leftovers
from pgcopydb.bootstrap.sequences import copy_sequences, remember_set, sequences_there, values_set
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.workers import Failures
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import Name
from pgcopydb.postgres.selection import load_selection
from pgcopydb.runtime.errors import PartialFailure, PgcopydbError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

_TABLES: Final = (
    "SELECT n.nspname, c.relname, c.oid::bigint FROM pg_catalog.pg_class c"
    " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind IN ('r', 'p')"
)
_SHOWN: Final = 10
_FINISHED_AT: Final = "large_objects_finished_at"
_NO_RIGHT: Final = "42501"


def check_tables(source: Endpoint, target: Endpoint, workdir: WorkDir, stop: Stop) -> None:
    """Raises ``PartialFailure`` when the source has another table under the name of one that was copied.

    What such a statement has done to rows is not among the changes, whoever made it on both sides.
    """
    if not workdir.exists():
        return
    with closing(CatalogStore.read(workdir.catalog)) as store:
        copied = {Name(row["schema"], row["name"]): int(row["oid"]) for row in store.rows("SELECT * FROM copied_table")}
    there, left = _tables(source, stop), _tables(target, stop)
    for name in sorted(set(left).intersection(copied).difference(there)):
        logger.warning("table %s is not on the source any more; the target still has it", name)
    others = sorted(str(name) for name, oid in copied.items() if there.get(name, oid) != oid)
    if others:
        more = f" and {len(others) - _SHOWN} more" if len(others) > _SHOWN else ""
        raise PartialFailure(
            "everything is applied, but tables were made anew or renamed on the source since they were copied: "
            f"{', '.join(others[:_SHOWN])}{more}",
            hint="Compare them with `pgcopydb compare data`, and copy again those that differ.",
        )


def _tables(endpoint: Endpoint, stop: Stop) -> dict[Name, int]:
    what = f"reading which tables the {endpoint.side} has"
    with endpoint.connect_patiently("tables", stop) as connection, server_errors(endpoint.side, what):
        return {Name(row[0], row[1]): int(row[2]) for row in connection.execute(_TABLES.encode())}


def finish_views(source: Endpoint, target: Endpoint, workdir: WorkDir, stop: Stop) -> None:
    """Refresh what the source has refreshed since the copy; what that was is in the catalog of the copy."""
    if not workdir.exists():
        logger.info("No copy was made in this work directory: materialized views are left as they are")
        return
    with workdir.lock(), closing(CatalogStore.create(workdir.catalog)) as store:
        with source.connect_patiently("matviews", stop) as reader:
            mark_refreshed(reader, store)
        failures = Failures(stop, fail_fast=False)
        refresh_matviews(store, target, 1, failures, stop)
        if failures.all:
            raise PartialFailure(
                f"{len(failures.all)} materialized views could not be refreshed, the first was {failures.all[0].what}",
                causes=[failure.error for failure in failures.all],
            )


def finish_sequences(source: Endpoint, target: Endpoint, workdir: WorkDir, stop: Stop) -> int:
    """Set the sequences of the target to the source's values; how many."""
    failpoint("follow.before_sequences")
    with ExitStack() as stack:
        store: CatalogStore | None = None
        if workdir.exists():
            stack.enter_context(workdir.lock())
            store = stack.enter_context(closing(CatalogStore.create(workdir.catalog)))
        reader = stack.enter_context(source.connect_patiently("sequences", stop))
        writer = stack.enter_context(target.connect_patiently("sequences", stop))
        before = values_set(store) if store is not None else {}
        left_out = relations_left_out(store) if store is not None else set()
        names = _on_both(reader, writer, load_selection(workdir).schemas, left_out)
        done = [*copy_sequences(reader, writer, names, stop, before)]
        if store is not None:
            remember_set(store, done)
    logger.info("Set %d sequences to their current values on the source", len(done))
    return len(done)


def warn_of_large_objects(source: Endpoint, workdir: WorkDir, *, skip: bool) -> None:
    """Logical decoding does not see them: said long before the end, unless the source is away."""
    try:
        with source.connect("large objects") as connection:
            count = _count_large_objects(connection)
    except PgcopydbError as error:
        logger.debug("not saying how many large objects there are: %s", error)
        return
    if count and not skip and _made_here(workdir):
        logger.warning(
            "The source has %d large objects, whose changes are not followed: those that are new, have changed or are"
            " gone are copied when the end position is reached",
            count,
        )
    elif count:
        _warn_of_unfollowed(count)


def finish_large_objects(
    source: Endpoint, target: Endpoint, workdir: WorkDir, stop: Stop, *, endpos: Lsn, skip: bool
) -> None:
    """Copy what has changed of the large objects that were copied in this work directory, as it is on the source now.

    Once for an end position: by the next time somebody may have written to the target. What this role has no right to,
    and owners and grants that the target refuses, is a warning. Raises ``PartialFailure`` for the rest.
    """
    if skip or not _made_here(workdir):
        with source.connect_patiently("large objects", stop) as connection:
            count = _count_large_objects(connection)
        if count:
            _warn_of_unfollowed(count)
        return
    failures = Failures(stop, fail_fast=False, level=logging.WARNING)
    with workdir.lock(), closing(CatalogStore.create(workdir.catalog)) as store:
        if store.setting(_FINISHED_AT) == str(endpos):
            logger.info("Large objects were copied at this end position before: they are left as they are")
            return
        # As the copy's own sessions: those that a killed process has left are ended, by it as by this.
        reader, writer = (replace(each, run_id=store.setting("run_id")) for each in (source, target))
        for each in (reader, writer):
            with each.connect_patiently("begin", stop) as connection:
                end_leftovers(connection, each, stop)
        jobs = (store.setting("jobs") or {}).get("large_objects", Jobs().large_objects)
        copy_changed(store, reader, writer, jobs, made(store) or RestoreOptions(), failures, stop)
        if failures.ended_by is not None:
            raise failures.ended_by.error
        stop.check()
        _raise_serious(failures)
        store.set_setting(_FINISHED_AT, str(endpos))
        store.make_durable()


def _raise_serious(failures: Failures) -> None:
    if failures.all:
        logger.warning(
            "%d large objects are not what they are on the source, the first is %s: when the causes above are mended,"
            " `pgcopydb copy blobs --changed` of the same --dir copies them",
            len({failure.what for failure in failures.all}),
            failures.all[0].what,
        )
    serious = [failure for failure in failures.all if not is_refusal(failure.error)]
    if serious:
        raise PartialFailure(
            f"everything is applied, but {len(serious)} large objects could not be copied,"
            f" the first was {serious[0].what}",
            hint="When the cause is mended, run `follow` of the same --dir again.",
            causes=[failure.error for failure in serious],
        )


def is_refusal(error: PgcopydbError) -> bool:
    """Whether a right, or a role that is to own something, is missing. Pure."""
    return isinstance(error, AttributeRefused) or error.sqlstate == _NO_RIGHT


def _made_here(workdir: WorkDir) -> bool:
    if not workdir.exists():
        return False
    with closing(CatalogStore.read(workdir.catalog)) as store:
        return made(store) is not None


def _count_large_objects(connection: Connection) -> int:
    with server_errors(Side.SOURCE, "counting large objects"):
        row = connection.execute("SELECT count(*) FROM pg_catalog.pg_largeobject_metadata").fetchone()
    return row[0] if row is not None else 0


def _warn_of_unfollowed(count: int) -> None:
    logger.warning(
        "The source has %d large objects, whose changes are not followed: `pgcopydb copy blobs --changed` of the "
        "same --dir copies those that are new or have changed",
        count,
    )


def _on_both(reader: Connection, writer: Connection, schemas: Collection[str], left_out: set[int]) -> list[Name]:
    """Sequences; one that filters left out is somebody else's where there is one of its name."""
    with server_errors(Side.SOURCE, "reading which sequences there are"):
        rows = reader.execute(query("sequences")).fetchall()
    names = [Name(row[1], row[2]) for row in rows if row[0] not in left_out and row[1] not in schemas]
    there = sequences_there(writer)
    for name in names:
        if name not in there:
            logger.warning("sequence %s is not on the target; it was made on the source since the copy", name)
    return [name for name in names if name in there]
