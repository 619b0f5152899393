"""A hot standby as the source: everything is read there, and two of its snapshots are never taken for one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson
import pytest

from demo.clusters import Cluster
from tests.content import assert_same_content, assert_same_schema
from tests.fix_command import Command
from tests.fix_servers import Database, Servers, fresh_database
from tests.fix_zoo import load_zoo
from tests.wait import wait_until


@dataclass(frozen=True)
class Replicated:
    """One database, as it is written and as it is read."""

    primary: Database
    standby: Database

    def catch_up(self) -> None:
        written = self.primary.fetch("SELECT pg_current_wal_lsn()")[0][0]
        replayed = f"SELECT pg_last_wal_replay_lsn() >= '{written}'"
        anywhere = Database(self.standby.cluster, "postgres")
        wait_until(lambda: anywhere.fetch(replayed)[0][0], 30, "the standby to catch up")


@pytest.fixture(scope="module")
def clusters() -> Iterator[tuple[Cluster, Cluster]]:
    with Cluster.of_major(15) as primary, Cluster.of_major(15, primary=primary) as standby:
        yield primary, standby


@pytest.fixture
def replicated(clusters: tuple[Cluster, Cluster], request: pytest.FixtureRequest) -> Replicated:
    name = f"replicated_{abs(hash(request.node.name)) % 10000}"
    clusters[0].create_database(name)
    return Replicated(Database(clusters[0], name), Database(clusters[1], name))


def test_a_standby_is_cloned(
    replicated: Replicated, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    load_zoo(replicated.primary, target_db)
    replicated.catch_up()
    servers = ("--source", replicated.standby.dsn, "--target", target_db.dsn)
    found = orjson.loads(pgcopydb.run("check", *servers, "--json", check=False).stdout)
    unlogged = [row for row in found if row["severity"] == "error"]
    assert {row["message"] for row in unlogged} == {"is unlogged: a standby has nothing of what is in it"}
    for row in unlogged:
        replicated.primary.execute(row["fix"])
    replicated.catch_up()
    options = ("--split-tables-larger-than", "16kB", "--estimate-table-sizes")
    done = pgcopydb.run("clone", *servers, "--dir", workdir_path, *options)
    assert "standby" in done.stderr, "that nothing is split and analyzed there is said"
    # Not with the primary: a standby's sequences stand ahead of it, as after a crash.
    assert_same_content(replicated.standby.dsn, target_db.dsn)
    assert_same_schema(replicated.primary.dsn, target_db.dsn)


def test_a_new_snapshot_of_a_standby_is_never_the_earlier_one(
    replicated: Replicated, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    """They have the same content even where they see other rows: only the held one goes on."""
    primary = replicated.primary
    primary.execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS i; CREATE TABLE u AS SELECT * FROM t")
    replicated.catch_up()
    arguments = ("clone", "--source", replicated.standby.dsn, "--target", target_db.dsn, "--dir", str(workdir_path))
    pgcopydb.run(*arguments, env={"PGCOPYDB_FAILPOINTS": "copy.after_mark=kill"}, check=False)
    refused = pgcopydb.run(*arguments, "--resume", check=False)
    assert refused.returncode == 3, refused.stderr
    assert "--not-consistent" in refused.stderr

    holder = pgcopydb.start("snapshot", "--source", replicated.standby.dsn, "--dir", workdir_path)
    wait_until((workdir_path / "snapshot").exists, 20, "the snapshot to be held")
    again = (*arguments, "--drop-if-exists")
    pgcopydb.run(*again, "--restart", env={"PGCOPYDB_FAILPOINTS": "copy.after_mark=kill"}, check=False)
    primary.execute("DELETE FROM t; DELETE FROM u")
    pgcopydb.run(*again, "--resume")
    holder.send_signal(signal.SIGTERM)
    assert holder.wait(20) == 0
    assert target_db.fetch("SELECT (SELECT count(*) FROM t), (SELECT count(*) FROM u)") == [(100, 100)]


@pytest.fixture(scope="module")
def decoding_clusters() -> Iterator[tuple[Cluster, Cluster]]:
    """From 16 on a standby decodes. What decoding needs of the primary's catalogs, feedback keeps there."""
    with (
        Cluster.of_major(17) as primary,
        Cluster.of_major(17, primary=primary, settings={"hot_standby_feedback": "on"}) as standby,
    ):
        yield primary, standby


@pytest.fixture
def decoding(decoding_clusters: tuple[Cluster, Cluster], request: pytest.FixtureRequest) -> Replicated:
    name = f"decoding_{abs(hash(request.node.name)) % 10000}"
    primary, standby = decoding_clusters
    primary.create_database(name)
    return Replicated(Database(primary, name), Database(standby, name))


def test_a_standby_is_followed(decoding: Replicated, servers: Servers, pgcopydb: Command, workdir_path: Path) -> None:
    """The sentinel is on the target. The primary is restarted in the middle; nothing is written on the standby."""
    primary, standby = decoding.primary, decoding.standby
    anywhere = Database(standby.cluster, "postgres")
    slots = "SELECT slot_name FROM pg_replication_slots WHERE confirmed_flush_lsn IS NOT NULL"
    primary.execute("CREATE TABLE t AS SELECT i, 'old' AS t FROM generate_series(1, 500) i")
    primary.execute("ALTER TABLE t ADD PRIMARY KEY (i)")
    decoding.catch_up()
    with fresh_database(servers.get(18, "target"), "target") as target:
        env = {"PGCOPYDB_SOURCE_PGURI": standby.dsn, "PGCOPYDB_TARGET_PGURI": target.dsn}
        running = pgcopydb.start("clone", "--follow", "--dir", workdir_path, env=env)

        def slot_is_made() -> bool:
            # A standby makes a slot when it hears from the primary which transactions run.
            primary.execute("SELECT pg_log_standby_snapshot()")
            assert running.poll() is None, pgcopydb.log_of(running)
            return anywhere.fetch(slots) == [("pgcopydb",)]

        def is_there(number: int) -> bool:
            assert running.poll() is None, pgcopydb.log_of(running)
            there = target.fetch("SELECT to_regclass('t') IS NOT NULL") == [(True,)]
            return there and target.fetch(f"SELECT FROM t WHERE i = {number}") != []

        wait_until(slot_is_made, 60, "the slot")
        assert "SELECT pg_log_standby_snapshot();" in pgcopydb.log_of(running)
        primary.execute("UPDATE t SET t = 'new' WHERE i % 2 = 0; DELETE FROM t WHERE i % 10 = 1")
        primary.execute("INSERT INTO t VALUES (501, 'new')")
        wait_until(lambda: is_there(501), 60, "a change to be applied")
        primary.cluster.restart()
        primary.execute("INSERT INTO t VALUES (502, 'later')")
        wait_until(lambda: is_there(502), 60, "a change behind the restart to be applied")
        assert standby.fetch("SELECT to_regnamespace('pgcopydb')") == [(None,)]
        pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=env)
        assert running.wait(60) == 0, pgcopydb.log_of(running)
        assert_same_content(standby.dsn, target.dsn)
        pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=env)
        assert anywhere.fetch(slots) == []
        assert target.fetch("SELECT to_regnamespace('pgcopydb')") == [(None,)]


def test_a_slot_whose_rows_are_removed(
    decoding: Replicated, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    """Nothing is wrong with the WAL: the reason is said, and what prevents it."""
    primary, anywhere = decoding.primary, Database(decoding.standby.cluster, "postgres")
    decoding.catch_up()
    env = {"PGCOPYDB_SOURCE_PGURI": decoding.standby.dsn, "PGCOPYDB_TARGET_PGURI": target_db.dsn}
    making = pgcopydb.start("stream", "setup", "--dir", workdir_path, env=env)

    def is_made() -> bool:
        primary.execute("SELECT pg_log_standby_snapshot()")
        return making.poll() is not None

    def is_lost() -> bool:
        primary.execute("CREATE TABLE gone (i int); DROP TABLE gone")
        primary.execute("VACUUM pg_class")
        return anywhere.fetch("SELECT invalidation_reason FROM pg_replication_slots") == [("rows_removed",)]

    wait_until(is_made, 60, "the slot")
    assert making.returncode == 0, pgcopydb.log_of(making)
    try:
        anywhere.execute("ALTER SYSTEM SET hot_standby_feedback = off")
        anywhere.execute("SELECT pg_reload_conf()")
        wait_until(is_lost, 60, "the slot to be lost")
        why = "replication slot pgcopydb is lost: the primary has removed rows of its catalogs that it needs"
        found = orjson.loads(pgcopydb.run("status", "--json", "--dir", workdir_path, env=env).stdout)
        assert found["warnings"] == [why]
        failed = pgcopydb.run("stream", "receive", "--dir", workdir_path, env=env, check=False)
        assert failed.returncode == 6
        assert why in failed.stderr
        assert "set hot_standby_feedback = on" in failed.stderr
        assert "max_slot_wal_keep_size" not in failed.stderr
    finally:
        anywhere.execute("ALTER SYSTEM RESET hot_standby_feedback")
        anywhere.execute("SELECT pg_reload_conf()")
        pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=env)


def test_what_a_standby_needs_to_be_followed(
    decoding: Replicated, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    decoding.catch_up()
    servers = ("--source", decoding.standby.dsn, "--target", target_db.dsn)
    refused = pgcopydb.run("clone", "--follow", "--plugin", "pgoutput", *servers, "--dir", workdir_path, check=False)
    assert refused.returncode == 4
    assert "pgoutput needs publications, which cannot be made on a standby" in refused.stderr
    standby = Database(decoding.standby.cluster, "postgres")
    try:
        standby.execute("ALTER SYSTEM SET hot_standby_feedback = off")
        standby.execute("SELECT pg_reload_conf()")
        found = pgcopydb.run("check", "--follow", *servers, "--json", check=False).stdout
        (row,) = [row for row in orjson.loads(found) if row["subject"] == "standby"]
        assert (row["severity"], "can end the slot" in row["message"]) == ("warning", True)
    finally:
        standby.execute("ALTER SYSTEM RESET hot_standby_feedback")
        standby.execute("SELECT pg_reload_conf()")


def test_an_older_standby_is_not_followed(
    replicated: Replicated, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    replicated.catch_up()
    servers = ("--source", replicated.standby.dsn, "--target", target_db.dsn, "--dir", str(workdir_path))
    for command in (("check", "--follow"), ("clone", "--follow")):
        refused = pgcopydb.run(*command, *servers, check=False)
        assert refused.returncode == 4
        assert "standby older than PostgreSQL 16, which cannot decode changes" in refused.stdout + refused.stderr
    assert target_db.fetch("SELECT FROM pg_replication_origin") == []
    assert target_db.fetch("SELECT to_regnamespace('pgcopydb')") == [(None,)]


def test_large_objects_that_have_changed(
    replicated: Replicated, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    """All workers read under one snapshot of the standby."""
    primary = replicated.primary
    primary.execute("SELECT lo_from_bytea(1000 + i, ('object ' || i)::bytea) FROM generate_series(1, 300) AS i")
    replicated.catch_up()
    servers = ("--source", replicated.standby.dsn, "--target", target_db.dsn, "--dir", str(workdir_path))
    pgcopydb.run("clone", *servers)
    primary.execute(
        "SELECT lo_put(1100, 0, 'O'), lo_unlink(1200), lo_from_bytea(9, 'new'); COMMENT ON LARGE OBJECT 1003 IS 'said'"
    )
    replicated.catch_up()
    changed = pgcopydb.run("copy", "blobs", "--changed", "--large-objects-jobs", "3", *servers)
    assert "3 large objects written that were new or had changed, 1 removed" in changed.stderr
    assert_same_content(replicated.standby.dsn, target_db.dsn)
