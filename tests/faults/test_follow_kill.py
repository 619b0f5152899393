"""Kill what follows changes at every failpoint, go on, and compare both sides row by row.

Each stage is a process; one that is killed is started again, and killed again, until the run gives up or the trap has
no passes left. Then the same command is run again without the trap.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from pgcopydb.runtime.failpoint import NAMES
from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import is_applied, is_replayed, pair_of, sentinel_row, uris
from tests.lot import lot
from tests.recovery import measured
from tests.wait import wait_until
from tests.workload import SCHEMA, Workload

GROUPS = ("stream.", "receive.", "transform.", "replay.", "prune.", "follow.", "supervise.", "sentinel.")
NAMED = sorted(name for name in NAMES if name.startswith(GROUPS))

# Walked on every change; the others with `make faults`.
SHORT = {
    "receive.after_sync",
    "receive.after_publish",
    "transform.before_publish",
    "replay.after_commit",
    "supervise.after_launch",
}
AT_THE_END = {
    "receive.at_endpos",
    "replay.at_endpos",
    "follow.before_sequences",
    "follow.after_sequences",
    "follow.after_views",
    "follow.after_large_objects",
    "supervise.after_end",
    "supervise.all_ended",
}
ONCE_A_SEGMENT = {
    "receive.before_publish",
    "receive.before_rename",
    "receive.after_publish",
    "transform.before_publish",
    "transform.before_rename",
    "transform.after_publish",
    "prune.before_note",
    "prune.before_first",
    "prune.before_remove",
    "prune.after_remove",
}
SETUP = {
    "stream.before_slot",
    "stream.after_publications",
    "stream.after_slot",
    "stream.after_origin",
    "stream.after_sentinel",
}
FIRST = {
    "follow.after_copy",
    "replay.after_session",
    "replay.after_flush",
    "replay.after_report",
    "sentinel.before_steer",
    "sentinel.after_steer",
    "supervise.before_launch",
    "supervise.after_launch",
}
CHANGED_LARGE_OBJECTS = [
    "large_objects.after_remember",
    "large_objects.before_commit",
    "large_objects.after_commit",
    "follow.after_large_objects",
]
# What is new lies among the others: each worker makes some of it.
LARGE_OBJECTS = "SELECT lo_from_bytea(1000 + 2 * i, ('object ' || i)::bytea) FROM generate_series(1, 800) AS i"
CHANGES_OF_LARGE_OBJECTS = """
SELECT lo_put(oid, 0, 'O') FROM pg_largeobject_metadata WHERE oid::bigint % 7 = 0;
SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid::bigint % 7 = 1;
SELECT lo_from_bytea(1001 + 20 * i, 'new') FROM generate_series(1, 80) AS i;
COMMENT ON LARGE OBJECT 1006 IS 'said';
"""
GONE_OF_LARGE_OBJECTS = """
SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid::bigint % 2 = 1
"""
REPAIRS = {
    "repair.after_cut": "receive.after_write",
    "repair.after_publish": "receive.before_rename",
    "repair.after_shorten": "transform.after_write",
}
"""What has to happen before there is something to repair."""
CLEANUP = sorted(name for name in NAMES if name.startswith("cleanup."))


def cases() -> list[object]:
    return [pytest.param(name, marks=() if name in SHORT else pytest.mark.slow) for name in NAMED]


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 18) as pair:
        yield pair


def switch_wal(pair: DbPair) -> str:
    """Files are complete when the source's segment is."""
    pair.source.execute("SELECT pg_switch_wal()")
    return str(pair.source.fetch("SELECT pg_current_wal_flush_lsn()")[0][0])


def run_to_the_end(pgcopydb: Command, pair: DbPair, workdir: Path, failpoints: str = "") -> str:
    """Follow until the position of now; the log. Does not check how that ends."""
    done = pgcopydb.start("clone", "--follow", "--resume", "--dir", workdir, env=uris(pair, failpoints))
    with measured():
        wait_until(lambda: done.poll() is not None or is_applied(pair), 60, "changes to be applied")
        if done.poll() is None:
            pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir, env=uris(pair))
        wait_until(lambda: done.poll() is not None, 90, "the end position to be reached")
    return f"{done.returncode}: {pgcopydb.log_of(done)}"


def nothing_runs(pair: DbPair) -> bool:
    """Not a session of ours on either server."""
    query = "SELECT FROM pg_stat_activity WHERE application_name LIKE 'pgcopydb%' AND datname = current_database()"
    return not pair.source.fetch(query) and not pair.target.fetch(query)


def trap(name: str) -> str:
    """Later passes are the interesting ones, where there are any."""
    rare = AT_THE_END | ONCE_A_SEGMENT | SETUP | FIRST
    return f"{name}=kill" if name in rare else f"{name}=kill@4"


@pytest.mark.parametrize("name", cases())
def test_killed_and_gone_on(name: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.source.execute(SCHEMA)
    with Workload(pair.source.dsn, seed=31, writers=2) as workload:
        wait_until(lambda: workload.committed > 30, 60, "rows before the snapshot")
        trapped = pgcopydb.start("clone", "--follow", "--dir", workdir_path, env=uris(pair, trap(name)))
        if name not in AT_THE_END:
            for _ in range(3):
                seen = workload.committed
                wait_until(partial(behind, workload, seen + 40), 60, "work")
                switch_wal(pair)
            wait_until(lambda: trapped.poll() is not None or killed(pgcopydb, trapped), 90, "the process to be killed")
    if trapped.poll() is None and name not in AT_THE_END:
        trapped.kill()
    if name in AT_THE_END:
        wait_until(lambda: is_applied(pair) or trapped.poll() is not None, 90, "changes to be applied")
        pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=uris(pair))
    trapped.wait(90)
    assert trapped.returncode != 0 or killed(pgcopydb, trapped), pgcopydb.log_of(trapped)
    wait_until(lambda: nothing_runs(pair), 30, "all sessions to end")
    log = run_to_the_end(pgcopydb, pair, workdir_path)
    assert log.startswith("0:"), log
    assert_same_content(pair.source.dsn, pair.target.dsn)


@pytest.mark.parametrize(
    ("command", "name"),
    [
        *(("copy", name) for name in CHANGED_LARGE_OBJECTS if not name.startswith("follow.")),
        *(("follow", name) for name in CHANGED_LARGE_OBJECTS),
    ],
)
def test_killed_while_changed_large_objects_are_copied(
    command: str, name: str, pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    """What it made before is still its own to change and to remove, and what somebody else has made is not."""
    pair.source.execute("CREATE TABLE t (id int PRIMARY KEY);" + LARGE_OBJECTS)
    first = pgcopydb.start("clone", "--follow", "--dir", workdir_path, env=uris(pair))
    wait_until(lambda: first.poll() is not None or is_applied(pair), 60, "changes to be applied")
    first.terminate()
    first.wait(60)
    pair.source.execute(CHANGES_OF_LARGE_OBJECTS)
    pair.target.execute("SELECT lo_from_bytea(50, 'mine')")
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=uris(pair))
    arguments: list[str | os.PathLike[str]] = ["copy", "blobs", "--changed"] if command == "copy" else ["follow"]
    trapped = uris(pair, f"{name}=kill@{1 if name.startswith('follow.') else 2}")
    killed = pgcopydb.run(*arguments, "--dir", workdir_path, env=trapped, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    is_done = name == "follow.after_large_objects"
    if not is_done:
        # What was new before it was killed is gone before it goes on.
        pair.source.execute(GONE_OF_LARGE_OBJECTS)
    wait_until(lambda: nothing_runs(pair), 30, "all sessions to end")
    done = pgcopydb.run(*arguments, "--dir", workdir_path, env=uris(pair))
    assert ("they are left as they are" if is_done else "large objects written that were new") in done.stderr
    assert pair.target.fetch("SELECT lo_get(50), lo_unlink(50)") == [(b"mine", 1)]
    assert_same_content(pair.source.dsn, pair.target.dsn)


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "repair.after_shorten" else pytest.mark.slow) for name in REPAIRS]
)
def test_killed_while_it_repairs(name: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """What the one before left, also killed: the next one repairs all of it."""
    assert {name for name in NAMES if name.startswith("repair.")} == set(REPAIRS)
    pair.source.execute(SCHEMA)
    with Workload(pair.source.dsn, seed=33, writers=2) as workload:
        broken = pgcopydb.start("clone", "--follow", "--dir", workdir_path, env=uris(pair, f"{REPAIRS[name]}=kill"))
        while broken.poll() is None:
            seen = workload.committed
            wait_until(lambda: broken.poll() is not None or workload.committed > seen + 20, 60, "work")  # noqa: B023
            switch_wal(pair)
    wait_until(lambda: nothing_runs(pair), 30, "all sessions to end")
    if name == "repair.after_shorten":
        # A kill within a write: transform writes whole transactions, unless they are large.
        (torn,) = (workdir_path / "cdc").glob("*.sql.partial")
        with torn.open("ab") as file:
            file.write(b"INSERT INTO")
    repairing = pgcopydb.start("clone", "--follow", "--resume", "--dir", workdir_path, env=uris(pair, f"{name}=kill"))
    assert repairing.wait(90) == -signal.SIGKILL, pgcopydb.log_of(repairing)
    wait_until(lambda: nothing_runs(pair), 30, "all sessions to end")
    log = run_to_the_end(pgcopydb, pair, workdir_path)
    assert log.startswith("0:"), log
    assert_same_content(pair.source.dsn, pair.target.dsn)


@pytest.mark.parametrize("name", CLEANUP)
def test_killed_while_it_cleans_up(name: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """What is left is found the next time, and the servers are as they were before."""
    pgcopydb.run("stream", "setup", "--plugin", "pgoutput", "--dir", workdir_path, env=uris(pair))
    clean_up: list[str | os.PathLike[str]] = ["stream", "cleanup", "--dir", workdir_path]
    killed = pgcopydb.run(*clean_up, env=uris(pair, f"{name}=kill"), check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    pgcopydb.run(*clean_up, env=uris(pair))
    for database in (pair.source, pair.target):
        assert database.fetch("SELECT to_regnamespace('pgcopydb')") == [(None,)]
        assert database.fetch("SELECT FROM pg_publication") == []
    assert pair.target.fetch("SELECT FROM pg_replication_origin") == []
    slots = "SELECT FROM pg_replication_slots WHERE database = current_database()"
    assert pair.source.fetch(slots) == []
    assert not list((workdir_path / "cdc").iterdir())


def test_the_end_position_of_a_command_that_dies_counts(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """What it has written is heard of by the stages in the same moment, or nothing was written."""
    pair.source.execute(SCHEMA)
    process = pgcopydb.start("clone", "--follow", "--dir", workdir_path, env=uris(pair))
    wait_until(lambda: process.poll() is not None or is_applied(pair), 60, "changes to be applied")
    command: list[str | os.PathLike[str]] = ["stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path]
    for name, ends in (("sentinel.before_steer", False), ("sentinel.after_steer", True)):
        died = pgcopydb.run(*command, env=uris(pair, f"{name}=kill"), check=False)
        assert died.returncode == -signal.SIGKILL, died.stderr
        if not ends:
            assert sentinel_row(pair.source)["endpos"] == "0/0"
    assert process.wait(60) == 0, pgcopydb.log_of(process)


def behind(workload: Workload, count: int) -> bool:
    return workload.committed > count


def killed(pgcopydb: Command, process: subprocess.Popen[bytes]) -> bool:
    """Whether one of its stages was."""
    return "was killed by signal 9" in pgcopydb.log_of(process)


def children_of(pid: int) -> list[int]:
    with contextlib.suppress(FileNotFoundError):
        return [int(child) for child in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()] + [
            int(child)
            for task in Path(f"/proc/{pid}/task").iterdir()
            for child in (task / "children").read_text().split()
            if task.name != str(pid)
        ]
    return []


@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.slow), pytest.param(3, marks=pytest.mark.slow)])
def test_any_process_killed_at_any_time(seed: int, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """The whole tree and single stages, a dozen times while the source is written to and its segments are switched."""
    rng = lot(seed)
    pair.source.execute(SCHEMA)
    with Workload(pair.source.dsn, seed=seed, writers=2) as workload:
        process = pgcopydb.start("clone", "--follow", "--dir", workdir_path, env=uris(pair))
        wait_until(lambda: process.poll() is not None or is_applied(pair), 90, "changes to be applied")
        for _ in range(12):
            assert process.poll() is None, pgcopydb.log_of(process)
            target = switch_wal(pair)
            if rng.random() < 0.5:
                wait_until(partial(is_replayed, pair, target), 60, "the target to catch up")
            else:
                wait_until(partial(behind, workload, workload.committed + 10), 60, "work")
            victims = [process.pid, *children_of(process.pid)]
            victim = victims[rng.randrange(len(victims))]
            with contextlib.suppress(ProcessLookupError):
                os.kill(victim, signal.SIGKILL)
            if victim == process.pid or process.poll() is not None or rng.random() < 0.2:
                process.kill()
                process.wait(30)
                wait_until(lambda: nothing_runs(pair), 30, "all sessions to end")
                process = pgcopydb.start("clone", "--follow", "--resume", "--dir", workdir_path, env=uris(pair))
    process.kill()
    process.wait(30)
    wait_until(lambda: nothing_runs(pair), 30, "all sessions to end")
    log = run_to_the_end(pgcopydb, pair, workdir_path)
    assert log.startswith("0:"), log
    assert_same_content(pair.source.dsn, pair.target.dsn)
