"""Settings of the database, and of roles in it: ALTER DATABASE … SET, ALTER ROLE … IN DATABASE … SET.

They are applied after everything else: a setting such as ``default_transaction_read_only`` would get in the way before.
A role that is missing on the target, a parameter that it does not know, a value that it refuses, a privilege that is
missing there: each is a warning that names the setting. Tablespaces have their names of the target. Step
``properties``.
"""

from __future__ import annotations

import logging
import re
from typing import Final

import psycopg

from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.placement import Placement, placement_of
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.store import CatalogStore, Row
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import quote_ident, quote_literal
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

# GUC_LIST_QUOTE parameters: their stored value is a list whose elements are already quoted (guc_tables.c; pg_dump keeps
# the same list in variable_is_guc_list_quote).
_LISTS: Final = frozenset(
    {
        "local_preload_libraries",
        "search_path",
        "session_preload_libraries",
        "shared_preload_libraries",
        "temp_tablespaces",
        "unix_socket_directories",
    }
)

_TABLESPACES: Final = frozenset({"default_tablespace", "temp_tablespaces"})
_LIST_ELEMENT: Final = re.compile(r'"((?:[^"]|"")*)"|([^",\s][^",]*)')

_ABOUT_THE_SETTING: Final = ("0A", "22", "42", "55")
"""Classes of SQLSTATE that say something about the statement; others speak of the server or the connection."""


def fetch_properties(connection: Connection, store: CatalogStore) -> None:
    """Settings of this database alone; those of a role in all databases belong to the role."""
    rows = connection.execute(query("properties")).fetchall()
    store.executemany("INSERT INTO database_setting (role, name, value) VALUES (?, ?, ?)", rows)


def setting_statement(database: str, role: str, name: str, value: str) -> str:
    """``role`` is empty for everybody."""
    scope = f"DATABASE {quote_ident(database)}"
    if role:
        scope = f"ROLE {quote_ident(role)} IN {scope}"
    return f"ALTER {scope} SET {setting_clause(name, value)}"


def setting_clause(name: str, value: str) -> str:
    """What stands behind SET, of a setting as the catalogs keep it."""
    quoted = _list_value(value) if name.lower() in _LISTS else quote_literal(value)
    return f"{'.'.join(quote_ident(part) for part in name.split('.'))} TO {quoted}"


def _list_value(value: str) -> str:
    """Each element as a constant of its own: one constant for all would be one element."""
    return ", ".join(quote_literal(element) for element in list_elements(value)) or "''"


def list_elements(value: str) -> list[str]:
    """Of the stored value of a list whose elements are quoted."""
    return [quoted.replace('""', '"') or bare.strip() for quoted, bare in _LIST_ELEMENT.findall(value)]


def tablespaces_of(name: str, value: str) -> list[str]:
    """Those that a setting names, as the catalogs keep it."""
    if name == "default_tablespace":
        return [value] if value else []
    return [each for each in list_elements(value) if each] if name == "temp_tablespaces" else []


def placed_setting(name: str, value: str, placement: Placement) -> str | None:
    """The value with the target's tablespaces; none where tablespaces are left out."""
    if name not in _TABLESPACES:
        return value
    if not placement.wanted:
        return None
    if name == "default_tablespace":
        return placement.on_target(value)
    return ", ".join(quote_ident(placement.on_target(each)) for each in list_elements(value))


def apply_properties(store: CatalogStore, target: Endpoint, options: RestoreOptions, stop: Stop) -> None:
    """Running it again changes nothing."""
    if store.step_done("properties"):
        return
    settings = store.rows("SELECT role, name, value FROM database_setting ORDER BY role, name")
    with store.step("properties"):
        if settings:
            with target.connect_patiently("properties", stop) as connection:
                placement = placement_of(store, connection, options)
                for row in settings:
                    stop.check()
                    _apply(connection, row, placement)
                    failpoint("properties.after_set")


def _apply(connection: Connection, row: Row, placement: Placement) -> None:
    """A value may be a secret of an application: only the setting's name is told."""
    what = f"setting {row['name']} of {'role ' + row['role'] if row['role'] else 'the database'}"
    value = placed_setting(row["name"], row["value"], placement)
    if value is None:
        logger.info("%s is left out with --no-tablespaces", what)
        return
    statement = setting_statement(connection.info.dbname, row["role"], row["name"], value)
    with server_errors(Side.TARGET, what):
        try:
            connection.execute(statement)
        except psycopg.Error as exc:
            if exc.sqlstate is None or not exc.sqlstate.startswith(_ABOUT_THE_SETTING):
                raise
            logger.warning("%s is left out: %s", what, exc.diag.message_primary)
