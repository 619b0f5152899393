"""What both servers' catalogs say of the tables that changes go to.

Reads the target for the columns, and the source for what identifies a row there and for the types of columns; remembers
each table until ``forget``. A table that is not on the target is a ``MissingTable`` error that names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from pgcopydb.apply.statements import Comparison, TableFacts
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import TargetError

_EXACT: Final = (
    "bool", "int2", "int4", "int8", "oid", "text", "varchar", "bpchar", "name", "bytea", "date", "time", "timestamp",
    "timestamptz", "uuid", "macaddr", "macaddr8", "pg_lsn",
)  # fmt: skip
"""Types whose ``=`` tells apart whatever has another text."""

_TARGET: Final = """
SELECT a.attname,
       {generated} AS computed,
       a.attidentity = 'a' AS always,
       CASE WHEN t.typtype = 'e' THEN 'exact'
            WHEN t.typname = ANY (%(exact)s) AND t.typnamespace = 'pg_catalog'::regnamespace
                 AND a.attcollation IN (0, 'pg_catalog."default"'::regcollation, 'pg_catalog."C"'::regcollation,
                                        'pg_catalog."POSIX"'::regcollation) THEN 'exact'
            WHEN t.typcategory IN ('A', 'C', 'X', 'P') OR t.typtype <> 'b' THEN 'text'
            WHEN EXISTS (SELECT FROM pg_catalog.pg_opclass o JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod
                          WHERE o.opcdefault AND o.opcintype = t.oid AND m.amname IN ('btree', 'hash')) THEN 'both'
            ELSE 'text'
       END AS comparison,
       c.relkind::text
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
 WHERE n.nspname = %(schema)s AND c.relname = %(name)s
"""
_IDENTITY: Final = """
SELECT a.attname,
       pg_catalog.format_type(a.atttypid, a.atttypmod),
       coalesce(a.attnum = ANY (chosen.columns), false),
       c.relkind = 'p'
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN LATERAL (
       SELECT i.indkey::int2[] AS columns
         FROM pg_catalog.pg_index i
        WHERE i.indrelid = c.oid AND i.indisvalid
          AND CASE c.relreplident
                   WHEN 'n' THEN false
                   WHEN 'i' THEN i.indisreplident
                   WHEN 'd' THEN i.indisprimary AND i.indimmediate
                   ELSE i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
                        AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute k
                                         WHERE k.attrelid = c.oid AND k.attnum = ANY (i.indkey::int2[])
                                           AND NOT k.attnotnull)
              END
        ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1) chosen ON true
 WHERE n.nspname = %s AND c.relname = %s
"""


class MissingTable(TargetError):
    """A change goes to a table that the target does not have."""


class Catalogs:
    """Facts of tables, asked for once."""

    def __init__(self, source: Connection, target: Connection) -> None:
        self._source = source
        self._target = target
        self._known: dict[Name, TableFacts] = {}

    def facts(self, table: Name) -> TableFacts:
        """Raises ``MissingTable``."""
        known = self._known.get(table)
        if known is None:
            known = self._known[table] = self._ask(table)
        return known

    def forget(self) -> None:
        """The schema may have changed."""
        self._known.clear()

    def _ask(self, table: Name) -> TableFacts:
        columns = self._columns(table)
        if not columns:
            raise MissingTable(
                f"table {table} is not on the target, and the source has changed it",
                hint="Create it there as it is on the source, then go on with --resume.",
            )
        with server_errors(Side.SOURCE, f"reading what identifies rows of {table}"):
            source = self._source.execute(_IDENTITY, (table.schema, table.name)).fetchall()
        # A table that is gone from the source since is taken to be what it is on the target.
        identity = source or self._identity_on_target(table)
        return TableFacts(
            key=frozenset(name for name, _, key, _ in identity if key),
            computed=frozenset(name for name, computed, *_ in columns if computed),
            always=frozenset(name for name, _, always, *_ in columns if always),
            comparisons={name: Comparison(comparison) for name, _, _, comparison, *_ in columns},
            kind=columns[0][4],
            source_types={name: kind for name, kind, *_ in source},
            only_partitions=bool(identity and identity[0][3]),
        )

    def _columns(self, table: Name) -> Sequence[tuple[Any, ...]]:
        generated = "a.attgenerated <> ''" if self._target.info.server_version >= 120000 else "false"
        values = {"schema": table.schema, "name": table.name, "exact": list(_EXACT)}
        with server_errors(Side.TARGET, f"reading the columns of {table}"):
            return self._target.execute(_TARGET.format(generated=generated).encode(), values).fetchall()

    def _identity_on_target(self, table: Name) -> Sequence[tuple[Any, ...]]:
        with server_errors(Side.TARGET, f"reading what identifies rows of {table}"):
            return self._target.execute(_IDENTITY, (table.schema, table.name)).fetchall()
