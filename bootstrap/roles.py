"""Roles of the whole server: read from the source, written to ``roles.sql``, made on the target.

``roles.sql`` is plain SQL that psql runs too, and that may be edited between ``dump roles`` and ``restore roles``. A
role that the target has already stays as it is; memberships are granted all the same. What the target does not let this
role do (SUPERUSER on a managed server, for example) is a warning, and the rest is done. One transaction: all of it is
there, or nothing.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Iterator, Sequence
from typing import Any, Final

import psycopg

from pgcopydb.bootstrap.properties import setting_clause
from pgcopydb.bootstrap.queries import query
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import quote_ident, quote_literal
from pgcopydb.runtime.durable import disk_errors, write_atomic
from pgcopydb.runtime.errors import ConfigError, SourceError, StateError, TargetError
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

_DENIED: Final = "42501"
_GRANT_OPTIONS_SINCE: Final = 160000
_PRIVILEGED: Final = (
    frozenset({"SUPERUSER", "REPLICATION", "BYPASSRLS"}),
    frozenset({"SUPERUSER", "REPLICATION", "BYPASSRLS", "CREATEROLE", "CREATEDB"}),
)
"""Attributes that a role which may only create others cannot give, nor say that it does not give them."""

_BOOLEAN: Final = {True: "TRUE", False: "FALSE"}
_STATEMENT: Final = re.compile(
    r"\s*(?:(?:--|\\(?:un)?restrict)[^\n]*(?:\n\s*|\Z))*((?:[^;'\"]|'(?:[^']|'')*'|\"(?:[^\"]|\"\")*\")*?)\s*(;|\Z)"
)
_ABOUT: Final = re.compile(r'(CREATE ROLE|ALTER ROLE|COMMENT ON ROLE) ("(?:[^"]|"")+"|[^\s;]+)', re.IGNORECASE)
_GRANT: Final = re.compile(r'(GRANT .+ TO (?:"(?:[^"]|"")+"|\S+)) WITH (.* (?:TRUE|FALSE).*)', re.DOTALL)
_ATTRIBUTES: Final = re.compile(r'(ALTER ROLE (?:"(?:[^"]|"")+"|\S+) WITH) (.*)', re.IGNORECASE | re.DOTALL)


def dump_roles(source: Endpoint, workdir: WorkDir, *, passwords: bool) -> int:
    """Write ``roles.sql``; how many roles. Raises ``SourceError`` when passwords are wanted and may not be read."""
    with source.connect("roles") as connection, server_errors(Side.SOURCE, "reading roles"):
        statements = [*_statements(connection, passwords=passwords)]
    lines = ["-- Roles of the source. What the target has already is left as it is there.\n"]
    write_atomic(workdir.roles_sql, "".join([*lines, *(f"{statement};\n" for statement in statements)]).encode())
    workdir.roles_sql.chmod(0o600)
    count = sum(statement.startswith("CREATE ROLE") for statement in statements)
    logger.info("Wrote %d roles to %s", count, workdir.roles_sql)
    return count


def _statements(connection: Connection, *, passwords: bool) -> Iterator[str]:
    text = query("roles").format(
        password="r.rolpassword" if passwords else "NULL",
        catalog="pg_catalog." + ("pg_authid" if passwords else "pg_roles"),
    )
    try:
        rows = connection.execute(text.encode()).fetchall()
    except psycopg.errors.InsufficientPrivilege:
        raise SourceError(
            "passwords of roles can be read by a superuser only",
            hint="--no-role-passwords copies roles without them.",
        ) from None
    for row in rows:
        yield from _role(row)
    for role, name, value in connection.execute(query("role_settings")).fetchall():
        yield f"ALTER ROLE {quote_ident(role)} SET {setting_clause(name, value)}"
    options = connection.info.server_version >= _GRANT_OPTIONS_SINCE
    members = query("role_members").format(
        inherit="a.inherit_option" if options else "NULL::boolean", set="a.set_option" if options else "NULL::boolean"
    )
    for group, member, admin, inherit, may_set in connection.execute(members.encode()).fetchall():
        given = [f"{name} {_BOOLEAN[on]}" for name, on in (("INHERIT", inherit), ("SET", may_set)) if on is not None]
        chosen = ", ".join([*(["ADMIN OPTION"] if admin and not given else []), *given])
        if admin and given:
            chosen = f"ADMIN TRUE, {chosen}"
        yield f"GRANT {quote_ident(group)} TO {quote_ident(member)}{f' WITH {chosen}' if chosen else ''}"


def _role(row: Sequence[Any]) -> Iterator[str]:
    name, *flags, limit, until, password, comment = row
    role = quote_ident(name)
    yield f"CREATE ROLE {role}"
    words = ("SUPERUSER", "INHERIT", "CREATEROLE", "CREATEDB", "LOGIN", "REPLICATION", "BYPASSRLS")
    attributes = [word if on else f"NO{word}" for word, on in zip(words, flags, strict=True)]
    if limit >= 0:
        attributes.append(f"CONNECTION LIMIT {limit}")
    if password is not None:
        attributes.append(f"PASSWORD {quote_literal(password)}")
    if until is not None:
        attributes.append(f"VALID UNTIL {quote_literal(until)}")
    yield f"ALTER ROLE {role} WITH {' '.join(attributes)}"
    if comment is not None:
        yield f"COMMENT ON ROLE {role} IS {quote_literal(comment)}"


def split_statements(text: str) -> list[str]:
    """The statements of a script of simple ones. ``ConfigError`` for a quote that does not end."""
    found: list[str] = []
    position = 0
    while position < len(text):
        match = _STATEMENT.match(text, position)
        if match is None or match.end() == position:
            line = text.count("\n", 0, position) + 1
            raise ConfigError(f"roles.sql, line {line}: a quote that does not end, or a statement without a semicolon")
        if match[1].strip():
            if match[2] != ";":
                line = text.count("\n", 0, match.start(1)) + 1
                raise ConfigError(f"roles.sql, line {line}: a statement without a semicolon")
            found.append(match[1].strip())
        position = match.end()
    return found


def restore_roles(target: Endpoint, workdir: WorkDir) -> int:
    """Make the roles of ``roles.sql`` that the target does not have; how many. Nothing is done when it fails."""
    if not workdir.roles_sql.exists():
        raise StateError(
            f"there is no {workdir.roles_sql}", hint="`pgcopydb dump roles` of the same work directory writes it."
        )
    with disk_errors(workdir.roles_sql, "reading"):
        statements = split_statements(workdir.roles_sql.read_text(encoding="utf-8"))
    made = 0
    with target.connect("roles") as connection, server_errors(Side.TARGET, "making roles"):
        there = {row[0] for row in connection.execute("SELECT rolname FROM pg_catalog.pg_roles").fetchall()}
        if connection.info.server_version < _GRANT_OPTIONS_SINCE:
            statements = [without_grant_options(statement) for statement in statements]
        with connection.transaction():
            for statement in statements:
                about = _ABOUT.match(statement)
                name = _unquoted(about[2]) if about is not None else ""
                if name in there:
                    if about is not None and about[1].upper() == "CREATE ROLE":
                        logger.info("The target has role %s: it stays as it is", name)
                    continue
                _execute(connection, statement)
                made += about is not None and about[1].upper() == "CREATE ROLE"
    logger.info("Made %d roles", made)
    return made


def without_grant_options(statement: str) -> str:
    """A membership as servers before 16 write it: to inherit is a thing of the member, and SET is always allowed."""
    match = _GRANT.fullmatch(statement)
    if match is None:
        return statement
    if "SET FALSE" in match[2]:
        logger.warning("%s: the target has no memberships without SET", match[1])
    return f"{match[1]} WITH ADMIN OPTION" if "ADMIN TRUE" in match[2] else match[1]


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name.lower()


def _execute(connection: Connection, statement: str) -> None:
    try:
        with connection.transaction():
            connection.execute(statement.encode())
    except psycopg.Error as exc:
        if exc.sqlstate is None:
            raise
        what = _said(statement)
        if exc.sqlstate == _DENIED and any(_done_without(connection, statement, some) for some in _PRIVILEGED):
            return
        if statement.startswith("CREATE ROLE"):
            raise TargetError(
                f"{what}: {exc.diag.message_primary}",
                hint="The role of --target needs CREATEROLE.",
                sqlstate=exc.sqlstate,
            ) from exc
        logger.warning("%s is left out: %s", what, exc.diag.message_primary)


def _done_without(connection: Connection, statement: str, privileged: frozenset[str]) -> bool:
    """Whether it can be done without these attributes, given or taken away."""
    match = _ATTRIBUTES.fullmatch(statement)
    if match is None:
        return False
    words = match[2].split(" ")
    left = [word for word in words if word.removeprefix("NO") not in privileged]
    try:
        with connection.transaction():
            connection.execute(f"{match[1]} {' '.join(left)}".encode())
    except psycopg.errors.InsufficientPrivilege:
        return False
    given = sorted(privileged.intersection(words))
    if given:
        logger.warning("%s: the target does not let %s give %s", match[1], connection.info.user, ", ".join(given))
    return True


def _said(statement: str) -> str:
    """Without the password."""
    return re.sub(r"(PASSWORD) .*", r"\1 …", statement, flags=re.DOTALL)
