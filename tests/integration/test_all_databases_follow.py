"""``clone --all-databases --follow``: each database with a stream of its own, steered and told of as one."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from demo.clusters import Cluster
from pgcopydb.runtime.errors import ExitCode
from pgcopydb.runtime.workdir import WorkDir
from tests.content import assert_same_schema
from tests.fix_command import Command
from tests.fix_servers import Database
from tests.following_all import NAMES, ODD, Run, clusters_of_all, run_of
from tests.integration.test_service import Manager
from tests.wait import wait_until


@pytest.fixture(scope="module")
def clusters() -> Iterator[tuple[Cluster, Cluster]]:
    with clusters_of_all() as clusters:
        yield clusters


@pytest.fixture
def run(clusters: tuple[Cluster, Cluster], pgcopydb: Command, workdir_path: Path) -> Iterator[Run]:
    with run_of(clusters, pgcopydb, workdir_path) as run:
        yield run


@pytest.mark.parametrize("plugin", ["test_decoding", "pgoutput"])
def test_all_are_followed_until_one_end_position(run: Run, plugin: str) -> None:
    process = run.start("--database-jobs", "1", "--plugin", plugin)
    run.wait_until_copied(process)
    run.write("while all are followed")
    wait_until(
        lambda: (
            {each["name"]: each["sentinel"]["apply"] for each in run.json("status")["databases"]}
            == dict.fromkeys(NAMES, True)
        ),
        30,
        "all to apply",
    )
    shown = run.pgcopydb.run("status", "--dir", run.workdir, env=run.env).stdout
    assert all(name in shown for name in NAMES)
    assert "3 of 3 run" in shown
    slots = {row[1] for row in run.left() if row[0] == "slot"}
    assert {"pgcopydb_shop", "pgcopydb_postgres"} < slots
    assert len(slots) == len(NAMES)
    log = run.pgcopydb.log_of(process)
    assert f"{ODD}: Slot pgcopydb_crm_main_" in log
    run.end(process)
    log = run.pgcopydb.log_of(process)
    for name in NAMES:
        assert f" {name}: Reached " in log
    assert "All 3 databases are complete" in log
    ends = run.json("stream", "sentinel", "get")
    assert len({each["endpos"] for each in ends.values()}) == 1
    assert set(run.states().values()) == {"complete"}
    done = run.pgcopydb.run("stream", "cleanup", "--dir", run.workdir, env=run.env).stdout
    assert "Removed replication slot pgcopydb_shop on the source (database shop)" in done
    assert_same_schema(run.source.dsn("shop"), run.target.dsn("shop"))


def test_stopped_killed_and_gone_on(run: Run) -> None:
    process = run.start()
    run.wait_until_copied(process)
    run.write("before the stop")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == ExitCode.INTERNAL_ERROR, "it has not come to its end"
    run.write("while nothing runs")
    process = run.start("--resume")
    run.write("while it goes on")
    wait_until(lambda: run.processes() == 1 + 3 * len(NAMES), 30, "stages")
    process.kill()
    process.wait()
    wait_until(lambda: not run.processes(), 30, "all processes to end")
    run.write("after the kill")
    process = run.start("--resume")
    run.end(process)
    again = run.pgcopydb.run(
        "clone", "--all-databases", "--follow", "--roles", "--resume", "--dir", run.workdir, env=run.env
    )
    assert "nothing is left to do" in again.stderr
    begun = run.start("--restart", "--drop-if-exists")
    run.wait_until_copied(begun)
    run.write("after the restart")
    run.end(begun)


def test_the_service_is_ready_when_all_stream(run: Run, tmp_path: Path) -> None:
    manager = Manager(tmp_path)
    try:
        process = run.start("--database-jobs", "1", NOTIFY_SOCKET=str(manager.path))
        wait_until(lambda: "READY=1" in manager.told() or process.poll() is not None, 60, "the service to be ready")
        assert process.poll() is None, run.pgcopydb.log_of(process)
        assert len({row for row in run.left() if row[0] == "slot"}) == len(NAMES)
        run.wait_until_copied(process)
        wait_until(
            lambda: any(line.startswith("STATUS=3 of 3 databases | ") for line in manager.told()), 30, "a status of all"
        )
        run.end(process)
        assert manager.states() == ["READY=1", "STOPPING=1"]
    finally:
        manager.close()


def test_what_needs_one_database_says_so(run: Run) -> None:
    process = run.start()
    run.wait_until_copied(process)
    for command in (["follow"], ["stream", "receive"], ["stream", "sentinel", "setup", "0/1", "0/2"]):
        done = run.pgcopydb.run(*command, "--dir", run.workdir, env=run.env, check=False)
        assert "is that of a run of all databases" in done.stderr
        assert str(run.workdir / "db") in done.stderr
    one = run.pgcopydb.run(
        *("stream", "sentinel", "get", "--json", "--dir", WorkDir(run.workdir).database("shop").top),
        env={**run.env, "PGCOPYDB_SOURCE_PGURI": run.source.dsn("shop")},
    )
    assert orjson.loads(one.stdout)["apply"] is True
    run.end(process)


def test_a_server_with_too_few_slots(run: Run) -> None:
    Database(run.source, "postgres").execute("ALTER SYSTEM SET max_replication_slots = 2")
    run.source.restart()
    try:
        done = run.pgcopydb.run(
            "clone", "--all-databases", "--follow", "--roles", "--dir", run.workdir, env=run.env, check=False
        )
        assert done.returncode == 4, done.stderr
        assert "following 3 databases takes as many of max_replication_slots, only 2 are free" in done.stderr
    finally:
        Database(run.source, "postgres").execute("ALTER SYSTEM RESET max_replication_slots")
        run.source.restart()
