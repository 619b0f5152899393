"""``clone --all-databases``: every database of a server arrives as it would alone, and one that is made as it was."""

from __future__ import annotations

import os
import signal
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from demo.clusters import Cluster
from pgcopydb.runtime.workdir import WorkDir
from tests.content import assert_same_content, assert_same_schema
from tests.fix_command import Command
from tests.fix_servers import Database

SHOP = """
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text NOT NULL);
INSERT INTO orders (what) SELECT md5(i::text) FROM generate_series(1, 5000) i;
CREATE INDEX orders_what ON orders (what);
CREATE TABLE lines (id int PRIMARY KEY, order_id bigint REFERENCES orders);
INSERT INTO lines SELECT i, i FROM generate_series(1, 500) i;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM lines;
CREATE SEQUENCE free START 41;
SELECT nextval('free');
SELECT lo_from_bytea(4711, decode(repeat('ab', 5000), 'hex'));
ALTER TABLE lines OWNER TO shop_owner;
"""
ODD = 'odd/"Näme" ..'
STATE = """
SELECT pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider, datconnlimit, datdba::regrole::text,
       shobj_description(oid, 'pg_database'), ARRAY(SELECT a::text FROM unnest(datacl) a ORDER BY 1)
  FROM pg_database WHERE datname = current_database()
"""
WHERE = """
SELECT spcname FROM pg_database d JOIN pg_tablespace t ON t.oid = d.dattablespace WHERE datname = current_database()
"""


@dataclass(frozen=True)
class Two:
    """Two servers, and what the databases of the first are called."""

    source: Cluster
    target: Cluster
    names: tuple[str, ...] = ("postgres", "shop", "latin", ODD)

    def servers(self) -> tuple[str, ...]:
        return ("--source", self.source.dsn(), "--target", self.target.dsn())

    def pair(self, name: str) -> tuple[Database, Database]:
        return Database(self.source, name), Database(self.target, name)

    def assert_complete(self, *names: str) -> None:
        for name in names or self.names:
            source, target = self.pair(name)
            assert_same_content(source.dsn, target.dsn)
            assert_same_schema(source.dsn, target.dsn)

    def on_target(self) -> set[str]:
        rows = Database(self.target, "postgres").fetch("SELECT datname FROM pg_database WHERE NOT datistemplate")
        return {row[0] for row in rows}


@pytest.fixture(scope="module")
def loaded() -> Iterator[Two]:
    with Cluster.of_major(15) as source, Cluster.of_major(15) as target:
        two = Two(source, target)
        for cluster in (source, target):
            Database(cluster, "postgres").execute("CREATE ROLE shop_owner; CREATE ROLE guest")
        source.create_database("shop")
        source.create_database("latin", template="template0", encoding="LATIN1", locale="C")
        source.create_database(ODD)
        two.pair("shop")[0].execute(SHOP)
        two.pair("shop")[0].execute(
            """
            ALTER DATABASE shop OWNER TO shop_owner;
            ALTER DATABASE shop CONNECTION LIMIT 77;
            ALTER DATABASE shop SET work_mem = '7MB';
            COMMENT ON DATABASE shop IS 'what is sold';
            REVOKE ALL ON DATABASE shop FROM PUBLIC;
            GRANT CONNECT ON DATABASE shop TO guest WITH GRANT OPTION;
            """
        )
        two.pair("latin")[0].execute("CREATE TABLE t (t text); INSERT INTO t VALUES ('Grüße')")
        two.pair(ODD)[0].execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS i")
        two.pair("postgres")[0].execute("CREATE TABLE kept (i int PRIMARY KEY); INSERT INTO kept VALUES (1)")
        source.create_database("a template")
        Database(source, "postgres").execute('ALTER DATABASE "a template" IS_TEMPLATE true')
        yield two


@pytest.fixture
def two(loaded: Two) -> Two:
    """The target is as it was made."""
    for name in loaded.on_target() - {"postgres"}:
        loaded.target.drop_database(name)
    Database(loaded.target, "postgres").execute("DROP TABLE IF EXISTS kept, stranger")
    return loaded


def clone(pgcopydb: Command, two: Two, workdir: Path, *options: str | Path, **how: Any) -> Any:
    return pgcopydb.run("clone", "--all-databases", *two.servers(), "--dir", workdir, *options, **how)


def errors_of(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if " ERROR " in line]


def test_every_database_arrives(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    done = clone(pgcopydb, two, workdir_path)
    assert two.on_target() == set(two.names)
    two.assert_complete()
    for name in two.names:
        source, target = two.pair(name)
        assert source.fetch(STATE) == target.fetch(STATE), name
        assert f" {name}: " in done.stderr
    assert "a template" in done.stderr
    shown = orjson.loads(pgcopydb.run("list", "progress", "--dir", workdir_path, "--json").stdout)
    assert shown["complete"]
    assert {each["name"]: each["state"] for each in shown["databases"]} == dict.fromkeys(two.names, "complete")
    assert shown["tables"] == {"total": 5, "done": 5, "in-progress": []}
    assert "Database" in done.stdout
    summary = orjson.loads((workdir_path / "summary.json").read_bytes())
    assert {each["name"] for each in summary["databases"]} == set(two.names)


def test_jobs_are_those_of_the_whole_run(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    """With one of each nothing overlaps, whichever databases are copied side by side."""
    jobs = ("--table-jobs", "1", "--index-jobs", "1", "--large-objects-jobs", "1", "--database-jobs", "4")
    clone(pgcopydb, two, workdir_path, *jobs)
    two.assert_complete()
    for table in ("copy_part", "built_index"):
        spans = sorted(span for name in two.names for span in spans_of(WorkDir(workdir_path).database(name), table))
        assert len(spans) > 1
        assert [one for one, other in pairwise(spans) if one[1] > other[0]] == [], table
    top = spans_of(WorkDir(workdir_path), "step", "name LIKE 'database %'")
    assert [one for one, other in pairwise(sorted(top)) if one[1] > other[0]] != [], "databases went one by one"


def spans_of(workdir: WorkDir, table: str, which: str = "true") -> list[tuple[float, float]]:
    with closing(sqlite3.connect(f"{workdir.catalog.as_uri()}?mode=ro", uri=True)) as store:
        return store.execute(f"SELECT started, finished FROM {table} WHERE {which}").fetchall()


def test_what_is_excluded_is_left_alone(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    excluded = ("--exclude-database", "postgres", "--exclude-database", "latin", "--exclude-database", "shpo")
    done = clone(pgcopydb, two, workdir_path, *excluded)
    assert two.on_target() == {"postgres", "shop", ODD}
    two.assert_complete("shop", ODD)
    assert Database(two.target, "postgres").fetch("SELECT to_regclass('kept')") == [(None,)]
    assert "the source has no database shpo" in done.stderr
    assert "the nearest names are shop" in done.stderr
    again = clone(pgcopydb, two, workdir_path, "--resume")
    assert "nothing is left to do" in again.stderr
    other = clone(pgcopydb, two, workdir_path, "--resume", "--exclude-database", "shop", check=False)
    assert other.returncode == 3
    assert "--exclude-database" in other.stderr


def test_all_that_is_in_the_way_is_said_at_once_and_nothing_is_made(
    two: Two, pgcopydb: Command, workdir_path: Path
) -> None:
    two.pair("postgres")[1].execute("CREATE TABLE kept (i int); ALTER ROLE shop_owner RENAME TO somebody_else")
    try:
        checked = pgcopydb.run("check", "--all-databases", *two.servers(), "--json", check=False)
        refused = clone(pgcopydb, two, workdir_path, check=False)
        with_roles = clone(pgcopydb, two, workdir_path, "--roles", "--no-role-passwords", check=False)
        mended = clone(pgcopydb, two, workdir_path, "--no-owner", "--no-acl", "--drop-if-exists")
    finally:
        two.pair("postgres")[1].execute("ALTER ROLE somebody_else RENAME TO shop_owner")
    assert checked.returncode == refused.returncode == with_roles.returncode == 4
    subjects = {row["subject"] for row in orjson.loads(checked.stdout) if row["severity"] == "error"}
    assert subjects == {"postgres: not empty", "shop: role shop_owner"}
    said = " ".join(errors_of(refused.stderr))
    assert "postgres: not empty: 1 of the tables exist already: public.kept" in said
    assert "shop: role shop_owner: " in said
    assert "shop: role shop_owner: " not in with_roles.stderr
    assert "Creating the database" not in refused.stderr + with_roles.stderr
    assert "All 4 databases are complete" in mended.stderr


def test_a_role_that_may_not_create_databases(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    anybody = Database(two.target, "postgres")
    anybody.execute("CREATE ROLE mover LOGIN; GRANT shop_owner, guest TO mover")
    try:
        two_ends = ("--source", two.source.dsn(), "--target", two.target.dsn(user="mover"), "--dir", workdir_path)
        options = ("--no-owner", "--no-acl", "--no-comments", "--exclude-database", "postgres")
        Database(two.source, "shop").execute("CREATE EXTENSION hstore")
        refused = pgcopydb.run("clone", "--all-databases", *two_ends, *options, check=False)
        assert refused.returncode == 4
        assert "role mover: may not create databases" in refused.stderr
        assert 'ALTER ROLE "mover" CREATEDB;' in refused.stderr
        assert two.on_target() == {"postgres"}
        anybody.execute("ALTER ROLE mover CREATEDB")
        pgcopydb.run("clone", "--all-databases", *two_ends, *options)
        arrived = Database(two.target, "shop")
        assert arrived.fetch("SELECT count(*) FROM orders") == [(5000,)]
        assert arrived.fetch("SELECT extowner::regrole::text FROM pg_extension WHERE extname = 'hstore'") == [
            ("mover",)
        ]
    finally:
        Database(two.source, "shop").execute("DROP EXTENSION IF EXISTS hstore")
        for name in two.on_target() - {"postgres"}:
            two.target.drop_database(name)
        anybody.execute("DROP OWNED BY mover; DROP ROLE mover")


def test_what_an_option_names_has_to_be_in_one_database_alone(
    two: Two, pgcopydb: Command, workdir_path: Path, tmp_path: Path
) -> None:
    filters = tmp_path / "filters.ini"
    filters.write_text("[exclude-table]\npublic.orders\npublic.lines\npublic.nowhere\n")
    done = clone(pgcopydb, two, workdir_path, "--filters", filters)
    assert len([line for line in done.stderr.splitlines() if "public.nowhere" in line]) == 1
    assert "public.orders in [exclude-table]" not in done.stderr
    assert two.pair("shop")[1].fetch("SELECT to_regclass('orders'), to_regclass('free')") == [(None, "free")]


def test_tablespaces_of_databases(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    """Where a database is, is where what says nothing goes; no warning about what another database uses."""
    for cluster, name in ((two.source, "ours"), (two.target, "theirs")):
        with Database(cluster, "postgres").connect(options="-c allow_in_place_tablespaces=on") as connection:
            connection.execute(f"CREATE TABLESPACE {name} LOCATION ''")
    try:
        two.source.create_database("placed", tablespace="ours")
        Database(two.source, "placed").execute("CREATE TABLE t AS SELECT 1 AS i")
        refused = clone(pgcopydb, two, workdir_path, check=False)
        assert refused.returncode == 4
        assert "placed: tablespace ours: does not exist here" in refused.stderr
        assert two.on_target() == {"postgres"}
        done = clone(pgcopydb, two, workdir_path, "--tablespace-map", "ours=theirs")
        assert "--tablespace-map" not in done.stderr
        assert Database(two.target, "placed").fetch(WHERE) == [("theirs",)]
        assert_same_content(two.source.dsn("placed"), two.target.dsn("placed"))
    finally:
        for cluster, name in ((two.source, "ours"), (two.target, "theirs")):
            cluster.drop_database("placed")
            Database(cluster, "postgres").execute(f"DROP TABLESPACE {name}")


def test_one_that_fails_does_not_keep_the_others(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    source, target = two.pair("shop")
    orphan = "SET session_replication_role = replica; INSERT INTO lines VALUES (9999, 987654321)"
    source.execute(orphan)
    try:
        failed = clone(pgcopydb, two, workdir_path, check=False)
        assert failed.returncode not in {0, 4}
        assert "1 of 4 databases are not complete: shop" in failed.stderr
        two.assert_complete("postgres", "latin", ODD)
        shown = orjson.loads(pgcopydb.run("list", "progress", "--dir", workdir_path, "--json").stdout)
        assert {each["name"]: each["state"] for each in shown["databases"]}["shop"] == "begun"
        assert not shown["complete"]
        before = two.pair(ODD)[1].fetch("SELECT xmin::text, ctid::text FROM t ORDER BY 2")
    finally:
        source.execute("DELETE FROM lines WHERE id = 9999")
    target.execute("DELETE FROM lines WHERE id = 9999; REFRESH MATERIALIZED VIEW totals")
    clone(pgcopydb, two, workdir_path, "--resume")
    two.assert_complete()
    assert two.pair(ODD)[1].fetch("SELECT xmin::text, ctid::text FROM t ORDER BY 2") == before


def test_one_that_fails_ends_all_with_fail_fast(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    """The largest is the first, and the only one."""
    source, _ = two.pair("shop")
    source.execute("SET session_replication_role = replica; INSERT INTO lines VALUES (9999, 987654321)")
    try:
        failed = clone(pgcopydb, two, workdir_path, "--fail-fast", "--database-jobs", "1", check=False)
    finally:
        source.execute("DELETE FROM lines WHERE id = 9999")
    assert "4 of 4 databases are not complete" in failed.stderr
    assert "ended early because of database shop" in failed.stderr
    assert two.on_target() == {"postgres", "shop"}


def test_a_stop_ends_all_and_resume_goes_on(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    arguments = ("clone", "--all-databases", *two.servers(), "--dir", str(workdir_path))
    running = pgcopydb.start(*arguments, env={"PGCOPYDB_FAILPOINTS": "index.after_mark=stop"})
    os.waitid(os.P_PID, running.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
    shown = orjson.loads(pgcopydb.run("list", "progress", "--dir", workdir_path, "--json").stdout)
    assert "begun" in {each["state"] for each in shown["databases"]}
    assert "begun" in pgcopydb.run("list", "progress", "--dir", workdir_path).stdout
    running.send_signal(signal.SIGTERM)
    running.send_signal(signal.SIGCONT)
    assert running.wait(60) == 12
    assert "stopped on request" in pgcopydb.log_of(running)
    pgcopydb.run(*arguments, "--resume", "--not-consistent")
    two.assert_complete()


def test_a_database_that_somebody_made_meanwhile_is_not_taken(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    failpoint = {"PGCOPYDB_FAILPOINTS": "databases.after_plan=kill"}
    assert clone(pgcopydb, two, workdir_path, env=failpoint, check=False).returncode == -signal.SIGKILL
    two.target.create_database("shop")
    theirs = two.pair("shop")[1]
    theirs.execute("CREATE TABLE orders (theirs int); INSERT INTO orders VALUES (1)")
    # One that was dropped in part is none that was made.
    two.source.create_database("half")
    invalid = "UPDATE pg_database SET datconnlimit = -2 WHERE datname = 'half'"
    Database(two.source, "postgres").execute(invalid)
    try:
        refused = clone(pgcopydb, two, workdir_path, "--resume", "--not-consistent", check=False)
    finally:
        two.source.drop_database("half")
    assert refused.returncode == 7, refused.stderr
    assert "database shop was made on the target by somebody else" in refused.stderr
    assert "half" not in refused.stderr
    assert theirs.fetch("SELECT theirs FROM orders") == [(1,)]
    two.target.drop_database("shop")
    clone(pgcopydb, two, workdir_path, "--resume", "--not-consistent")
    two.assert_complete()


def test_restart_begins_all_again(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    clone(pgcopydb, two, workdir_path)
    refused = clone(pgcopydb, two, workdir_path, check=False)
    assert refused.returncode == 3
    clone(pgcopydb, two, workdir_path, "--restart", "--drop-if-exists")
    two.assert_complete()


def test_work_directories_of_one_and_of_all_are_told_apart(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    source, target = two.pair("postgres")
    one = ("clone", "--source", source.dsn, "--target", target.dsn, "--dir", str(workdir_path))
    pgcopydb.run(*one)
    refused = clone(pgcopydb, two, workdir_path, "--resume", check=False)
    assert (refused.returncode, "holds a run of one database" in refused.stderr) == (3, True)
    clone(pgcopydb, two, workdir_path, "--restart", "--drop-if-exists")
    for command in (one, ("copy", "table-data", *one[1:])):
        refused = pgcopydb.run(*command, *(["--resume"] if command is one else []), check=False)
        assert (refused.returncode, "holds a run of all databases" in refused.stderr) == (3, True), refused.stderr


def test_the_same_server_twice(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    servers = ("--source", two.source.dsn(), "--target", two.source.dsn("shop", host=str(two.source.socket_dir)))
    refused = pgcopydb.run("clone", "--all-databases", *servers, "--dir", workdir_path, check=False)
    assert refused.returncode == 4
    assert "source and target are the same server" in refused.stderr


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--all-databases", "--endpos", "0/1"), "--endpos says nothing without --follow"),
        (("--all-databases", "--snapshot", "1-2-3"), "a snapshot is one of one database"),
        (("--exclude-database", "a"), "--exclude-database says nothing without --all-databases"),
        (("--database-jobs", "3"), "--database-jobs says nothing without --all-databases"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_what_does_not_go_together(arguments: tuple[str, ...], words: str, pgcopydb: Command) -> None:
    done = pgcopydb.run("clone", "--source", "dbname=a", "--target", "dbname=b", *arguments, check=False)
    assert done.returncode == 1
    assert words in done.stderr
    assert "hint: " in done.stderr


def test_all_databases_are_compared(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    clone(pgcopydb, two, workdir_path, "--exclude-database", "latin")
    chosen = (*two.servers(), "--all-databases")
    without = ("--exclude-database", "latin")
    for what in ("data", "schema"):
        pgcopydb.run("compare", what, *chosen, *without, "--dir", workdir_path)
        assert pgcopydb.run("compare", what, *chosen, check=False).returncode == 12
    two.pair("shop")[1].execute("UPDATE orders SET what = 'changed' WHERE id = 7; ALTER TABLE lines ADD extra int")
    done = pgcopydb.run("compare", "data", *chosen, "--json", check=False)
    assert done.returncode == 12
    assert "shop.public.orders differs" in done.stderr
    rows = {(row["database"], row["schema"], row["name"]): row["equal"] for row in orjson.loads(done.stdout)}
    assert {key for key, equal in rows.items() if not equal} == {
        ("shop", "public", "orders"),
        ("latin", "pg_catalog", "pg_database"),
    }
    assert rows[("postgres", "public", "kept")]
    done = pgcopydb.run("compare", "schema", *chosen, "--json", check=False)
    assert done.returncode == 12
    found = {each["database"]: len(each["differences"]) for each in orjson.loads(done.stdout)}
    assert found == {"postgres": 0, "shop": 1, "latin": 1, ODD: 0}
    assert " shop: column " in done.stderr
