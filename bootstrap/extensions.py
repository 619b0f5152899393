"""Which extensions the target has, could create, and is asked for; and creating them.

Reads the extensions of the source (``extension``), their versions that ``--requirements`` asks for, and what the target
offers. Writes extensions, and the schemas that they live in. Creating them again changes nothing. What can be known of
a refusal is said before the first one is created.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pgcopydb.bootstrap.listing import available_versions
from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.run_state import remembered
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import quote_ident, quote_literal
from pgcopydb.runtime.errors import TargetError
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Offered:
    """What the target has: versions by name, of those installed and of those that it could create."""

    installed: Mapping[str, str]
    versions: Mapping[str, Sequence[str]]
    """The default version first."""
    updates: frozenset[tuple[str, str]] = frozenset()
    """Name and version, of those that an installed one can be updated to."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an extension cannot be as it is asked for, and what mends it."""

    message: str
    fix: str
    missing: bool = False
    """Whether the server has no such extension at all."""


def read_offered(connection: Connection) -> Offered:
    rows = connection.execute("SELECT extname, extversion FROM pg_catalog.pg_extension").fetchall()
    updates = connection.execute(
        "SELECT e.extname, p.target FROM pg_catalog.pg_extension e"
        " CROSS JOIN LATERAL pg_catalog.pg_extension_update_paths(e.extname) p"
        " WHERE p.source = e.extversion AND p.path IS NOT NULL"
    ).fetchall()
    versions = {each["name"]: each["versions"] for each in available_versions(connection)}
    return Offered({row[0]: row[1] for row in rows}, versions, frozenset((row[0], row[1]) for row in updates))


def refusal_of(name: str, version: str | None, offered: Offered) -> Refusal | None:
    """``version``: what ``--requirements`` asks for. None where nothing speaks against it."""
    there = offered.installed.get(name)
    if there is not None:
        if version is None or version == there:
            return None
        if (name, version) in offered.updates:
            fix = f"ALTER EXTENSION {quote_ident(name)} UPDATE TO {quote_literal(version)};"
            return Refusal(f"is there with version {there}, --requirements asks for {version}", fix)
        return Refusal(
            f"is there with version {there}, --requirements asks for {version}, and no update leads there",
            f"drop it on the target (DROP EXTENSION {quote_ident(name)};), or ask for {there}",
        )
    versions = offered.versions.get(name)
    if versions is None:
        return Refusal(
            "is not available on this server",
            "install its package on the target's host, or leave it out: [exclude-extension] in --filters, or all of"
            " them with --skip-extensions",
            missing=True,
        )
    if version is not None and version not in versions:
        return Refusal(
            f"is not available in version {version}, which --requirements asks for; there are {', '.join(versions)}",
            "ask for one of these, or install a package that has it on the target's host",
        )
    return None


def create_statement(name: str, schema: str | None, version: str | None) -> str:
    """``schema`` and ``version`` where they are not left to the extension."""
    parts = [f"CREATE EXTENSION IF NOT EXISTS {quote_ident(name)}"]
    if schema is not None:
        parts.append(f"WITH SCHEMA {quote_ident(schema)}")
    if version is not None:
        parts.append(f"VERSION {quote_literal(version)}")
    return " ".join([*parts, "CASCADE"])


def pins_of(store: CatalogStore, options: RestoreOptions) -> dict[str, str] | None:
    """The versions that this run was told; none where extensions are left to pg_restore."""
    given = None if options.requirements is None else dict(options.requirements)
    pins: dict[str, str] | None = remembered(store, "requirements", given, "--requirements")
    return None if options.skip_extensions else pins


def create_extensions(store: CatalogStore, target: Endpoint, options: RestoreOptions, stop: Stop) -> None:
    """Those that the target does not have, in the schemas where the source has them; what they need too."""
    pins = pins_of(store, options) or {}
    rows = store.rows("SELECT name, schema FROM extension ORDER BY position, oid")
    with target.connect_patiently("extensions", stop) as connection:
        with server_errors(Side.TARGET, "reading which extensions the target offers"):
            offered = read_offered(connection)
        _refuse([row["name"] for row in rows], pins, offered)
        for row in rows:
            stop.check()
            name, schema, version = row["name"], row["schema"], pins.get(row["name"])
            if name in offered.installed:
                logger.info("The target has extension %s", name)
                continue
            with server_errors(Side.TARGET, f"creating extension {name}"):
                _create_schema(store, connection, schema, options)
                connection.execute(create_statement(name, schema, version).encode())
                made = connection.execute("SELECT extversion FROM pg_catalog.pg_extension WHERE extname = %s", (name,))
                found = (made.fetchone() or ("",))[0]
            if version not in {None, found}:
                raise TargetError(
                    f"extension {name} was created with version {found}, --requirements asks for {version}",
                    hint="Another extension that needs it brought it. Name that one's version too, drop both, and"
                    " go on with --resume.",
                )
            logger.info("Created extension %s, version %s", name, found)


def _refuse(names: Sequence[str], pins: Mapping[str, str], offered: Offered) -> None:
    refused = [(name, refusal) for name in names if (refusal := refusal_of(name, pins.get(name), offered)) is not None]
    if refused:
        more = f" (and {len(refused) - 1} more)" if len(refused) > 1 else ""
        name, refusal = refused[0]
        raise TargetError(
            f"extension {name} {refusal.message}{more}", hint=f"To mend it: {refusal.fix}. None was created."
        )


def _create_schema(store: CatalogStore, connection: Connection, schema: str, options: RestoreOptions) -> None:
    # IF NOT EXISTS would ask for the right to create one that is there.
    if connection.execute("SELECT FROM pg_catalog.pg_namespace WHERE nspname = %s", (schema,)).fetchone() is not None:
        return
    owner = store.value("SELECT owner FROM namespace WHERE name = ?", (schema,))
    owned = "" if options.no_owner or owner is None or schema == "public" else f" AUTHORIZATION {quote_ident(owner)}"
    connection.execute(f"CREATE SCHEMA {quote_ident(schema)}{owned}".encode())
