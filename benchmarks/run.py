"""``python -m benchmarks.run``: takes the measurements that were asked for and reports them.

Needs PostgreSQL 15's server and client programs; a tool that is missing is reported as missing. Takes no position on
what a good figure is: the exit code is 0 whenever the measurements could be taken.
"""

from __future__ import annotations

import logging
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.datasets import FULL_SIZE
from benchmarks.machine import describe_machine
from benchmarks.plan import Plan
from benchmarks.report import Report, show, write
from benchmarks.servers import MAJOR
from benchmarks.suites import SUITES
from benchmarks.tools import DUMP, OURS, PEER, all_tools
from demo.clusters import find_major
from pgcopydb.runtime.errors import UsageError
from pgcopydb.runtime.sizes import parse_size


class Suite(StrEnum):
    CLONE = "clone"
    SMALL_TABLES = "small-tables"
    MANY_TABLES = "many-tables"
    MEMORY = "memory"
    RECEIVE = "receive"
    CATCH_UP = "catch-up"
    LATENCY = "latency"
    LIVE = "live"
    ALL = "all"


class ToolName(StrEnum):
    OURS = "ours"
    PEER = "pgcopydb"
    DUMP = "pg_dump"


_TOOLS = {ToolName.OURS: OURS, ToolName.PEER: PEER, ToolName.DUMP: DUMP}


def _size(text: str) -> int:
    try:
        return parse_size(text)
    except UsageError as exc:
        raise typer.BadParameter(exc.message) from exc


def main(
    suite: Annotated[Suite, typer.Option(help="What to measure.")] = Suite.ALL,
    rounds: Annotated[int, typer.Option(min=1, help="How often each tool runs; once in `many-tables`, `memory`.")] = 3,
    size: Annotated[str, typer.Option(help="Size of the database of `clone`, e.g. 200MB.")] = str(FULL_SIZE),
    jobs: Annotated[int, typer.Option(min=1, help="Table jobs and index jobs of every tool.")] = 2,
    tables: Annotated[int, typer.Option(min=1, help="Tables of `small-tables` and `memory`.")] = 10_000,
    transactions: Annotated[int, typer.Option(min=2, help="Backlog of `receive` and `catch-up`.")] = 50_000,
    commits: Annotated[int, typer.Option(min=1, help="Commits of one round of `latency`.")] = 100,
    seconds: Annotated[int, typer.Option(min=1, help="How long the load of `live` lasts.")] = 30,
    tool: Annotated[
        list[ToolName] | None,
        typer.Option(help="Only this tool; may be repeated. Unless told, every suite runs those that can do it."),
    ] = None,
    json: Annotated[Path | None, typer.Option(help="Write the JSON report to this file too.")] = None,
) -> None:
    """Measure a whole-database copy, and following changes, with this program and its peers."""
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s", datefmt="%H:%M:%S")
    if find_major(MAJOR) is None:
        raise typer.BadParameter(f"there is no PostgreSQL {MAJOR} server here: benchmarks/peers.sh installs it")
    tools = all_tools()
    asked = frozenset(_TOOLS[name] for name in tool) if tool else None
    plan = Plan(
        rounds,
        jobs,
        tools,
        asked,
        _size(size),
        tables,
        row_megabytes=300,
        long_scale=50,
        transactions=transactions,
        commits=commits,
        seconds=seconds,
    )
    wanted = list(SUITES) if suite is Suite.ALL else [suite.value]
    taken, machine = datetime.now(UTC), describe_machine()
    results = [result for name in wanted for result in SUITES[name](plan)]
    versions = {candidate.name: candidate.version or "missing" for candidate in tools}
    report = Report(taken, machine, versions, results)
    show(report)
    typer.echo(f"Written to {write(report, json)}")


if __name__ == "__main__":
    typer.run(main)
