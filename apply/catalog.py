"""What both servers' catalogs say of the tables that changes go to.

Reads the target for the columns, and the source for what identifies a row there and for the types of columns; remembers
each table until ``forget``. Where the target has a table in another place than the source, the one that takes its rows
is found. A table that is not on the target is a ``MissingTable`` error that names it.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, NamedTuple

from pgcopydb.apply.statements import Comparison, TableFacts, one_line_ident
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.filters import Fate
from pgcopydb.postgres.names import Name
from pgcopydb.postgres.partitions import above_one, takes_rows_of
from pgcopydb.postgres.selection import EVERYTHING, Selection, select_later
from pgcopydb.runtime.errors import TargetError

_EXACT: Final = (
    "bool", "int2", "int4", "int8", "oid", "text", "varchar", "name", "bytea", "date", "time", "timestamp",
    "timestamptz", "uuid", "macaddr", "macaddr8", "pg_lsn",
)  # fmt: skip
"""Types whose ``=`` tells apart whatever has another text."""
_CATALOG: Final = "pg_catalog"
_VIRTUAL: Final = "v"
_KEPT_TABLES: Final = 20_000
"""More are asked for again: what is remembered is bounded."""

_COLUMNS: Final = """
SELECT a.attname,
       {generated},
       a.attidentity = 'a',
       a.atttypid,
       a.attcollation IN (0, 'pg_catalog."default"'::regcollation, 'pg_catalog."C"'::regcollation,
                          'pg_catalog."POSIX"'::regcollation),
       c.relkind::text,
       pg_catalog.format_type(a.atttypid, a.atttypmod)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE n.nspname = %s AND c.relname = %s
"""
"""One row without a name for a table that has no columns."""
_TYPES: Final = """
SELECT t.oid,
       CASE WHEN t.typtype = 'e' OR t.typname = ANY (%(exact)s) AND t.typnamespace = 'pg_catalog'::regnamespace
            THEN 'exact'
            WHEN t.typcategory IN ('A', 'C', 'X', 'P') OR t.typtype <> 'b' OR equal.operator IS NULL THEN 'text'
            ELSE 'both'
       END,
       equal.schema,
       equal.operator,
       of_literals.schema,
       of_literals.name
  FROM pg_catalog.pg_type t
  JOIN LATERAL (
       WITH RECURSIVE based AS (
            SELECT t.oid, t.typtype, t.typbasetype, t.typname, t.typnamespace
             UNION ALL
            SELECT u.oid, u.typtype, u.typbasetype, u.typname, u.typnamespace
              FROM based JOIN pg_catalog.pg_type u ON u.oid = based.typbasetype
             WHERE based.typtype = 'd')
       SELECT * FROM based WHERE typtype <> 'd') base ON true
  LEFT JOIN LATERAL (
       SELECT s.nspname AS schema, p.oprname AS operator
         FROM pg_catalog.pg_opclass o
         JOIN pg_catalog.pg_am m ON m.oid = o.opcmethod
         JOIN pg_catalog.pg_amop x ON x.amopfamily = o.opcfamily AND x.amoplefttype = o.opcintype
              AND x.amoprighttype = o.opcintype
         JOIN pg_catalog.pg_operator p ON p.oid = x.amopopr
         JOIN pg_catalog.pg_namespace s ON s.oid = p.oprnamespace
        WHERE o.opcdefault AND o.opcintype = base.oid
          AND (m.amname, x.amopstrategy) IN (('btree', 3), ('hash', 1))
        ORDER BY m.amname LIMIT 1) equal ON true
  LEFT JOIN LATERAL (
       SELECT s.nspname AS schema, base.typname AS name
         FROM pg_catalog.pg_namespace s
        WHERE s.oid = base.typnamespace
          AND (base.typtype = 'c' OR s.nspname = 'pg_catalog' AND base.typname LIKE 'reg%%')) of_literals ON true
 WHERE t.oid = ANY (%(types)s)
"""
"""What compares two values is found by the type, for a session's path does not lead to the operators of extensions.
A constant is read as the type that an operator takes, so those that are declared for others, ``record`` and ``oid``,
need to be told of which type it is."""
_IDENTITY: Final = """
SELECT a.attname,
       pg_catalog.format_type(a.atttypid, a.atttypmod),
       coalesce(a.attnum = ANY (chosen.columns), false),
       c.relkind = 'p',
       CASE WHEN {generated} = '' THEN pg_catalog.pg_get_expr(d.adbin, d.adrelid) END,
       {generated}::text
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
  LEFT JOIN pg_catalog.pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
  LEFT JOIN LATERAL (
       SELECT keys.columns
         FROM pg_catalog.pg_index i, LATERAL (SELECT {keys} AS columns) keys
        WHERE i.indrelid = c.oid AND i.indisvalid
          AND CASE c.relreplident
                   WHEN 'n' THEN false
                   WHEN 'i' THEN i.indisreplident
                   WHEN 'd' THEN i.indisprimary AND i.indimmediate
                   ELSE i.indisunique AND i.indimmediate AND i.indpred IS NULL AND i.indexprs IS NULL
                        AND NOT EXISTS (SELECT FROM pg_catalog.pg_attribute k
                                         WHERE k.attrelid = c.oid AND k.attnum = ANY (keys.columns)
                                           AND NOT k.attnotnull)
              END
        ORDER BY i.indisprimary DESC, i.indexrelid LIMIT 1) chosen ON true
 WHERE n.nspname = %s AND c.relname = %s
"""


_KINDS: Final = """
SELECT n.nspname, c.relname, c.relkind::text
  FROM unnest(%s::text[], %s::text[]) AS wanted (schema, name)
  JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'f')
"""
_BOUND: Final = """
SELECT pg_catalog.pg_get_partition_constraintdef(c.oid)
  FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE n.nspname = %s AND c.relname = %s AND c.relispartition
"""
_OF_THIS_SERVER: Final = "satisfies_hash_partition("
"""It names a table by its number."""
_PARTS: Final = """
WITH RECURSIVE below (oid) AS (
    SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
     WHERE n.nspname = %s AND c.relname = %s
    UNION
    SELECT i.inhrelid FROM below JOIN pg_catalog.pg_inherits i ON i.inhparent = below.oid
)
SELECT n.nspname, c.relname
  FROM below JOIN pg_catalog.pg_class c ON c.oid = below.oid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind = 'r'
"""


class _Column(NamedTuple):
    """A column of the target. ``plain``: its collation makes no texts equal that differ, or there is none."""

    name: str
    computed: bool
    always: bool
    type: int
    plain: bool
    kind: str
    printed_type: str


class _Type(NamedTuple):
    """``operator`` says that two values are equal. ``name``: as what a constant is to be read that is compared with
    one, where that needs saying."""

    oid: int
    comparison: Comparison
    operator_schema: str | None
    operator: str
    schema: str | None
    name: str

    def comparison_in(self, column: _Column) -> Comparison:
        return Comparison.BOTH if self.comparison is Comparison.EXACT and not column.plain else self.comparison


class MissingTable(TargetError):
    """A change goes to a table that the target does not have."""


class Catalogs:
    """Facts of tables, asked for once."""

    def __init__(self, source: Connection, target: Connection, selection: Selection = EVERYTHING) -> None:
        self._source = source
        self._selection = selection
        self._followed: dict[Name, bool] = {}
        self._target = target
        self._known: dict[Name, TableFacts] = {}
        self._types: dict[int, _Type] = {}

    def follows(self, table: Name) -> bool:
        """Whether filters let changes of a table through; of one that was made since, too."""
        if not self._selection:
            return True
        known = self._followed.get(table)
        if known is None:
            if len(self._followed) >= _KEPT_TABLES:
                self._followed.clear()
            fate = select_later(self._source, self._selection, table).fate
            known = self._followed[table] = fate is Fate.KEPT
        return known

    def facts(self, table: Name) -> TableFacts:
        """Raises ``MissingTable``."""
        known = self._known.get(table)
        if known is None:
            if len(self._known) >= _KEPT_TABLES:
                self._known.clear()
            known = self._known[table] = self._ask(table)
        return known

    def parts(self, table: Name) -> frozenset[Name]:
        """What of the source holds the rows of a table: itself, and all below it."""
        with server_errors(Side.SOURCE, f"reading what {table} is made of"):
            rows = self._source.execute(_PARTS, (table.schema, table.name)).fetchall()
        return frozenset(Name(*row) for row in rows)

    def forget(self) -> None:
        """The schema may have changed."""
        self._known.clear()
        self._types.clear()
        self._followed.clear()

    def _ask(self, table: Name) -> TableFacts:
        into = self._place_of(table)
        rows = self._columns(into)
        if not rows:
            raise MissingTable(
                f"table {table} is not on the target, and the source has changed it",
                hint="Create it there as it is on the source, then go on with --resume.",
            )
        columns = [column for column in rows if column.name is not None]
        kinds = {column.name: column.printed_type for column in columns}
        source = _identity(self._source, Side.SOURCE, table)
        # A table that is gone from the source since is taken to be what it is on the target.
        identity = source or _identity(self._target, Side.TARGET, table)
        types = {column.name: self._types[column.type] for column in columns}
        return TableFacts(
            key=frozenset(name for name, _, key, *_ in identity if key),
            computed=frozenset(column.name for column in columns if column.computed),
            always=frozenset(column.name for column in columns if column.always),
            comparisons={column.name: types[column.name].comparison_in(column) for column in columns},
            operators={
                name: f"OPERATOR({one_line_ident(found.operator_schema)}.{found.operator})"
                for name, found in types.items()
                if found.operator_schema is not None and found.operator_schema != _CATALOG
            },
            casts={
                name: f"::{one_line_ident(found.schema)}.{one_line_ident(found.name)}"
                for name, found in types.items()
                if found.schema is not None
            },
            kind=rows[0].kind,
            source_types={name: kind for name, kind, *_ in source},
            defaults={name: default for name, *_, default, _ in source if default is not None},
            only_partitions=bool(identity and identity[0][3]),
            into=None if into == table else into,
            bound="" if into == table else self._bound(table),
            source_computed=frozenset(name for name, *_, generated in source if generated),
            never_logged=frozenset(name for name, *_, generated in source if generated == _VIRTUAL),
            converted={
                name: kinds[name]
                for name, kind, *_ in source
                if kinds.get(name, kind) != kind and not set(kinds[name]) & {"\n", "\r"}
            },
        )

    def _place_of(self, table: Name) -> Name:
        """The target's table that takes the rows of one of the source; itself when nothing else does."""
        with server_errors(Side.SOURCE, f"reading what {table} is a part of"):
            above = above_one(self._source, table)
        if not above:
            return table
        names = [table, *(level.parent for level in above)]
        with server_errors(Side.TARGET, f"looking for the place of {table}"):
            rows = self._target.execute(_KINDS, ([name.schema for name in names], [name.name for name in names]))
            kinds = {Name(schema, name): kind for schema, name, kind in rows}
            there = above_one(self._target, table)
        return takes_rows_of(table, above, kinds, there) or table

    def _bound(self, table: Name) -> str:
        """What rows of a partition of the source meet, if another server understands it, and on one line."""
        if self._source.info.server_version < 110000:
            return ""
        with server_errors(Side.SOURCE, f"reading the bounds of {table}"):
            row = self._source.execute(_BOUND, (table.schema, table.name)).fetchone()
        bound = str(row[0]) if row is not None and row[0] else ""
        return "" if _OF_THIS_SERVER in bound or "\n" in bound or "\r" in bound else bound

    def _columns(self, table: Name) -> Sequence[_Column]:
        generated = "a.attgenerated <> ''" if self._target.info.server_version >= 120000 else "false"
        with server_errors(Side.TARGET, f"reading the columns of {table}"):
            rows = self._target.execute(_COLUMNS.format(generated=generated).encode(), (table.schema, table.name))
            columns = [_Column(*row) for row in rows]
            unknown = {column.type for column in columns if column.name is not None}.difference(self._types)
            if unknown:
                values = {"exact": list(_EXACT), "types": list(unknown)}
                for oid, comparison, *more in self._target.execute(_TYPES, values):
                    self._types[oid] = _Type(oid, Comparison(comparison), *more)
        return columns


def _identity(server: Connection, side: Side, table: Name) -> Sequence[tuple[Any, ...]]:
    # An index may hold columns that are no part of its key, behind those that are.
    keys = "(i.indkey::int2[])[0:i.indnkeyatts - 1]" if server.info.server_version >= 110000 else "i.indkey::int2[]"
    generated = "a.attgenerated" if server.info.server_version >= 120000 else "''"
    with server_errors(side, f"reading what identifies rows of {table}"):
        query = _IDENTITY.format(keys=keys, generated=generated).encode()
        return server.execute(query, (table.schema, table.name)).fetchall()
