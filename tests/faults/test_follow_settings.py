"""Servers that are set up against long sessions, and a work directory that cannot be written to."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import pytest
from psycopg.conninfo import make_conninfo

from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers
from tests.following import Following, has_worked, pair_of, prepare
from tests.wait import wait_until
from tests.workload import Workload

IMPATIENT: Mapping[str, str] = {
    "statement_timeout": "1s",
    "idle_in_transaction_session_timeout": "1s",
    "idle_session_timeout": "1s",
    "lock_timeout": "1s",
    "wal_sender_timeout": "2s",
}


@pytest.fixture(params=[15, 18], ids=lambda major: f"from {major}")
def pair(request: pytest.FixtureRequest, servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, request.param, 18) as pair:
        yield pair


@contextmanager
def impatient(database: Database) -> Iterator[None]:
    for name, value in IMPATIENT.items():
        database.execute(f"ALTER SYSTEM SET {name} = '{value}'")
    database.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        for name in IMPATIENT:
            database.execute(f"ALTER SYSTEM RESET {name}")
        database.execute("SELECT pg_reload_conf()")


def test_impatient_servers(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Nothing of ours is ended by them, be it idle for long or busy for long."""
    prepare(pair)
    pair.source.execute("CREATE TABLE held (id int PRIMARY KEY)")
    with impatient(pair.source), impatient(pair.target):
        run = Following(pgcopydb, pair, workdir_path).start()
        idle = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgcopydb%' AND state = 'idle'"
        long = f"{idle} AND state_change < now() - interval '4 s'"
        run.wait(lambda: pair.source.fetch(long)[0][0] > 0, "sessions that have been idle for long")
        with pair.target.connect(autocommit=False) as blocker:
            blocker.execute("SET LOCAL idle_in_transaction_session_timeout = 0")
            blocker.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
            pair.source.execute("INSERT INTO held VALUES (1)")
            waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND waitstart < now() - interval '4 s'"
            run.wait(lambda: pair.target.fetch(waits) == [(1,)], "a statement that waits for long")
            blocker.rollback()
        # Those who write are no part of the test: on a busy machine they would be ended too.
        settings = (f"-c {name}=0" for name in IMPATIENT if name != "wal_sender_timeout")
        patient = make_conninfo(pair.source.dsn, options=" ".join(settings))
        with Workload(patient, seed=8) as workload:
            run.wait(partial(has_worked, workload, 50), "work on the source")
            run.catches_up()
        assert "trying again" not in run.log
        run.set_end()
        run.ends()


def test_a_work_directory_that_became_read_only(pair: DbPair, pgcopydb: Command, tmp_path: Path) -> None:
    """As a file system does after an error of its disk; with another one in its place it goes on."""
    folder = tmp_path / "mounted"
    folder.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a file system here: {mounted.stderr.strip()}")
    try:
        prepare(pair)
        run = Following(pgcopydb, pair, folder / "work").start()
        run.process.terminate()
        run.process.wait(30)
        subprocess.run(["/bin/mount", "-o", "remount,ro", folder], check=True)
        Workload(pair.source.dsn, seed=9).run(20)
        run.begin()
        wait_until(lambda: run.process.poll() is not None, 60, "an error")
        assert run.process.returncode == 3, run.log
        assert "Read-only file system" in run.log
        assert "internal error" not in run.log
        run.leaves_nothing()
        subprocess.run(["/bin/mount", "-o", "remount,rw", folder], check=True)
        run = Following(pgcopydb, pair, folder / "work").start()
        run.set_end()
        run.ends()
    finally:
        subprocess.run(["/bin/umount", "-l", folder], check=True)
