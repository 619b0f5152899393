"""What the source must allow: each act is tried, none changes anything."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

import psycopg

from pgcopydb.bootstrap.filtering import CLASS, Address
from pgcopydb.bootstrap.findings import Finding, Severity
from pgcopydb.bootstrap.options import CloneOptions
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.snapshot import begin_under
from pgcopydb.postgres.connect import OLDEST_SOURCE, Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name, quote_ident
from pgcopydb.postgres.selection import Selection
from pgcopydb.postgres.server import ServerFacts

_CHUNK: Final = 200
_SHOWN: Final = 20
_UNLOGGED: Final = "0A000"
"""``feature_not_supported``: what a standby says of unlogged relations."""

_DEFINITIONS: Final = """
SELECT pg_catalog.pg_get_indexdef(indexrelid) FROM pg_catalog.pg_index WHERE indrelid >= 16384
UNION ALL
SELECT pg_catalog.pg_get_constraintdef(oid) FROM pg_catalog.pg_constraint WHERE contype IN ('p', 'u', 'x')
"""

_OWN_SESSIONS: Final = 3
_FOLLOWING_SESSIONS: Final = 6
"""Snapshot, catalog, pg_dump."""


def check_source(
    connection: Connection, facts: ServerFacts, options: CloneOptions, selection: Selection, gone: Collection[Address]
) -> Iterator[Finding]:
    """Findings about the source; the connection is outside a transaction. ``gone``: all that filters leave out."""
    if facts.version < OLDEST_SOURCE:
        yield Finding(
            Severity.ERROR,
            Side.SOURCE,
            "version",
            f"PostgreSQL {facts.version_text} is older than 10, the oldest served",
        )
        return
    yield from _can_export(connection)
    if facts.encoding == "SQL_ASCII":
        # Whether definitions can be read at all: an error here says what is in the way.
        connection.execute(_DEFINITIONS).fetchall()
    tables = [Name(row[1], row[2]) for row in connection.execute(query("tables"), {"estimate": True}).fetchall()]
    tables = [name for name in tables if selection.keeps_rows(name)]
    yield from _readable(connection, facts, tables)
    rows = connection.execute(query("sequences")).fetchall()
    sequences = [Name(row[1], row[2]) for row in rows if (CLASS, row[0]) not in gone]
    for refusal in _refused(connection, sequences):
        unlogged = refusal.sqlstate == _UNLOGGED
        yield _unlogged("sequence", refusal) if unlogged else _no_privilege("sequence", refusal, facts.user)
    if not options.skip.large_objects:
        yield from _large_objects(connection, facts.user)
    yield from _budget(connection, options, len(tables))
    if facts.encoding == "SQL_ASCII" and options.follow is not None:
        yield Finding(
            Severity.WARNING,
            Side.SOURCE,
            "encoding",
            "the database is SQL_ASCII: rows are copied whatever their bytes are, but a change with bytes that are not"
            " UTF-8 cannot be followed and ends the stages",
        )
    if facts.in_recovery and options.split.larger_than:
        yield Finding(Severity.NOTE, Side.SOURCE, "standby", "tables are not split when the source is a standby")


@dataclass(frozen=True, slots=True)
class Refusal:
    """A relation that could not be read."""

    name: Name
    sqlstate: str | None
    said: str


def _can_export(connection: Connection) -> Iterator[Finding]:
    try:
        begin_under(connection, None)
        connection.execute("SELECT pg_catalog.pg_export_snapshot()")
    except psycopg.Error as exc:
        yield Finding(Severity.ERROR, Side.SOURCE, "snapshot", f"cannot be exported: {exc.diag.message_primary}")
    finally:
        connection.execute("ROLLBACK")


def _refused(connection: Connection, names: Sequence[Name]) -> list[Refusal]:
    """Those that cannot be read. Privileges and policies are checked when a query starts, without reading a row."""
    refused: list[Refusal] = []
    for start in range(0, len(names), _CHUNK):
        chunk = names[start : start + _CHUNK]
        if len(chunk) > 1 and _try_reading(connection, chunk) is None:
            continue
        for name in chunk:
            refusal = _try_reading(connection, [name])
            if refusal is not None:
                refused.append(refusal)
    return refused


def _try_reading(connection: Connection, names: Sequence[Name]) -> Refusal | None:
    text = " UNION ALL ".join(f"SELECT NULL FROM ONLY {name.sql} WHERE false" for name in names)  # noqa: S608
    try:
        connection.execute(text)
    except psycopg.errors.UndefinedTable:
        return None  # dropped since it was listed
    except psycopg.Error as exc:
        return Refusal(names[0], exc.sqlstate, exc.diag.message_primary or str(exc))
    return None


def _readable(connection: Connection, facts: ServerFacts, tables: Sequence[Name]) -> Iterator[Finding]:
    for refusal in _refused(connection, tables):
        if refusal.sqlstate == _UNLOGGED:
            yield _unlogged("table", refusal)
        elif _may_select(connection, refusal.name):
            yield Finding(
                Severity.ERROR,
                Side.SOURCE,
                f"table {refusal.name}",
                "row-level security would hide rows from this role",
                f"ALTER ROLE {quote_ident(facts.user)} BYPASSRLS;",
            )
        else:
            yield _no_privilege("table", refusal, facts.user)


def _may_select(connection: Connection, name: Name) -> bool:
    row = connection.execute(
        "SELECT has_schema_privilege(%s, 'USAGE') AND has_table_privilege(to_regclass(%s)::oid, 'SELECT')",
        (name.schema, name.sql),
    ).fetchone()
    return bool(row and row[0])


def _unlogged(kind: str, refusal: Refusal) -> Finding:
    return Finding(
        Severity.ERROR,
        Side.SOURCE,
        f"{kind} {refusal.name}",
        "is unlogged: a standby has nothing of what is in it",
        f"ALTER {kind.upper()} {refusal.name.sql} SET LOGGED; -- on the primary; or copy from the primary",
    )


def _no_privilege(kind: str, refusal: Refusal, user: str) -> Finding:
    schema, role = quote_ident(refusal.name.schema), quote_ident(user)
    on = f"SEQUENCE {refusal.name.sql}" if kind == "sequence" else refusal.name.sql
    return Finding(
        Severity.ERROR,
        Side.SOURCE,
        f"{kind} {refusal.name}",
        f"cannot be read: {refusal.said}",
        f"GRANT USAGE ON SCHEMA {schema} TO {role}; GRANT SELECT ON {on} TO {role};",
    )


def _large_objects(connection: Connection, user: str) -> Iterator[Finding]:
    hidden = [row[0] for row in connection.execute(query("hidden_large_objects")).fetchall()]
    for oid in hidden[: _SHOWN - 1]:
        yield Finding(
            Severity.ERROR,
            Side.SOURCE,
            f"large object {oid}",
            "cannot be read",
            f"GRANT SELECT ON LARGE OBJECT {oid} TO {quote_ident(user)};",
        )
    if len(hidden) == _SHOWN:
        yield Finding(
            Severity.ERROR,
            Side.SOURCE,
            "large objects",
            "more of them cannot be read",
            "or leave them: --skip-large-objects",
        )


def _budget(connection: Connection, options: CloneOptions, tables: int) -> Iterator[Finding]:
    row = connection.execute(query("connection_budget")).fetchone()
    free, locks = row or (0, 0)
    wanted = (options.jobs.tables + options.jobs.large_objects + _OWN_SESSIONS) * options.at_once
    wanted += 0 if options.follow is None else _FOLLOWING_SESSIONS * options.follow.databases
    if wanted > free:
        yield Finding(
            Severity.ERROR,
            Side.SOURCE,
            "connections",
            f"the copy{' and following' * (options.follow is not None)} may need {wanted}, only {free} are free",
            f"lower --table-jobs{', --database-jobs' * (options.at_once > 1)} and --large-objects-jobs, or raise"
            " max_connections",
        )
    if tables > locks:
        yield Finding(
            Severity.WARNING,
            Side.SOURCE,
            "locks",
            f"pg_dump locks all {tables} tables in one transaction, the server has room for about {locks} locks",
            "ALTER SYSTEM SET max_locks_per_transaction = 512; -- and restart the source",
        )
