"""All databases of a server in one run: each is cloned as it would be alone, some at a time, within one budget.

Reads and writes both servers through ``run_clone``, which has a work directory for each database (``db/<name>``) with
its own snapshot and catalog. The catalog of the top directory knows the set, which of it this run makes on the target,
and what is complete. What is true when ``clone_databases`` returns: every database of the set is complete, and where
changes are followed at the end position. It raises ``PartialFailure`` when some are not, the others having been done,
and ``--resume`` goes on with these.

A thread for each database that is being copied or followed, in one process: slots of the budget die with it, a stop
reaches all, and one catalog has one writer. One that is followed gives its turn to the next when its copy is complete.
"""

from __future__ import annotations

import itertools
import logging
from collections.abc import Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing, nullcontext
from dataclasses import dataclass, replace
from typing import Final

from pgcopydb.bootstrap.all_reports import opened, write_summary_of_all
from pgcopydb.bootstrap.beside import ChangesOfAll
from pgcopydb.bootstrap.budget import Budget, Slots
from pgcopydb.bootstrap.databases import (
    SourceDatabase,
    choose,
    finish_database,
    is_there,
    make_database,
    read_databases,
)
from pgcopydb.bootstrap.findings import Finding, Severity
from pgcopydb.bootstrap.options import CloneOptions, Roles
from pgcopydb.bootstrap.pipeline import run_clone
from pgcopydb.bootstrap.preflight_databases import Plan, check_databases
from pgcopydb.bootstrap.roles import dump_roles, restore_roles
from pgcopydb.bootstrap.run import log_finding
from pgcopydb.bootstrap.run_state import (
    all_databases,
    check_identity,
    database_step,
    end_leftovers,
    open_store,
    remember_databases,
    remembered,
)
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.workers import Failures
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.server import ServerFacts, inspect_server
from pgcopydb.runtime.errors import PartialFailure, PgcopydbError, PreflightFailed, StateError, Stopped, TargetError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.logs import in_this_context, speaking_of
from pgcopydb.runtime.policy import POLICY, trouble_of
from pgcopydb.runtime.stop import Stop, StopMode
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

_EXCLUDED: Final = "excluded"
_BEGUN: Final = "database_begun"
_DUPLICATE_DATABASE: Final = "42P04"
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class _Run:
    """``source`` and ``target``: any database of each server."""

    source: Endpoint
    target: Endpoint
    workdir: WorkDir
    options: CloneOptions
    stop: Stop
    store: CatalogStore
    budget: Budget
    turns: Slots
    failures: Failures
    changes: ChangesOfAll | None


def clone_databases(
    source: ConnInfo,
    target: ConnInfo,
    workdir: WorkDir,
    options: CloneOptions,
    excluded: Collection[str],
    stop: Stop,
    *,
    changes: ChangesOfAll | None = None,
) -> None:
    """Copy all but the ``excluded``. Both connection strings name any database of their server.

    ``changes``: those of each database are kept beside its copy, and applied behind it until the end position.
    """
    workdir.create()
    with workdir.lock(), closing(open_store(workdir, options)) as store:
        if store.step_done("preflight") and all_databases(store) is None:
            raise StateError(
                f"the work directory {workdir.top} holds a run of one database",
                hint="Go on with it without --all-databases, discard it with --restart, or choose another --dir.",
            )
        run_id = store.setting("run_id")
        run = _Run(
            source=Endpoint(source, run_id),
            target=Endpoint(target, run_id),
            workdir=workdir,
            options=options,
            stop=stop,
            store=store,
            budget=Budget.of(options.jobs),
            turns=Slots(options.at_once),
            failures=Failures(stop, fail_fast=options.fail_fast),
            changes=changes,
        )
        _begin(run)
        databases = _plan(run, excluded)
        _copy_roles(run)
        _copy(run, databases)
        _raise_failures(run, [name for name, _ in databases])
        if not store.step_done("summary"):
            with store.step("summary"):
                write_summary_of_all(store, workdir)
        logger.info("All %d databases are complete", len(databases))


def _begin(run: _Run) -> None:
    facts: dict[Side, ServerFacts] = {}
    for endpoint in (run.source, run.target):
        with endpoint.connect("begin") as connection:
            # Which of its databases is named says nothing of the server.
            facts[endpoint.side] = replace(inspect_server(connection, endpoint.side), dbname="")
            end_leftovers(connection, endpoint, run.stop)
    check_identity(run.store, facts, None)
    jobs = run.options.jobs
    run.store.set_setting("jobs", {"tables": jobs.tables, "indexes": jobs.indexes, "large_objects": jobs.large_objects})


def _plan(run: _Run, excluded: Collection[str]) -> list[tuple[str, SourceDatabase | None]]:
    """Names of what is to be copied, the largest first, and what has to be made on the target before."""
    noted = all_databases(run.store)
    if noted is None:
        with run.store.step("preflight"):
            run.store.set_setting(_EXCLUDED, sorted(set(excluded)))
            plan = _checked(run, excluded)
            noted = [
                {"name": each.name, "bytes": each.bytes, "made": each.row() if each.name in plan.made else None}
                for each in plan.databases
            ]
            remember_databases(run.store, noted)
    else:
        remembered(run.store, _EXCLUDED, sorted(set(excluded)) or None, "--exclude-database")
        _tell_of_new(run, {row["name"] for row in noted})
    failpoint("databases.after_plan")
    return [(row["name"], SourceDatabase(**row["made"]) if row["made"] else None) for row in noted]


def _checked(run: _Run, excluded: Collection[str]) -> Plan:
    plan, findings = check_databases(run.source, run.target, run.workdir, run.options, excluded)
    for finding in findings:
        log_finding(finding)
    errors = [finding for finding in findings if finding.severity is Severity.ERROR]
    if errors:
        raise _preflight_failed(errors)
    made = len(plan.made)
    logger.info("Copying %d databases, %d of them are made on the target", len(plan.databases), made)
    return plan


def _preflight_failed(errors: Sequence[Finding]) -> PreflightFailed:
    return PreflightFailed(
        f"preflight found {len(errors)} problem(s), first: {errors[0].subject}: {errors[0].message}",
        hint="`pgcopydb check --all-databases` shows all of them, each with what mends it; nothing was changed.",
    )


def _tell_of_new(run: _Run, names: Collection[str]) -> None:
    excluded = run.store.setting(_EXCLUDED)
    with run.source.connect("databases") as connection:
        chosen, _ = choose(read_databases(connection), excluded)
    for each in chosen:
        if each.name not in names:
            logger.warning("database %s was made on the source since this run began: it is not copied", each.name)


def _copy_roles(run: _Run) -> None:
    roles = run.options.roles
    if roles is not Roles.NO and not run.store.step_done("roles"):
        with run.store.step("roles"):
            dump_roles(run.source, run.workdir, passwords=roles is Roles.WITH_PASSWORDS)
            restore_roles(run.target, run.workdir)
    failpoint("databases.after_roles")


def _copy(run: _Run, databases: Sequence[tuple[str, SourceDatabase | None]]) -> None:
    """Some at a time, in their order. An error that is no ``PgcopydbError`` is a defect: it ends the others, and is
    raised here."""
    left = [(name, made) for name, made in databases if not run.store.step_done(database_step(name))]
    if not left:
        logger.info("The earlier run was complete: nothing is left to do")
        return
    at_once = run.options.at_once
    if run.changes is not None:
        run.changes.expect([name for name, _ in left])
        at_once = len(left)
    with ThreadPoolExecutor(max_workers=at_once, thread_name_prefix="database") as pool:
        futures = [pool.submit(in_this_context(_copy_one), run, name, made) for name, made in left]
        for future in futures:
            future.result()


def _copy_one(run: _Run, name: str, made: SourceDatabase | None) -> None:
    """The slot of one that is followed keeps WAL while the others go on: what may help by itself is tried again."""
    for attempt in itertools.count():
        error = _attempt(run, name, made)
        if error is None:
            return
        again = POLICY[trouble_of(error)] if run.changes is not None else None
        if again is None or run.failures.ended_by is not None:
            run.failures.add(f"database {name}", error)
            return
        pause = again.pause(attempt)
        logger.warning("%s: it is tried again in %.1f s, because: %s", name, pause, error)
        if run.stop.wait(pause):
            return


def _attempt(run: _Run, name: str, made: SourceDatabase | None) -> PgcopydbError | None:
    """Why a database is not complete, unless that was a stop."""
    if run.stop.mode is not StopMode.RUN:
        return None
    try:
        with speaking_of(name), run.stop.part() as stop, ExitStack() as turn:
            if not _is_followed(run, name):
                turn.enter_context(run.turns.taken(stop))
            with run.store.step(database_step(name)):
                _clone(run, name, made, stop, turn)
        failpoint("databases.after_mark")
    except Stopped as stopped:
        # Its own errors end a part otherwise: this one was told to.
        logger.debug("%s: %s", name, stopped)
    except PgcopydbError as error:
        return error
    except BaseException:
        run.stop.request(StopMode.FAST)
        raise
    return None


def _is_followed(run: _Run, name: str) -> bool:
    """What is copied waits for no turn: its slot keeps WAL until its changes are applied."""
    if run.changes is None:
        return False
    with opened(run.workdir.database(name)) as store:
        return store is not None and store.step_done("summary")


def _clone(run: _Run, name: str, made: SourceDatabase | None, stop: Stop, turn: ExitStack) -> None:
    """``turn`` is given back when the copy is complete."""
    if made is not None:
        with run.target.connect_patiently("databases", stop) as connection:
            _make(run, connection, made)
    workdir = run.workdir.database(name)
    # One whose turn had not come when the run was interrupted begins afresh.
    resume = (run.options.resume or run.changes is not None) and workdir.exists()
    options = replace(run.options, roles=Roles.NO, resume=resume, restart=False)
    source, target = (endpoint.info.of_database(name) for endpoint in (run.source, run.target))
    changes = None if run.changes is None else run.changes.of(name, stop)
    with nullcontext() if changes is None else changes.running():
        run_clone(source, target, workdir, options, stop, changes=changes, budget=run.budget)
        failpoint("databases.after_copy")
        turn.close()
        if changes is not None:
            changes.finish()
            failpoint("databases.after_follow")
    if made is not None:
        with run.target.connect_patiently("databases", stop) as connection:
            finish_database(connection, made, run.options.restore)


def _make(run: _Run, target: Connection, database: SourceDatabase) -> None:
    """Unless this run has begun to before it was interrupted, and it is there."""
    begun = f"{_BEGUN} {database.name}"
    if run.store.setting(begun):
        with server_errors(Side.TARGET, f"looking for database {database.name}"):
            if is_there(target, database.name):
                return
    run.store.set_setting(begun, value=True)
    try:
        make_database(target, database, run.options.restore)
    except TargetError as error:
        if error.sqlstate != _DUPLICATE_DATABASE:
            raise
        run.store.set_setting(begun, value=False)
        raise TargetError(
            f"database {database.name} was made on the target by somebody else since this run began",
            hint="Drop or rename it there and run again with --resume.",
            sqlstate=error.sqlstate,
        ) from error


def _raise_failures(run: _Run, names: Sequence[str]) -> None:
    failures, ended_by = run.failures.all, run.failures.ended_by
    incomplete = [name for name in names if not run.store.step_done(database_step(name))]
    if failures:
        ending = f", the run ended early because of {ended_by.what}" if ended_by is not None else ""
        more = f" and {len(incomplete) - _SHOWN} more" if len(incomplete) > _SHOWN else ""
        raise PartialFailure(
            f"{len(incomplete)} of {len(names)} databases are not complete: {', '.join(incomplete[:_SHOWN])}{more}"
            f"{ending}",
            hint="Mend the causes shown above and run again with --resume: what is done is kept.",
            causes=[failure.error for failure in failures],
        )
    run.stop.check()
    if incomplete:
        raise StateError(f"{len(incomplete)} databases are not complete, and nothing says why: {incomplete[0]}")
