"""Steps that need one server only: dump the schema of the source, restore it on the target.

They leave in the work directory what a whole clone leaves there, and go by what earlier commands left: a copy of the
same work directory goes on with it.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import replace

from pgcopydb.bootstrap.catalog import fetch_catalog
from pgcopydb.bootstrap.copy_plan import plan_parts
from pgcopydb.bootstrap.filtering import rules_of_run
from pgcopydb.bootstrap.foreign_keys import validate
from pgcopydb.bootstrap.matviews import refresh_matviews
from pgcopydb.bootstrap.options import CloneOptions, Step
from pgcopydb.bootstrap.post_data import restore_post_data
from pgcopydb.bootstrap.pre_data import restore_pre_data
from pgcopydb.bootstrap.properties import apply_properties
from pgcopydb.bootstrap.run_state import check_identity, end_leftovers, open_store, remember_version, source_version
from pgcopydb.bootstrap.schema_dump import dump_schema
from pgcopydb.bootstrap.snapshot_choice import needs_snapshot, take_snapshot
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.workers import Failures
from pgcopydb.postgres.binaries import choose, discover
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.server import ServerFacts, inspect_server
from pgcopydb.runtime.errors import PartialFailure, SourceError, StateError, TargetError
from pgcopydb.runtime.stop import Stop, StopMode
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

_FAILED = 5


def dump_one(source: ConnInfo, workdir: WorkDir, options: CloneOptions, stop: Stop) -> None:
    """``dump schema``: the catalog and pg_dump's archive, under one snapshot."""
    workdir.create()
    options = replace(options, resume=not options.restart, steps=frozenset({Step.DUMP}))
    options = replace(options, filters=rules_of_run(workdir, options.filters, resume=options.resume))
    with workdir.lock(), closing(open_store(workdir, options)) as store:
        endpoint, facts = _begin(store, source, options, stop)
        remember_version(store, facts)
        with store.step("preflight"):
            pass
        if not needs_snapshot(store, options.steps):
            logger.info("The schema was dumped by an earlier run: %s", workdir.schema_dump)
            return
        tools = choose(discover(needs_tls=facts.tls), facts.version, facts.version, needs_tls=facts.tls)

        def on_lost(_error: SourceError) -> None:
            stop.request(StopMode.FAST)

        held = take_snapshot(store, endpoint, workdir, options, on_lost)
        try:
            fetch_catalog(store, workdir, endpoint, held.under.id, options)
            plan_parts(store, endpoint, held.under.id, options.split, standby=facts.in_recovery)
            dump_schema(store, workdir, endpoint, tools, held.under.id, stop)
        finally:
            held.release()


def restore_sections(
    target: ConnInfo, workdir: WorkDir, options: CloneOptions, steps: Sequence[Step], stop: Stop
) -> None:
    """``restore schema``, ``restore pre-data``, ``restore post-data``: what of these was not restored before.

    With post-data come the settings of the database, and materialized views are refreshed. Raises ``PartialFailure``
    when objects of post-data could not be made, or views not be refreshed.
    """
    if not workdir.exists():
        raise _nothing_dumped(workdir)
    with workdir.lock(), closing(CatalogStore.create(workdir.catalog)) as store:
        if not store.step_done("dump"):
            raise _nothing_dumped(workdir)
        endpoint, facts = _begin(store, target, options, stop)
        tools = choose(discover(needs_tls=facts.tls), source_version(store), facts.version, needs_tls=facts.tls)
        if Step.PRE_DATA in steps:
            restore_pre_data(store, workdir, endpoint, tools, options.restore, stop)
        if Step.POST_DATA not in steps:
            return
        if not store.step_done("pre_data"):
            raise StateError(
                f"pre-data of {workdir.top} is not restored yet", hint="`pgcopydb restore pre-data` comes first."
            )
        jobs = options.jobs.restore
        problems = restore_post_data(store, workdir, endpoint, tools, options.restore, jobs, stop)
        for problem in problems[:_FAILED]:
            logger.error("post-data: %s", problem)
        if not options.skip.db_properties:
            apply_properties(store, endpoint, options.restore, stop)
        failures = Failures(stop, fail_fast=False)
        validate(store, endpoint, jobs, failures, stop)
        refresh_matviews(store, endpoint, jobs, failures, stop)
        stop.check()
        problems += [f"{failure.what}: {failure.error}" for failure in failures.all]
    if problems:
        raise PartialFailure(
            f"{len(problems)} objects of post-data could not be restored, the first: {problems[0]}",
            hint="Mend the causes and run the same command again: what is done is kept.",
            causes=[TargetError(problem) for problem in problems],
        )


def _begin(store: CatalogStore, info: ConnInfo, options: CloneOptions, stop: Stop) -> tuple[Endpoint, ServerFacts]:
    endpoint = Endpoint(info, store.setting("run_id"))
    with endpoint.connect("begin") as connection:
        facts = inspect_server(connection, endpoint.side)
        logger.info("%s: %s", endpoint.side.capitalize(), facts)
        end_leftovers(connection, endpoint, stop)
    # How tables are divided is nothing that a restore says.
    check_identity(store, {endpoint.side: facts}, options if endpoint.side is Side.SOURCE else None)
    return endpoint, facts


def _nothing_dumped(workdir: WorkDir) -> StateError:
    return StateError(
        f"the work directory {workdir.top} has no schema dump",
        hint="`pgcopydb dump schema` of the same --dir makes it.",
    )
