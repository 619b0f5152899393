"""Tables that are read later than the others, for a snapshot was lost or could not see them, are right in the end."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import is_halted, pair_of, sentinel_row, uris
from tests.wait import wait_until
from tests.workload import SCHEMA, Workload

FIXED = """
CREATE TABLE parent (id int PRIMARY KEY, t text);
CREATE TABLE child (id int PRIMARY KEY, parent int NOT NULL REFERENCES parent);
CREATE TABLE keyless (a int, b text);
ALTER TABLE keyless REPLICA IDENTITY FULL;
CREATE TABLE big (id int PRIMARY KEY, filler text);
INSERT INTO parent SELECT i, 'p' || i FROM generate_series(1, 1000) i;
INSERT INTO child SELECT i, i FROM generate_series(1, 1000) i;
INSERT INTO keyless SELECT i, 'k' FROM generate_series(1, 100) i;
INSERT INTO big SELECT i, repeat('x', 500) FROM generate_series(1, 20000) i;
"""
STOPPED = "copy.before_commit=stop"
ONE_JOB = ("--table-jobs", "1", "--plugin", "test_decoding")


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 18) as pair:
        yield pair


def read_at(workdir: Path) -> set[str]:
    path = workdir / "read_at.json"
    return {table["name"] for table in orjson.loads(path.read_bytes())["tables"]} if path.exists() else set()


def end(pgcopydb: Command, pair: DbPair, workdir: Path, *more: str) -> str:
    """Bring the migration to its end from where it is, and compare."""
    process = pgcopydb.start("clone", "--follow", "--resume", "--dir", workdir, *more, env=uris(pair))
    wait_until(lambda: process.poll() is not None or bool(sentinel_row(pair.source)), 60, "the sentinel")
    assert process.poll() is None, pgcopydb.log_of(process)
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir, env=uris(pair))
    wait_until(lambda: process.poll() is not None, 90, "the end position to be reached")
    log = pgcopydb.log_of(process)
    assert process.returncode == 0, log
    assert_same_content(pair.source.dsn, pair.target.dsn)
    return log


@pytest.mark.parametrize(
    "failpoint",
    [
        "catalog.after_commit=kill",
        "copy.after_commit=kill@3",
        "copy.before_commit=kill@9",
        "post_data.before_restore=kill",
    ],
)
def test_a_copy_that_was_killed_is_resumed_while_the_source_is_written_to(
    failpoint: str, pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    """Tables are truncated all the time; those that are copied again show a later moment than the others."""
    pair.source.execute(SCHEMA)
    with Workload(pair.source.dsn, seed=23, writers=2) as workload:
        wait_until(lambda: workload.committed > 50, 60, "rows before the snapshot")
        begun = pgcopydb.start("clone", "--follow", "--dir", workdir_path, *ONE_JOB, env=uris(pair, failpoint))
        wait_until(lambda: begun.poll() is not None, 60, "the process to be killed")
        assert begun.returncode == -signal.SIGKILL, pgcopydb.log_of(begun)
        seen = workload.committed
        wait_until(lambda: workload.committed > seen + 50, 60, "work that the snapshot does not see")
        resumed = pgcopydb.start("clone", "--follow", "--resume", "--dir", workdir_path, *ONE_JOB, env=uris(pair))
        wait_until(
            lambda: "The copy is complete" in pgcopydb.log_of(resumed) or resumed.poll() is not None, 90, "the copy"
        )
        assert resumed.poll() is None, pgcopydb.log_of(resumed)
        seen = workload.committed
        wait_until(lambda: workload.committed > seen + 50, 60, "work while changes are applied")
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=uris(pair))
    wait_until(lambda: resumed.poll() is not None, 90, "the end position to be reached")
    assert resumed.returncode == 0, pgcopydb.log_of(resumed)
    assert_same_content(pair.source.dsn, pair.target.dsn)
    if failpoint.startswith("copy."):
        assert read_at(workdir_path)


def test_tables_truncated_and_dropped_before_their_turn(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Their changes before that moment are left out; foreign keys hold, for the target has caught up before them."""
    pair.source.execute(FIXED)
    process = pgcopydb.start("clone", "--follow", "--dir", workdir_path, *ONE_JOB, env=uris(pair, STOPPED))
    wait_until(lambda: is_halted(process.pid), 60, "the first table, which is the big one, to be copied")
    pair.source.execute(
        "UPDATE keyless SET b = 'changed'; DELETE FROM keyless WHERE a < 10; DROP TABLE keyless;"
        "INSERT INTO parent SELECT i, 'new' FROM generate_series(1001, 1100) i;"
        "TRUNCATE child; INSERT INTO child SELECT i, i + 1000 FROM generate_series(1, 100) i;"
        "UPDATE big SET filler = 'small' WHERE id % 7 = 0"
    )
    os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: "The copy is complete" in pgcopydb.log_of(process) or process.poll() is not None, 60, "the copy")
    assert process.poll() is None, pgcopydb.log_of(process)
    pair.source.execute("INSERT INTO child VALUES (5000, 1); DELETE FROM child WHERE id = 5; DELETE FROM child")
    pair.source.execute("INSERT INTO child VALUES (5001, 1)")
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=uris(pair))
    assert process.wait(60) == 0, pgcopydb.log_of(process)
    assert read_at(workdir_path) == {"child", "keyless"}
    pair.target.execute("DROP TABLE keyless")
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_an_end_position_before_what_was_read_is_refused(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.source.execute(FIXED)
    process = pgcopydb.start("clone", "--follow", "--dir", workdir_path, *ONE_JOB, env=uris(pair, STOPPED))
    wait_until(lambda: is_halted(process.pid), 60, "the first table to be copied")
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=uris(pair))
    pair.source.execute("INSERT INTO parent VALUES (0, 'x'); TRUNCATE child; INSERT INTO child VALUES (1, 0)")
    os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: process.poll() is not None, 60, "the clone to give up")
    log = pgcopydb.log_of(process)
    assert process.returncode == 3, log
    assert "where some tables were read" in log
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=uris(pair))
    end(pgcopydb, pair, workdir_path, *ONE_JOB)


def test_a_table_that_was_made_again_under_its_name_is_refused(
    pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    pair.source.execute(FIXED)
    process = pgcopydb.start("clone", "--follow", "--dir", workdir_path, *ONE_JOB, env=uris(pair, STOPPED))
    wait_until(lambda: is_halted(process.pid), 60, "the first table to be copied")
    pair.source.execute("DROP TABLE keyless; CREATE TABLE keyless (a int, b text); INSERT INTO keyless VALUES (1, 'x')")
    os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: process.poll() is not None, 60, "the clone to give up")
    assert process.returncode == 6, pgcopydb.log_of(process)
    assert "another one was made with its name" in pgcopydb.log_of(process)
