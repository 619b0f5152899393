"""What the target must allow and must not hold: each act is tried in a transaction that is rolled back."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import Final, NamedTuple

from pgcopydb.bootstrap.filtering import Address
from pgcopydb.bootstrap.findings import Finding, Severity
from pgcopydb.bootstrap.options import CloneOptions, RestoreOptions, Roles
from pgcopydb.bootstrap.preflight_extensions import UsedExtensions, attempt, check_extensions, read_extensions
from pgcopydb.bootstrap.preflight_locale import (
    DatabaseLocale,
    NeededCollation,
    check_collations,
    check_locale,
    read_collations,
    read_locale,
)
from pgcopydb.bootstrap.preflight_placement import UsedTablespaces, check_placement, read_used
from pgcopydb.bootstrap.queries import query
from pgcopydb.postgres.connect import OLDEST_SOURCE, Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name, quote_ident
from pgcopydb.postgres.selection import Selection
from pgcopydb.postgres.server import ServerFacts

_FOLLOWING_SESSIONS: Final = 2
_SHOWN: Final = 10
_PROBE: Final = "pgcopydb_preflight"


class RoleUse(NamedTuple):
    """What a role is needed for. ``acts``: the one who restores has to act as it."""

    acts: bool
    owns: bool
    granted: bool
    in_policy: bool

    def is_restored(self, options: RestoreOptions) -> bool:
        """Whether anything of it is left by the options."""
        return (self.owns and not options.no_owner) or (self.granted and not options.no_acl) or self.in_policy


@dataclass(frozen=True, slots=True)
class Needs:
    """What the source has and the target must be ready for."""

    tables: list[Name]
    schemas: list[str]
    roles: dict[str, RoleUse]
    extensions: UsedExtensions
    tablespaces: UsedTablespaces
    locale: DatabaseLocale
    collations: list[NeededCollation]
    settings: list[tuple[str, str, str]]


def read_needs(source: Connection, selection: Selection, gone: Collection[Address], *, large_objects: bool) -> Needs:
    """Ask the source, set-based, for what is not left out; ``gone`` is all that filters leave out."""
    left_out = {
        "catalogs": [str(catalog) for catalog, _ in gone],
        "objects": [str(oid) for _, oid in gone],
        "no_large_objects": not large_objects,
    }
    tables = [Name(row[1], row[2]) for row in source.execute(query("tables"), {"estimate": True}).fetchall()]
    tables += [Name(row[1], row[2]) for row in source.execute(query("partitioned_tables")).fetchall()]
    settings = [(row[0], row[1], row[2]) for row in source.execute(query("properties")).fetchall()]
    return Needs(
        tables=[name for name in tables if selection.keeps(name)],
        schemas=[row[0] for row in source.execute(query("namespaces")).fetchall() if row[0] not in selection.schemas],
        roles={name: RoleUse(*use) for name, *use in source.execute(query("foreign_roles"), left_out).fetchall()},
        extensions=read_extensions(source, selection),
        tablespaces=read_used(source, selection, settings),
        locale=read_locale(source),
        collations=[each for each in read_collations(source) if each.name.schema not in selection.schemas],
        settings=settings,
    )


def check_target(
    connection: Connection,
    facts: ServerFacts,
    source: ServerFacts,
    needs: Needs,
    options: CloneOptions,
    *,
    to_be_made: bool = False,
) -> Iterator[Finding]:
    """Findings about the target; the connection is outside a transaction, and nothing remains of what is tried.

    ``to_be_made``: about a database that is not there yet, by what another one of its server says.
    """
    if facts.version < OLDEST_SOURCE or facts.in_recovery:
        state = "is a standby" if facts.in_recovery else f"PostgreSQL {facts.version_text} is older than 10"
        yield Finding(Severity.ERROR, Side.TARGET, "server", f"cannot be written by this program: {state}")
        return
    if facts.major < source.major:
        yield Finding(
            Severity.WARNING,
            Side.TARGET,
            "version",
            f"PostgreSQL {facts.major} is older than the source's {source.major}: what it does not know fails",
        )
    with connection.transaction(force_rollback=True):
        if not to_be_made:
            yield from _schemas(connection, facts, needs)
        yield from _roles(connection, facts, needs, options)
        yield from check_extensions(connection, needs.extensions, options.restore, to_be_made=to_be_made)
        yield from check_placement(connection, facts, needs.tablespaces, options, to_be_made=to_be_made)
        yield from _budget(connection, options)
        if not to_be_made:
            if needs.settings and not options.skip.db_properties:
                yield from _settings(connection, facts)
            yield from _emptiness(connection, needs, options)
            yield from check_locale(connection, facts.dbname, needs.locale)
        if not to_be_made or facts.encoding == source.encoding:
            yield from check_collations(connection, needs.collations, options)


def _schemas(connection: Connection, facts: ServerFacts, needs: Needs) -> Iterator[Finding]:
    user, database = quote_ident(facts.user), quote_ident(facts.dbname)
    refusal = attempt(connection, f"CREATE SCHEMA {_PROBE}")
    if refusal is not None:
        yield Finding(
            Severity.ERROR,
            Side.TARGET,
            f"database {facts.dbname}",
            f"schemas cannot be created: {refusal.diag.message_primary}",
            f"GRANT CREATE ON DATABASE {database} TO {user};",
        )
    rows = connection.execute(
        "SELECT nspname FROM pg_catalog.pg_namespace WHERE nspname = ANY (%s)", (needs.schemas,)
    ).fetchall()
    for (schema,) in rows:
        refusal = attempt(connection, f"CREATE TABLE {Name(schema, _PROBE).sql} ()")
        if refusal is not None:
            yield Finding(
                Severity.ERROR,
                Side.TARGET,
                f"schema {schema}",
                f"tables cannot be created: {refusal.diag.message_primary}",
                f"GRANT USAGE, CREATE ON SCHEMA {quote_ident(schema)} TO {user};",
            )


def _roles(connection: Connection, facts: ServerFacts, needs: Needs, options: CloneOptions) -> Iterator[Finding]:
    if options.roles is not Roles.NO:
        return
    roles = {name: use for name, use in needs.roles.items() if use.is_restored(options.restore)}
    rows = connection.execute(
        "SELECT rolname FROM pg_catalog.pg_roles WHERE rolname = ANY (%s)", (list(roles),)
    ).fetchall()
    there = {row[0] for row in rows}
    for role, use in roles.items():
        if role not in there:
            yield Finding(
                Severity.ERROR,
                Side.TARGET,
                f"role {role}",
                "owns or is granted something on the source, and does not exist here (or use --no-owner --no-acl)",
                f"CREATE ROLE {quote_ident(role)};",
            )
        elif (
            use.acts
            and not options.restore.no_owner
            and attempt(connection, f"SET LOCAL ROLE {quote_ident(role)}") is not None
        ):
            yield Finding(
                Severity.ERROR,
                Side.TARGET,
                f"role {role}",
                f"{facts.user} can neither make it the owner of anything nor act as it (or use --no-owner --no-acl)",
                f"GRANT {quote_ident(role)} TO {quote_ident(facts.user)};",
            )


def _settings(connection: Connection, facts: ServerFacts) -> Iterator[Finding]:
    refusal = attempt(connection, f"ALTER DATABASE {quote_ident(facts.dbname)} SET work_mem = '4MB'")
    if refusal is not None:
        yield Finding(
            Severity.WARNING,
            Side.TARGET,
            "database settings",
            f"cannot be set by this role: {refusal.diag.message_primary} (--skip-db-properties leaves them out)",
            f"ALTER DATABASE {quote_ident(facts.dbname)} OWNER TO {quote_ident(facts.user)};",
        )


def _emptiness(connection: Connection, needs: Needs, options: CloneOptions) -> Iterator[Finding]:
    if options.restore.drop_if_exists:
        return
    wanted = {(name.schema, name.name) for name in needs.tables}
    rows = connection.execute(query("user_relations")).fetchall()
    collisions = sorted(Name(*row) for row in rows if tuple(row) in wanted)
    strangers = len(rows) - len(collisions)
    if collisions:
        shown = ", ".join(str(name) for name in collisions[:_SHOWN])
        more = f" and {len(collisions) - _SHOWN} more" if len(collisions) > _SHOWN else ""
        yield Finding(
            Severity.ERROR,
            Side.TARGET,
            "not empty",
            f"{len(collisions)} of the tables exist already: {shown}{more}",
            "replace them with --drop-if-exists, or continue the run that made them: --resume and its --dir",
        )
    if strangers:
        yield Finding(Severity.NOTE, Side.TARGET, "not empty", f"{strangers} other tables exist; they are left alone")


def _budget(connection: Connection, options: CloneOptions) -> Iterator[Finding]:
    row = connection.execute(query("connection_budget")).fetchone()
    free = row[0] if row else 0
    jobs = options.jobs
    vacuum = 0 if options.skip.vacuum else jobs.tables
    wanted = max(jobs.tables + jobs.indexes + vacuum + jobs.large_objects + 1, jobs.restore + 2)
    wanted = wanted * options.at_once + (options.at_once > 1)
    wanted += 0 if options.follow is None else _FOLLOWING_SESSIONS * options.follow.databases
    if wanted > free:
        yield Finding(
            Severity.ERROR,
            Side.TARGET,
            "connections",
            f"the copy{' and following' * (options.follow is not None)} may need {wanted}, only {free} are free",
            f"lower --table-jobs, --index-jobs{', --database-jobs' * (options.at_once > 1)} and --large-objects-jobs,"
            " or raise max_connections",
        )
