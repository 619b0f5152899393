"""What a source has, for people and scripts: read once, nothing kept.

Each function reads the catalogs of one connection and gives back rows; filters leave out of them what they leave out of
a copy, by the same decisions.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pgcopydb.bootstrap.copy_plan import LargeTable, PartRange, plan_large
from pgcopydb.bootstrap.filtering import left_out_relations
from pgcopydb.bootstrap.options import Split
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.sequences import read_sequences
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.filters import Fate
from pgcopydb.postgres.names import Name
from pgcopydb.postgres.selection import Selection
from pgcopydb.runtime.errors import SourceError

_WITHOUT_KEY = """
SELECT c.oid::bigint FROM pg_catalog.pg_class c
 WHERE c.relkind = 'r' AND NOT EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisprimary)
"""
_NUMBER_OR_TEXT = re.compile(r"([0-9]+)|([^0-9]+)")
_SIZES = """
SELECT c.oid::bigint, n.nspname, c.relname, c.reltuples::bigint, coalesce(pg_catalog.pg_table_size(c.oid), 0)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.oid = ANY (%s::text[]::oid[])
"""


@dataclass(frozen=True, slots=True)
class ListedTable:
    """``rows`` is the planner's estimate, -1 when unknown; ``why`` it is left out, if it is."""

    oid: int
    name: Name
    rows: int
    bytes: int
    why: str = ""


@dataclass(frozen=True, slots=True)
class ListedPart:
    """``least`` and ``most`` are None where the range is open, and for NULLs; pages for ranges of ``ctid``."""

    part: int
    parts: int
    least: int | None
    most: int | None
    by: str

    @property
    def count(self) -> int | None:
        """How many keys or pages the range has room for, when both ends are known."""
        return None if self.least is None or self.most is None else self.most - self.least + 1


def databases(connection: Connection) -> list[tuple[int, str, int | None]]:
    """Number, name and size; no size of one that this role may not connect to."""
    return [(row[0], row[1], row[2]) for row in connection.execute(query("listed_databases")).fetchall()]


def tables(
    connection: Connection, selection: Selection, *, without_key: bool = False, estimate: bool = False
) -> list[ListedTable]:
    """Those that are copied, the largest first."""
    rows = connection.execute(query("tables"), {"estimate": estimate}).fetchall()
    found = [ListedTable(row[0], Name(row[1], row[2]), row[9], row[10]) for row in rows]
    if without_key:
        keyless = {row[0] for row in connection.execute(_WITHOUT_KEY).fetchall()}
        found = [table for table in found if table.oid in keyless]
    return _largest_first(table for table in found if selection.keeps(table.name))


def skipped_tables(connection: Connection, selection: Selection) -> list[ListedTable]:
    """Relations that filters leave out, or leave the rows of behind, with the rule."""
    left = {name: each for name, each in selection.relations.items() if each.fate is not Fate.KEPT}
    oids = [str(selection.oids[name]) for name in left]
    rows = connection.execute(_SIZES, (oids,)).fetchall()
    return _largest_first(
        ListedTable(row[0], name, row[3], row[4], f"{left[name].fate}: {left[name].why}")
        for row in rows
        for name in (Name(row[1], row[2]),)
    )


def _largest_first(found: Iterator[ListedTable]) -> list[ListedTable]:
    return sorted(found, key=lambda table: (-table.bytes, table.name))


def table_parts(connection: Connection, name: Name, split: Split) -> list[ListedPart]:
    """How a table would be divided; one part when it would not. Raises ``SourceError`` when there is none."""
    rows = connection.execute(query("tables"), {"estimate": split.estimate_sizes}).fetchall()
    row = next((row for row in rows if (row[1], row[2]) == (name.schema, name.name)), None)
    if row is None:
        raise SourceError(f"there is no table {name} on the source", hint="`pgcopydb list tables` shows them.")
    nullable = connection.execute(
        "SELECT NOT attnotnull FROM pg_catalog.pg_attribute WHERE attrelid = %s::oid AND attname = %s",
        (row[0], row[11]),
    ).fetchone()
    table = LargeTable(row[0], name, row[10], row[11], bool(nullable and nullable[0]), row[4])
    return [*_listed_parts(plan_large(connection, table, split), row[11])]


def _listed_parts(plan: Sequence[PartRange], key: str | None) -> Iterator[ListedPart]:
    for number, part in enumerate(plan, start=1):
        by = {"null": f"{key} IS NULL", "key": key or "", "ctid": "ctid"}.get(part.kind, "")
        yield ListedPart(number, len(plan), part.lower, part.upper, by)


def restore_list_name(schema: str, name: str, owner: str) -> str:
    """How ``pg_restore --list`` says which entry is meant."""
    return re.sub(r"[\r\n]", " ", f"{schema} {name} {owner}")


def sequences(connection: Connection, selection: Selection, *, skipped: bool = False) -> list[dict[str, Any]]:
    """Those that are copied, or those that filters leave out. No value of one that this role may not read."""
    gone = left_out_relations(connection, selection)
    rows = [row for row in connection.execute(query("sequences")).fetchall() if (row[0] in gone) is skipped]
    more = {row[0]: row for row in connection.execute(query("listed_sequences")).fetchall()}
    readable = [Name(row[1], row[2]) for row in rows if row[0] in more and more[row[0]][6]]
    values = {name: (value, called) for name, value, called in read_sequences(connection, readable)}
    return [_sequence(row, more[row[0]], values) for row in rows if row[0] in more]


def _sequence(row: Sequence[Any], more: Sequence[Any], values: Mapping[Name, tuple[int, bool]]) -> dict[str, Any]:
    last_value, is_called = values.get(Name(row[1], row[2]), (None, None))
    return {
        "oid": row[0],
        "schema": row[1],
        "name": row[2],
        "owned-by": row[3],
        "attrelid": more[4],
        "attroid": more[5],
        "last-value": last_value,
        "is-called": is_called,
        "restore-list-name": restore_list_name(row[1], row[2], more[3]),
    }


def index_columns(connection: Connection, oids: Sequence[int]) -> dict[int, str]:
    """Names of the columns of each index, with commas between them; expressions have none."""
    rows = connection.execute(query("listed_index_columns"), ([str(oid) for oid in oids],)).fetchall()
    return {row[0]: row[1] or "" for row in rows}


def indexes(
    connection: Connection, selection: Selection, schema: str | None, table: str | None
) -> list[dict[str, Any]]:
    """Of the tables that are copied, or of one."""
    oids = [
        row[0]
        for row in connection.execute(query("tables"), {"estimate": True}).fetchall()
        if selection.keeps(Name(row[1], row[2])) and (table is None or (row[1], row[2]) == (schema or "public", table))
    ]
    period = "coalesce(con.conperiod, false)" if connection.info.server_version >= 180000 else "false"
    gone = left_out_relations(connection, selection)
    rows = connection.execute(query("indexes").format(period=period), {"tables": oids}).fetchall()
    columns = index_columns(connection, [row[0] for row in rows])
    return [
        {
            "oid": row[0],
            "schema": row[2],
            "name": row[3],
            "constraint": row[10],
            "constraint-sql": row[14],
            "sql": row[4],
            "unique": row[6],
            "columns": columns[row[0]],
        }
        for row in rows
        if row[0] not in gone and selection.indexes.get(Name(row[2], row[3])) is None
    ]


def extensions(connection: Connection, selection: Selection) -> list[dict[str, Any]]:
    """With the tables that hold users' rows."""
    config: dict[str, list[dict[str, str]]] = {}
    for row in connection.execute(query("extension_config")).fetchall():
        config.setdefault(row[1], []).append({"schema": row[2], "name": row[3]})
    return [
        {"oid": row[0], "name": row[1], "schema": row[2], "version": row[3], "config": config.get(row[1], [])}
        for row in connection.execute(query("extensions")).fetchall()
        if row[1] not in selection.extensions
    ]


def available_versions(connection: Connection) -> list[dict[str, Any]]:
    """Of each extension that the server could create, the default version first, then the newest."""
    rows = connection.execute(
        "SELECT e.name, e.default_version, array_agg(v.version)"
        " FROM pg_catalog.pg_available_extensions e JOIN pg_catalog.pg_available_extension_versions v USING (name)"
        " GROUP BY 1, 2 ORDER BY 1"
    ).fetchall()
    return [
        {
            "name": name,
            "default": default,
            "versions": sorted(versions, key=lambda each: (each == default, _by_number(each)), reverse=True),
        }
        for name, default, versions in rows
    ]


def _by_number(version: str) -> list[tuple[int, str]]:
    """1.10 is above 1.9."""
    return [(int(number or 0), text) for number, text in _NUMBER_OR_TEXT.findall(version)]


def requirements(connection: Connection, selection: Selection) -> list[dict[str, str]]:
    """Extensions in use, at the version that this server would create today."""
    defaults = {each["name"]: each["default"] for each in available_versions(connection)}
    return [
        {"name": each["name"], "version": defaults.get(each["name"], each["version"])}
        for each in extensions(connection, selection)
    ]


def collations(connection: Connection) -> list[tuple[int, str, str]]:
    """Number, name, and what uses it."""
    return [(row[0], row[1], row[2]) for row in connection.execute(query("listed_collations")).fetchall()]
