"""The order of a clone's steps, which queue feeds which, and when the source is let go.

Reads both servers and the work directory; writes the target. What is true when ``run_clone`` returns: everything that
was asked for is on the target, durable there, and marked done in the store. It raises otherwise, and ``--resume``
continues from what is marked. Every step can be run twice: each one looks at its own marks.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, contextmanager, nullcontext
from dataclasses import replace
from typing import Final

from pgcopydb.bootstrap.activity import Activity
from pgcopydb.bootstrap.beside import ChangesBeside, tables_read_later
from pgcopydb.bootstrap.budget import Budget
from pgcopydb.bootstrap.catalog import fetch_catalog
from pgcopydb.bootstrap.changed_large_objects import copy_changed
from pgcopydb.bootstrap.copy_plan import plan_parts
from pgcopydb.bootstrap.copy_queue import Refused, Round, start_copy
from pgcopydb.bootstrap.copy_table import TableRewritten, mark_copied
from pgcopydb.bootstrap.extension_data import copy_extension_data
from pgcopydb.bootstrap.extensions import create_extensions
from pgcopydb.bootstrap.filtering import resolve, rules_of_run
from pgcopydb.bootstrap.foreign_keys import validate
from pgcopydb.bootstrap.index_queue import Ground, IndexQueue, build_settings
from pgcopydb.bootstrap.large_objects import copy_large_objects, remember_made
from pgcopydb.bootstrap.matviews import refresh_after_rows, refresh_matviews
from pgcopydb.bootstrap.options import EVERY_STEP, CloneOptions, Roles, Step
from pgcopydb.bootstrap.placement import Placement, placement_of
from pgcopydb.bootstrap.post_data import restore_post_data
from pgcopydb.bootstrap.pre_data import restore_pre_data
from pgcopydb.bootstrap.properties import apply_properties
from pgcopydb.bootstrap.roles import dump_roles, restore_roles
from pgcopydb.bootstrap.routes import Routes
from pgcopydb.bootstrap.run import Clone, begin_run, estimate_sizes, preflight, raise_failures
from pgcopydb.bootstrap.run_state import open_store, refuse_all_databases
from pgcopydb.bootstrap.schema_dump import dump_schema
from pgcopydb.bootstrap.sequences import reset_sequences
from pgcopydb.bootstrap.snapshot import HeldSnapshot, ReadUnder
from pgcopydb.bootstrap.snapshot_choice import needs_snapshot, take_another_snapshot, take_snapshot
from pgcopydb.bootstrap.summary import write_summary
from pgcopydb.bootstrap.target_tables import route_tables
from pgcopydb.bootstrap.vacuum import VacuumQueue
from pgcopydb.postgres.conninfo import ConnInfo
from pgcopydb.postgres.session_watch import watched
from pgcopydb.runtime.errors import PgcopydbError, SourceError, StateError, Stopped
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.logs import in_this_context
from pgcopydb.runtime.stop import Stop, StopMode
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

_ROUNDS: Final = 20
"""How often a table may be truncated again before it is read."""


def run_clone(
    source: ConnInfo,
    target: ConnInfo,
    workdir: WorkDir,
    options: CloneOptions,
    stop: Stop,
    *,
    changes: ChangesBeside | None = None,
    budget: Budget | None = None,
) -> None:
    """Copy one database. Raises ``PartialFailure`` when objects failed, ``Stopped`` on request.

    ``changes``: those of the source are kept beside the copy, and applied behind it. ``budget``: is shared with other
    databases of one run, which has found out already that nothing stands in the way of any.
    """
    workdir.create()
    whole = options.steps == EVERY_STEP
    if not whole:
        # Step by step in one work directory: each command goes on with what those before it left.
        options = replace(options, resume=not options.restart)
    options = replace(options, filters=rules_of_run(workdir, options.filters, resume=options.resume))
    with workdir.lock(), closing(open_store(workdir, options)) as store, ExitStack() as stack:
        refuse_all_databases(store, workdir)
        clone = begin_run(source, target, workdir, options, stop, store, changes, budget)
        clone = replace(
            clone,
            source=stack.enter_context(watched(clone.source)),
            target=stack.enter_context(watched(clone.target)),
        )
        if whole and store.step_done("summary"):
            logger.info("The earlier run was complete: nothing is left to do")
            return
        if options.changed_only:
            _changed_large_objects(clone)
            raise_failures(clone)
            return
        preflight(clone, passed=budget is not None)
        if changes is not None:
            resolve(workdir, clone.source, options.filters)
            clone = replace(clone, options=replace(options, snapshot=changes.begin() or options.snapshot))
        with Activity(store) as activity, _telling_why(clone), _ending_workers(stop):
            _copy_everything(clone, activity)
            raise_failures(clone)
            _finish(clone)
        raise_failures(clone)
        if whole:
            with store.step("summary"):
                write_summary(store, workdir)


@contextmanager
def _ending_workers(stop: Stop) -> Iterator[None]:
    """Workers that wait for jobs do not outlive an error of the thread that would have brought them."""
    try:
        yield
    except BaseException:
        stop.request(StopMode.FAST)
        raise


@contextmanager
def _telling_why(clone: Clone) -> Iterator[None]:
    """A stop that this run requested because of an error ends with that error."""
    try:
        yield
    except Stopped:
        if clone.failures.ended_by is not None:
            raise_failures(clone)
        raise


def _copy_everything(clone: Clone, activity: Activity) -> None:
    """From the snapshot to the last index: the part that runs in parallel."""
    with ExitStack() as stack:
        held: HeldSnapshot | None = None
        if needs_snapshot(clone.store, clone.options.steps):
            estimate_sizes(clone)
            held = take_snapshot(
                clone.store, clone.source, clone.workdir, clone.options, _on_snapshot_lost(clone), clone.changes
            )
            stack.callback(held.release)
            if clone.changes is not None:
                clone.changes.snapshot_taken()
            _read_source(clone, held.under.id)
        clone.stop.check()
        if Step.PRE_DATA in clone.options.steps:
            _copy_roles(clone)
            restore_pre_data(clone.store, clone.workdir, clone.target, clone.tools, clone.options.restore, clone.stop)
        clone.stop.check()
        if Step.EXTENSIONS in clone.options.steps:
            create_extensions(clone.store, clone.target, clone.options.restore, clone.stop)
        _copy_data(clone, held, activity)


def _copy_roles(clone: Clone) -> None:
    if clone.options.roles is Roles.NO or clone.store.step_done("roles"):
        return
    with clone.store.step("roles"):
        dump_roles(clone.source, clone.workdir, passwords=clone.options.roles is Roles.WITH_PASSWORDS)
        restore_roles(clone.target, clone.workdir)


def _on_snapshot_lost(clone: Clone) -> Callable[[SourceError], None]:
    return lambda error: clone.failures.abort("snapshot", error)


def _read_source(clone: Clone, snapshot: str) -> None:
    fetch_catalog(clone.store, clone.workdir, clone.source, snapshot, clone.options)
    plan_parts(clone.store, clone.source, snapshot, clone.options.split, standby=clone.source_facts.in_recovery)
    if Step.DUMP in clone.options.steps:
        dump_schema(clone.store, clone.workdir, clone.source, clone.tools, snapshot, clone.stop)


def _copy_data(clone: Clone, held: HeldSnapshot | None, activity: Activity) -> None:
    """Tables, large objects and extension data side by side; each table's indexes and statistics as it is in."""
    routes = _routes(clone)
    vacuum = _vacuum_queue(clone, routes, activity)
    indexes = _index_queue(clone, routes, activity, vacuum)
    _take_up(clone, indexes, vacuum)
    if held is not None:
        rewritten = _read_rows(clone, held, routes, indexes, activity)
        held.release()
        _read_rewritten(clone, rewritten, indexes, activity)
        failpoint("snapshot.after_release")
        logger.info("All rows are read, the source's snapshot is released")
    indexes.drain()
    if vacuum is not None:
        vacuum.drain()


def _routes(clone: Clone) -> Routes:
    """Whose schema was restored by this run has tables that are like the source's."""
    steps = clone.options.steps
    if Step.PRE_DATA in steps or not steps & {Step.TABLE_DATA, Step.INDEXES, Step.CONSTRAINTS, Step.VACUUM}:
        return Routes()
    return route_tables(
        clone.store, clone.source, clone.target, clone.options.copy_format, with_rows=Step.TABLE_DATA in steps
    )


def _vacuum_queue(clone: Clone, routes: Routes, activity: Activity) -> VacuumQueue | None:
    if clone.options.skip.vacuum or Step.VACUUM not in clone.options.steps:
        return None
    return VacuumQueue(
        clone.store,
        clone.target,
        slots=clone.budget.vacuum,
        routes=routes,
        activity=activity,
        failures=clone.failures,
        stop=clone.stop,
    )


def _index_queue(clone: Clone, routes: Routes, activity: Activity, vacuum: VacuumQueue | None) -> IndexQueue:
    with clone.target.connect("settings") as connection:
        settings = build_settings(connection, clone.options.jobs.indexes)
        makes_some = bool(clone.options.steps & {Step.INDEXES, Step.CONSTRAINTS})
        placement = placement_of(clone.store, connection, clone.options.restore) if makes_some else Placement()
        ground = Ground(settings, placement, routes)
    return IndexQueue(
        clone.store,
        clone.target,
        options=clone.options,
        ground=ground,
        activity=activity,
        on_indexed=vacuum.add_table if vacuum is not None else lambda _oid: None,
        failures=clone.failures,
        stop=clone.stop,
        slots=clone.budget.indexes,
    )


def _read_rows(
    clone: Clone, held: HeldSnapshot, routes: Routes, indexes: IndexQueue, activity: Activity
) -> Sequence[TableRewritten]:
    with ThreadPoolExecutor(max_workers=2, thread_name_prefix="side") as side:
        beside: dict[Step, Callable[[], None]] = {
            Step.LARGE_OBJECTS: lambda: _large_objects(clone, held.under.id),
            Step.EXTENSION_DATA: lambda: _extension_data(clone, held.under),
        }
        futures = [
            side.submit(in_this_context(_guarded), clone, str(step), act)
            for step, act in beside.items()
            if step in clone.options.steps
        ]
        rewritten: Sequence[TableRewritten] = ()
        if Step.TABLE_DATA in clone.options.steps:
            again = clone.changes is not None
            rewritten = _read_tables(clone, held.under, routes, indexes, activity, again=again)
        for future in futures:
            future.result()
    return rewritten


def _read_tables(
    clone: Clone, snapshot: ReadUnder, routes: Routes, indexes: IndexQueue, activity: Activity, *, again: bool
) -> Sequence[TableRewritten]:
    """Those that this snapshot could not read; failures, unless they are tried ``again``.

    What a constraint refuses is tried again when the other tables are in, as long as that helps.
    """
    rewritten: list[TableRewritten] = []
    tried: Sequence[Refused] = ()
    while True:
        this = Round(clone.budget.tables, tried, rewritten=rewritten if again else None, routes=routes)
        start_copy(
            clone.store,
            clone.source,
            clone.target,
            snapshot,
            options=clone.options,
            activity=activity,
            on_copied=indexes.add_table,
            this=this,
            failures=clone.failures,
            stop=clone.stop,
        ).drain()
        refused = this.refused
        if not refused or clone.stop.mode is not StopMode.RUN:
            return rewritten
        if len(refused) == len(tried):
            for each in refused:
                clone.failures.add(str(each.job), each.error)
            return rewritten
        tried = refused
        logger.info(
            "%d tables or parts of them are tried again now that the others are in, the first because: %s",
            len(refused),
            refused[0].error,
        )


def _read_rewritten(clone: Clone, rewritten: Sequence[TableRewritten], indexes: IndexQueue, activity: Activity) -> None:
    """Tables that were truncated or rewritten before their turn, as they are by now."""
    for left in reversed(range(_ROUNDS)):
        if not rewritten or clone.changes is None or clone.stop.mode:
            return
        logger.info(
            "%d tables or parts of them are read once more, the first because: %s", len(rewritten), rewritten[0]
        )
        held = take_another_snapshot(clone.store, clone.source, _on_snapshot_lost(clone), clone.changes)
        try:
            # Changes come with a schema of this run: each table has its place.
            rewritten = _read_tables(clone, held.under, Routes(), indexes, activity, again=left > 0)
        finally:
            held.release()


def _guarded(clone: Clone, what: str, act: Callable[[], None]) -> None:
    try:
        act()
    except PgcopydbError as error:
        if clone.stop.mode is StopMode.RUN:
            clone.failures.add(what, error)


def _changed_large_objects(clone: Clone) -> None:
    """As they are now: under no snapshot of a run that may have begun days ago."""
    if not clone.store.step_done("large_objects"):
        raise StateError(
            "large objects were not copied yet in this work directory",
            hint="`pgcopydb copy blobs` of the same --dir copies all of them first.",
        )
    remember_made(clone.store, clone.options.restore)
    copy_changed(
        clone.store,
        clone.source,
        clone.target,
        clone.options.jobs.large_objects,
        clone.options.restore,
        clone.failures,
        clone.stop,
    )


def _large_objects(clone: Clone, snapshot: str) -> None:
    options = clone.options
    if options.skip.large_objects:
        with clone.store.step("large_objects"):
            remember_made(clone.store, None)
            return
    remember_made(clone.store, options.restore)
    copy_large_objects(
        clone.store,
        clone.source,
        clone.target,
        snapshot,
        options.jobs.large_objects,
        options.restore,
        clone.failures,
        clone.stop,
        clone.budget.large_objects,
    )


def _extension_data(clone: Clone, snapshot: ReadUnder) -> None:
    copy_extension_data(clone.store, clone.source, clone.target, snapshot, clone.options.restore, clone.stop)


def _take_up(clone: Clone, indexes: IndexQueue, vacuum: VacuumQueue | None) -> None:
    """Queue tables that an interrupted run copied or indexed and did not take further."""
    for row in clone.store.rows("SELECT oid FROM copied_table WHERE copied IS NULL"):
        mark_copied(clone.store, row["oid"])
    # Rows that this run is not to bring may have come another way.
    ready = "copied IS NOT NULL" if Step.TABLE_DATA in clone.options.steps else "true"
    for row in clone.store.rows(f"SELECT oid FROM copied_table WHERE {ready} AND indexed IS NULL"):  # noqa: S608
        indexes.add_table(row["oid"])
    if vacuum is not None:
        for row in clone.store.rows("SELECT oid FROM copied_table WHERE indexed IS NOT NULL AND vacuumed IS NULL"):
            vacuum.add_table(row["oid"])


def _finish(clone: Clone) -> None:
    """What needs all data: sequences, foreign keys and the rest of post-data, settings, materialized views."""
    steps = clone.options.steps
    if Step.SEQUENCES in steps:
        reset_sequences(clone.store, clone.source, clone.target, clone.stop, again=steps != EVERY_STEP)
        clone.stop.check()
    if Step.POST_DATA in steps:
        _restore_post_data(clone)
        clone.stop.check()
        if clone.changes is None:
            jobs = clone.options.jobs.restore
            validate(clone.store, clone.target, jobs, clone.failures, clone.stop, clone.budget.restore)
            clone.stop.check()
    if Step.PROPERTIES in steps and not clone.options.skip.db_properties:
        apply_properties(clone.store, clone.target, clone.options.restore, clone.stop)
    if Step.MATVIEWS in steps:
        refresh = refresh_matviews if steps == EVERY_STEP or Step.POST_DATA in steps else refresh_after_rows
        jobs = clone.options.jobs.tables
        refresh(clone.store, clone.target, jobs, clone.failures, clone.stop, clone.budget.matviews)
        clone.stop.check()


def _restore_post_data(clone: Clone) -> None:
    """Foreign keys hold between tables that show one moment."""
    # A table whose mark is lost would be emptied again, and foreign keys may take rows of others with its own.
    clone.store.make_durable()
    later = tables_read_later(clone.store)
    beside = clone.changes if later and not clone.store.step_done("post_data") else None
    slots = clone.budget.restore
    with nullcontext() if beside is None else beside.caught_up(later), slots.taken(clone.stop, slots.total):
        for problem in restore_post_data(
            clone.store,
            clone.workdir,
            clone.target,
            clone.tools,
            clone.options.restore,
            clone.options.jobs.restore,
            clone.stop,
        ):
            clone.failures.add("post-data", PgcopydbError(problem))
