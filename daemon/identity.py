"""Which tables of the source can be followed, and how: by what identifies their rows.

Reads the source's catalogs (PostgreSQL documentation, "ALTER TABLE … REPLICA IDENTITY"). A table without a usable
replica identity can only be inserted into and truncated as far as followers can tell.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from pgcopydb.daemon.plugins import Plugin
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name
from pgcopydb.postgres.selection import Selection

# Each partition has an identity of its own, whatever its parent says. A primary key is what a parent hands on to those
# that are made later.
_TABLES: Final = """
WITH RECURSIVE followed AS (
    SELECT c.oid, n.nspname, c.relname, c.relkind = 'p' AS partitioned,
           CASE WHEN c.relreplident = 'd' THEN EXISTS (
                     SELECT FROM pg_catalog.pg_index i
                      WHERE i.indrelid = c.oid AND i.indisprimary AND i.indimmediate AND {sent})
                WHEN c.relkind = 'p' OR c.relreplident = 'n' THEN false
                WHEN c.relreplident = 'i' THEN EXISTS (
                     SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid AND i.indisreplident AND {sent})
                ELSE true
           END AS identified
      FROM pg_catalog.pg_class c
      JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind IN ('r', 'p') AND c.relpersistence = 'p'
       AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
       AND NOT EXISTS (
           SELECT FROM pg_catalog.pg_depend d
            WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid AND d.deptype = 'e')
), below (root, oid) AS (
    SELECT f.oid, i.inhrelid FROM followed f JOIN pg_catalog.pg_inherits i ON i.inhparent = f.oid WHERE f.partitioned
    UNION ALL
    SELECT b.root, i.inhrelid FROM below b JOIN pg_catalog.pg_inherits i ON i.inhparent = b.oid
)
SELECT f.nspname, f.relname, f.partitioned,
       f.identified AND NOT EXISTS (
           SELECT FROM below b JOIN followed m ON m.oid = b.oid WHERE b.root = f.oid AND NOT m.identified)
  FROM followed f
 ORDER BY 1, 2
"""
_NOT_COMPUTED: Final = """NOT EXISTS (
                           SELECT FROM pg_catalog.pg_attribute a
                            WHERE a.attrelid = i.indrelid AND a.attnum = ANY (i.indkey) AND a.attgenerated <> '')"""
_INEXACT: Final = """
SELECT DISTINCT n.nspname, c.relname
  FROM pg_catalog.pg_attribute a
  JOIN pg_catalog.pg_class c ON c.oid = a.attrelid
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 WHERE c.relkind = 'r' AND c.relpersistence = 'p' AND a.attnum > 0 AND NOT a.attisdropped
   AND coalesce(nullif(t.typbasetype, 0), t.oid) IN ('float4'::regtype, 'float8'::regtype, 'numeric'::regtype)
   AND n.nspname !~ '^pg_' AND n.nspname NOT IN ('information_schema', 'pgcopydb')
 ORDER BY 1, 2
"""


@dataclass(frozen=True, slots=True)
class FollowedTable:
    """``identified``: UPDATE and DELETE can be followed, of all partitions if it has any."""

    name: Name
    partitioned: bool
    identified: bool


def followed_tables(source: Connection, plugin: Plugin, selection: Selection) -> list[FollowedTable]:
    """All that may be written to, are permanent, and whose rows are not left out.

    pgoutput does not send generated columns, be they a key or not.
    """
    computed = plugin is Plugin.PGOUTPUT and source.info.server_version >= 120000
    query = _TABLES.format(sent=_NOT_COMPUTED if computed else "true")
    with server_errors(Side.SOURCE, "reading which tables can be followed"):
        rows = source.execute(query.encode()).fetchall()
    tables = [FollowedTable(Name(row[0], row[1]), row[2], row[3]) for row in rows]
    return [table for table in tables if selection.keeps_rows(table.name)]


def without_identity(tables: Sequence[FollowedTable]) -> list[Name]:
    """Tables whose UPDATE and DELETE nothing tells apart."""
    return [table.name for table in tables if not table.identified and not table.partitioned]


def tables_that_may_hold_nan(source: Connection) -> list[Name]:
    """Tables with a column of a type that has NaN and infinities: float4, float8, numeric, or a domain over one."""
    with server_errors(Side.SOURCE, "looking for columns that may hold NaN"):
        return [Name(row[0], row[1]) for row in source.execute(_INEXACT).fetchall()]


def publication_members(tables: Sequence[FollowedTable]) -> tuple[list[Name], list[Name]]:
    """Members of the publication of all changes, and of the one of inserts and truncates alone.

    Publishing an UPDATE of a table without an identity makes the source's own UPDATE fail, so those are kept apart. A
    partitioned table brings its partitions, those made later too.
    """
    everything = [table.name for table in tables if table.identified]
    return everything, [table.name for table in tables if not table.identified]
