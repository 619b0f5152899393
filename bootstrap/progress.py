"""How far a run is, from the store alone: works in the run's own process, in another one, and after the end."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.sizes import pretty_size

COMPARED: Final = "large objects compared"
COMPARED_LARGE_OBJECTS: Final = "large_objects_compared"
"""The setting that says how many of them ``total`` are ``done``."""


@dataclass(frozen=True, slots=True)
class Phase:
    """One sort of work. ``unit`` is ``bytes`` or the plural of what is counted."""

    name: str
    unit: str
    total: int
    done: int


@dataclass(frozen=True, slots=True)
class Doing:
    """What one worker does right now."""

    worker: str
    doing: str
    bytes: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Progress:
    """A moment of a run. Bytes are estimates of what tables take on the source's disk."""

    phases: list[Phase]
    tables_total: int
    tables_done: int
    indexes_total: int
    indexes_done: int
    bytes_total: int
    bytes_done: int
    bytes_in_flight: int
    workers: list[Doing]
    jobs: dict[str, int]
    complete: bool


def read_progress(store: CatalogStore) -> Progress:
    """One consistent enough look: each figure is exact when it is read."""
    row = store.row(
        "SELECT (SELECT count(*) FROM copied_table) AS tables,"
        " (SELECT count(*) FROM copied_table WHERE copied IS NOT NULL) AS copied,"
        " (SELECT coalesce(sum(bytes), 0) FROM copied_table) AS bytes,"
        " (SELECT coalesce(sum(bytes_estimate), 0) FROM copy_part WHERE state IN ('done', 'gone')) AS bytes_copied,"
        " (SELECT count(*) FROM built_index) + (SELECT count(*) FROM built_constraint) AS indexes,"
        " (SELECT count(*) FROM built_index WHERE state = 'done')"
        " + (SELECT count(*) FROM built_constraint WHERE state = 'done') AS built,"
        " (SELECT count(*) FROM built_index) AS plain_indexes,"
        " (SELECT count(*) FROM built_index WHERE state = 'done') AS plain_built,"
        " (SELECT count(*) FROM copied_table WHERE vacuumed IS NOT NULL) AS vacuumed,"
        " (SELECT coalesce(sum(objects), 0) FROM large_object_batch) AS objects,"
        " (SELECT coalesce(sum(objects), 0) FROM large_object_batch WHERE state = 'done') AS objects_copied"
    )
    assert row is not None  # noqa: S101  an aggregate returns one row
    workers = [
        Doing(found["worker"], found["doing"], found["bytes"], time.time() - found["started"])
        for found in store.rows("SELECT * FROM activity ORDER BY worker")
    ]
    flight = sum(worker.bytes for worker in workers)
    copied = row["bytes_copied"]
    compared = store.setting(COMPARED_LARGE_OBJECTS) or {"total": 0, "done": 0}
    phases = [
        Phase("tables", "bytes", row["bytes"], min(row["bytes"], copied + flight)),
        Phase("indexes", "indexes", row["indexes"], row["built"]),
        Phase("statistics", "tables", row["tables"], row["vacuumed"]),
        Phase("large objects", "objects", row["objects"], row["objects_copied"]),
        Phase(COMPARED, "objects", compared["total"], compared["done"]),
    ]
    return Progress(
        phases=[phase for phase in phases if phase.total],
        tables_total=row["tables"],
        tables_done=row["copied"],
        indexes_total=row["plain_indexes"],
        indexes_done=row["plain_built"],
        bytes_total=row["bytes"],
        bytes_done=copied,
        bytes_in_flight=flight,
        workers=workers,
        jobs=store.setting("jobs") or {},
        complete=store.step_done("summary"),
    )


def sum_of(all_of_them: Sequence[Progress], *, complete: bool) -> Progress:
    """Of databases that are copied in one run."""
    phases: dict[str, Phase] = {}
    for phase in (phase for each in all_of_them for phase in each.phases):
        before = phases.get(phase.name, Phase(phase.name, phase.unit, 0, 0))
        phases[phase.name] = replace(before, total=before.total + phase.total, done=before.done + phase.done)
    return Progress(
        phases=list(phases.values()),
        tables_total=sum(each.tables_total for each in all_of_them),
        tables_done=sum(each.tables_done for each in all_of_them),
        indexes_total=sum(each.indexes_total for each in all_of_them),
        indexes_done=sum(each.indexes_done for each in all_of_them),
        bytes_total=sum(each.bytes_total for each in all_of_them),
        bytes_done=sum(each.bytes_done for each in all_of_them),
        bytes_in_flight=sum(each.bytes_in_flight for each in all_of_them),
        workers=[worker for each in all_of_them for worker in each.workers],
        jobs=next((each.jobs for each in all_of_them), {}),
        complete=complete,
    )


def progress_json(store: CatalogStore) -> dict[str, Any]:
    """``list progress --json``, with the keys that scripts for the C program read."""
    progress = read_progress(store)
    in_flight = store.rows(
        "SELECT a.worker, a.doing, a.bytes, t.oid, t.schema, t.name FROM activity a"
        " LEFT JOIN copied_table t ON t.oid = a.table_oid ORDER BY a.worker"
    )
    return {
        "table-jobs": progress.jobs.get("tables"),
        "index-jobs": progress.jobs.get("indexes"),
        "tables": {
            "total": progress.tables_total,
            "done": progress.tables_done,
            "in-progress": [
                {"oid": row["oid"], "schema": row["schema"], "name": row["name"], "bytes": row["bytes"]}
                for row in in_flight
                if row["worker"].startswith("copy")
            ],
        },
        "indexes": {
            "total": progress.indexes_total,
            "done": progress.indexes_done,
            "in-progress": [
                {"table": str(Name(row["schema"], row["name"])), "doing": row["doing"]}
                for row in in_flight
                if row["worker"].startswith("index") and row["oid"] is not None
            ],
        },
        "bytes": {
            "total": progress.bytes_total,
            "total-pretty": pretty_size(progress.bytes_total),
            "done": progress.bytes_done,
            "done-pretty": pretty_size(progress.bytes_done),
            "in-progress": progress.bytes_in_flight,
            "in-progress-pretty": pretty_size(progress.bytes_in_flight),
        },
        "complete": progress.complete,
    }
