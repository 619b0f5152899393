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
from tests.fix_servers import Database
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
