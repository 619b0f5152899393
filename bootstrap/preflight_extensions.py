"""Whether the target can have the extensions of the source, in the versions that were asked for.

Reads both servers; what is created to try it is rolled back. A refusal names what on the source needs the extension, so
that it can be told whether it may be left out.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

import psycopg

from pgcopydb.bootstrap.extensions import Offered, create_statement, read_offered, refusal_of
from pgcopydb.bootstrap.findings import Finding, Severity
from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.queries import query
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import quote_ident
from pgcopydb.postgres.selection import Selection

_NOT_BY_ITSELF: Final = {
    "citus": "rows of distributed tables are on other nodes, where neither the run's snapshot nor the changes that it"
    " follows reach",
    "timescaledb": "hypertables are restored right only between timescaledb_pre_restore() and"
    " timescaledb_post_restore() on the target, and their changes cannot be followed",
}
"""Extensions whose tables are more than tables: what a copy does not do for them."""


@dataclass(frozen=True, slots=True)
class UsedExtensions:
    """Of the source: versions by name, in the order in which they can be created; and how much needs each, with the
    first few things that do."""

    versions: Mapping[str, str] = field(default_factory=dict)
    schemas: Mapping[str, str] = field(default_factory=dict)
    uses: Mapping[str, tuple[int, Sequence[str]]] = field(default_factory=dict)


def read_extensions(source: Connection, selection: Selection) -> UsedExtensions:
    """Those that filters leave out are not there."""
    rows = source.execute(query("extensions")).fetchall()
    versions = {row[1]: row[3] for row in rows if row[1] not in selection.extensions}
    uses = source.execute(query("extension_uses"), {"names": list(versions)}).fetchall()
    return UsedExtensions(versions, {row[1]: row[2] for row in rows}, {row[0]: (row[1], row[2]) for row in uses})


def check_extensions(
    connection: Connection, used: UsedExtensions, options: RestoreOptions, *, to_be_made: bool = False
) -> Iterator[Finding]:
    """Findings about the target; the connection is in a transaction that is rolled back.

    ``to_be_made``: the database is not there yet; what this role may do in it is what an owner may.
    """
    for name in sorted(_NOT_BY_ITSELF.keys() & used.versions.keys()):
        hint = "do what the manual says of it (extensions), in a rehearsal first"
        yield Finding(Severity.WARNING, Side.SOURCE, f"extension {name}", _NOT_BY_ITSELF[name], hint)
    if options.skip_extensions:
        return
    pins = options.requirements or {}
    offered = read_offered(connection)
    known = offered.installed
    if to_be_made:
        offered = replace(offered, installed={})
    schemas = {row[0] for row in connection.execute("SELECT nspname FROM pg_catalog.pg_namespace").fetchall()}
    yield from _unused(used, pins)
    for name, version in used.versions.items():
        pin = pins.get(name)
        refusal = refusal_of(name, pin, offered)
        if refusal is not None:
            needed = f": {_needed(used, name)}" if refusal.missing else ""
            yield _finding(Severity.ERROR, name, f"{refusal.message}{needed}", refusal.fix)
            continue
        there = offered.installed.get(name)
        if there is None and name not in known:
            # In its schema: what has none of its own would be created in the first of search_path.
            schema = used.schemas[name]
            statement = create_statement(name, schema, pin)
            create = "" if schema in schemas else f"CREATE SCHEMA {quote_ident(schema)}; "
            tried = attempt(connection, create + statement)
            if tried is not None and not (to_be_made and _for_an_owner(connection, name, tried)):
                statement = f"{statement}; -- as a superuser"
                yield _finding(Severity.ERROR, name, f"cannot be created: {tried.diag.message_primary}", statement)
        yield from _other_version(name, version, pin, offered)


def _for_an_owner(connection: Connection, name: str, refusal: psycopg.Error) -> bool:
    """Whether it was refused to this role because of a database that is not its own."""
    if not isinstance(refusal, psycopg.errors.InsufficientPrivilege):
        return False
    row = connection.execute(
        "SELECT bool_or(NOT v.superuser OR coalesce((to_jsonb(v) ->> 'trusted')::bool, false))"
        " FROM pg_catalog.pg_available_extension_versions v WHERE v.name = %s",
        (name,),
    ).fetchone()
    return row == (True,)


def _other_version(name: str, version: str, pin: str | None, offered: Offered) -> Iterator[Finding]:
    there = offered.installed.get(name)
    if there is not None:
        if there != version:
            yield _finding(Severity.NOTE, name, f"has version {there} here and {version} on the source")
        return
    created = pin or offered.versions[name][0]
    if created != version:
        same = " (--requirements can ask for that one)" if version in offered.versions[name] and pin is None else ""
        yield _finding(Severity.NOTE, name, f"is created here with version {created}, the source has {version}{same}")


def _needed(used: UsedExtensions, name: str) -> str:
    count, first = used.uses.get(name, (0, ()))
    if not count:
        return "nothing of the source needs it"
    more = f" and {count - len(first)} more" if count > len(first) else ""
    return f"the source's {', '.join(first)}{more} {'need' if count > 1 else 'needs'} it"


def _unused(used: UsedExtensions, pins: Mapping[str, str]) -> Iterator[Finding]:
    for name in sorted(set(pins) - set(used.versions)):
        near = difflib.get_close_matches(name, [*used.versions], n=3)
        yield Finding(
            Severity.WARNING,
            Side.SOURCE,
            "--requirements",
            f"extension {name} is not copied: the source does not have it, or filters leave it out",
            f"the nearest names are {', '.join(near)}" if near else None,
        )


def _finding(severity: Severity, name: str, message: str, fix: str | None = None) -> Finding:
    return Finding(severity, Side.TARGET, f"extension {name}", message, fix)


def attempt(connection: Connection, statement: str) -> psycopg.Error | None:
    """The server's refusal, if it refuses; what it does is rolled back."""
    try:
        with connection.transaction(force_rollback=True):
            connection.execute(statement.encode())
    except psycopg.Error as exc:
        return exc
    return None
