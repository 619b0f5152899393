"""What stands above a table, and which table of another server takes its rows.

Reads the catalogs of one server for the tables that a table is a partition of or inherits from. Two tables of one name
are in the same place when the same tables stand above both, divided by the same keys into the same bounds: then each
row of the one belongs into the other. Where they are not, a row belongs where the root of both puts it.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Final, NamedTuple

from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.names import Name

ORDINARY: Final = "r"
PARTITIONED: Final = "p"

_ABOVE: Final = """
WITH RECURSIVE up (oid, child, parent, depth) AS (
    SELECT i.inhrelid, i.inhrelid, i.inhparent, 1
      FROM pg_catalog.pg_inherits i
      JOIN pg_catalog.pg_class c ON c.oid = i.inhrelid AND c.relkind IN ('r', 'p', 'f')
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE {wanted}
    UNION ALL
    SELECT up.oid, i.inhrelid, i.inhparent, up.depth + 1
      FROM up JOIN pg_catalog.pg_inherits i ON i.inhrelid = up.parent
)
SELECT n.nspname, c.relname, up.depth, pn.nspname, p.relname,
       coalesce(pg_catalog.pg_get_expr(child.relpartbound, child.oid), ''),
       coalesce(pg_catalog.pg_get_partkeydef(p.oid), ''),
       coalesce((SELECT string_agg(pg_catalog.format_type(a.atttypid, a.atttypmod), ', ' ORDER BY a.attname)
                   FROM pg_catalog.pg_partitioned_table k
                   JOIN pg_catalog.pg_attribute a ON a.attrelid = k.partrelid
                  WHERE k.partrelid = p.oid AND NOT a.attisdropped
                    AND (a.attnum = ANY (k.partattrs::int2[]) OR k.partexprs IS NOT NULL AND a.attnum > 0)), '')
  FROM up
  JOIN pg_catalog.pg_class c ON c.oid = up.oid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_class child ON child.oid = up.child
  JOIN pg_catalog.pg_class p ON p.oid = up.parent
  JOIN pg_catalog.pg_namespace pn ON pn.oid = p.relnamespace
 ORDER BY 1, 2, 3
"""
_USERS: Final = "n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')"
_ONE: Final = "n.nspname = %s AND c.relname = %s"


class Level(NamedTuple):
    """One table above another. ``key`` and ``bound`` are empty where it is inherited from; ``types``: of the key."""

    parent: Name
    bound: str
    key: str
    types: str


Above = tuple[Level, ...]
"""From the nearest to the root; empty for a table by itself, and for one that inherits from several."""


def read_above(connection: Connection) -> dict[Name, Above]:
    """Of every table that has something above it."""
    return _grouped(connection.execute(_ABOVE.format(wanted=_USERS).encode()).fetchall())


def above_one(connection: Connection, table: Name) -> Above:
    """Of one table."""
    rows = connection.execute(_ABOVE.format(wanted=_ONE).encode(), (table.schema, table.name)).fetchall()
    return _grouped(rows).get(table, ())


def _grouped(rows: Collection[tuple[str, ...]]) -> dict[Name, Above]:
    levels: dict[Name, list[Level]] = {}
    several: set[Name] = set()
    for schema, name, depth, parent_schema, parent, *more in rows:
        table = Name(schema, name)
        found = levels.setdefault(table, [])
        if int(depth) <= len(found):
            several.add(table)
        found.append(Level(Name(parent_schema, parent), *more))
    return {table: () if table in several else tuple(found) for table, found in levels.items()}


def takes_rows_of(table: Name, above: Above, kinds: Mapping[Name, str], there: Above) -> Name | None:
    """The table of the other server that a table's rows belong into; None: it has none.

    ``kinds``: what is on the other server of this table and of those above it, by ``relkind``. ``there``: what stands
    above the table on the other server.
    """
    root = next((level.parent for level in reversed(above) if _takes_rows_of_below(level, kinds)), None)
    if table in kinds and (root is None or above == there or root not in {level.parent for level in there}):
        return table
    return root


def _takes_rows_of_below(level: Level, kinds: Mapping[Name, str]) -> bool:
    """A table without partitions is whole with those of the source; what inherits is not a part of its parent."""
    kind = kinds.get(level.parent)
    return kind == PARTITIONED or (kind == ORDINARY and bool(level.key))
