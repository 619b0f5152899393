"""Tables for people, on stdout."""

from __future__ import annotations

import sys
from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.table import Table

from pgcopydb.bootstrap.all_reports import DatabaseProgress
from pgcopydb.bootstrap.compare import Checksum, DataComparison
from pgcopydb.bootstrap.compare_schema import SchemaComparison
from pgcopydb.bootstrap.findings import Finding
from pgcopydb.bootstrap.progress import COMPARED, Progress
from pgcopydb.bootstrap.summary import Summary
from pgcopydb.runtime.sizes import pretty_seconds, pretty_size

_MOST_TABLES = 50


def new_console() -> Console:
    """On stdout."""
    # Off a terminal nothing may be cut to 80 columns: scripts read it.
    return Console(file=sys.stdout, width=None if sys.stdout.isatty() else 200, highlight=False)


def new_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """An empty one in the style of them all."""
    table = Table(box=box.SIMPLE_HEAD)
    for column in columns:
        table.add_column(column, justify="right" if column in right else "left", overflow="fold")
    return table


def print_summary(summary: Summary) -> None:
    """What each table and each step took; the largest tables when there are many."""
    console = new_console()
    several = any(table.database for table in summary.tables)
    tables = new_table(
        *(["Database"] if several else []),
        "OID",
        "Schema",
        "Name",
        "Parts",
        "copy duration",
        "transmitted bytes",
        "indexes",
        "create index duration",
        right=("OID", "Parts", "copy duration", "transmitted bytes", "indexes", "create index duration"),
    )
    for table in summary.tables[:_MOST_TABLES]:
        tables.add_row(
            *([table.database] if several else []),
            str(table.oid),
            table.schema,
            table.name,
            str(table.parts),
            pretty_seconds(table.seconds),
            pretty_size(table.bytes),
            str(table.indexes),
            pretty_seconds(table.index_seconds),
        )
    console.print(tables)
    if len(summary.tables) > _MOST_TABLES:
        console.print(f"  … and {len(summary.tables) - _MOST_TABLES} smaller tables; all of them are in summary.json\n")
    steps = new_table(
        "Step", "Connection", "Duration", "Transfer", "Concurrency", right=("Duration", "Transfer", "Concurrency")
    )
    for step in summary.steps:
        transfer = "" if step.transfer is None else pretty_size(step.transfer)
        steps.add_row(step.label, step.connection, pretty_seconds(step.seconds), transfer, str(step.concurrency))
    console.print(steps)


def print_progress(progress: Progress) -> None:
    """The three rows of ``list progress``, and one more where there are large objects."""
    table = new_table("", "Total Count", "In Progress", "Done", right=("Total Count", "In Progress", "Done"))
    copying = sum(worker.worker.startswith("copy") for worker in progress.workers)
    building = sum(worker.worker.startswith("index") for worker in progress.workers)
    table.add_row("Tables", str(progress.tables_total), str(copying), str(progress.tables_done))
    table.add_row("Indexes", str(progress.indexes_total), str(building), str(progress.indexes_done))
    table.add_row(
        "Bytes",
        pretty_size(progress.bytes_total),
        pretty_size(progress.bytes_in_flight),
        pretty_size(progress.bytes_done),
    )
    comparing = sum(worker.worker.startswith("lo-") for worker in progress.workers)
    for phase in progress.phases:
        if phase.unit == "objects":
            doing = comparing if phase.name == COMPARED else 0
            table.add_row(phase.name.capitalize(), str(phase.total), str(doing), str(phase.done))
    new_console().print(table)


def print_progress_of_all(databases: Sequence[DatabaseProgress], total: Progress) -> None:
    """The same for each database of a run, and for all of them."""
    print_progress(total)
    right = ("Size", "Tables", "Tables Done", "Indexes", "Indexes Done", "Bytes", "Bytes Done")
    table = new_table("Database", "State", *right, right=right)
    for each in databases:
        found = each.progress
        counts = ("",) * 6
        if found is not None:
            counts = (
                str(found.tables_total),
                str(found.tables_done),
                str(found.indexes_total),
                str(found.indexes_done),
                pretty_size(found.bytes_total),
                pretty_size(found.bytes_done),
            )
        table.add_row(each.name, each.state, "" if each.bytes is None else pretty_size(each.bytes), *counts)
    new_console().print(table)


def print_findings(findings: list[Finding]) -> None:
    """One row a finding, errors first."""
    table = new_table("Severity", "Side", "Subject", "Problem", "Fix")
    for finding in findings:
        table.add_row(finding.severity, finding.side or "", finding.subject, finding.message, finding.fix or "")
    new_console().print(table if findings else "Nothing stands in the way.")


def print_comparison(comparison: DataComparison) -> None:
    """One row a table; ``!`` marks those that differ."""
    table = new_table("Table Name", "!", "Rows", "Source Checksum", "Target Checksum", "Problem", right=("Rows",))
    for row in comparison.tables:
        rows = f"{row.source.rows:,}" if row.source else ""
        if row.source and row.target and row.source.rows != row.target.rows:
            rows = f"{row.source.rows:,} / {row.target.rows:,}"
        mark = "" if row.equal else "!"
        table.add_row(row.title, mark, rows, _digest(row.source), _digest(row.target), row.problem or "")
    new_console().print(table)


def print_schema_comparison(comparison: SchemaComparison, database: str = "") -> None:
    """How many objects of each kind there are, and what differs. ``database``: where several are compared."""
    if database:
        new_console().print(f"Database {database}", markup=False)
    counts = new_table("Kind", "Source", "Target", right=("Source", "Target"))
    for kind, (one, other) in comparison.counts.items():
        counts.add_row(kind, str(one), str(other))
    new_console().print(counts)
    if comparison.differences:
        table = new_table("Object", "Property", "Source", "Target")
        for each in comparison.differences:
            table.add_row(str(each.object), each.property, _value(each.source), _value(each.target))
        new_console().print(table)


def _value(value: str | None) -> str:
    return "-" if value is None else value or "there"


def _digest(checksum: Checksum | None) -> str:
    return checksum.digest if checksum else ""
