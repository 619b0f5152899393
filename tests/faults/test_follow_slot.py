"""A slot that goes away while it is followed: that is said, with what to do, and nothing is tried for ever."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psycopg
import pytest

from tests.faults.test_follow_kill import nothing_runs, uris
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers, fresh_database
from tests.following import is_applied
from tests.wait import wait_until

TABLE = "CREATE TABLE t (i int PRIMARY KEY, filler text)"


@pytest.fixture(params=[15, pytest.param(17, marks=pytest.mark.slow), 18])
def pair(request: pytest.FixtureRequest, servers: Servers) -> Iterator[DbPair]:
    with (
        fresh_database(servers.get(request.param), "source") as source,
        fresh_database(servers.get(17, "target"), "target") as target,
    ):
        source.execute(TABLE)
        yield DbPair(source, target)
        target.execute("SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin")
        source.execute(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = current_database()"
        )


def dropped(source: Database) -> bool:
    """The receiver may be back before the slot can be dropped."""
    source.execute("SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots WHERE active")
    try:
        source.execute("SELECT pg_drop_replication_slot('pgcopydb')")
    except psycopg.errors.ObjectInUse:
        return False
    return True


def test_it_is_dropped(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    process = pgcopydb.start("clone", "--follow", "--dir", workdir_path, env=uris(pair))
    wait_until(lambda: process.poll() is not None or is_applied(pair), 60, "changes to be applied")
    wait_until(lambda: dropped(pair.source), 30, "the slot to be dropped")
    wait_until(lambda: process.poll() is not None, 30, "the end of the run")
    check_end(pgcopydb.log_of(process), process.returncode, "there is no replication slot pgcopydb on the source")
    wait_until(partial(nothing_runs, pair), 20, "all sessions to end")
    again = pgcopydb.run("follow", "--dir", workdir_path, env=uris(pair), check=False)
    check_end(again.stderr, again.returncode, "there is no replication slot pgcopydb on the source")


def check_end(log: str, code: int, said: str) -> None:
    assert code == 6, log
    assert said in log
    assert "a new slot and a new copy" in log


def status(source: Database) -> str:
    return str(source.fetch("SELECT wal_status FROM pg_replication_slots WHERE slot_name = 'pgcopydb'")[0][0])


def test_its_wal_is_removed(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """The target does not get on, so that nothing is acknowledged; the source may keep little."""
    process = pgcopydb.start("clone", "--follow", "--dir", workdir_path, env=uris(pair))
    wait_until(lambda: process.poll() is not None or is_applied(pair), 60, "changes to be applied")
    source = pair.source
    source.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1MB'")
    try:
        with pair.target.connect(autocommit=False) as blocker:
            blocker.execute("LOCK TABLE t")
            source.execute("INSERT INTO t VALUES (1)")
            source.execute("SELECT pg_reload_conf()")
            for number in range(2, 6):
                source.execute(f"INSERT INTO t VALUES ({number})")
                source.execute("SELECT pg_switch_wal()")
            source.execute("CHECKPOINT")
            wait_until(lambda: status(source) == "lost", 30, "the slot to be lost")
            blocker.rollback()
            wait_until(lambda: process.poll() is not None, 30, "the end of the run")
    finally:
        source.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        source.execute("SELECT pg_reload_conf()")
    check_end(pgcopydb.log_of(process), process.returncode, "the source has removed WAL that it needs")
    wait_until(partial(nothing_runs, pair), 20, "all sessions to end")
