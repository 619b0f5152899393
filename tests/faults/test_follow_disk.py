"""A file system without room for changes: nothing that was acknowledged is lost, and with room again it goes on."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import orjson
import pytest

from tests.faults.test_bootstrap_connections import small_disk
from tests.faults.test_follow_kill import pair
from tests.fix_command import Command
from tests.fix_servers import DbPair
from tests.following import Following, has_worked, prepare
from tests.wait import wait_until
from tests.workload import Workload

__all__ = ["pair", "small_disk"]


def fill(folder: Path, left: int) -> Path:
    """A file that leaves so much room on its file system."""
    ballast = folder / "ballast"
    with ballast.open("wb") as file:
        while (free := shutil.disk_usage(folder).free) > left:
            file.write(bytes(min(1 << 16, free - left)))
            file.flush()
    return ballast


def stage_state(run: Following, name: str) -> dict[str, object]:
    status = run.pgcopydb.run("status", "--json", "--dir", run.workdir, env=run.env())
    stages = orjson.loads(status.stdout)["stages"]
    return dict(next(stage for stage in stages if stage["name"] == name))


def rows_of(pair: DbPair) -> int:
    return int(pair.target.fetch("SELECT count(*) FROM wide")[0][0])


@pytest.mark.parametrize("left", [0, pytest.param(100_000, marks=pytest.mark.slow)])
def test_the_disk_is_full(left: int, pair: DbPair, pgcopydb: Command, small_disk: Path) -> None:
    """Everything waits, says so, and goes on by itself: also where a write was refused half way."""
    prepare(pair)
    run = Following(pgcopydb, pair, small_disk / "work").start("--min-free", "0")
    with Workload(pair.source.dsn, seed=3, writers=2) as workload:
        ballast = fill(small_disk, left)
        # A stage that finds too little for what it has to write waits before it is refused.
        run.wait(
            lambda: "No space left on device" in run.log or stage_state(run, "receive")["phase"] == "paused",
            "the disk to be full",
        )
        run.wait(partial(has_worked, workload, workload.committed + 200), "work on the source")
        ballast.unlink()
        run.catches_up()
    assert ("trying again" in run.log) == ("No space left on device" in run.log)
    assert "internal error" not in run.log
    run.set_end()
    run.ends()


def test_below_the_floor_receiving_pauses(pair: DbPair, pgcopydb: Command, small_disk: Path) -> None:
    """Without a refused write, and without losing its place: the server is answered all the time."""
    prepare(pair)
    pair.source.execute("ALTER SYSTEM SET wal_sender_timeout = '2s'")
    pair.source.execute("SELECT pg_reload_conf()")
    try:
        run = Following(pgcopydb, pair, small_disk / "work").start("--min-free", "16MB")
        with Workload(pair.source.dsn, seed=4, writers=2) as workload:
            ballast = fill(small_disk, 12 << 20)
            run.wait(lambda: stage_state(run, "receive")["phase"] == "paused", "the pause")
            run.wait(partial(has_worked, workload, workload.committed + 500), "work on the source")
            here = shutil.disk_usage(small_disk).free
            run.wait(partial(has_worked, workload, workload.committed + 500), "more work on the source")
            assert shutil.disk_usage(small_disk).free >= here - (1 << 20)
            assert "are free for change files" in str(stage_state(run, "receive")["detail"])
            ballast.unlink()
            run.wait(lambda: "receiving goes on" in run.log, "room to be noticed")
            run.catches_up()
        assert "No space left" not in run.log
        assert "terminating walsender" not in run.log
        assert run.log.count("Receiving changes of slot") == 1, "the connection was lost"
        run.set_end()
        run.ends()
    finally:
        pair.source.execute("ALTER SYSTEM RESET wal_sender_timeout")
        pair.source.execute("SELECT pg_reload_conf()")


def test_the_files_may_take_so_much(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Receiving pauses while the target is held up; then a transaction comes that needs more than all."""
    prepare(pair)
    pair.source.execute("CREATE TABLE wide (id int PRIMARY KEY, v text)")
    run = Following(pgcopydb, pair, workdir_path).start("--max-disk", "3MB")
    with pair.target.connect(autocommit=False) as blocker:
        blocker.execute("LOCK TABLE wide IN ACCESS EXCLUSIVE MODE")
        rows = "INSERT INTO wide SELECT i, repeat('v', 1000) FROM generate_series({}, {}) i"
        for number in range(20):
            pair.source.execute(rows.format(number * 200 + 1, number * 200 + 200))
        run.wait(lambda: stage_state(run, "receive")["phase"] == "paused", "the pause")
        blocker.rollback()
    run.wait(lambda: rows_of(pair) == 4_000, "the rest")
    pair.source.execute(rows.format(10_001, 20_000))
    run.wait(lambda: rows_of(pair) == 14_000, "a large transaction")
    assert "though all of it is applied" in run.log
    run.set_end()
    wait_until(lambda: run.process.poll() is not None, 60, "the end")
    run.ends()
