"""What the target's catalog says of the tables that changes go to.

Reads the target; remembers each table until ``forget``. A table that is not there is an error that names it.
"""

from __future__ import annotations

from typing import Final

from pgcopydb.apply.statements import TableFacts
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import TargetError

_QUERY: Final = """
SELECT a.attname,
       a.attgenerated <> '' AS computed,
       a.attidentity = 'a' AS always,
       EXISTS (SELECT FROM pg_catalog.pg_index i
                WHERE i.indrelid = c.oid AND a.attnum = ANY (i.indkey::int2[])
                  AND CASE c.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END)
  FROM pg_catalog.pg_class c
  JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
 WHERE n.nspname = %s AND c.relname = %s
"""


class TargetCatalog:
    """Facts of tables, asked for once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._known: dict[Name, TableFacts] = {}

    def facts(self, table: Name) -> TableFacts:
        """Raises ``TargetError`` when there is no such table."""
        if table not in self._known:
            self._known[table] = self._ask(table)
        return self._known[table]

    def forget(self) -> None:
        """The schema may have changed."""
        self._known.clear()

    def _ask(self, table: Name) -> TableFacts:
        query = _QUERY
        if self._connection.info.server_version < 120000:
            query = query.replace("a.attgenerated <> ''", "false")
        with server_errors(Side.TARGET, f"reading the columns of {table}"):
            rows = self._connection.execute(query, (table.schema, table.name)).fetchall()
        if not rows:
            raise TargetError(
                f"table {table} is not on the target, and the source has changed it",
                hint="Create it there as it is on the source, then go on with --resume.",
            )
        return TableFacts(
            key=frozenset(name for name, _, _, key in rows if key),
            computed=frozenset(name for name, computed, _, _ in rows if computed),
            always=frozenset(name for name, _, always, _ in rows if always),
        )
