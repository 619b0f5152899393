"""Divide large tables into parts that several workers copy at once.

Reads the catalog, and the bounds of the tables that are to be split from the source under the snapshot. Writes table
``copy_part``: one row of kind ``whole`` for most tables. Parts of a table cover each of its rows exactly once, whatever
the statistics say: the first and the last one are open-ended.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from pgcopydb.bootstrap.options import Split
from pgcopydb.bootstrap.snapshot import begin_under
from pgcopydb.bootstrap.store import CatalogStore, Row
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name, quote_ident

logger = logging.getLogger(__name__)

TID_RANGE_SCAN: Final = 140000
"""Before this version a condition on ctid reads the whole table for every part."""


@dataclass(frozen=True, slots=True)
class PartRange:
    """Rows of one part: ``lower <= x <= upper`` of a key or of heap pages; no bound on a side is none."""

    kind: str
    lower: int | None = None
    upper: int | None = None

    def condition(self, key: str | None) -> str:
        """For the WHERE clause; empty for a whole table. ``key`` is the key column's name."""
        if self.kind == "whole":
            return ""
        if self.kind == "null":
            return f"{quote_ident(key or '')} IS NULL"
        if self.kind == "key":
            column = quote_ident(key or "")
            bounds = [f"{column} >= {self.lower}"] if self.lower is not None else []
            bounds += [f"{column} <= {self.upper}"] if self.upper is not None else []
            return " AND ".join(bounds)
        bounds = [f"ctid >= '({self.lower},0)'::tid"] if self.lower is not None else []
        bounds += [f"ctid < '({self.upper + 1},0)'::tid"] if self.upper is not None else []
        return " AND ".join(bounds)


def parts_wanted(size: int, split: Split) -> int:
    """How many parts a table of ``size`` bytes is copied in; 1 is not split."""
    if split.larger_than <= 0 or size < split.larger_than:
        return 1
    parts = -(-size // split.larger_than)
    return min(parts, split.max_parts) if split.max_parts else parts


def ranges(kind: str, low: int, high: int, parts: int, histogram: Sequence[int] = ()) -> Iterator[PartRange]:
    """Cut ``low..high`` into at most ``parts`` ranges; the first and the last are open-ended.

    Of as many rows each as ``histogram`` has it, values between which there are equally many; of equal width where that
    says too little.
    """
    known = sorted({value for value in histogram if low < value <= high})
    if len(known) >= parts:
        starts = [low, *(known[len(known) * number // parts] for number in range(1, parts))]
    else:
        starts = list(range(low, high + 1, -(-(high - low + 1) // parts)))
    for number, start in enumerate(starts):
        yield PartRange(
            kind,
            start if number > 0 else None,
            starts[number + 1] - 1 if number + 1 < len(starts) else None,
        )


def plan_table(
    *,
    parts: int,
    key: str | None,
    bounds: tuple[int, int] | None,
    nullable: bool,
    pages: int | None,
    histogram: Sequence[int] = (),
) -> list[PartRange]:
    """The parts of one table: by key where it has one, else by heap pages where that can be done, else whole.

    ``bounds`` are the key's smallest and largest value, ``histogram`` what the statistics say of those between;
    ``pages`` is none where ctid ranges must not be used.
    """
    planned: list[PartRange] = []
    if parts > 1 and key is not None and bounds is not None:
        planned = list(ranges("key", *bounds, parts, histogram))
        if nullable and len(planned) > 1:
            planned.insert(0, PartRange("null"))
    elif parts > 1 and key is None and pages:
        planned = list(ranges("ctid", 0, pages - 1, min(parts, pages)))
    return planned if len(planned) > 1 else [PartRange("whole")]


def plan_parts(store: CatalogStore, source: Endpoint, snapshot: str | None, split: Split, *, standby: bool) -> None:
    """Write the parts of every table of the catalog that has none yet."""
    tables = store.rows(
        "SELECT * FROM copied_table t WHERE NOT EXISTS (SELECT 1 FROM copy_part p WHERE p.table_oid = t.oid)"
    )
    if standby and split.larger_than > 0:
        logger.warning("The source is a standby: tables are not split")
        split = Split()
    # Partitions whose rows go elsewhere on the target cannot be emptied one by one, so they are copied whole.
    large = [
        row for row in tables if parts_wanted(row["bytes"], split) > 1 and row["via_name"] is None and row["with_rows"]
    ]
    plans = {row["oid"]: [PartRange("whole")] for row in tables}
    if large:
        with source.connect("plan") as connection, server_errors(Side.SOURCE, "reading the bounds of large tables"):
            begin_under(connection, snapshot)
            plans.update({row["oid"]: _plan_large(connection, store, row, split) for row in large})
    store.executemany(
        "INSERT INTO copy_part (table_oid, part, parts, kind, lower, upper, bytes_estimate, state, rows, bytes)"
        " VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            (row["oid"], number, len(plan), part.kind, part.lower, part.upper, row["bytes"] // len(plan), *_work(row))
            for row in tables
            for plan in (plans[row["oid"]],)
            for number, part in enumerate(plan, start=1)
        ),
    )


def _work(table: Row) -> tuple[str, int | None, int | None]:
    """State, rows and bytes of a part in the beginning. Nothing is to be done for a table whose rows stay behind."""
    return ("pending", None, None) if table["with_rows"] else ("done", 0, 0)


@dataclass(frozen=True, slots=True)
class LargeTable:
    """What decides how a table is divided. ``key``: an integer column that a unique index is on."""

    oid: int
    name: Name
    bytes: int
    key: str | None
    nullable: bool
    access_method: str


def plan_large(connection: Connection, table: LargeTable, split: Split) -> list[PartRange]:
    """The parts of one table, as its rows are now."""
    bounds, pages = None, None
    histogram: Sequence[int] = ()
    if table.key is not None:
        bounds = _key_bounds(connection, table.name, table.key)
        histogram = _histogram(connection, table.name, table.key)
    elif split.by_ctid and table.access_method == "heap" and connection.info.server_version >= TID_RANGE_SCAN:
        pages = _heap_pages(connection, table.oid)
    parts = parts_wanted(table.bytes, split)
    return plan_table(
        parts=parts, key=table.key, bounds=bounds, nullable=table.nullable, pages=pages, histogram=histogram
    )


def _plan_large(connection: Connection, store: CatalogStore, row: Row, split: Split) -> list[PartRange]:
    name, key = Name(row["schema"], row["name"]), row["part_key"]
    nullable = key is not None and not store.value(
        "SELECT not_null FROM copied_column WHERE table_oid = ? AND name = ?", (row["oid"], key)
    )
    table = LargeTable(row["oid"], name, row["bytes"], key, nullable, row["access_method"])
    plan = plan_large(connection, table, split)
    if len(plan) > 1:
        logger.info("Table %s is copied in %d parts, by %s", name, len(plan), key or "ctid")
    else:
        logger.info("Table %s is copied in one piece: no integer key, and no ctid ranges to use", name)
    return plan


def _key_bounds(connection: Connection, name: Name, key: str) -> tuple[int, int] | None:
    column = quote_ident(key)
    row = connection.execute(
        f"SELECT min({column})::bigint, max({column})::bigint FROM ONLY {name.sql}"  # noqa: S608  both are quoted
    ).fetchone()
    return None if row is None or row[0] is None else (row[0], row[1])


def _histogram(connection: Connection, name: Name, key: str) -> Sequence[int]:
    """As the last ANALYZE has seen it: rows are copied whatever it says, in parts that may differ in size."""
    row = connection.execute(
        "SELECT histogram_bounds::text::bigint[] FROM pg_catalog.pg_stats"
        " WHERE schemaname = %s AND tablename = %s AND attname = %s AND NOT inherited",
        (name.schema, name.name, key),
    ).fetchone()
    return [] if row is None or row[0] is None else row[0]


def _heap_pages(connection: Connection, oid: int) -> int:
    """Pages as they are now: the planner's figure is as old as the last ANALYZE."""
    row = connection.execute(
        "SELECT coalesce(pg_catalog.pg_relation_size(%s::oid::regclass), 0) / current_setting('block_size')::bigint",
        (oid,),
    ).fetchone()
    return int(row[0]) if row else 0
