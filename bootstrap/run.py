"""One run of a clone: what it knows of both servers, how it begins, and how its failures end it.

What is true when ``begin_run`` returns: the work directory belongs to these two databases, nothing of an earlier
process of the run is left on them, and it is known which programs serve both.
"""

from __future__ import annotations

import logging
import math
from dataclasses import dataclass, replace

from pgcopydb.bootstrap.beside import ChangesBeside
from pgcopydb.bootstrap.budget import Budget
from pgcopydb.bootstrap.findings import Finding, Severity
from pgcopydb.bootstrap.options import EVERY_STEP, CloneOptions
from pgcopydb.bootstrap.preflight import check_apart, check_clone
from pgcopydb.bootstrap.run_state import check_identity, end_leftovers, remember_version
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.workers import Failures
from pgcopydb.postgres.binaries import Tools, choose, discover
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.server import Instance, ServerFacts, inspect_server, read_instance
from pgcopydb.runtime.child import run_child
from pgcopydb.runtime.errors import BinaryError, PartialFailure, PreflightFailed
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Clone:
    """One run: the two servers, what is known of them, and where state is kept."""

    source: Endpoint
    target: Endpoint
    source_facts: ServerFacts
    target_facts: ServerFacts
    tools: Tools
    store: CatalogStore
    workdir: WorkDir
    options: CloneOptions
    stop: Stop
    failures: Failures
    budget: Budget
    changes: ChangesBeside | None


def begin_run(
    source: ConnInfo,
    target: ConnInfo,
    workdir: WorkDir,
    options: CloneOptions,
    stop: Stop,
    store: CatalogStore,
    changes: ChangesBeside | None,
    budget: Budget | None,
) -> Clone:
    run_id = store.setting("run_id")
    # Who follows changes waits for the servers, at the start as later.
    patience = 0.0 if changes is None else math.inf
    source_end, target_end = Endpoint(source, run_id), Endpoint(target, run_id)
    facts: dict[Side, ServerFacts] = {}
    instances: dict[Side, Instance] = {}
    for endpoint in (source_end, target_end):
        with replace(endpoint, patience=patience).connect_patiently("begin", stop) as connection:
            facts[endpoint.side] = inspect_server(connection, endpoint.side)
            instances[endpoint.side] = read_instance(connection, endpoint.side)
            logger.info("%s: %s", endpoint.side.capitalize(), facts[endpoint.side])
            end_leftovers(connection, endpoint, stop)
    for finding in check_apart(instances[Side.SOURCE], instances[Side.TARGET], facts[Side.TARGET].dbname):
        raise PreflightFailed(f"{finding.subject}: {finding.message}", hint=finding.fix)
    check_identity(store, facts, options)
    remember_version(store, facts[Side.SOURCE])
    jobs = options.jobs
    store.set_setting("jobs", {"tables": jobs.tables, "indexes": jobs.indexes, "large_objects": jobs.large_objects})
    tls = any(server.tls for server in facts.values())
    tools = choose(discover(needs_tls=tls), facts[Side.SOURCE].version, facts[Side.TARGET].version, needs_tls=tls)
    return Clone(
        source=source_end,
        target=target_end,
        source_facts=facts[Side.SOURCE],
        target_facts=facts[Side.TARGET],
        tools=tools,
        store=store,
        workdir=workdir,
        options=options,
        stop=stop,
        failures=Failures(stop, fail_fast=options.fail_fast),
        budget=budget or Budget.of(jobs),
        changes=changes,
    )


def preflight(clone: Clone, *, passed: bool = False) -> None:
    """Only before anything is on the target: later, the target is not empty and the marks say what is left.

    ``passed``: somebody has checked it who copies this database among others.
    """
    if clone.store.step_done("preflight"):
        return
    with clone.store.step("preflight"):
        if clone.options.steps != EVERY_STEP or passed:
            return
        findings = check_clone(clone.source, clone.target, clone.workdir, clone.options)
        for finding in findings:
            log_finding(finding)
        errors = [finding for finding in findings if finding.severity is Severity.ERROR]
        if errors:
            raise PreflightFailed(
                f"preflight found {len(errors)} problem(s), first: {errors[0].subject}: {errors[0].message}",
                hint="`pgcopydb check` shows all of them with the statement that mends each; nothing was changed.",
            )


def log_finding(finding: Finding) -> None:
    """In two lines at most, the second with what mends it."""
    level = {Severity.ERROR: logging.ERROR, Severity.WARNING: logging.WARNING}.get(finding.severity, logging.INFO)
    logger.log(level, "%s: %s", finding.subject, finding.message)
    if finding.fix:
        logger.log(level, "fix: %s", finding.fix)


def estimate_sizes(clone: Clone) -> None:
    """Fresh planner figures for ``--estimate-table-sizes``; the only thing that is ever written on the source."""
    options = clone.options
    if not options.split.estimate_sizes or options.skip.analyze or clone.store.step_done("catalog"):
        return
    if clone.source_facts.in_recovery:
        logger.warning("The source is a standby: its tables cannot be analyzed, sizes are as old as their statistics")
        return
    vacuumdb = clone.tools.dump.bindir / "vacuumdb"
    with clone.budget.vacuum.taken(clone.stop, clone.budget.vacuum.total):
        result = run_child(
            [
                *(str(vacuumdb), "--analyze-only", f"--jobs={options.jobs.tables}"),
                *("--dbname", clone.source.info.child_dsn()),
            ],
            environment=clone.source.info.child_environment(clone.source.title("vacuumdb")),
            stop=clone.stop,
            what="vacuumdb --analyze-only",
        )
    if result.returncode != 0:
        raise BinaryError(
            f"vacuumdb --analyze-only failed on the source: {'; '.join(result.errors)}",
            hint="Use the statistics as they are with --skip-analyze.",
        )


def raise_failures(clone: Clone) -> None:
    """The error that ended the run decides its exit code; else what all failures have in common."""
    failures = clone.failures.all
    ended_by = clone.failures.ended_by
    if ended_by is not None:
        raise PartialFailure(
            f"the clone ended early because of {ended_by.what}",
            hint=ended_by.error.hint or "Run again with --resume: what is done is kept.",
            causes=[ended_by.error],
        )
    if failures:
        raise PartialFailure(
            f"the clone is not complete: {len(failures)} of its objects failed, the first was {failures[0].what}",
            hint="Mend the causes shown above and run again with --resume: what is done is kept.",
            causes=[failure.error for failure in failures],
        )
    clone.stop.check()
