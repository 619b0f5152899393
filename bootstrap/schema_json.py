"""The catalog of a run as JSON: what ``list schema`` prints."""

from __future__ import annotations

from typing import Any

from pgcopydb.bootstrap.options import CloneOptions
from pgcopydb.bootstrap.store import CatalogStore, Row
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.sizes import pretty_size


def schema_json(store: CatalogStore, options: CloneOptions) -> dict[str, Any]:
    """Sizes are bytes; ``reltuples`` is the planner's estimate, -1 when unknown."""
    columns = _by(store, "SELECT * FROM copied_column ORDER BY table_oid, number", "table_oid")
    parts = _by(store, "SELECT * FROM copy_part ORDER BY table_oid, part", "table_oid")
    constraints = {row["index_oid"]: row for row in store.rows("SELECT * FROM built_constraint")}
    return {
        "setup": {
            "table-jobs": options.jobs.tables,
            "index-jobs": options.jobs.indexes,
            "split-tables-larger-than": options.split.larger_than,
        },
        "filters": [str(rule) for rule in options.filters.rules],
        "tables": [
            _table(row, columns.get(row["oid"], []), parts.get(row["oid"], []))
            for row in store.rows("SELECT * FROM copied_table ORDER BY bytes DESC, schema, name")
        ],
        "indexes": [_index(row, constraints.get(row["oid"])) for row in store.rows(_INDEXES)],
        "sequences": [
            {"oid": row["oid"], "schema": row["schema"], "name": row["name"], "owned-by": row["owned_by"]}
            for row in store.rows("SELECT * FROM sequence ORDER BY schema, name")
        ],
        "extensions": [
            dict(row) for row in store.rows("SELECT oid, name, schema, version FROM extension ORDER BY name")
        ],
        "left-out": [dict(row) for row in store.rows("SELECT type, identity FROM left_out ORDER BY type, identity")],
    }


_INDEXES = """
SELECT i.*, t.schema AS table_schema, t.name AS table_name
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


def _index(row: Row, constraint: Row | None) -> dict[str, Any]:
    return {
        "oid": row["oid"],
        "schema": row["schema"],
        "name": row["name"],
        "isPrimary": constraint is not None and constraint["kind"] == "p",
        "isUnique": bool(row["is_unique"]),
        "sql": row["sql"],
        "table": {"oid": row["table_oid"], "schema": row["table_schema"], "name": row["table_name"]},
        "constraint": None
        if constraint is None
        else {"oid": constraint["oid"], "name": constraint["name"], "sql": constraint["definition"]},
    }
