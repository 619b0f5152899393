"""Where one file of changes ends and the next begins: at the boundary of a WAL segment, whatever happens just there."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from pgcopydb.apply.apply_stage import Stage, run_apply
from pgcopydb.daemon import tail
from pgcopydb.daemon.heartbeat import Heartbeat
from pgcopydb.daemon.slot import sentinel_of
from pgcopydb.daemon.stream import load_stream
from pgcopydb.daemon.tail import Tail
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.runtime.errors import Stopped
from pgcopydb.runtime.stop import Stop, StopMode
from pgcopydb.runtime.workdir import WorkDir
from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers, fresh_database
from tests.following import drop_progress, is_halted, uris
from tests.integration.test_follow import current
from tests.wait import wait_until


@pytest.fixture
def pair(servers: Servers, pgcopydb: Command, workdir_path: Path) -> Iterator[DbPair]:
    """The same empty table on both sides, and a stream that may be applied."""
    with (
        fresh_database(servers.get(15), "source") as source,
        fresh_database(servers.get(17, "target"), "target") as target,
    ):
        pair = DbPair(source, target)
        for database in (source, target):
            database.execute("CREATE TABLE t (i int PRIMARY KEY)")
        pgcopydb.run("stream", "setup", "--plugin", "test_decoding", "--dir", workdir_path, env=uris(pair))
        pgcopydb.run("stream", "sentinel", "set", "apply", "--dir", workdir_path, env=uris(pair))
        yield pair
        pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=uris(pair))
        drop_progress(target)


def written(workdir: Path, suffix: str) -> str:
    """What the files hold, finished or not."""
    return "".join(path.read_text() for path in sorted((workdir / "cdc").glob(f"*{suffix}*")))


def test_killed_while_a_file_is_closed(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """The line that closes a file is there, its final name is not; what comes next belongs before that line."""
    env, where = uris(pair), ("--dir", workdir_path)
    with pair.source.connect(autocommit=False) as long:
        long.execute("INSERT INTO t VALUES (1)")
        pair.source.execute("INSERT INTO t VALUES (2)")
        pair.source.execute("SELECT pg_switch_wal()")
        receive = ("stream", "receive", *where, "--endpos")
        trap = {"PGCOPYDB_FAILPOINTS": "receive.before_rename=kill"}
        assert pgcopydb.run(*receive, current(pair), env=env | trap, check=False).returncode == -signal.SIGKILL
        transform = pgcopydb.start("stream", "transform", *where, env=env)
        wait_until(lambda: "VALUES ('2')" in written(workdir_path, ".sql"), 30, "the first row in an SQL file")
    pgcopydb.run(*receive, current(pair), env=env)
    assert transform.wait(30) == 0, pgcopydb.log_of(transform)
    pgcopydb.run("stream", "apply", *where, env=env)
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_an_end_position_behind_which_a_file_begins(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """The file that holds the last transaction is removed: what is left says how far receiving came."""
    env, follow = uris(pair), ("follow", "--dir", workdir_path, "--endpos")
    pair.source.execute("INSERT INTO t VALUES (1)")
    pgcopydb.run(*follow, current(pair), env=env)
    pair.source.execute("INSERT INTO t VALUES (2)")
    pair.source.execute("SELECT pg_switch_wal()")
    boundary = current(pair)
    pair.source.execute("SELECT pg_current_xact_id()")
    pair.source.execute("INSERT INTO t VALUES (3)")
    pgcopydb.run(*follow, boundary, env=env)
    assert '"action":"C"' not in written(workdir_path, ".json"), "the file with the commit was to be removed"
    pgcopydb.run(*follow, current(pair), env=env)
    assert_same_content(pair.source.dsn, pair.target.dsn)


@pytest.mark.parametrize("place", ["transform.before_publish", "transform.before_rename", "transform.after_publish"])
def test_transform_is_killed_while_it_closes_a_file(
    place: str, pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    env, where = uris(pair), ("--dir", workdir_path)
    pair.source.execute("INSERT INTO t VALUES (1)")
    pair.source.execute("SELECT pg_switch_wal()")
    pair.source.execute("INSERT INTO t VALUES (2)")
    pgcopydb.run("stream", "receive", *where, "--endpos", current(pair), env=env)
    trap = {"PGCOPYDB_FAILPOINTS": f"{place}=kill"}
    assert pgcopydb.run("stream", "transform", *where, env=env | trap, check=False).returncode == -signal.SIGKILL
    pgcopydb.run("stream", "transform", *where, env=env, timeout=30)
    pgcopydb.run("stream", "apply", *where, env=env)
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_files_are_removed_by_hand_while_apply_removes_more(
    pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    """The one who is slower knows of an earlier position."""
    env, where = uris(pair), ("--dir", workdir_path)
    for number in (1, 2):
        pair.source.execute(f"INSERT INTO t VALUES ({number})")
        pair.source.execute("SELECT pg_switch_wal()")
    pair.source.execute("INSERT INTO t VALUES (3)")
    end = ("--endpos", current(pair))
    pgcopydb.run("stream", "receive", *where, *end, env=env)
    pgcopydb.run("stream", "transform", *where, env=env)
    pgcopydb.run("stream", "apply", *where, "--keep-files", env=env)

    slow = pgcopydb.start("stream", "prune", *where, env=env | {"PGCOPYDB_FAILPOINTS": "prune.before_first=stop"})
    wait_until(lambda: is_halted(slow.pid), 30, "files to be found that can go")
    for number in (4, 5):
        pair.source.execute("SELECT pg_switch_wal()")
        pair.source.execute(f"INSERT INTO t VALUES ({number})")
    pgcopydb.run("follow", *where, "--endpos", current(pair), env=env)
    slow.send_signal(signal.SIGCONT)
    assert slow.wait(30) == 0, pgcopydb.log_of(slow)

    pair.source.execute("SELECT pg_switch_wal()")
    pair.source.execute("INSERT INTO t VALUES (6)")
    pgcopydb.run("follow", *where, "--endpos", current(pair), env=env)
    assert_same_content(pair.source.dsn, pair.target.dsn)
    assert "VALUES ('4')" not in written(workdir_path, ".sql"), "what was left by the one was not removed by the other"


def test_removing_files_by_hand_waits_for_its_turn(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    with WorkDir(workdir_path).lock("prune"):
        waiting = pgcopydb.start("stream", "prune", "--dir", workdir_path, env=uris(pair))
        wait_until(lambda: "Waiting for another process" in pgcopydb.log_of(waiting), 30, "it to wait")
        assert waiting.poll() is None
    assert waiting.wait(30) == 0, pgcopydb.log_of(waiting)


@pytest.mark.parametrize("wanted", [StopMode.GRACEFUL, StopMode.FAST])
def test_apply_is_stopped_while_it_reads_a_large_transaction(
    wanted: StopMode, pair: DbPair, pgcopydb: Command, workdir_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It says that it lives for each block that it reads, and reads no more of them when it is stopped."""
    env, where = uris(pair), ("--dir", workdir_path)
    pair.source.execute("INSERT INTO t SELECT generate_series(1, 20000)")
    pgcopydb.run("stream", "receive", *where, "--endpos", current(pair), env=env)
    pgcopydb.run("stream", "transform", *where, env=env)
    stop, workdir = Stop(), WorkDir(workdir_path)
    source, target = (
        Endpoint(ConnInfo.parse(side, dsn), "large")
        for side, dsn in ((Side.SOURCE, pair.source.dsn), (Side.TARGET, pair.target.dsn))
    )
    stream = load_stream(workdir)
    told: list[int] = []
    read: list[int] = []
    beat, real_read = Heartbeat.beat, Tail.read

    def counted_beat(self: Heartbeat, *more: Any) -> None:
        told.append(len(read))
        beat(self, *more)

    def counted_read(self: Tail) -> bytes:
        read.append(self.offset)
        if len(read) == 5:
            stop.request(wanted)
        return real_read(self)

    monkeypatch.setattr(tail, "_BLOCK_BYTES", 4096)
    monkeypatch.setattr(Heartbeat, "beat", counted_beat)
    monkeypatch.setattr(Tail, "read", counted_read)
    with pytest.raises(Stopped), closing(sentinel_of(stream, source, target, "apply")) as sentinel:
        run_apply(Stage(target, sentinel, workdir, stream, stop))
    assert len(read) == 5
    assert set(range(5)) <= set(told)
    assert pair.target.fetch("SELECT count(*) FROM t") == [(0,)]
    monkeypatch.undo()
    pgcopydb.run("stream", "apply", *where, env=env)
    assert_same_content(pair.source.dsn, pair.target.dsn)
