"""Connections that break, servers that go away, operators that stop a clone: nothing is lost, nothing stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database
from tests.proxy import Proxy
from tests.wait import wait_until

ROWS = """
CREATE TABLE wide (id bigint PRIMARY KEY, filler text NOT NULL);
INSERT INTO wide SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 60000) i;
CREATE INDEX wide_filler ON wide (md5(filler));
CREATE TABLE narrow (id int PRIMARY KEY, t text);
INSERT INTO narrow SELECT i, chr(65 + i % 26) FROM generate_series(1, 1000) i;
"""
HALF = 15_000_000
"""Bytes after which some half of the rows have gone through a proxy."""


@pytest.fixture
def loaded(source_db: Database) -> Database:
    source_db.execute(ROWS)
    source_db.execute("VACUUM ANALYZE")
    return source_db


def clone(source: str, target: str, workdir: Path) -> tuple[str, ...]:
    return ("clone", "--source", source, "--target", target, "--dir", str(workdir), "--table-jobs", "2")


def assert_nothing_runs(*databases: Database) -> None:
    """Also no pg_dump, pg_restore or vacuum: whoever is connected is ours or the fixture's own."""
    for database in databases:
        sessions = (
            "SELECT application_name, query FROM pg_stat_activity"
            " WHERE datname = current_database() AND pid <> pg_backend_pid()"
        )
        wait_until(lambda: not database.fetch(sessions), 20, f"the end of all sessions on {database.name}")  # noqa: B023


def stopped(process: subprocess.Popen[bytes]) -> None:
    """Wait until it has come to the failpoint that halts it."""
    assert os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT) is not None
    assert process.poll() is None, "it ended without passing the failpoint"


def test_the_target_is_cut_off_half_way_and_comes_back(
    loaded: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    with Proxy(target_db.dsn) as proxy:
        proxy.cut_after(HALF)
        done = pgcopydb.run(*clone(loaded.dsn, proxy.dsn, workdir_path))
        assert "back to the queue" in done.stderr
        assert proxy.passed > HALF
    assert_same_content(loaded.dsn, target_db.dsn)
    assert_nothing_runs(loaded, target_db)


@pytest.mark.slow
def test_the_target_is_cut_off_and_stays_away(
    loaded: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    with Proxy(target_db.dsn) as proxy:
        arguments = clone(loaded.dsn, proxy.dsn, workdir_path)
        proxy.cut_after(HALF, refuse=True)
        broken = pgcopydb.run(*arguments, check=False, timeout=200)
        assert broken.returncode == 7, broken.stderr
        assert "hint: " in broken.stderr
        assert_nothing_runs(loaded, target_db)
        proxy.accept_again()
        pgcopydb.run(*arguments, "--resume", "--not-consistent")
    assert_same_content(loaded.dsn, target_db.dsn)


def test_the_source_is_cut_off_half_way(
    loaded: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    """The snapshot is lost with its session: the run ends at once, and says how to go on."""
    with Proxy(loaded.dsn) as proxy:
        proxy.cut_after(HALF)
        arguments = clone(proxy.dsn, target_db.dsn, workdir_path)
        broken = pgcopydb.run(*arguments, check=False)
        assert broken.returncode == 6, broken.stderr
        assert "the session that holds the snapshot was lost" in broken.stderr
        assert "--not-consistent" in broken.stderr
        assert_nothing_runs(loaded, target_db)
        pgcopydb.run(*arguments, "--resume", "--not-consistent")
    assert_same_content(loaded.dsn, target_db.dsn)


def test_a_snapshot_that_another_command_holds_outlives_a_cut(
    loaded: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    digest = "SELECT count(*), sum(id), md5(string_agg(filler, '' ORDER BY id)) FROM wide"
    before = loaded.fetch(digest)
    holder = pgcopydb.start("snapshot", "--source", loaded.dsn, "--dir", workdir_path)
    wait_until((workdir_path / "snapshot").exists, 20, "the snapshot to be held")
    with Proxy(loaded.dsn) as proxy:
        proxy.cut_after(HALF)
        arguments = clone(proxy.dsn, target_db.dsn, workdir_path)
        assert pgcopydb.run(*arguments, check=False).returncode == 6
        loaded.execute("INSERT INTO wide VALUES (0, 'too late'); DELETE FROM narrow")
        pgcopydb.run(*arguments, "--resume")
    holder.send_signal(signal.SIGTERM)
    assert holder.wait(20) == 0
    assert target_db.fetch(digest) == before
    assert target_db.fetch("SELECT count(*) FROM narrow") == [(1000,)]


def test_the_holder_of_a_snapshot_notices_its_loss(loaded: Database, pgcopydb: Command, workdir_path: Path) -> None:
    with Proxy(loaded.dsn) as proxy:
        holder = pgcopydb.start("snapshot", "--source", proxy.dsn, "--dir", workdir_path)
        wait_until((workdir_path / "snapshot").exists, 20, "the snapshot to be held")
        proxy.cut()
        assert holder.wait(20) == 6
    assert "the session that holds the snapshot was lost" in pgcopydb.log_of(holder)
    assert not (workdir_path / "snapshot").exists()


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM], ids=lambda signum: signum.name)
@pytest.mark.parametrize(
    "place", ["dump.before_publish", "pre_data.after_restore", "copy.after_truncate", "index.after_create"]
)
def test_stopped_by_the_operator(
    place: str,
    signum: signal.Signals,
    loaded: Database,
    target_db: Database,
    pgcopydb: Command,
    workdir_path: Path,
) -> None:
    holder = pgcopydb.start("snapshot", "--source", loaded.dsn, "--dir", workdir_path)
    wait_until((workdir_path / "snapshot").exists, 20, "the snapshot to be held")
    arguments = clone(loaded.dsn, target_db.dsn, workdir_path)
    running = pgcopydb.start(*arguments, env={"PGCOPYDB_FAILPOINTS": f"{place}=stop"})
    stopped(running)
    running.send_signal(signum)
    running.send_signal(signal.SIGCONT)
    assert running.wait(60) == 12, pgcopydb.log_of(running)
    log = pgcopydb.log_of(running)
    assert "stopped on request" in log
    assert "--resume" in log
    assert "Traceback" not in log
    assert_nothing_runs(target_db)
    pgcopydb.run(*arguments, "--resume")
    holder.send_signal(signal.SIGTERM)
    assert holder.wait(20) == 0
    assert_same_content(loaded.dsn, target_db.dsn)
    assert_nothing_runs(loaded)


@pytest.mark.parametrize("stalled", ["source", "target"])
def test_ctrl_c_while_a_server_says_nothing(
    stalled: str, loaded: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    """A worker that waits for bytes that never come has to hear of the request too."""
    with Proxy(loaded.dsn) as source, Proxy(target_db.dsn) as target:
        running = pgcopydb.start(*clone(source.dsn, target.dsn, workdir_path))
        wait_until(lambda: source.passed > HALF, 30, "the copy to be under way")
        (source if stalled == "source" else target).stall()
        running.send_signal(signal.SIGINT)
        assert running.wait(30) == 12, pgcopydb.log_of(running)
    assert "stopped on request" in pgcopydb.log_of(running)
    assert_nothing_runs(loaded, target_db)


def test_a_table_that_vanished_is_a_warning(
    loaded: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    """Between the catalog and its COPY; pg_dump has it already. So has it what went with the table."""
    loaded.execute(
        "ALTER TABLE narrow ADD COLUMN n serial; CREATE SEQUENCE lonely; CREATE INDEX narrow_t ON narrow (t);"
        "CREATE MATERIALIZED VIEW seen AS SELECT count(*) FROM narrow; CREATE EXTENSION hstore"
    )
    running = pgcopydb.start(
        *clone(loaded.dsn, target_db.dsn, workdir_path), env={"PGCOPYDB_FAILPOINTS": "pre_data.after_restore=stop"}
    )
    stopped(running)
    loaded.execute("DROP TABLE narrow CASCADE; DROP SEQUENCE lonely; DROP EXTENSION hstore; DROP INDEX wide_filler")
    running.send_signal(signal.SIGCONT)
    assert running.wait(60) == 0, pgcopydb.log_of(running)
    assert "public.narrow was dropped on the source meanwhile" in pgcopydb.log_of(running)
    assert "sequence public.lonely was dropped meanwhile" in pgcopydb.log_of(running)
    assert target_db.fetch("SELECT count(*) FROM wide") == [(60000,)]
    assert target_db.fetch("SELECT count(*) FROM pg_indexes WHERE indexname = 'wide_filler'") == [(1,)]


def test_a_table_that_was_renamed_is_an_error(
    loaded: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    """Its rows are wanted: to leave it out like one that was dropped would lose them."""
    arguments = clone(loaded.dsn, target_db.dsn, workdir_path)
    running = pgcopydb.start(*arguments, env={"PGCOPYDB_FAILPOINTS": "pre_data.after_restore=stop"})
    stopped(running)
    loaded.execute("ALTER TABLE narrow RENAME TO slim")
    running.send_signal(signal.SIGCONT)
    assert running.wait(60) == 6
    assert "public.narrow was renamed to public.slim" in pgcopydb.log_of(running)
    loaded.execute("ALTER TABLE slim RENAME TO narrow")
    pgcopydb.run(*arguments, "--resume", "--not-consistent")
    assert_same_content(loaded.dsn, target_db.dsn)


def test_an_error_between_two_queues_ends_the_workers(
    loaded: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    arguments = clone(loaded.dsn, target_db.dsn, workdir_path)
    failed = pgcopydb.run(*arguments, env={"PGCOPYDB_FAILPOINTS": "snapshot.after_release=error"}, check=False)
    assert failed.returncode == 12
    assert "failpoint snapshot.after_release" in failed.stderr
    pgcopydb.run(*arguments, "--resume")
    assert_same_content(loaded.dsn, target_db.dsn)


def test_sigquit_ends_it_at_once_and_is_no_success(
    loaded: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    arguments = clone(loaded.dsn, target_db.dsn, workdir_path)
    running = pgcopydb.start(*arguments, env={"PGCOPYDB_FAILPOINTS": "copy.before_commit=stop"})
    stopped(running)
    running.send_signal(signal.SIGQUIT)
    running.send_signal(signal.SIGCONT)
    assert running.wait(10) == 12
    pgcopydb.run(*arguments, "--resume", "--not-consistent")
    assert_same_content(loaded.dsn, target_db.dsn)


@pytest.mark.parametrize("change", ["TRUNCATE narrow", "ALTER TABLE narrow ALTER id TYPE bigint"])
def test_a_table_that_was_rewritten_after_the_snapshot_is_not_copied_empty(
    change: str, loaded: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    """TRUNCATE and rewrites are not MVCC-safe: the snapshot would see no rows, and nobody would be told."""
    running = pgcopydb.start(
        *clone(loaded.dsn, target_db.dsn, workdir_path), env={"PGCOPYDB_FAILPOINTS": "pre_data.after_restore=stop"}
    )
    stopped(running)
    loaded.execute(change)
    running.send_signal(signal.SIGCONT)
    assert running.wait(60) != 0
    log = pgcopydb.log_of(running)
    assert "narrow" in log
    assert "hint: " in log


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    folder = tmp_path / "small"
    folder.mkdir()
    mounted = subprocess.run(
        ["/bin/mount", "-t", "tmpfs", "-o", "size=96m", "tmpfs", folder], check=False, capture_output=True, text=True
    )
    if mounted.returncode != 0:
        pytest.skip(f"cannot mount a small tmpfs here: {mounted.stderr.strip()}")
    yield folder
    subprocess.run(["/bin/umount", "-l", folder], check=True)


def test_the_disk_of_the_work_dir_is_full(
    loaded: Database, target_db: Database, pgcopydb: Command, small_disk: Path
) -> None:
    arguments = clone(loaded.dsn, target_db.dsn, small_disk / "work")
    ballast = small_disk / "ballast"
    running = pgcopydb.start(*arguments, env={"PGCOPYDB_FAILPOINTS": "catalog.before_commit=stop"})
    stopped(running)
    ballast.write_bytes(b"x" * shutil.disk_usage(small_disk).free)
    running.send_signal(signal.SIGCONT)
    assert running.wait(60) == 3, pgcopydb.log_of(running)
    log = pgcopydb.log_of(running)
    assert "Traceback" not in log
    assert "--resume" in log
    assert_nothing_runs(loaded, target_db)
    ballast.unlink()
    pgcopydb.run(*arguments, "--resume")
    assert_same_content(loaded.dsn, target_db.dsn)
