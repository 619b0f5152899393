"""The run ends well only when everything up to the end position is on the target, whatever happens to its stages."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers, fresh_database
from tests.following import drop_progress, end_ahead, go_beyond, is_applied, is_halted, processes_of, sentinel_row, uris
from tests.integration.test_follow import current, end_here
from tests.wait import wait_until

ROWS = "INSERT INTO t SELECT i, repeat('x', 200) FROM generate_series({}, {}) i"


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with (
        fresh_database(servers.get(15), "source") as source,
        fresh_database(servers.get(17, "target"), "target") as target,
    ):
        source.execute("CREATE TABLE t (i int PRIMARY KEY, f text)")
        yield DbPair(source, target)
        drop_progress(target)


def stage_of(process: subprocess.Popen[bytes], name: str) -> int:
    """The pid of a stage, 0 when it is not running."""
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = (folder / "stat").read_text().rpartition(") ")[2].split()[1]
            arguments = (folder / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if parent == str(process.pid) and b"stream" in arguments and name.encode() in arguments:
            return int(folder.name)
    return 0


def running_stage(process: subprocess.Popen[bytes], name: str) -> int:
    """Its pid, which is safe to send a signal to."""
    return wait_until(lambda: stage_of(process, name), 30, f"stage {name} to run")


def follow(
    pgcopydb: Command, pair: DbPair, workdir: Path, *options: str, failpoints: str = ""
) -> subprocess.Popen[bytes]:
    env = {**uris(pair), "PGCOPYDB_FAILPOINTS": failpoints}
    process = pgcopydb.start("clone", "--follow", "--plugin", "test_decoding", "--dir", workdir, *options, env=env)
    wait_until(lambda: is_applied(pair) or process.poll() is not None, 60, "changes to be applied")
    return process


def count(pair: DbPair) -> int:
    return int(pair.target.fetch("SELECT count(*) FROM t")[0][0])


@contextmanager
def held_up(pair: DbPair) -> Iterator[int]:
    """Ten rows to apply, whose statement waits for a lock meanwhile; gives the process that waits."""
    waiting = "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'pgcopydb%' AND wait_event_type = 'Lock'"
    with pair.target.connect(autocommit=False) as blocker:
        blocker.execute("LOCK TABLE t")
        pair.source.execute(ROWS.format(1, 10))
        yield wait_until(lambda: pair.target.fetch(waiting), 30, "a statement to wait")[0][0]


def test_a_stage_that_somebody_stops_before_the_end_position(
    pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    process = follow(pgcopydb, pair, workdir_path)
    ahead = end_ahead(pair)
    pgcopydb.run("stream", "sentinel", "set", "endpos", ahead, "--dir", workdir_path, env=uris(pair))
    stopped = running_stage(process, "apply")
    os.kill(stopped, signal.SIGTERM)
    wait_until(lambda: stage_of(process, "apply") not in {0, stopped}, 30, "the stage to be started again")
    pair.source.execute(ROWS.format(1, 1000))
    go_beyond(pair)
    assert process.wait(60) == 0, pgcopydb.log_of(process)
    assert count(pair) == 1000


def test_an_end_position_that_is_moved_while_a_stage_ends(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    process = follow(pgcopydb, pair, workdir_path, failpoints="replay.at_endpos=stop")
    pair.source.execute(ROWS.format(1, 10))
    end_here(pgcopydb, pair, workdir_path)
    wait_until(lambda: is_halted(running_stage(process, "apply")), 30, "the end of applying")
    wait_until(lambda: stage_of(process, "receive") == 0, 30, "the end of receiving")
    pair.source.execute(ROWS.format(11, 20))
    endpos = end_here(pgcopydb, pair, workdir_path)
    wait_until(lambda: str(sentinel_row(pair.source)["write_lsn"]) == str(endpos), 30, "the rest to be received")
    wait_until(lambda: stage_of(process, "receive") == 0, 30, "the end of receiving once more")
    halted = running_stage(process, "apply")
    os.kill(halted, signal.SIGCONT)
    wait_until(lambda: process.poll() is not None or stage_of(process, "apply") not in {0, halted}, 30, "what follows")
    assert process.poll() is None, "the rest was not applied"
    wait_until(lambda: is_halted(running_stage(process, "apply")), 30, "the end of applying once more")
    os.kill(running_stage(process, "apply"), signal.SIGCONT)
    assert process.wait(60) == 0, pgcopydb.log_of(process)
    assert count(pair) == 20


def test_an_interrupt_while_a_statement_waits_for_a_lock(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    process = follow(pgcopydb, pair, workdir_path)
    with held_up(pair):
        process.send_signal(signal.SIGINT)
        assert process.wait(20) != 0
    pgcopydb.run("follow", "--dir", workdir_path, "--endpos", current(pair), env=uris(pair))
    assert count(pair) == 10


def test_a_statement_that_somebody_cancels_comes_again(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    process = follow(pgcopydb, pair, workdir_path)
    with held_up(pair) as pid:
        pair.target.execute(f"SELECT pg_cancel_backend({pid})")
        wait_until(lambda: "canceling statement due to user request" in pgcopydb.log_of(process), 30, "the news")
    end_here(pgcopydb, pair, workdir_path)
    assert process.wait(60) == 0, pgcopydb.log_of(process)
    assert count(pair) == 10


def test_no_orphan_waits_for_a_lock(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Who starts the migration again at once would meet its locks."""
    process = follow(pgcopydb, pair, workdir_path)
    with held_up(pair):
        process.kill()
        process.wait()
        wait_until(lambda: not processes_of(workdir_path), 20, "all stages to end")
    pgcopydb.run("follow", "--dir", workdir_path, "--endpos", current(pair), env=uris(pair))
    assert count(pair) == 10


def test_a_conflict_that_an_earlier_process_met(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Accepted and logged; the end is no success all the same."""
    pair.source.execute(ROWS.format(1, 3))
    process = follow(pgcopydb, pair, workdir_path, "--on-conflict", "warn")
    pair.target.execute("DELETE FROM t WHERE i < 3")
    pair.source.execute("BEGIN; UPDATE t SET f = 'x' WHERE i = 1; DELETE FROM t WHERE i = 2; COMMIT")
    pair.source.execute(ROWS.format(4, 4))
    wait_until(lambda: count(pair) == 2, 30, "the changes to be applied")
    killed = running_stage(process, "apply")
    os.kill(killed, signal.SIGKILL)
    wait_until(lambda: stage_of(process, "apply") not in {0, killed}, 30, "the stage to be started again")
    end_here(pgcopydb, pair, workdir_path)
    assert process.wait(60) == 12
    assert "2 changes did not find the rows" in pgcopydb.log_of(process)
    kept = [orjson.loads(line) for line in (workdir_path / "conflicts.jsonl").read_bytes().splitlines()]
    assert [(each["expected"], each["found"]) for each in kept] == [(1, 0), (1, 0)]


def test_a_session_that_ends_while_there_is_nothing_to_apply(
    pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    """It is replaced when that happens, not when the next change comes; until then nothing would wait."""
    process = follow(pgcopydb, pair, workdir_path)
    sessions = (
        "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '% apply %'"
    )
    before = wait_until(lambda: pair.target.fetch(sessions), 30, "a session that applies")
    pair.target.execute(f"SELECT pg_terminate_backend({before[0][0]}, 10000)")
    wait_until(lambda: pair.target.fetch(sessions) not in ([], before), 30, "another session")
    pair.source.execute(ROWS.format(1, 10))
    end_here(pgcopydb, pair, workdir_path)
    assert process.wait(60) == 0, pgcopydb.log_of(process)
    assert count(pair) == 10
