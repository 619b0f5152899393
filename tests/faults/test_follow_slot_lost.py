"""A slot that is gone while it is followed: an error that says what to do, at once and each time again."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psycopg
import pytest

from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers
from tests.following import Following, is_halted, pair_of, prepare, stage
from tests.wait import wait_until
from tests.workload import Workload

DROPPED = "there is no replication slot pgcopydb on the source"
LOST = "replication slot pgcopydb is lost"


@pytest.fixture(params=[15, pytest.param(18, marks=pytest.mark.slow)], ids=lambda major: f"from {major}")
def pair(request: pytest.FixtureRequest, servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, request.param, 18) as pair:
        yield pair


def drop_slot(source: Database) -> None:
    """As soon as nobody reads it for a moment."""
    wait_until(lambda: is_dropped(source), 30, "the slot to be dropped")


def is_dropped(source: Database) -> bool:
    of_ours = "FROM pg_replication_slots WHERE slot_name = 'pgcopydb'"
    with suppress(psycopg.errors.ObjectInUse):
        source.execute(
            f"DO $$ BEGIN PERFORM pg_terminate_backend(active_pid, 5000) {of_ours} AND active; END $$;"
            f"SELECT pg_drop_replication_slot(slot_name) {of_ours}"
        )
    return source.fetch(f"SELECT count(*) {of_ours}") == [(0,)]


@contextmanager
def little_is_kept(source: Database) -> Iterator[None]:
    source.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    source.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        source.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        source.execute("SELECT pg_reload_conf()")


def is_lost(source: Database) -> bool:
    source.execute("SELECT pg_logical_emit_message(false, 'x', 'x')")
    source.execute("SELECT pg_switch_wal()")
    source.execute("CHECKPOINT")
    return source.fetch("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'pgcopydb'") == [("lost",)]


def gives_up(run: Following, why: str) -> None:
    """And says so each time again, for nothing makes it good."""
    assert run.process.wait(30) == 6, run.log
    again = run.pgcopydb.run("follow", "--dir", run.workdir, env=run.env(), check=False, timeout=30)
    assert again.returncode == 6
    for log in (run.log, again.stderr):
        assert why in log
        assert "egin again with a new slot and a new copy" in log
        assert "Traceback" not in log
    run.leaves_nothing()


def test_dropped(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    with Workload(pair.source.dsn, seed=2):
        run.catches_up()
        drop_slot(pair.source)
        gives_up(run, DROPPED)


def test_dropped_during_the_copy(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """It is not carried on with for hours."""
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path)
    run.begin(failpoints="pre_data.after_restore=stop")
    run.wait(lambda: is_halted(run.process.pid), "the copy to begin")
    drop_slot(pair.source)
    os.kill(run.process.pid, signal.SIGCONT)
    gives_up(run, DROPPED)


def test_fallen_behind(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """The source removes WAL that the slot needs, and ends whoever reads it."""
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    with little_is_kept(pair.source):
        receive = stage(workdir_path, "receive")
        os.kill(receive, signal.SIGSTOP)
        wait_until(lambda: is_lost(pair.source), 30, "the slot to be lost")
        os.kill(receive, signal.SIGCONT)
        gives_up(run, LOST)


def test_fallen_behind_while_nothing_ran(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    run.process.terminate()
    assert run.process.wait(30) == 12, run.log
    with little_is_kept(pair.source):
        wait_until(lambda: is_lost(pair.source), 30, "the slot to be lost")
    run.begin()
    gives_up(run, LOST)
