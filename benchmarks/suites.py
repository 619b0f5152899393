"""The suites about copying, and the list of all: which data, which tools, in which order, what is checked after a copy.

Every round runs every tool once, each time on an empty target; a round starts with another tool than the one before, so
that none always has the same neighbour. After each copy the target's content is compared with the source's: a run whose
content differs, or whose tool failed, is kept with its error and counts for nothing.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from benchmarks.changes import run_catch_up, run_latency, run_live, run_receive
from benchmarks.content import Content, first_difference, read_content
from benchmarks.datasets import DataSet, long_table, small_tables, whole_database, wide_row
from benchmarks.floor import SERVER_FLOOR, STATEMENT_FLOOR, server_floor, statement_floor
from benchmarks.measure import CommandFailed, Cost, measure, scratch_folder
from benchmarks.plan import Plan
from benchmarks.results import Run, SuiteResult, spread
from benchmarks.servers import Servers, program_environment, start_servers
from benchmarks.tools import DUMP, OURS, PEER, CopyJob, Tool

logger = logging.getLogger(__name__)

_SMALL_SETTINGS: Final = {"max_locks_per_transaction": "512", "fsync": "off"}
"""pg_dump locks every table in one transaction: the default has room for some 6,000. And where 10,000 tables commit
tens of thousands of times, what is looked for would drown in the waits for the disk."""
_MANY_TABLES: Final = 50_000
_MANY_SETTINGS: Final = {**_SMALL_SETTINGS, "max_locks_per_transaction": "4096"}

Subject = Callable[[CopyJob, int], Run]


def run_clone(plan: Plan) -> list[SuiteResult]:
    """A whole database with every tool, next to what the servers alone need."""
    tools = _choose(plan, OURS, PEER, DUMP)
    with start_servers() as servers:
        floor = {SERVER_FLOOR: server_floor}
        result = _run_suite("clone", whole_database(plan.size), servers, plan, tools, floor)
    return [result]


def run_small_tables(plan: Plan) -> list[SuiteResult]:
    """What a table costs on top of the statements that it needs."""
    # pgcopydb in C starts a process for every table at once: 10,000 of them need more memory than most machines have.
    tools = _choose(plan, OURS, DUMP)
    with start_servers(**_SMALL_SETTINGS) as servers:
        floor = {STATEMENT_FLOOR: statement_floor}
        result = _run_suite("small-tables", small_tables(plan.tables), servers, plan, tools, floor)
    for subject in result.subjects():
        overhead = spread(result.differences(subject, STATEMENT_FLOOR))
        if overhead is not None and subject != STATEMENT_FLOOR:
            per_table = [value * 1000 / plan.tables for value in (overhead.middle, overhead.lowest, overhead.highest)]
            result.notes.append(
                f"{subject}: {per_table[0]:.2f} ms per table on top of the floor of the same round"
                f" ({per_table[1]:.2f} to {per_table[2]:.2f})"
            )
    return [result]


def run_many_tables(plan: Plan) -> list[SuiteResult]:
    """A catalog that is large: how long it takes, and how much memory."""
    tools = _choose(plan, OURS, DUMP)
    with start_servers(**_MANY_SETTINGS) as servers:
        return [_run_suite("many-tables", small_tables(_MANY_TABLES), servers, replace(plan, rounds=1), tools, {})]


def run_memory(plan: Plan) -> list[SuiteResult]:
    """The peak memory of our process tree, where a copy is tempted to hold much: a long row, many tables, many rows."""
    once, tools = replace(plan, rounds=1), _choose(plan, OURS)
    results = []
    for data in (wide_row(plan.row_megabytes), small_tables(plan.tables), long_table(plan.long_scale)):
        with start_servers(**_SMALL_SETTINGS) as servers:
            results.append(_run_suite("memory", data, servers, once, tools, {}))
    return results


SUITES: Final[dict[str, Callable[[Plan], list[SuiteResult]]]] = {
    "clone": run_clone,
    "small-tables": run_small_tables,
    "many-tables": run_many_tables,
    "memory": run_memory,
    "receive": run_receive,
    "catch-up": run_catch_up,
    "latency": run_latency,
    "live": run_live,
}


def _choose(plan: Plan, *usual: str) -> list[Tool]:
    return [tool for tool in plan.tools if tool.name in (plan.asked or usual)]


def _measured(tool: Tool) -> Subject:
    def copy(job: CopyJob, round_: int) -> Run:
        total, environment = Cost(), program_environment(job.servers.bin_dir)
        phases: dict[str, float] = {}
        for command in tool.commands(job):
            cost = measure([command], job.scratch / "tool.log", environment)
            phases[Path(command[0]).name] = cost.wall
            total = total.then(cost)
        return Run(tool.name, round_, total, phases if len(phases) > 1 else {})

    return copy


def _run_suite(
    suite: str, data: DataSet, servers: Servers, plan: Plan, tools: Sequence[Tool], floor: Mapping[str, Subject]
) -> SuiteResult:
    subjects = {tool.name: _measured(tool) for tool in tools if tool.missing is None} | dict(floor)
    result = SuiteResult(
        suite=suite,
        title=data.name,
        data=data.description,
        bytes=0,
        server=servers.version(),
        settings=servers.settings,
        jobs=plan.jobs,
        missing={tool.name: tool.missing for tool in tools if tool.missing is not None},
    )
    if not subjects:
        return result
    logger.info("%s: loading %s", suite, data.description)
    data.load(servers)
    result.bytes = servers.source_size()
    expected = read_content(servers.source_dsn)
    order = list(subjects)
    for round_ in range(plan.rounds):
        for subject in order[round_ % len(order) :] + order[: round_ % len(order)]:
            run = _run_once(subjects[subject], subject, round_, servers, plan.jobs, expected)
            logger.info("%s, round %d: %s: %s", suite, round_ + 1, subject, run.error or f"{run.cost.wall:.2f} s")
            result.runs.append(run)
    return result


def _run_once(subject: Subject, name: str, round_: int, servers: Servers, jobs: int, expected: Content) -> Run:
    servers.fresh_target()
    with scratch_folder() as folder:
        try:
            run = subject(CopyJob(servers, folder, jobs), round_)
        except CommandFailed as exc:
            return Run(name, round_, error=str(exc))
    difference = first_difference(expected, read_content(servers.target_dsn))
    return run if difference is None else replace(run, error=f"the copy differs: {difference}")
