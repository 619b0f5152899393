"""What following changes needs and has not: told before anything is made, with what mends it; nothing is left."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import orjson
import psycopg
import pytest

from demo.clusters import Cluster
from pgcopydb.daemon.requirements import login_problem, source_problems
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers, fresh_database
from tests.following import is_applied, uris
from tests.wait import wait_until

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x')"
ALL_IN_USE = (
    "SELECT pg_create_physical_replication_slot('used_' || i) FROM generate_series(1,"
    " current_setting('max_replication_slots')::int - (SELECT count(*)::int FROM pg_replication_slots)) i"
)


@pytest.fixture(scope="module")
def narrow(servers: Servers) -> Iterator[Cluster]:
    """A source of its own, for what belongs to a whole cluster."""
    settings = {"max_replication_slots": "2", "max_wal_senders": "1", "wal_level": "logical"}
    with Cluster.of_major(15, settings=settings) as cluster:
        yield cluster


@pytest.fixture
def pair(narrow: Cluster, servers: Servers) -> Iterator[DbPair]:
    with fresh_database(narrow, "source") as source, fresh_database(servers.get(17, "target"), "target") as target:
        source.execute(TABLE)
        yield DbPair(source, target)
        source.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")
        target.execute("SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin")


def as_role(database: Database, role: str) -> str:
    return database.dsn.replace("//postgres@", f"//{role}@")


def refused(pgcopydb: Command, pair: DbPair, workdir: Path, code: int, *more: str, env: dict[str, str]) -> str:
    """The log of a clone that refuses to begin, and leaves nothing on either server."""
    slots = pair.source.fetch("SELECT slot_name FROM pg_replication_slots ORDER BY 1")
    process = pgcopydb.start("clone", "--follow", "--dir", workdir, *more, env=env)
    wait_until(lambda: process.poll() is not None, 60, "the clone to refuse")
    log = pgcopydb.log_of(process)
    assert process.returncode == code, log
    assert "Traceback" not in log
    assert "hint: " in log
    assert pair.source.fetch("SELECT slot_name FROM pg_replication_slots ORDER BY 1") == slots
    for database in (pair.source, pair.target):
        assert database.fetch("SELECT to_regnamespace('pgcopydb')") == [(None,)]
        assert database.fetch("SELECT pubname FROM pg_publication") == []
    assert pair.target.fetch("SELECT roname FROM pg_replication_origin") == []
    assert pair.target.fetch("SELECT to_regclass('public.t')") == [(None,)]
    return log


def test_the_slot_is_there_already(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.source.execute("SELECT pg_create_logical_replication_slot('pgcopydb', 'pgoutput')")
    log = refused(pgcopydb, pair, workdir_path, 4, env=uris(pair))
    assert "replication slot pgcopydb exists on the source already" in log
    assert "stream cleanup" in log


def test_the_origin_is_there_already(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.target.execute("SELECT pg_replication_origin_create('taken')")
    process = pgcopydb.start("clone", "--follow", "--origin", "taken", "--dir", workdir_path, env=uris(pair))
    assert process.wait(60) == 4, pgcopydb.log_of(process)
    assert "replication origin taken is on the target already" in pgcopydb.log_of(process)
    assert pair.source.fetch("SELECT slot_name FROM pg_replication_slots") == []


def test_no_free_slot(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.source.execute(ALL_IN_USE)
    log = refused(pgcopydb, pair, workdir_path, 4, env=uris(pair))
    assert "all replication slots of the source are in use" in log
    assert "max_replication_slots" in log


def test_no_free_walsender(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    with psycopg.connect(pair.source.dsn, replication="database", autocommit=True):
        log = refused(pgcopydb, pair, workdir_path, 4, env=uris(pair))
    assert "walsender" in log
    assert "max_wal_senders" in log


def test_the_only_walsender_is_tried(pair: DbPair) -> None:
    """The session of the attempt is not counted as one that is in use, not even right after it."""
    source = Endpoint(ConnInfo.parse(Side.SOURCE, pair.source.dsn), "tried")
    with source.connect("setup") as reader:
        for _ in range(50):
            assert login_problem(source, reader) is None
            assert list(source_problems(reader, "pgcopydb")) == []


def test_wal_level(servers: Servers, pgcopydb: Command, workdir_path: Path) -> None:
    with (
        Cluster.of_major(15, settings={"wal_level": "replica"}) as cluster,
        fresh_database(cluster, "source") as source,
        fresh_database(servers.get(17, "target"), "target") as target,
    ):
        source.execute(TABLE)
        pair = DbPair(source, target)
        log = refused(pgcopydb, pair, workdir_path, 4, env=uris(pair))
        assert "wal_level of the source is replica" in log
        assert "ALTER SYSTEM SET wal_level = 'logical'" in log


def test_a_plugin_that_is_not_installed(servers: Servers, pgcopydb: Command, workdir_path: Path) -> None:
    with (
        fresh_database(servers.get(17), "source") as source,
        fresh_database(servers.get(18, "target"), "target") as target,
    ):
        source.execute(TABLE)
        pair = DbPair(source, target)
        log = refused(pgcopydb, pair, workdir_path, 4, "--plugin", "wal2json", env=uris(pair))
        assert "wal2json" in log
        assert "test_decoding" in log


def test_a_role_that_may_not_replicate(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.source.execute("CREATE ROLE no_replication LOGIN; GRANT pg_read_all_data TO no_replication")
    env = uris(pair) | {"PGCOPYDB_SOURCE_PGURI": as_role(pair.source, "no_replication")}
    try:
        log = refused(pgcopydb, pair, workdir_path, 4, env=env)
        assert "REPLICATION" in log
        assert "GRANT CREATE ON DATABASE" in log
        checked = pgcopydb.start("check", "--follow", "--json", "--dir", workdir_path, env=env)
        assert checked.wait(60) == 4
    finally:
        pair.source.execute("DROP OWNED BY no_replication; DROP ROLE no_replication")


def test_a_target_role_without_privileges(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """It may use neither origins nor the replica role: the first is made up for, the second is told, with the fix."""
    pair.source.execute(
        "CREATE TABLE log (id int PRIMARY KEY, n int); CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS"
        " 'BEGIN UPDATE log SET n = n + 1; RETURN NULL; END'; INSERT INTO log VALUES (1, 0);"
        " CREATE TRIGGER note AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note()"
    )
    pair.target.execute("CREATE ROLE plain LOGIN")
    pair.target.execute(f"GRANT CREATE ON DATABASE {pair.target.name} TO plain; GRANT CREATE ON SCHEMA public TO plain")
    env = uris(pair) | {"PGCOPYDB_TARGET_PGURI": as_role(pair.target, "plain")}
    try:
        findings = orjson.loads(pgcopydb.run("check", "--follow", "--no-owner", "--json", env=env).stdout)
        told = [finding for finding in findings if "session_replication_role" in finding["message"]]
        assert [finding["fix"] for finding in told] == ['GRANT SET ON PARAMETER session_replication_role TO "plain";']
        assert "triggers fire" in told[0]["message"]
        assert "trigger note on public.t" in [finding["subject"] for finding in findings]
        pair.target.execute(told[0]["fix"])
        process = pgcopydb.start("clone", "--follow", "--no-owner", "--no-acl", "--dir", workdir_path, env=env)
        wait_until(lambda: process.poll() is not None or is_applied(pair), 60, "changes to be applied")
        assert "session_replication_role" not in pgcopydb.log_of(process)
        assert "progress is kept in a table" in pgcopydb.log_of(process)
        pair.source.execute(
            "INSERT INTO t SELECT i, 'y' FROM generate_series(2, 20) i; UPDATE t SET v = 'z' WHERE id = 1"
        )
        process.kill()
        process.wait()
        pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=env)
        pgcopydb.run("follow", "--dir", workdir_path, env=env)
        assert_same_content(pair.source.dsn, pair.target.dsn)
        assert pair.target.fetch("SELECT count(*) FROM pg_replication_origin") == [(0,)]
        pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=env)
        assert pair.target.fetch("SELECT to_regnamespace('pgcopydb')") == [(None,)]
    finally:
        pair.target.execute("DROP OWNED BY plain; DROP ROLE plain")


def test_nothing_is_set_up(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    for command in (
        ("follow",),
        ("stream", "receive"),
        ("stream", "apply"),
        ("stream", "catchup"),
        ("stream", "prune"),
        ("stream", "sentinel", "get"),
        ("stream", "sentinel", "set", "endpos", "--current"),
    ):
        process = pgcopydb.start(*command, "--dir", workdir_path, env=uris(pair))
        wait_until(lambda p=process: p.poll() is not None, 30, "the command to end")  # type: ignore[misc]
        log = pgcopydb.log_of(process)
        assert process.returncode == 3, (command, log)
        assert "hint: " in log, (command, log)
        assert "Traceback" not in log


def test_a_trigger_that_fires_whoever_applies(pair: DbPair, pgcopydb: Command) -> None:
    pair.source.execute(
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';"
        " CREATE TRIGGER plain AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();"
        ' CREATE TRIGGER "al ways" AFTER INSERT ON t FOR EACH ROW EXECUTE FUNCTION note();'
        ' ALTER TABLE t ENABLE ALWAYS TRIGGER "al ways"'
    )
    findings = orjson.loads(pgcopydb.run("check", "--follow", "--json", env=uris(pair)).stdout)
    told = [finding for finding in findings if finding["subject"].startswith("trigger ")]
    assert [finding["subject"] for finding in told] == ["trigger al ways on public.t"]
    assert 'ALTER TABLE "public"."t" DISABLE TRIGGER "al ways"' in told[0]["fix"]
