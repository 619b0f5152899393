"""``clone --all-databases --follow``: each database with a stream of its own, steered and told of as one."""

from __future__ import annotations

import signal
from pathlib import Path

import orjson
import pytest

from pgcopydb.runtime.errors import ExitCode
from pgcopydb.runtime.workdir import WorkDir
from tests.content import assert_same_schema
from tests.fix_all_databases import NAMES, ODD, Run
from tests.fix_servers import Database
from tests.integration.test_service import Manager
from tests.wait import wait_until


@pytest.mark.parametrize("plugin", ["test_decoding", "pgoutput"])
def test_all_are_followed_until_one_end_position(run_of_all: Run, plugin: str) -> None:
    process = run_of_all.start("--database-jobs", "1", "--plugin", plugin)
    run_of_all.wait_until_copied(process)
    run_of_all.write("while all are followed")
    wait_until(
        lambda: (
            {each["name"]: each["sentinel"]["apply"] for each in run_of_all.json("status")["databases"]}
            == dict.fromkeys(NAMES, True)
        ),
        30,
        "all to apply",
    )
    shown = run_of_all.pgcopydb.run("status", "--dir", run_of_all.workdir, env=run_of_all.env).stdout
    assert all(name in shown for name in NAMES)
    assert "3 of 3 run" in shown
    slots = {row[1] for row in run_of_all.left() if row[0] == "slot"}
    assert {"pgcopydb_shop", "pgcopydb_postgres"} < slots
    assert len(slots) == len(NAMES)
    log = run_of_all.pgcopydb.log_of(process)
    assert f"{ODD}: Slot pgcopydb_crm_main_" in log
    run_of_all.end(process)
    log = run_of_all.pgcopydb.log_of(process)
    for name in NAMES:
        assert f" {name}: Reached " in log
    assert "All 3 databases are complete" in log
    ends = run_of_all.json("stream", "sentinel", "get")
    assert len({each["endpos"] for each in ends.values()}) == 1
    assert set(run_of_all.states().values()) == {"complete"}
    done = run_of_all.pgcopydb.run("stream", "cleanup", "--dir", run_of_all.workdir, env=run_of_all.env).stdout
    assert "Removed replication slot pgcopydb_shop on the source (database shop)" in done
    assert_same_schema(run_of_all.source.dsn("shop"), run_of_all.target.dsn("shop"))


def test_stopped_killed_and_gone_on(run_of_all: Run) -> None:
    process = run_of_all.start()
    run_of_all.wait_until_copied(process)
    run_of_all.write("before the stop")
    process.send_signal(signal.SIGTERM)
    assert process.wait(30) == ExitCode.INTERNAL_ERROR, "it has not come to its end"
    run_of_all.write("while nothing runs")
    process = run_of_all.start("--resume")
    run_of_all.write("while it goes on")
    wait_until(lambda: run_of_all.processes() == 1 + 3 * len(NAMES), 30, "stages")
    process.kill()
    process.wait()
    wait_until(lambda: not run_of_all.processes(), 30, "all processes to end")
    run_of_all.write("after the kill")
    process = run_of_all.start("--resume")
    run_of_all.end(process)
    again = run_of_all.pgcopydb.run(
        "clone", "--all-databases", "--follow", "--roles", "--resume", "--dir", run_of_all.workdir, env=run_of_all.env
    )
    assert "nothing is left to do" in again.stderr
    begun = run_of_all.start("--restart", "--drop-if-exists")
    run_of_all.wait_until_copied(begun)
    run_of_all.write("after the restart")
    run_of_all.end(begun)


def test_the_service_is_ready_when_all_stream(run_of_all: Run, tmp_path: Path) -> None:
    manager = Manager(tmp_path)
    try:
        process = run_of_all.start("--database-jobs", "1", NOTIFY_SOCKET=str(manager.path))
        wait_until(lambda: "READY=1" in manager.told() or process.poll() is not None, 60, "the service to be ready")
        assert process.poll() is None, run_of_all.pgcopydb.log_of(process)
        assert len({row for row in run_of_all.left() if row[0] == "slot"}) == len(NAMES)
        run_of_all.wait_until_copied(process)
        wait_until(
            lambda: any(line.startswith("STATUS=3 of 3 databases | ") for line in manager.told()), 30, "a status of all"
        )
        run_of_all.end(process)
        assert manager.states() == ["READY=1", "STOPPING=1"]
    finally:
        manager.close()


def test_what_needs_one_database_says_so(run_of_all: Run) -> None:
    process = run_of_all.start()
    run_of_all.wait_until_copied(process)
    for command in (["follow"], ["stream", "receive"], ["stream", "sentinel", "setup", "0/1", "0/2"]):
        done = run_of_all.pgcopydb.run(*command, "--dir", run_of_all.workdir, env=run_of_all.env, check=False)
        assert "is that of a run of all databases" in done.stderr
        assert str(run_of_all.workdir / "db") in done.stderr
    one = run_of_all.pgcopydb.run(
        *("stream", "sentinel", "get", "--json", "--dir", WorkDir(run_of_all.workdir).database("shop").top),
        env={**run_of_all.env, "PGCOPYDB_SOURCE_PGURI": run_of_all.source.dsn("shop")},
    )
    assert orjson.loads(one.stdout)["apply"] is True
    run_of_all.end(process)


def test_a_server_with_too_few_slots(run_of_all: Run) -> None:
    Database(run_of_all.source, "postgres").execute("ALTER SYSTEM SET max_replication_slots = 2")
    run_of_all.source.restart()
    try:
        done = run_of_all.pgcopydb.run(
            "clone",
            "--all-databases",
            "--follow",
            "--roles",
            "--dir",
            run_of_all.workdir,
            env=run_of_all.env,
            check=False,
        )
        assert done.returncode == 4, done.stderr
        assert "following 3 databases takes as many of max_replication_slots, only 2 are free" in done.stderr
    finally:
        Database(run_of_all.source, "postgres").execute("ALTER SYSTEM RESET max_replication_slots")
        run_of_all.source.restart()
