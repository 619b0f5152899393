"""Find out what would stop a run that copies all databases, before anything is made for any of them.

Reads both servers, database by database; changes nothing. A database that stands on the target is checked as a clone of
it alone is; of one that is to be made there, what can be known before: whether this role may make it, whether the
server has its encoding, its locale and its tablespace, the roles that it names, and what a clone needs that the server
offers in every database (extensions, tablespaces, collations).
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pgcopydb.bootstrap.databases import (
    BUILTIN_SINCE,
    ICU_RULES_SINCE,
    PROVIDERS_SINCE,
    SourceDatabase,
    choose,
    read_databases,
    tablespace_of,
)
from pgcopydb.bootstrap.findings import Finding, Severity
from pgcopydb.bootstrap.options import CloneOptions, Roles
from pgcopydb.bootstrap.placement import read_tablespaces
from pgcopydb.bootstrap.preflight import check_clone, in_order
from pgcopydb.bootstrap.preflight_extensions import attempt
from pgcopydb.bootstrap.preflight_locale import PROVIDERS, NeededCollation, collation_refusal
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name, quote_ident, quote_literal
from pgcopydb.postgres.server import ServerFacts, inspect_server, read_instance
from pgcopydb.runtime.errors import Kind, PgcopydbError
from pgcopydb.runtime.workdir import WorkDir

_OPTIONS: Final = frozenset({"filters", "--tablespace-map", "--requirements"})
"""Subjects of findings that something which was asked for is not there: it has to be in one database alone."""
_SHOWN: Final = 3
_FREE_SLOTS: Final = """
SELECT current_setting('max_replication_slots')::int - (SELECT count(*) FROM pg_catalog.pg_replication_slots),
       current_setting('max_wal_senders')::int - (SELECT count(*) FROM pg_catalog.pg_stat_replication)
"""
_THERE: Final = "SELECT datname, datallowconn AND datconnlimit <> -2 FROM pg_catalog.pg_database"


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run copies, the largest first, and which of these it makes on the target."""

    databases: Sequence[SourceDatabase]
    made: Collection[str]


def check_databases(
    source: Endpoint, target: Endpoint, workdir: WorkDir, options: CloneOptions, excluded: Collection[str]
) -> tuple[Plan, list[Finding]]:
    """Errors first; a finding of several databases once, with their names before it.

    ``source`` and ``target``: of any database of each server.
    """
    with source.connect("preflight") as reader:
        listed = read_databases(reader)
        instance = read_instance(reader, Side.SOURCE)
        chosen, findings = choose(listed, excluded)
        if options.follow is not None:
            findings += _slots(reader, len(chosen))
            options = replace(options, follow=replace(options.follow, databases=len(chosen)))
    options = replace(options, at_once=max(1, min(options.at_once, len(chosen))))
    with target.connect("preflight") as writer:
        facts = inspect_server(writer, Side.TARGET)
        with server_errors(Side.TARGET, "reading which databases the target has"):
            there = {str(row[0]): bool(row[1]) for row in writer.execute(_THERE).fetchall()}
        if instance.serves_what(read_instance(writer, Side.TARGET)):
            findings.append(_same_server())
            return Plan(chosen, []), findings
        made = [each for each in chosen if each.name not in there]
        if made:
            findings += _may_create(writer, facts)
        found = {each.name: [*_check_made(writer, facts, each, options)] for each in made if not facts.in_recovery}
    for each in chosen:
        found.setdefault(each.name, []).extend(_check_one(source, target, workdir, options, each, there))
    return Plan(chosen, {each.name for each in made}), in_order([*findings, *_prefixed(found)])


def _same_server() -> Finding:
    return Finding(
        Severity.ERROR,
        Side.TARGET,
        "server",
        "source and target are the same server: each database would be copied into itself",
        "name another server with --target",
    )


def _slots(reader: Connection, wanted: int) -> Iterator[Finding]:
    """One slot for each database, and a walsender for each."""
    with server_errors(Side.SOURCE, "counting replication slots"):
        row = reader.execute(_FREE_SLOTS).fetchone()
    assert row is not None  # noqa: S101  a query without FROM returns one row
    for setting, free in zip(("max_replication_slots", "max_wal_senders"), row, strict=True):
        if free < wanted:
            yield Finding(
                Severity.ERROR,
                Side.SOURCE,
                "changes",
                f"following {wanted} databases takes as many of {setting}, only {free} are free",
                f"ALTER SYSTEM SET {setting} = …; -- and restart the source; or leave some out: --exclude-database",
            )


def _may_create(writer: Connection, facts: ServerFacts) -> Iterator[Finding]:
    row = writer.execute("SELECT rolcreatedb FROM pg_catalog.pg_roles WHERE rolname = current_user").fetchone()
    if not facts.superuser and row != (True,):
        yield Finding(
            Severity.ERROR,
            Side.TARGET,
            f"role {facts.user}",
            "may not create databases",
            f"ALTER ROLE {quote_ident(facts.user)} CREATEDB;",
        )


def _check_one(
    source: Endpoint,
    target: Endpoint,
    workdir: WorkDir,
    options: CloneOptions,
    database: SourceDatabase,
    there: Mapping[str, bool],
) -> list[Finding]:
    name = database.name
    if not there.get(name, True):
        return [Finding(Severity.ERROR, Side.TARGET, "database", "stands there and allows no connections")]
    reader = source.of_database(name)
    writer = target.of_database(name) if name in there else target
    if options.follow is not None:
        options = replace(options, follow=options.follow.of_database(name))
    try:
        return check_clone(reader, writer, workdir.database(name), options, to_be_made=name not in there)
    except PgcopydbError as error:
        if error.kind is not Kind.OPERATOR:
            raise
        return [Finding(Severity.ERROR, None, "checks", str(error), error.hint)]


def _check_made(
    writer: Connection, facts: ServerFacts, database: SourceDatabase, options: CloneOptions
) -> Iterator[Finding]:
    with server_errors(Side.TARGET, "trying what making a database needs"), writer.transaction(force_rollback=True):
        yield from _locale(writer, facts, database)
        yield from _roles(writer, facts, database, options)
        yield from _tablespace(writer, facts, database, options)


def _locale(writer: Connection, facts: ServerFacts, database: SourceDatabase) -> Iterator[Finding]:
    """A locale of libc is tried as the value of a setting that takes any, whatever the encodings are."""
    create = f"CREATE DATABASE {quote_ident(database.name)} TEMPLATE template0 …;"
    own = f"make it there with one that the server has, and run again: {create}"
    row = writer.execute("SELECT pg_catalog.pg_char_to_encoding(%s)", (database.encoding,)).fetchone()
    if row is None or row[0] < 0:
        yield Finding(Severity.ERROR, Side.TARGET, "encoding", f"{database.encoding} is not known here", own)
    for locale in dict.fromkeys((database.collate, database.ctype)):
        if attempt(writer, f"SET LOCAL lc_monetary = {quote_literal(locale)}") is not None:
            fix = f"install the locale {locale} on the target's host, then restart it; or {own}"
            yield Finding(Severity.ERROR, Side.TARGET, "locale", f"{locale} of libc is not there", fix)
    since = {"i": PROVIDERS_SINCE, "b": BUILTIN_SINCE}.get(database.provider, 0)
    if facts.version < max(since, ICU_RULES_SINCE if database.rules else 0):
        what = "rules for ICU's locales" if database.rules else f"{PROVIDERS[database.provider]} locale of a database"
        yield Finding(Severity.ERROR, Side.TARGET, "locale", f"PostgreSQL {facts.major} knows no {what}", own)
    elif since:
        name, provider = Name("", "database"), database.provider
        like = NeededCollation(name, own=True, provider=provider, collate="", ctype="", locale=database.locale)
        refusal = collation_refusal(writer, like)
        if refusal is not None:
            yield Finding(Severity.ERROR, Side.TARGET, "locale", f"{database.locale} is refused: {refusal}", own)


def _roles(
    writer: Connection, facts: ServerFacts, database: SourceDatabase, options: CloneOptions
) -> Iterator[Finding]:
    if options.roles is not Roles.NO:
        return
    grants = () if options.restore.no_acl else database.grants or ()
    named = [row[0] for row in grants if row[0] not in {None, database.owner}]
    owner = [] if options.restore.no_owner else [database.owner]
    wanted = [*dict.fromkeys([*owner, *named])]
    rows = writer.execute("SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY (%s)", (wanted,)).fetchall()
    there = {row[0] for row in rows}
    for role in wanted:
        if role not in there:
            yield Finding(
                Severity.ERROR,
                Side.TARGET,
                f"role {role}",
                "owns the database on the source, or is granted something on it, and does not exist here (or use"
                " --roles, or --no-owner --no-acl)",
                f"CREATE ROLE {quote_ident(role)};",
            )
    if owner and database.owner in there:
        refusal = attempt(writer, f"SET LOCAL ROLE {quote_ident(database.owner)}")
        if refusal is not None:
            yield Finding(
                Severity.ERROR,
                Side.TARGET,
                f"role {database.owner}",
                f"{facts.user} cannot make it the owner of the database (or use --no-owner)",
                f"GRANT {quote_ident(database.owner)} TO {quote_ident(facts.user)};",
            )


def _tablespace(
    writer: Connection, facts: ServerFacts, database: SourceDatabase, options: CloneOptions
) -> Iterator[Finding]:
    place = tablespace_of(database, options.restore)
    there, _ = read_tablespaces(writer)
    if place is None or there.get(place, False):
        return
    fix = f"GRANT CREATE ON TABLESPACE {quote_ident(place)} TO {quote_ident(facts.user)};"
    if place not in there:
        fix = f"CREATE TABLESPACE {quote_ident(place)} LOCATION '…';"
    yield Finding(
        Severity.ERROR,
        Side.TARGET,
        f"tablespace {place}",
        f"{f'{facts.user} cannot create in it' if place in there else 'does not exist here'}, and the database of the"
        f" source is in {database.tablespace} (or use --tablespace-map {database.tablespace}=OTHER, or"
        " --no-tablespaces)",
        fix,
    )


def _prefixed(found: Mapping[str, Sequence[Finding]]) -> Iterator[Finding]:
    names: dict[Finding, list[str]] = {}
    for name, findings in found.items():
        for finding in findings:
            # The nearest names are other ones in each.
            key = replace(finding, fix=None) if finding.subject in _OPTIONS else finding
            names.setdefault(key, []).append(name)
    for finding, those in names.items():
        if finding.subject in _OPTIONS:
            if len(those) == len(found):
                yield finding
            continue
        more = f" and {len(those) - _SHOWN} more" if len(those) > _SHOWN else ""
        yield replace(finding, subject=f"{', '.join(those[:_SHOWN])}{more}: {finding.subject}")
