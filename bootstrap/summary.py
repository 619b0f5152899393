"""What a run did and how long each part took: ``summary.json`` and the tables at the end."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import orjson

from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.runtime.durable import write_atomic
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.sizes import pretty_seconds, pretty_size
from pgcopydb.runtime.workdir import WorkDir

_STEPS: Final = (
    ("Catalog Queries", "source", "catalog"),
    ("Dump Schema", "source", "dump"),
    ("Prepare Schema", "target", "pre_data"),
)
_LAST_STEPS: Final = (
    ("Reset Sequences", "both", "sequences"),
    ("Large Objects (cumulative)", "both", "large_objects"),
    ("Finalize Schema", "target", "post_data"),
    ("Materialized Views (cumulative)", "target", "matviews"),
)


@dataclass(frozen=True, slots=True)
class Step:
    """``transfer`` is bytes that went over the wire; cumulative steps add up what ``concurrency`` workers did."""

    label: str
    connection: str
    seconds: float
    transfer: int | None
    concurrency: int


@dataclass(frozen=True, slots=True)
class TableSummary:
    oid: int
    schema: str
    name: str
    parts: int
    seconds: float
    bytes: int
    rows: int
    indexes: int
    index_seconds: float
    database: str = ""
    """Where a run copies several."""


@dataclass(frozen=True, slots=True)
class Summary:
    steps: list[Step]
    tables: list[TableSummary]
    jobs: dict[str, int]


def build_summary(store: CatalogStore) -> Summary:
    """From the marks and times in the store; of a run that is going on as well."""
    jobs: dict[str, int] = store.setting("jobs") or {}
    return Summary(steps=_steps(store, jobs), tables=_tables(store), jobs=jobs)


def _steps(store: CatalogStore, jobs: dict[str, int]) -> list[Step]:
    table_jobs, index_jobs = jobs.get("tables", 1), jobs.get("indexes", 1)
    steps = [Step(label, where, _step_seconds(store, name), None, 1) for label, where, name in _STEPS]
    transfer = store.value("SELECT coalesce(sum(bytes), 0) FROM copy_part")
    steps.append(Step("COPY, INDEX, CONSTRAINTS, VACUUM (wall clock)", "both", _parallel_seconds(store), transfer, 1))
    for label, where, table, concurrency in (
        ("COPY (cumulative)", "both", "copy_part", table_jobs),
        ("CREATE INDEX (cumulative)", "target", "built_index", index_jobs),
        ("CONSTRAINTS (cumulative)", "target", "built_constraint", index_jobs),
    ):
        seconds = store.value(f"SELECT coalesce(sum(finished - started), 0) FROM {table}")  # noqa: S608
        steps.append(Step(label, where, seconds, transfer if table == "copy_part" else None, concurrency))
    for label, where, name in _LAST_STEPS:
        workers = jobs.get("large_objects", 1) if name == "large_objects" else 1
        steps.append(Step(label, where, _step_seconds(store, name), None, workers))
    wall = store.value("SELECT max(coalesce(finished, started)) - min(started) FROM step") or 0.0
    steps.append(Step("Total Wall Clock Duration", "both", wall, transfer, 1))
    return steps


def _step_seconds(store: CatalogStore, name: str) -> float:
    return float(store.value("SELECT finished - started FROM step WHERE name = ?", (name,)) or 0.0)


def _parallel_seconds(store: CatalogStore) -> float:
    row = store.row(
        "SELECT (SELECT min(started) FROM copy_part), max(coalesce(vacuumed, indexed, copied)) FROM copied_table"
    )
    return 0.0 if row is None or row[0] is None or row[1] is None else max(0.0, row[1] - row[0])


def _tables(store: CatalogStore) -> list[TableSummary]:
    return [
        TableSummary(*row)
        for row in store.rows(
            "SELECT t.oid, t.schema, t.name, p.parts, p.seconds, p.bytes, p.rows,"
            " coalesce(i.number, 0), coalesce(i.seconds, 0)"
            " FROM copied_table t"
            " JOIN (SELECT table_oid, count(*) AS parts, coalesce(sum(finished - started), 0) AS seconds,"
            "              coalesce(sum(bytes), 0) AS bytes, coalesce(sum(rows), 0) AS rows"
            "         FROM copy_part GROUP BY table_oid) p ON p.table_oid = t.oid"
            " LEFT JOIN (SELECT table_oid, count(*) AS number, sum(finished - started) AS seconds"
            "              FROM built_index GROUP BY table_oid) i ON i.table_oid = t.oid"
            " ORDER BY t.bytes DESC, t.oid"
        )
    ]


def summary_json(store: CatalogStore) -> dict[str, Any]:
    """The shape of the C program's ``summary.json``; durations in milliseconds."""
    summary = build_summary(store)
    indexes = _by_table(
        store, "SELECT table_oid, oid, schema, name, sql, finished - started AS seconds FROM built_index"
    )
    constraints = _by_table(
        store,
        "SELECT table_oid, oid, '' AS schema, name, definition AS sql, finished - started AS seconds"
        " FROM built_constraint",
    )
    return {
        "setup": {"table-jobs": summary.jobs.get("tables"), "index-jobs": summary.jobs.get("indexes")},
        "steps": steps_json(summary),
        "tables": [
            {
                "oid": table.oid,
                "schema": table.schema,
                "name": table.name,
                "duration": round(table.seconds * 1000),
                "rows": table.rows,
                "network": {
                    "bytes": table.bytes,
                    "bytes-pretty": pretty_size(table.bytes),
                    "transmit-rate": f"{pretty_size(table.bytes / table.seconds if table.seconds else 0)}/s",
                },
                "index": {"count": table.indexes, "duration": round(table.index_seconds * 1000)},
                "indexes": indexes.get(table.oid, []),
                "constraints": constraints.get(table.oid, []),
            }
            for table in summary.tables
        ],
    }


def steps_json(summary: Summary) -> list[dict[str, Any]]:
    return [
        {
            "label": step.label,
            "conn": step.connection,
            "duration": round(step.seconds * 1000),
            "duration_pretty": pretty_seconds(step.seconds),
            "concurrency": step.concurrency,
        }
        for step in summary.steps
    ]


def _by_table(store: CatalogStore, sql: str) -> dict[int, list[dict[str, Any]]]:
    found: dict[int, list[dict[str, Any]]] = {}
    for row in store.rows(sql):
        entry = {"oid": row["oid"], "schema": row["schema"], "name": row["name"], "sql": row["sql"]}
        entry["ms"] = round((row["seconds"] or 0) * 1000)
        found.setdefault(row["table_oid"], []).append(entry)
    return found


def write_summary(store: CatalogStore, workdir: WorkDir) -> None:
    """Write ``summary.json``."""
    failpoint("summary.before_write")
    write_atomic(workdir.summary, orjson.dumps(summary_json(store), option=orjson.OPT_INDENT_2) + b"\n")
