"""Find the place of each table of the source among tables of the target that somebody else has made.

Reads both servers' catalogs, each kind of fact with one query for all tables (columns in chunks of tables), and the
store; ``routes`` decides. What is true when ``route_tables`` returns: each table that is to be copied has a place;
otherwise it has raised and told everything that stands in the way, and nothing was written.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from pgcopydb.bootstrap.options import CopyFormat
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.routes import (
    Column,
    Problem,
    Route,
    Routes,
    SourceTable,
    Unit,
    columns_of,
    destinations,
    no_place,
    no_table,
    units_of,
)
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name
from pgcopydb.postgres.partitions import PARTITIONED, read_above
from pgcopydb.runtime.errors import TargetError

logger = logging.getLogger(__name__)

_CHUNK: Final = 1000
"""Tables whose columns are held at once."""
_SHOWN: Final = 10


@dataclass(frozen=True, slots=True)
class _Known:
    """What is read but once. ``domains``: what each domain is made of, on the source and on the target."""

    into: Mapping[int, Name]
    units: Mapping[int, Unit]
    kinds: Mapping[Name, str]
    domains: tuple[Mapping[str, str], Mapping[str, str]]
    binary: bool


def route_tables(
    store: CatalogStore, source: Endpoint, target: Endpoint, copy_format: CopyFormat, *, with_rows: bool
) -> Routes:
    """``with_rows``: rows are to be copied; then raises ``TargetError`` when some have no place."""
    rows = store.rows("SELECT oid, schema, name, via_schema, via_name, copied FROM copied_table WHERE with_rows")
    with source.connect("tables") as reader, server_errors(Side.SOURCE, "reading what its tables are parts of"):
        above = read_above(reader)
        here = _kinds(reader)
        domains = _domains(reader)
    tables = [
        SourceTable(
            oid=row["oid"],
            name=name,
            above=above.get(name, ()),
            via=Name(row["via_schema"], row["via_name"]) if row["via_name"] else None,
        )
        for row in rows
        for name in (Name(row["schema"], row["name"]),)
    ]
    pending = {row["oid"] for row in rows if with_rows and row["copied"] is None}
    routes: dict[int, Route] = {}
    problems: list[Problem] = []
    with target.connect("tables") as writer, server_errors(Side.TARGET, "reading its tables"):
        kinds = _kinds(writer)
        there = read_above(writer)
        into = destinations(tables, kinds, there)
        units = units_of(tables, into, kinds, there, above, here)
        known = _Known(into, units, kinds, (domains, _domains(writer)), binary=copy_format is CopyFormat.BINARY)
        for oid, route, found in _routes(store, writer, tables, known):
            if route is not None:
                routes[oid] = route
            problems += found if oid in pending else []
    _refuse(problems)
    _tell(tables, routes, pending)
    roots = store.rows("SELECT schema, name FROM partitioned_table")
    return Routes(routes, frozenset(name for row in roots if (name := Name(*row)) not in kinds))


def _routes(
    store: CatalogStore, target: Connection, tables: Sequence[SourceTable], known: _Known
) -> Iterator[tuple[int, Route | None, Sequence[Problem]]]:
    """Of each table the way that its rows go, where that is another than into a table like it."""
    for start in range(0, len(tables), _CHUNK):
        chunk = tables[start : start + _CHUNK]
        here = _source_columns(store, [table.oid for table in chunk], known.domains[0])
        there = _target_columns(
            target, {known.into[table.oid] for table in chunk if table.oid in known.into}, known.domains[1]
        )
        for table in chunk:
            into = known.into.get(table.oid)
            if into is None:
                yield table.oid, None, [no_place(table)]
                continue
            wrong = no_table(table.name, into, known.kinds[into])
            if wrong is not None:
                yield table.oid, None, [wrong]
                continue
            own = here.get(table.oid, [])
            columns, converted, problems = columns_of(table.name, into, own, there.get(into, {}), binary=known.binary)
            route = Route(into, known.kinds[into] == PARTITIONED, known.units[table.oid], columns, converted)
            yield table.oid, None if _is_plain(table, route, own) else route, problems


def _is_plain(table: SourceTable, route: Route, columns: Sequence[Column]) -> bool:
    """Whether the catalog of the source says it all."""
    return (
        route.into == table.name
        and not (route.partitioned or route.shared or route.converted)
        and route.columns == tuple(column.name for column in columns if not column.generated)
    )


def _source_columns(store: CatalogStore, tables: Sequence[int], domains: Mapping[str, str]) -> dict[int, list[Column]]:
    marks = ", ".join("?" * len(tables))
    found: dict[int, list[Column]] = {}
    for row in store.rows(
        "SELECT table_oid, name, type, generated FROM copied_column"  # noqa: S608  marks alone
        f" WHERE table_oid IN ({marks}) ORDER BY table_oid, number",
        tables,
    ):
        column = Column(row["name"], _base(row["type"], domains), bool(row["generated"]))
        found.setdefault(row["table_oid"], []).append(column)
    return found


def _target_columns(
    target: Connection, tables: Collection[Name], domains: Mapping[str, str]
) -> dict[Name, dict[str, Column]]:
    generated = "a.attgenerated <> ''" if target.info.server_version >= 120000 else "false"
    values = {"schemas": [name.schema for name in tables], "names": [name.name for name in tables]}
    found: dict[Name, dict[str, Column]] = {}
    text = query("target_columns").format(generated=generated)
    for schema, name, column, kind, computed, required in target.execute(text, values).fetchall():
        found.setdefault(Name(schema, name), {})[column] = Column(column, _base(kind, domains), computed, required)
    return found


def _kinds(connection: Connection) -> dict[Name, str]:
    return {Name(row[0], row[1]): str(row[2]) for row in connection.execute(query("relation_kinds")).fetchall()}


def _domains(connection: Connection) -> dict[str, str]:
    return {row[0]: row[1] for row in connection.execute(query("domains")).fetchall()}


def _base(kind: str, domains: Mapping[str, str]) -> str:
    """What a type is made of, or an array's elements: domains of one name may be made of two."""
    while (element := kind.rstrip("[]")) in domains:
        kind = domains[element] + kind[len(element) :]
    return kind


def _refuse(problems: Sequence[Problem]) -> None:
    if not problems:
        return
    for problem in problems:
        logger.error("%s", problem.message)
        logger.error("fix: %s", problem.fix)
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    raise TargetError(
        f"the target's tables cannot take all rows as they are: {problems[0].message}{more}",
        hint=f"{problems[0].fix} Nothing was written: run the same command again then.",
    )


def _tell(tables: Sequence[SourceTable], routes: Mapping[int, Route], pending: Collection[int]) -> None:
    """What an operator may want to know of tables that are copied now."""
    other = [table for table in tables if table.oid in pending and table.oid in routes]
    moved = [f"{table.name} into {routes[table.oid].into}" for table in other if routes[table.oid].into != table.name]
    if moved:
        logger.info("Rows go into another table on the target: %s", _listed(moved))
    converted = [str(table.name) for table in other if routes[table.oid].converted]
    if converted:
        logger.info("Columns have other types on the target, their rows go as text: %s", _listed(converted))
    reshaped = sorted(
        {str(routes[table.oid].into) for table in other if routes[table.oid].partitioned or routes[table.oid].shared}
    )
    if reshaped:
        logger.info("Indexes and constraints are left to whoever made these tables: %s", _listed(reshaped))


def _listed(what: Sequence[str]) -> str:
    more = f" and {len(what) - _SHOWN} more" if len(what) > _SHOWN else ""
    return f"{', '.join(what[:_SHOWN])}{more}"
