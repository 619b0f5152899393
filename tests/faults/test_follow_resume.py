"""Killed again and again, from the first moment of the copy on, and gone on with each time; and a power failure."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import orjson
import pytest

from pgcopydb.postgres.lsn import Lsn
from tests.content import assert_same_content
from tests.faults.test_follow_kill import children_of, nothing_runs, pair, run_to_the_end, switch_wal
from tests.fix_command import Command
from tests.fix_servers import DbPair
from tests.following import is_applied, uris
from tests.lot import lot
from tests.wait import wait_until
from tests.workload import SCHEMA, Workload

__all__ = ["pair"]

COPYING = (
    "dump.after_publish",
    "pre_data.after_restore",
    "copy.after_truncate",
    "copy.before_commit",
    "copy.after_commit",
    "index.after_create",
    "constraint.after_create",
    "post_data.before_restore",
    "post_data.after_restore",
    "sequences.after_set",
    "follow.after_copy",
)
STAGES = (
    "receive.after_write",
    "receive.before_sync",
    "receive.after_feedback",
    "receive.before_rename",
    "transform.after_write",
    "transform.before_rename",
    "replay.before_commit",
    "replay.after_commit",
    "replay.after_report",
    "prune.before_remove",
)


def traps(rng: Random) -> str:
    """One place of the copy, and two of the stages that run beside it."""
    chosen = [(rng.choice(COPYING), rng.randint(1, 8)), *((name, rng.randint(1, 20)) for name in rng.sample(STAGES, 2))]
    return ",".join(f"{name}=kill@{passes}" for name, passes in chosen)


def kill_all(process: subprocess.Popen[bytes]) -> None:
    """As a machine does that is switched off."""
    for pid in [process.pid, *children_of(process.pid)]:
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
    process.wait(30)


def works(workload: Workload, count: int) -> None:
    wanted = workload.committed + count
    wait_until(lambda: workload.committed >= wanted, 60, "work on the source")


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 9))])
def test_killed_from_the_beginning_on(seed: int, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """At places drawn by lot. Each run begins while the stages of the one before may still be ending."""
    rng = lot(seed)
    pair.source.execute(SCHEMA)
    with Workload(pair.source.dsn, seed=seed, writers=2) as workload:
        works(workload, 50)
        for number in range(6):
            more = ["--resume"] if number else []
            process = pgcopydb.start("clone", "--follow", *more, "--dir", workdir_path, env=uris(pair, traps(rng)))
            wait_until(partial(is_over_or, process, partial(is_applied, pair)), 120, "changes to be applied, or a kill")
            if process.poll() is None:
                works(workload, rng.randint(1, 30))
                switch_wal(pair)
                works(workload, rng.randint(1, 30))
                (kill_all if rng.random() < 0.5 else subprocess.Popen.kill)(process)
            log = pgcopydb.log_of(process)
            assert process.wait(30) in {-signal.SIGKILL, 12, 122}, log
            assert "internal error" not in log
    log = run_to_the_end(pgcopydb, pair, workdir_path)
    assert log.startswith("0:"), log
    assert_same_content(pair.source.dsn, pair.target.dsn)


def is_over_or(process: subprocess.Popen[bytes], condition: Callable[[], bool]) -> bool:
    return process.poll() is not None or condition()


def lose_what_was_not_flushed(pair: DbPair, folder: Path, rng: Random) -> None:
    """Of the change file what is not acknowledged, of the SQL file anything: cut off, or left as a hole of zeros."""
    acknowledged = Lsn.parse(
        str(
            pair.source.fetch(
                "SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE database = current_database()"
            )[0][0]
        )
    )
    for path in folder.glob("*.partial"):
        kept = 0
        content = path.read_bytes()
        if ".json" in path.name:
            end = 0
            for line in content.splitlines(keepends=True):
                if b"\0" in line:
                    break  # of the failure before, which nothing had the time to repair
                end += len(line)
                position = boundary(line) if line.endswith(b"\n") else None
                if position is not None and position <= acknowledged:
                    kept = end
        hole = rng.randint(kept, len(content))
        zeros = rng.randint(hole, len(content)) if rng.random() < 0.5 else hole
        path.write_bytes(content[:hole] + (bytes(zeros - hole) + content[zeros:] if zeros > hole else b""))


def boundary(line: bytes) -> Lsn | None:
    found = orjson.loads(line)
    return Lsn.parse(found["lsn"]) if found["action"] in {"C", "K", "R"} else None


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=pytest.mark.slow) for seed in range(2, 7))])
def test_the_power_fails(seed: int, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    rng = lot(seed)
    pair.source.execute(SCHEMA)
    with Workload(pair.source.dsn, seed=seed, writers=2) as workload:
        works(workload, 30)
        for number in range(5):
            more = ["--resume"] if number else []
            process = pgcopydb.start("clone", "--follow", *more, "--dir", workdir_path, env=uris(pair))
            wait_until(partial(is_over_or, process, partial(is_applied, pair)), 120, "changes to be applied")
            for _ in range(rng.randint(1, 3)):
                works(workload, rng.randint(1, 40))
                if rng.random() < 0.3:
                    switch_wal(pair)
            assert process.poll() is None, pgcopydb.log_of(process)
            kill_all(process)
            wait_until(partial(nothing_runs, pair), 30, "all sessions to end")
            lose_what_was_not_flushed(pair, workdir_path / "cdc", rng)
    log = run_to_the_end(pgcopydb, pair, workdir_path)
    assert log.startswith("0:"), log
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_sigquit_ends_it_at_once(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.source.execute(SCHEMA)
    with Workload(pair.source.dsn, seed=5, writers=2) as workload:
        process = pgcopydb.start("clone", "--follow", "--dir", workdir_path, env=uris(pair))
        wait_until(partial(is_over_or, process, partial(is_applied, pair)), 120, "changes to be applied")
        works(workload, 20)
        children = children_of(process.pid)
        assert len(children) == 3
        process.send_signal(signal.SIGQUIT)
        assert process.wait(10) == 12, pgcopydb.log_of(process)
        wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in children), 20, "its stages to end")
    wait_until(partial(nothing_runs, pair), 20, "all sessions to end")
    log = run_to_the_end(pgcopydb, pair, workdir_path)
    assert log.startswith("0:"), log
    assert_same_content(pair.source.dsn, pair.target.dsn)
