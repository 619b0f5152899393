"""The target was written to by others: what is said of it, what is applied, and how the run ends."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers, fresh_database
from tests.following import uris

PLUGINS = ("test_decoding", "pgoutput")


@pytest.fixture
def pair(servers: Servers, pgcopydb: Command, workdir_path: Path) -> Iterator[DbPair]:
    """The same rows on both sides; what comes then is received and not applied yet."""
    with (
        fresh_database(servers.get(15), "source") as source,
        fresh_database(servers.get(17, "target"), "target") as target,
    ):
        pair = DbPair(source, target)
        for database in (source, target):
            database.execute(
                "CREATE TABLE t (id int PRIMARY KEY, v text); CREATE TABLE other (id int PRIMARY KEY);"
                "INSERT INTO t SELECT i, 'old' FROM generate_series(1, 5) i"
            )
        pgcopydb.run("stream", "setup", "--plugin", "test_decoding", "--dir", workdir_path, env=uris(pair))
        yield pair
        pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=uris(pair))


def follow(pair: DbPair, command: Command, workdir: Path, *more: str, code: int = 0) -> str:
    pair.source.execute("UPDATE pgcopydb.sentinel SET apply = true, endpos = pg_current_wal_flush_lsn()")
    done = command.run("follow", "--dir", workdir, *more, env=uris(pair), check=False)
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done.stderr


def values(pair: DbPair) -> dict[int, str]:
    return dict(pair.target.fetch("SELECT id, v FROM t"))


def test_a_row_that_is_missing(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Replay stops before its transaction; when the row is there, all comes."""
    pair.target.execute("DELETE FROM t WHERE id = 3")
    for number in (2, 3, 4):
        pair.source.execute(f"UPDATE t SET v = 'new' WHERE id = {number}")
    said = follow(pair, pgcopydb, workdir_path, code=7)
    assert """0 rows instead of 1 by UPDATE ONLY "public"."t" SET "v" = 'new' WHERE "id" = '3'""" in said
    assert "--on-conflict warn" in said
    assert "2 received transactions remain" in said
    assert values(pair) == {1: "old", 2: "new", 4: "old", 5: "old"}
    pair.target.execute("INSERT INTO t VALUES (3, 'old')")
    follow(pair, pgcopydb, workdir_path)
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_rows_that_are_missing_are_let_be(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Each one is named, all else is applied, and the run does not end well."""
    pair.target.execute("DELETE FROM t WHERE id IN (3, 4)")
    pair.source.execute("UPDATE t SET v = 'new' WHERE id = 2; DELETE FROM t WHERE id = 3; UPDATE t SET v = 'x'")
    said = follow(pair, pgcopydb, workdir_path, "--on-conflict", "warn", code=12)
    assert """by DELETE FROM ONLY "public"."t" WHERE "id" IN ('3')""" in said
    assert """0 rows instead of 1 by UPDATE ONLY "public"."t" SET "v" = 'x' WHERE "id" = '4'""" in said
    assert "2 changes did not find the rows" in said
    assert values(pair) == {1: "x", 2: "x", 5: "x"}
    follow(pair, pgcopydb, workdir_path, code=12)  # it does not become right by being asked once more


@pytest.mark.parametrize("on_conflict", ["error", "warn"])
def test_a_row_that_is_there_already(on_conflict: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Which of the two is right nobody can tell: also where missing rows are accepted."""
    pair.target.execute("INSERT INTO t VALUES (7, 'theirs')")
    pair.source.execute("INSERT INTO t VALUES (6, 'ours')")
    pair.source.execute("BEGIN; INSERT INTO other VALUES (1); INSERT INTO t VALUES (7, 'ours'); COMMIT")
    pair.source.execute("INSERT INTO t VALUES (8, 'ours')")
    said = follow(pair, pgcopydb, workdir_path, "--on-conflict", on_conflict, code=7)
    assert "duplicate key" in said
    assert "Key (id)=(7) already exists" in said
    assert 'INSERT INTO "public"."t"' in said
    assert "written to by others" in said
    assert "2 received transactions remain" in said
    assert {6, 7} == set(values(pair)) - {1, 2, 3, 4, 5}
    assert pair.target.fetch("SELECT * FROM other") == []
    pair.target.execute("DELETE FROM t WHERE id = 7")
    follow(pair, pgcopydb, workdir_path)
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_a_table_that_was_removed(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Before its changes are transformed, and behind that."""
    pair.source.execute("INSERT INTO other VALUES (1)")
    pair.source.execute("UPDATE t SET v = 'new' WHERE id = 1")
    pair.source.execute("UPDATE pgcopydb.sentinel SET endpos = pg_current_wal_flush_lsn()")
    pgcopydb.run("stream", "prefetch", "--dir", workdir_path, env=uris(pair))
    pair.target.execute("DROP TABLE t")
    said = follow(pair, pgcopydb, workdir_path, code=7)
    assert 'relation "public.t" does not exist' in said
    assert "1 received transactions remain" in said
    assert pair.target.fetch("SELECT * FROM other") == [(1,)]
    pair.source.execute("DELETE FROM other")
    pair.target.execute("DROP TABLE other; CREATE TABLE t (id int PRIMARY KEY, v text)")
    pair.target.execute("INSERT INTO t SELECT i, 'old' FROM generate_series(1, 5) i")
    said = follow(pair, pgcopydb, workdir_path, code=7)
    assert "table public.other is not on the target" in said
    assert values(pair)[1] == "new"
    pair.target.execute("CREATE TABLE other (id int PRIMARY KEY); INSERT INTO other VALUES (1)")
    follow(pair, pgcopydb, workdir_path)
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_what_the_role_may_not_write_to(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.target.execute("CREATE FUNCTION no() RETURNS trigger LANGUAGE plpgsql AS $$BEGIN RAISE 'not here'; END$$")
    pair.target.execute("CREATE TRIGGER no BEFORE INSERT ON other FOR EACH ROW EXECUTE FUNCTION no()")
    pair.target.execute("ALTER TABLE other ENABLE ALWAYS TRIGGER no")
    pair.source.execute("INSERT INTO other VALUES (1)")
    said = follow(pair, pgcopydb, workdir_path, code=7)
    assert "not here" in said
    assert "hint: Mend it on the target" in said
    pair.target.execute("DROP TRIGGER no ON other")
    follow(pair, pgcopydb, workdir_path)
    assert_same_content(pair.source.dsn, pair.target.dsn)
