"""Databases of a server as a whole: which there are, which of them a run copies, how one like another is made.

Reads the shared catalogs; ``make_database`` and ``finish_database`` write the target. One that is made belongs to the
connecting role until ``finish_database`` gives it to the owner that it has on the source, with its grants, its comment
and its limit of connections: until then a role that is no superuser may do in it all that restoring needs, and nobody
is let in who is not on the source. A database that stood on the target before is left as it is: making it is
an error. Finishing can be done again.
"""

from __future__ import annotations

import difflib
import logging
from collections.abc import Collection, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from pgcopydb.bootstrap.findings import Finding, Severity
from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.queries import query
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import quote_ident, quote_literal
from pgcopydb.runtime.failpoint import failpoint

logger = logging.getLogger(__name__)

ICU_RULES_SINCE: Final = 160000
BUILTIN_SINCE: Final = 170000
PROVIDERS_SINCE: Final = 150000
_DEFAULT_TABLESPACE: Final = "pg_default"
_SERVERS_OWN: Final = frozenset({"template0", "template1"})
_INVALID: Final = -2
"""``datconnlimit`` of one whose DROP DATABASE was interrupted: only dropping it again is left."""

_GIVEN_AWAY: Final = """
SELECT FROM pg_catalog.pg_database d JOIN pg_catalog.pg_roles r ON r.oid = d.datdba
 WHERE d.datname = %s AND r.rolname = %s AND r.rolname <> current_user
"""


@dataclass(frozen=True, slots=True)
class SourceDatabase:
    """``provider`` as in ``datlocprovider``; ``grants`` are none where they are the server's defaults."""

    oid: int
    name: str
    bytes: int | None
    encoding: str
    collate: str
    ctype: str
    provider: str
    locale: str
    rules: str
    connections: int
    owner: str
    tablespace: str
    allows_connections: bool
    is_template: bool
    comment: str | None
    grants: Sequence[Sequence[Any]] | None

    def row(self) -> dict[str, Any]:
        """For the store."""
        return asdict(self)


def read_databases(source: Connection) -> list[SourceDatabase]:
    with server_errors(Side.SOURCE, "reading which databases the source has"):
        return [SourceDatabase(*row) for row in source.execute(query("databases")).fetchall()]


def choose(listed: Sequence[SourceDatabase], excluded: Collection[str]) -> tuple[list[SourceDatabase], list[Finding]]:
    """What is copied, the largest first, and what is to be said of the others."""
    chosen = [each for each in listed if each.name not in excluded and _why_not(each) is None]
    chosen.sort(key=lambda each: (-(each.bytes or 0), each.name))
    return chosen, [*_left_out(listed, excluded, chosen)]


def compared_pairs(
    source: Endpoint, target: Endpoint, excluded: Collection[str]
) -> tuple[list[tuple[str, Endpoint, Endpoint | None]], list[Finding]]:
    """Databases of the source that a run would copy, each on both sides; none where the target does not have it."""
    with source.connect("databases") as connection:
        chosen, findings = choose(read_databases(connection), excluded)
    with target.connect("databases") as connection, server_errors(Side.TARGET, "reading which databases it has"):
        there = {each.name for each in chosen if is_there(connection, each.name)}
    pairs: list[tuple[str, Endpoint, Endpoint | None]] = []
    for name in sorted(each.name for each in chosen):
        one, other = (end.of_database(name) for end in (source, target))
        pairs.append((name, one, other if name in there else None))
    return pairs, findings


def _left_out(
    listed: Sequence[SourceDatabase], excluded: Collection[str], chosen: Sequence[SourceDatabase]
) -> Iterator[Finding]:
    names = [each.name for each in listed]
    for name in sorted(set(excluded) - set(names)):
        near = difflib.get_close_matches(name, names, n=3)
        yield Finding(
            Severity.WARNING,
            Side.SOURCE,
            "--exclude-database",
            f"the source has no database {name}",
            f"the nearest names are {', '.join(near)}" if near else None,
        )
    for each in listed:
        why = _why_not(each)
        if why is not None and each.name not in _SERVERS_OWN and each.name not in excluded:
            severity = Severity.NOTE if each.is_template else Severity.WARNING
            yield Finding(severity, Side.SOURCE, f"database {each.name}", f"is left out: {why}")
    if not chosen:
        yield Finding(Severity.ERROR, Side.SOURCE, "databases", "none of the source is left to be copied")


def _why_not(database: SourceDatabase) -> str | None:
    if database.is_template or database.name in _SERVERS_OWN:
        return "it is a template"
    if database.connections == _INVALID:
        return "it was dropped in part, and only dropping it again is left to do with it"
    return None if database.allows_connections else "it allows no connections"


def create_statement(database: SourceDatabase, version: int, tablespace: str | None) -> str:
    """For a target of this version; no ``tablespace`` says nothing of where it is put."""
    words = [
        f"CREATE DATABASE {quote_ident(database.name)} TEMPLATE template0 ENCODING {quote_literal(database.encoding)}",
        f"LC_COLLATE {quote_literal(database.collate)} LC_CTYPE {quote_literal(database.ctype)}",
    ]
    if version >= PROVIDERS_SINCE:
        # Without it the provider is that of the target's templates.
        words.append(
            {
                "i": f"LOCALE_PROVIDER icu ICU_LOCALE {quote_literal(database.locale)}",
                "b": f"LOCALE_PROVIDER builtin BUILTIN_LOCALE {quote_literal(database.locale)}",
            }.get(database.provider, "LOCALE_PROVIDER libc")
        )
    if database.rules:
        words.append(f"ICU_RULES {quote_literal(database.rules)}")
    if tablespace is not None:
        words.append(f"TABLESPACE {quote_ident(tablespace)}")
    return " ".join(words)


def tablespace_of(database: SourceDatabase, options: RestoreOptions) -> str | None:
    """Where it is put on the target; none where nothing is to be said of it."""
    if options.no_tablespaces:
        return None
    place = options.tablespace_map.get(database.tablespace, database.tablespace)
    return None if place == _DEFAULT_TABLESPACE else place


def is_there(target: Connection, name: str) -> bool:
    found = target.execute("SELECT FROM pg_catalog.pg_database WHERE datname = %s", (name,)).fetchone()
    return found is not None


def make_database(target: Connection, database: SourceDatabase, options: RestoreOptions) -> None:
    """``target``: of any database of that server. Raises ``TargetError`` 42P04 when one of that name is there."""
    logger.info("Creating the database")
    place = tablespace_of(database, options)
    with server_errors(Side.TARGET, f"creating database {database.name}"):
        target.execute(create_statement(database, target.info.server_version, place).encode())
    failpoint("databases.after_create")


def finish_database(target: Connection, database: SourceDatabase, options: RestoreOptions) -> None:
    """When all is in it. ``target``: of any database of that server."""
    with server_errors(Side.TARGET, f"setting owner, grants and comment of database {database.name}"):
        # The owner comes last, and a role that has given it away may say nothing more of it.
        if options.no_owner or target.execute(_GIVEN_AWAY, (database.name, database.owner)).fetchone() is None:
            for statement in attributes(database, options):
                target.execute(statement.encode())
    failpoint("databases.after_finish")


def attributes(database: SourceDatabase, options: RestoreOptions) -> Iterator[str]:
    """The owner comes last: what is before is for the one who made it to say."""
    name = f"DATABASE {quote_ident(database.name)}"
    if database.comment is not None and not options.no_comments:
        yield f"COMMENT ON {name} IS {quote_literal(database.comment)}"
    if database.connections >= 0:
        yield f"ALTER {name} CONNECTION LIMIT {database.connections}"
    if database.grants is not None and not options.no_acl:
        yield f"REVOKE ALL ON {name} FROM PUBLIC"
        for grantee, privilege, grantable in database.grants:
            if grantee != database.owner:
                to = "PUBLIC" if grantee is None else quote_ident(grantee)
                yield f"GRANT {privilege} ON {name} TO {to}{' WITH GRANT OPTION' if grantable else ''}"
    if not options.no_owner:
        yield f"ALTER {name} OWNER TO {quote_ident(database.owner)}"
