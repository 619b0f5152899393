"""Preflight: every problem at once, each with the statement that mends it, and nothing changed by looking."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import orjson
import pytest
from psycopg.conninfo import make_conninfo

from tests.fix_command import Command
from tests.fix_servers import Database, Servers, fresh_database


@pytest.fixture
def limited(source_db: Database, target_db: Database) -> Iterator[tuple[str, str]]:
    """Connection strings of a role without any privilege."""
    for database in (source_db, target_db):
        database.execute("CREATE ROLE limited LOGIN")
    yield make_conninfo(source_db.dsn, user="limited"), make_conninfo(target_db.dsn, user="limited")
    for database in (source_db, target_db):
        database.execute("DROP OWNED BY limited; DROP ROLE limited")


def findings(pgcopydb: Command, source: str, target: str, *options: str) -> dict[tuple[str | None, str], Any]:
    done = pgcopydb.run("check", "--source", source, "--target", target, "--json", *options, check=False)
    assert done.returncode in {0, 4}, done.stderr
    rows = orjson.loads(done.stdout)
    assert (done.returncode == 4) == any(row["severity"] == "error" for row in rows)
    return {(row["side"], row["subject"]): row for row in rows}


def test_nothing_stands_in_the_way(source_db: Database, target_db: Database, pgcopydb: Command) -> None:
    source_db.execute("CREATE TABLE t (i int)")
    assert findings(pgcopydb, source_db.dsn, target_db.dsn) == {}
    plain = pgcopydb.run("check", "--source", source_db.dsn, "--target", target_db.dsn)
    assert "Nothing" in plain.stdout


def test_all_that_a_role_may_not_do_is_found_at_once_and_mended_as_told(
    limited: tuple[str, str], source_db: Database, target_db: Database, pgcopydb: Command
) -> None:
    source_db.execute(
        """
        CREATE SCHEMA "My App";
        CREATE TABLE "My App"."Orders" (i int);
        CREATE SEQUENCE "My App".numbers;
        CREATE TABLE guarded (i int);
        GRANT SELECT ON guarded TO limited;
        ALTER TABLE guarded ENABLE ROW LEVEL SECURITY;
        SELECT lo_create(4711);
        """
    )
    options = ("--no-owner", "--no-acl", "--table-jobs", "2", "--index-jobs", "2", "--large-objects-jobs", "2")
    found = findings(pgcopydb, *limited, *options)
    assert {subject for side, subject in found if side == "source"} == {
        "table My App.Orders",
        "sequence My App.numbers",
        "table public.guarded",
        "large object 4711",
    }
    assert f"database {target_db.name}" in {subject for side, subject in found if side == "target"}
    for (side, subject), row in found.items():
        assert row["severity"] == "error", row
        assert row["fix"], subject
        (source_db if side == "source" else target_db).execute(row["fix"])
    assert not [row for row in findings(pgcopydb, *limited, *options).values() if row["severity"] == "error"]
    pgcopydb.run("clone", "--source", limited[0], "--target", limited[1], "--dir", pgcopydb.folder / "work", *options)
    assert target_db.fetch("SELECT count(*) FROM pg_tables WHERE tableowner = 'limited'") == [(2,)]


def test_a_clone_refuses_what_check_found(
    limited: tuple[str, str], source_db: Database, target_db: Database, pgcopydb: Command
) -> None:
    source_db.execute("CREATE TABLE hidden (i int); CREATE TABLE hidden_too (i int)")
    arguments = ("clone", "--source", limited[0], "--target", target_db.dsn, "--dir", str(pgcopydb.folder / "work"))
    refused = pgcopydb.run(*arguments, check=False)
    assert refused.returncode == 4
    assert 'GRANT SELECT ON "public"."hidden" TO "limited"' in refused.stderr
    assert 'GRANT SELECT ON "public"."hidden_too" TO "limited"' in refused.stderr
    assert target_db.fetch("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'") == [(0,)]
    source_db.execute("GRANT SELECT ON hidden, hidden_too TO limited")
    pgcopydb.run(*arguments)
    assert target_db.fetch("SELECT count(*) FROM hidden, hidden_too") == [(0,)]


def test_roles_extensions_and_tablespaces_that_the_target_lacks(
    servers: Servers, source_db: Database, target_db: Database, pgcopydb: Command
) -> None:
    source_db.execute("CREATE ROLE absentee; CREATE TABLE t (i int); ALTER TABLE t OWNER TO absentee")
    # Named in the catalog only: what an extension looks like whose package the target lacks.
    source_db.execute(
        "CREATE EXTENSION hstore; UPDATE pg_extension SET extname = 'not_packaged' WHERE extname = 'hstore'"
    )
    try:
        found = findings(pgcopydb, source_db.dsn, target_db.dsn)
        role = found["target", "role absentee"]
        assert role["fix"] == 'CREATE ROLE "absentee";'
        assert found["target", "extension not_packaged"]["severity"] == "error"
        assert ("target", "role absentee") not in findings(
            pgcopydb, source_db.dsn, target_db.dsn, "--no-owner", "--no-acl"
        )
        assert ("target", "extension not_packaged") not in findings(
            pgcopydb, source_db.dsn, target_db.dsn, "--skip-extensions"
        )
        assert ("target", "role absentee") not in findings(pgcopydb, source_db.dsn, target_db.dsn, "--no-owner")
        assert ("target", "role absentee") in findings(pgcopydb, source_db.dsn, target_db.dsn, "--no-acl")
        source_db.execute("ALTER TABLE t OWNER TO CURRENT_USER; GRANT SELECT ON t TO absentee")
        assert ("target", "role absentee") in findings(pgcopydb, source_db.dsn, target_db.dsn, "--no-owner")
        assert ("target", "role absentee") not in findings(pgcopydb, source_db.dsn, target_db.dsn, "--no-acl")
        filters = pgcopydb.folder / "filters.ini"
        filters.write_text("[exclude-table]\npublic.t\n")
        without = ("--filters", str(filters))
        assert ("target", "role absentee") not in findings(pgcopydb, source_db.dsn, target_db.dsn, *without)
        target_db.execute(role["fix"])
        assert ("target", "role absentee") not in findings(pgcopydb, source_db.dsn, target_db.dsn)
    finally:
        source_db.execute("DROP TABLE t; DROP ROLE absentee")
        target_db.execute("DROP ROLE IF EXISTS absentee")


def test_encodings(servers: Servers, source_db: Database, pgcopydb: Command) -> None:
    with fresh_database(
        servers.get(15, "target"), "latin", template="template0", encoding="LATIN1", locale="C"
    ) as latin:
        row = findings(pgcopydb, source_db.dsn, latin.dsn)["target", "encoding"]
        assert row["severity"] == "error"
        assert "ENCODING 'UTF8'" in row["fix"]


def test_tables_in_the_way(source_db: Database, target_db: Database, pgcopydb: Command) -> None:
    for database in (source_db, target_db):
        database.execute("CREATE TABLE t (i int)")
    target_db.execute("CREATE TABLE a_stranger (i int)")
    found = findings(pgcopydb, source_db.dsn, target_db.dsn)
    assert found["target", "not empty"]["message"].startswith(("1 of the tables", "1 other"))
    assert found["target", "not empty"]["severity"] in {"error", "note"}
    assert not [
        row
        for row in findings(pgcopydb, source_db.dsn, target_db.dsn, "--drop-if-exists").values()
        if row["severity"] == "error"
    ]


def test_connections_that_are_not_enough(source_db: Database, target_db: Database, pgcopydb: Command) -> None:
    found = findings(pgcopydb, source_db.dsn, target_db.dsn, "--table-jobs", "128")
    assert found["source", "connections"]["severity"] == "error"
    assert found["target", "connections"]["severity"] == "error"
    assert "--table-jobs" in found["source", "connections"]["fix"]


def test_looking_changes_nothing(source_db: Database, target_db: Database, pgcopydb: Command) -> None:
    source_db.execute("CREATE EXTENSION hstore; CREATE TABLE t (h hstore)")
    pgcopydb.run("check", "--source", source_db.dsn, "--target", target_db.dsn)
    assert target_db.fetch("SELECT count(*) FROM pg_extension WHERE extname <> 'plpgsql'") == [(0,)]
    assert target_db.fetch("SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'pgcopydb%'") == [(0,)]
