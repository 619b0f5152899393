"""How far a run of all databases is, and what it did: from the catalogs of its work directories alone.

A catalog of one database is that of a clone of it; the one of the top directory says which there are. Works in the
run's own process, in another one, and after the end.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final

import orjson

from pgcopydb.bootstrap.progress import Progress, progress_json, read_progress, sum_of
from pgcopydb.bootstrap.run_state import all_databases, database_step
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.summary import Step, Summary, build_summary, steps_json, summary_json
from pgcopydb.runtime.durable import write_atomic
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.sizes import pretty_size
from pgcopydb.runtime.workdir import WorkDir

_WALL_CLOCK: Final = "(wall clock)"


class State(StrEnum):
    WAITING = "waiting"
    BEGUN = "begun"
    COPIED = "copied"
    """And followed from there on."""
    COMPLETE = "complete"


@dataclass(frozen=True, slots=True)
class DatabaseProgress:
    """``progress``: none before its schema was read. ``bytes``: on the source's disk, none where it did not say."""

    name: str
    state: State
    bytes: int | None
    progress: Progress | None


class AllProgress:
    """Reads a run again and again; what is complete is read once."""

    def __init__(self, workdir: WorkDir) -> None:
        self._workdir = workdir
        self._complete: dict[str, DatabaseProgress] = {}

    def databases(self, top: CatalogStore) -> list[DatabaseProgress]:
        """In the order in which they are copied."""
        return [self._complete.get(row["name"]) or self._read(top, row) for row in all_databases(top) or ()]

    def total(self, top: CatalogStore) -> Progress:
        """Of all whose schema was read; complete when the copy of each is."""
        databases = self.databases(top)
        read = [each.progress for each in databases if each.progress is not None]
        complete = all(each.state in {State.COPIED, State.COMPLETE} for each in databases)
        return replace(sum_of(read, complete=complete and bool(databases)), jobs=top.setting("jobs") or {})

    def _read(self, top: CatalogStore, row: dict[str, Any]) -> DatabaseProgress:
        name = row["name"]
        workdir = self._workdir.database(name)
        with opened(workdir) as store:
            progress = None if store is None else read_progress(store)
            copied = store is not None and store.step_done("summary")
        begun = top.value("SELECT started FROM step WHERE name = ?", (database_step(name),)) is not None
        state = State.BEGUN if begun else State.WAITING
        if top.step_done(database_step(name)):
            state = State.COMPLETE
        elif begun and copied:
            state = State.COPIED
        found = DatabaseProgress(name, state, row["bytes"], progress)
        if state is State.COMPLETE:
            self._complete[name] = found
        return found


@contextmanager
def opened(workdir: WorkDir) -> Iterator[CatalogStore | None]:
    """The catalog of one database; none before its tables are laid out."""
    if not workdir.exists():
        yield None
        return
    with closing(CatalogStore.read(workdir.catalog)) as store:
        yield store if store.is_laid_out else None


def _stores(top: CatalogStore, workdir: WorkDir) -> Iterator[tuple[str, CatalogStore]]:
    for row in all_databases(top) or ():
        with opened(workdir.database(row["name"])) as store:
            if store is not None:
                yield row["name"], store


def progress_of_all_json(top: CatalogStore, workdir: WorkDir) -> dict[str, Any]:
    """The keys of one database's, summed, and ``databases`` with those of each."""
    reader = AllProgress(workdir)
    total = reader.total(top)
    of_each = {name: progress_json(store) for name, store in _stores(top, workdir)}
    databases = [
        {"name": each.name, "state": each.state, "size": each.bytes, **of_each.get(each.name, {})}
        for each in reader.databases(top)
    ]
    return {
        "table-jobs": total.jobs.get("tables"),
        "index-jobs": total.jobs.get("indexes"),
        "tables": {
            "total": total.tables_total,
            "done": total.tables_done,
            "in-progress": [*_in_progress(of_each, "tables")],
        },
        "indexes": {
            "total": total.indexes_total,
            "done": total.indexes_done,
            "in-progress": [*_in_progress(of_each, "indexes")],
        },
        "bytes": {
            "total": total.bytes_total,
            "total-pretty": pretty_size(total.bytes_total),
            "done": total.bytes_done,
            "done-pretty": pretty_size(total.bytes_done),
            "in-progress": total.bytes_in_flight,
            "in-progress-pretty": pretty_size(total.bytes_in_flight),
        },
        "complete": total.complete,
        "databases": databases,
    }


def _in_progress(of_each: dict[str, dict[str, Any]], kind: str) -> Iterator[dict[str, Any]]:
    for name, progress in of_each.items():
        for entry in progress[kind]["in-progress"]:
            yield {"database": name, **entry}


def summary_of_all(top: CatalogStore, workdir: WorkDir) -> Summary:
    """Steps are summed over the databases, but for the time that the whole run took."""
    summaries = {name: build_summary(store) for name, store in _stores(top, workdir)}
    tables = [replace(table, database=name) for name, each in summaries.items() for table in each.tables]
    tables.sort(key=lambda table: -table.bytes)
    steps: dict[str, Step] = {}
    for step in (step for each in summaries.values() for step in each.steps):
        label = step.label.replace(_WALL_CLOCK, "(sum of databases)")
        before = steps.get(label)
        steps[label] = replace(step, label=label) if before is None else _add(before, step)
    wall = top.value("SELECT max(coalesce(finished, started)) - min(started) FROM step") or 0.0
    last = [replace(step, seconds=wall) if step.label.startswith("Total") else step for step in steps.values()]
    return Summary(steps=last, tables=tables, jobs=top.setting("jobs") or {})


def _add(one: Step, other: Step) -> Step:
    transfer = None if one.transfer is None else one.transfer + (other.transfer or 0)
    return replace(one, seconds=one.seconds + other.seconds, transfer=transfer)


def summary_of_all_json(top: CatalogStore, workdir: WorkDir) -> dict[str, Any]:
    """What a clone of each has in its ``summary.json``, and the sums."""
    total = summary_of_all(top, workdir)
    return {
        "setup": {"table-jobs": total.jobs.get("tables"), "index-jobs": total.jobs.get("indexes")},
        "steps": steps_json(total),
        "databases": [{"name": name, **summary_json(store)} for name, store in _stores(top, workdir)],
    }


def write_summary_of_all(top: CatalogStore, workdir: WorkDir) -> None:
    failpoint("databases.before_summary")
    text = orjson.dumps(summary_of_all_json(top, workdir), option=orjson.OPT_INDENT_2)
    write_atomic(workdir.summary, text + b"\n")


def is_of_all(store: CatalogStore) -> bool:
    """Whether the catalog is the top one of a run of all databases."""
    return all_databases(store) is not None
