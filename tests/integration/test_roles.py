"""Roles: attributes, settings, comments, memberships; what the target has stays as it is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pgcopydb.bootstrap.roles import split_statements
from pgcopydb.runtime.errors import ConfigError
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers
from tests.following import pair_of, uris

NAMES = ("migr_admin", "migr_app", "migr 'odd\" role", "migr_group", "migr_plain", "migr_there")
ROLES = """
CREATE ROLE migr_group NOLOGIN;
CREATE ROLE migr_admin SUPERUSER LOGIN REPLICATION BYPASSRLS PASSWORD 'top secret';
CREATE ROLE migr_app LOGIN NOINHERIT CREATEDB CONNECTION LIMIT 7
  VALID UNTIL '2037-01-01 00:00:00+00' PASSWORD 'pw; -- x';
CREATE ROLE "migr 'odd"" role" LOGIN CREATEROLE;
CREATE ROLE migr_there LOGIN CONNECTION LIMIT 3;
COMMENT ON ROLE migr_app IS 'it''s; a -- comment
of two lines';
ALTER ROLE migr_app SET search_path TO "a b", public;
ALTER ROLE migr_app SET work_mem TO '13MB';
GRANT migr_group TO migr_app WITH ADMIN OPTION;
GRANT pg_monitor TO "migr 'odd"" role";
CREATE TABLE owned (id int); ALTER TABLE owned OWNER TO migr_app; GRANT SELECT ON owned TO migr_group;
"""
SEEN = """
SELECT rolname, rolsuper, rolinherit, rolcreaterole, rolcreatedb, rolcanlogin, rolreplication, rolbypassrls,
       rolconnlimit,
       rolvaliduntil::text, {password}, shobj_description(oid, 'pg_authid'),
       (SELECT array_agg(s ORDER BY s) FROM pg_db_role_setting c, unnest(setconfig) s
         WHERE setrole = r.oid AND setdatabase = 0),
       (SELECT array_agg((g.rolname, m.admin_option)::text ORDER BY 1)
          FROM pg_auth_members m JOIN pg_roles g ON g.oid = m.roleid
         WHERE m.member = r.oid)
  FROM pg_authid r WHERE rolname LIKE 'migr%%' ORDER BY 1
"""


def drop_roles(database: Database) -> None:
    with database.connect() as connection:
        there = connection.execute("SELECT rolname FROM pg_roles WHERE rolname LIKE 'migr%'").fetchall()
        for (name,) in there:
            role = psycopg.sql.Identifier(name)
            connection.execute(psycopg.sql.SQL("DROP OWNED BY {} CASCADE").format(role))
            connection.execute(psycopg.sql.SQL("DROP ROLE {}").format(role))


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 17) as pair:
        pair.source.execute(ROLES)
        yield pair
        drop_roles(pair.target)
        drop_roles(pair.source)


def roles(database: Database, shown: str = "rolpassword") -> list[tuple[object, ...]]:
    return database.fetch(SEEN.format(password=shown).replace("%%", "%"))


def test_all_of_a_role(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    done = pgcopydb.run("copy", "roles", "--dir", workdir_path, env=uris(pair))
    assert roles(pair.target) == roles(pair.source)
    assert "secret" not in done.stderr
    assert (workdir_path / "schema" / "roles.sql").stat().st_mode & 0o077 == 0
    # Once more: nothing changes, nothing fails.
    pgcopydb.run("copy", "roles", "--dir", workdir_path, env=uris(pair))
    assert roles(pair.target) == roles(pair.source)


def test_a_target_that_is_older(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    """Memberships have options since 16 that servers before do not read."""
    newer, older = pair.target, pair.source
    drop_roles(older)
    newer.execute(ROLES)
    pgcopydb.run("copy", "roles", "--dir", workdir_path, env=uris(DbPair(newer, older)))
    assert roles(older) == roles(newer)


def test_a_membership_that_two_have_granted(pgcopydb: Command, servers: Servers, workdir_path: Path) -> None:
    """Since 16 each grant has options of its own; what one of them gives the member has."""
    with pair_of(servers, 18, 17) as pair:
        try:
            pair.source.execute(
                "CREATE ROLE migr_group; CREATE ROLE migr_app LOGIN; CREATE ROLE migr_admin;"
                "GRANT migr_group TO migr_admin WITH ADMIN OPTION;"
                "GRANT migr_group TO migr_app WITH INHERIT TRUE, SET TRUE;"
                "GRANT migr_group TO migr_app WITH INHERIT FALSE, SET FALSE GRANTED BY migr_admin"
            )
            pgcopydb.run("copy", "roles", "--dir", workdir_path, env=uris(pair))
            given = (
                "SELECT bool_or(inherit_option), bool_or(set_option), bool_or(admin_option) FROM pg_auth_members"
                " WHERE member = 'migr_app'::regrole"
            )
            assert pair.target.fetch(given) == pair.source.fetch(given) == [(True, True, False)]
        finally:
            drop_roles(pair.target)
            drop_roles(pair.source)


def test_a_clone_with_roles(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    pair.target.execute("CREATE ROLE migr_there NOLOGIN")
    refused = pgcopydb.run("clone", "--dir", workdir_path, env=uris(pair), check=False)
    assert (refused.returncode, "role migr_app" in refused.stderr) == (4, True)
    pgcopydb.run("clone", "--roles", "--dir", workdir_path, env=uris(pair))
    query = (
        "SELECT relowner::regrole::text, has_table_privilege('migr_group', oid, 'SELECT'),"
        " has_table_privilege('migr_group', oid, 'INSERT') FROM pg_class WHERE relname = 'owned'"
    )
    assert pair.target.fetch(query) == pair.source.fetch(query)
    assert pair.target.fetch("SELECT rolcanlogin FROM pg_roles WHERE rolname = 'migr_there'") == [(False,)]


def test_without_passwords_no_superuser_is_needed(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    as_plain = {**uris(pair), "PGCOPYDB_SOURCE_PGURI": pair.source.dsn.replace("postgres@", "migr_there@")}
    refused = pgcopydb.run("dump", "roles", "--dir", workdir_path, env=as_plain, check=False)
    assert (refused.returncode, "--no-role-passwords" in refused.stderr) == (6, True)
    pgcopydb.run("dump", "roles", "--no-role-passwords", "--dir", workdir_path, env=as_plain)
    pgcopydb.run("restore", "roles", "--dir", workdir_path, env=uris(pair))
    assert roles(pair.target, "NULL") == roles(pair.source, "NULL")
    assert pair.target.fetch("SELECT FROM pg_authid WHERE rolname LIKE 'migr%' AND rolpassword IS NOT NULL") == []


def test_a_target_that_allows_less(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    """What a managed server gives: a role that may create others, and no superuser."""
    pair.target.execute("CREATE ROLE migr_plain LOGIN CREATEROLE")
    limited = {**uris(pair), "PGCOPYDB_TARGET_PGURI": pair.target.dsn.replace("postgres@", "migr_plain@")}
    done = pgcopydb.run("copy", "roles", "--dir", workdir_path, env=limited)
    assert "does not let migr_plain give BYPASSRLS, REPLICATION, SUPERUSER" in done.stderr
    assert "secret" not in done.stderr
    made = {row[0]: row for row in roles(pair.target)}
    wanted = {row[0]: row for row in roles(pair.source)}
    assert made.keys() == wanted.keys() | {"migr_plain"}
    for name in ("migr_group", "migr_there"):
        assert made[name][:13] == wanted[name][:13]
    assert made["migr_admin"][1] is False
    assert made["migr_admin"][10] == wanted["migr_admin"][10]
    assert made["migr_app"][8:13] == wanted["migr_app"][8:13]


def test_a_target_that_allows_nothing(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    pair.target.execute("CREATE ROLE migr_plain LOGIN")
    limited = {**uris(pair), "PGCOPYDB_TARGET_PGURI": pair.target.dsn.replace("postgres@", "migr_plain@")}
    refused = pgcopydb.run("copy", "roles", "--dir", workdir_path, env=limited, check=False)
    assert (refused.returncode, "needs CREATEROLE" in refused.stderr) == (7, True)
    assert [row[0] for row in roles(pair.target)] == ["migr_plain"]


def test_a_file_that_pg_dumpall_wrote_is_read_too() -> None:
    text = """--
-- PostgreSQL database cluster dump
--
\\restrict abc
SET default_transaction_read_only = off;

CREATE ROLE a;
ALTER ROLE a WITH PASSWORD 'x;''y';
COMMENT ON ROLE "b;c" IS '-- no
remark';
\\unrestrict abc
"""
    assert split_statements(text) == [
        "SET default_transaction_read_only = off",
        "CREATE ROLE a",
        "ALTER ROLE a WITH PASSWORD 'x;''y'",
        "COMMENT ON ROLE \"b;c\" IS '-- no\nremark'",
    ]


@pytest.mark.parametrize("text", ["CREATE ROLE a", "CREATE ROLE a;\nALTER ROLE a PASSWORD 'x;\n"])
def test_a_file_that_was_cut_is_refused(text: str) -> None:
    with pytest.raises(ConfigError, match=r"roles.sql, line \d"):
        split_statements(text)
