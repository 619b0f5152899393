"""The catalog of a run as JSON: what ``list schema`` prints."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pgcopydb.bootstrap.listing import index_columns, restore_list_name, sequences
from pgcopydb.bootstrap.options import CloneOptions
from pgcopydb.bootstrap.store import CatalogStore, Row
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.names import Name
from pgcopydb.postgres.selection import EVERYTHING
from pgcopydb.runtime.sizes import pretty_size


def schema_json(store: CatalogStore, options: CloneOptions, connection: Connection, source: str) -> dict[str, Any]:
    """Sizes are bytes; ``reltuples`` is the planner's estimate, -1 when unknown.

    ``connection``: to the source. ``source``: how it is named, without secrets.
    """
    columns = _by(store, "SELECT * FROM copied_column ORDER BY table_oid, number", "table_oid")
    parts = _by(store, "SELECT * FROM copy_part ORDER BY table_oid, part", "table_oid")
    constraints = {row["index_oid"]: row for row in store.rows("SELECT * FROM built_constraint")}
    indexes = store.rows(_INDEXES)
    columns_of = index_columns(connection, [row["oid"] for row in indexes])
    copied = {row["oid"] for row in store.rows("SELECT oid FROM sequence")}
    return {
        "setup": {
            "snapshot": None,
            "source_pguri": source,
            "target_pguri": None,
            "table-jobs": options.jobs.tables,
            "index-jobs": options.jobs.indexes,
            "split-tables-larger-than": options.split.larger_than,
        },
        "filters": [str(rule) for rule in options.filters.rules],
        "tables": [
            _table(row, columns.get(row["oid"], []), parts.get(row["oid"], []))
            for row in store.rows("SELECT * FROM copied_table ORDER BY bytes DESC, schema, name")
        ],
        "indexes": [_index(row, constraints.get(row["oid"]), columns_of) for row in indexes],
        "sequences": sorted(
            (row for row in sequences(connection, EVERYTHING) if row["oid"] in copied),
            key=lambda row: (row["schema"], row["name"]),
        ),
        "extensions": [
            dict(row) for row in store.rows("SELECT oid, name, schema, version FROM extension ORDER BY name")
        ],
        "left-out": [dict(row) for row in store.rows("SELECT type, identity FROM left_out ORDER BY type, identity")],
    }


_INDEXES = """
SELECT i.*, t.schema AS table_schema, t.name AS table_name, t.owner
  FROM built_index i JOIN copied_table t ON t.oid = i.table_oid ORDER BY i.schema, i.name
"""


def _by(store: CatalogStore, query: str, key: str) -> dict[int, list[Row]]:
    found: dict[int, list[Row]] = {}
    for row in store.rows(query):
        found.setdefault(row[key], []).append(row)
    return found


def _table(row: Row, columns: list[Row], parts: list[Row]) -> dict[str, Any]:
    return {
        "oid": row["oid"],
        "schema": row["schema"],
        "name": row["name"],
        "qname": Name(row["schema"], row["name"]).sql,
        "owner": row["owner"],
        "reltuples": row["rows"],
        "bytes": row["bytes"],
        "bytes-pretty": pretty_size(row["bytes"]),
        "exclude-data": not row["with_rows"],
        "restore-list-name": restore_list_name(row["schema"], row["name"], row["owner"]),
        "part-key": row["part_key"],
        "cols": [
            {
                "attnum": each["number"],
                "attname": each["name"],
                "type": each["type"],
                "generated": bool(each["generated"]),
            }
            for each in columns
        ],
        "parts": [
            {
                "number": each["part"],
                "total": each["parts"],
                "kind": each["kind"],
                "min": each["lower"],
                "max": each["upper"],
            }
            for each in parts
        ],
    }


def _index(row: Row, constraint: Row | None, columns: Mapping[int, str]) -> dict[str, Any]:
    return {
        "oid": row["oid"],
        "schema": row["schema"],
        "name": row["name"],
        "isPrimary": constraint is not None and constraint["kind"] == "p",
        "isUnique": bool(row["is_unique"]),
        "columns": columns.get(row["oid"], ""),
        "sql": row["sql"],
        "restore-list-name": restore_list_name(row["schema"], row["name"], row["owner"]),
        "table": {"oid": row["table_oid"], "schema": row["table_schema"], "name": row["table_name"]},
        "constraint": None
        if constraint is None
        else {"oid": constraint["oid"], "name": constraint["name"], "sql": constraint["definition"]},
    }
