"""Kill a clone at every failpoint, resume it, and compare the target with what the snapshot saw, row by row."""

from __future__ import annotations

import os
import shutil
import signal
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from pgcopydb.runtime.failpoint import NAMES
from tests.content import assert_same_content, assert_same_schema
from tests.faults.test_follow_kill import GROUPS
from tests.fix_command import Command
from tests.fix_servers import Database, Servers
from tests.wait import wait_until

DATA = Path(__file__).with_name("bootstrap.sql")
OPTIONS = ("--table-jobs", "2", "--index-jobs", "2", "--split-tables-larger-than", "400kB")

# Walked beside their own tests: no extension that comes with the servers has configuration tables, foreign keys are
# validated later only when that is asked for, and what has changed of large objects is copied after everything else.
ELSEWHERE = {
    "extension_data.after_commit",
    "foreign_keys.after_add",
    "foreign_keys.after_validate",
    "large_objects.after_remember",
}
FOLLOWING = ("catch_up.", "conflicts.", "cleanup.", "repair.")
# Of a copy of one database without changes; the others are walked where changes are followed, or all databases copied.
WALKED = sorted(name for name in NAMES - ELSEWHERE if not name.startswith((*GROUPS, *FOLLOWING, "databases.")))


@dataclass(frozen=True)
class Case:
    """A source that is written to, and a copy of it as it was."""

    source: Database
    reference: Database
    target: Database


@pytest.fixture(scope="module")
def loaded(servers: Servers) -> Iterator[Database]:
    cluster = servers.get(15)
    database = Database(cluster, "kill_loaded")
    cluster.create_database(database.name)
    database.execute(DATA.read_text())
    database.execute("VACUUM ANALYZE")
    database.execute(f"ALTER DATABASE {database.name} SET work_mem = '7MB'")
    yield database
    cluster.drop_database(database.name)


@pytest.fixture
def case(loaded: Database, source_db: Database, target_db: Database) -> Case:
    cluster = loaded.cluster
    cluster.drop_database(source_db.name)
    cluster.create_database(source_db.name, template=loaded.name)
    source_db.execute(f"ALTER DATABASE {source_db.name} SET work_mem = '7MB'")
    return Case(source_db, loaded, target_db)


def write_on_source(source: Database) -> None:
    """What a snapshot that was lost would let in."""
    source.execute(
        "INSERT INTO keyed VALUES (1000000, 'too late', 0); DELETE FROM keyed WHERE id <= 100;"
        "UPDATE keyless SET t = 'changed' WHERE i = 7; INSERT INTO identified VALUES (500, 'too late')"
    )


def done_parts(workdir: Path) -> dict[tuple[int, int], float]:
    with sqlite3.connect(f"file:{workdir}/schema/source.db?mode=ro", uri=True) as store:
        rows = store.execute("SELECT table_oid, part, finished FROM copy_part WHERE state = 'done'").fetchall()
    store.close()
    return {(oid, part): finished for oid, part, finished in rows}


def servers_of(case: Case) -> tuple[str, ...]:
    return ("--source", case.source.dsn, "--target", case.target.dsn)


def clone_of(case: Case, workdir_path: Path) -> tuple[str, ...]:
    return ("clone", *servers_of(case), "--dir", str(workdir_path), *OPTIONS)


def assert_complete(case: Case) -> None:
    assert_same_content(case.reference.dsn, case.target.dsn)
    assert_same_schema(case.reference.dsn, case.target.dsn)


def leftovers(database: Database) -> list[tuple[str]]:
    return database.fetch(
        "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'pgcopydb%'"
        " AND datname = current_database() AND application_name NOT LIKE '% snapshot %'"
    )


# Walked on every change; the others, where a table of its own kind stands behind the same code, with `make faults`.
SHORT = {
    "copy.after_truncate",
    "copy.before_commit",
    "copy.after_commit",
    "index.after_create",
    "constraint.after_create",
    "large_objects.after_commit",
}


def failpoints() -> list[object]:
    return [pytest.param(name, marks=() if name in SHORT else pytest.mark.slow) for name in WALKED]


@pytest.mark.parametrize("name", failpoints())
def test_killed_and_resumed(name: str, case: Case, pgcopydb: Command, workdir_path: Path) -> None:
    holder = pgcopydb.start("snapshot", "--source", case.source.dsn, "--dir", workdir_path)
    wait_until((workdir_path / "snapshot").exists, 20, "the snapshot to be held")
    killed = pgcopydb.run(
        "clone",
        *servers_of(case),
        "--dir",
        workdir_path,
        *OPTIONS,
        env={"PGCOPYDB_FAILPOINTS": f"{name}=kill"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = done_parts(workdir_path)
    write_on_source(case.source)
    resumed = pgcopydb.run("clone", *servers_of(case), "--dir", workdir_path, *OPTIONS, "--resume")
    assert "hint" not in resumed.stderr
    after = done_parts(workdir_path)
    assert before.items() <= after.items(), "a part that was done was copied again"
    os.kill(holder.pid, signal.SIGTERM)
    holder.wait()
    assert_complete(case)
    assert leftovers(case.source) == leftovers(case.target) == []


@pytest.mark.slow
@pytest.mark.parametrize("passes", [2, 5, 9])
@pytest.mark.parametrize("name", ["copy.before_commit", "copy.after_commit", "index.after_create"])
def test_killed_later(name: str, passes: int, case: Case, pgcopydb: Command, workdir_path: Path) -> None:
    arguments = clone_of(case, workdir_path)
    killed = pgcopydb.run(*arguments, env={"PGCOPYDB_FAILPOINTS": f"{name}=kill@{passes}"}, check=False)
    if killed.returncode == 0:
        pytest.skip(f"a clone passes {name} less than {passes} times")
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    pgcopydb.run(*arguments, "--resume", "--not-consistent")
    assert_complete(case)


def test_killed_after_the_last_part_of_a_table(case: Case, pgcopydb: Command, workdir_path: Path) -> None:
    """All parts are then found committed; the table still has to get its indexes from this run's workers."""
    arguments = (*clone_of(case, workdir_path), "--table-jobs", "1", "--split-tables-larger-than", "500kB")
    pgcopydb.run(*arguments)
    parts = [len([part for oid, part in done_parts(workdir_path) if oid == keyed]) for keyed in [_oid(case, "keyed")]]
    assert parts[0] > 1
    shutil.rmtree(workdir_path)
    for number in range(1, 3 * parts[0]):
        again = (*arguments, "--restart", "--drop-if-exists")
        killed = pgcopydb.run(*again, env={"PGCOPYDB_FAILPOINTS": f"copy.after_commit=kill@{number}"}, check=False)
        assert killed.returncode == -signal.SIGKILL, killed.stderr
        marks = sum(oid == _oid(case, "keyed") for oid, _ in done_parts(workdir_path))
        if marks == parts[0] - 1 and _running(workdir_path, _oid(case, "keyed")):
            break
    else:
        pytest.fail("no kill came after the last part of the table")
    # What the earlier attempts left on the target, large objects too, is still this run's to replace.
    pgcopydb.run(*arguments, "--resume", "--not-consistent", "--drop-if-exists")
    with sqlite3.connect(f"file:{workdir_path}/schema/source.db?mode=ro", uri=True) as store:
        left = store.execute("SELECT count(*) FROM copied_table WHERE copied IS NULL OR indexed IS NULL").fetchone()
        built = store.execute("SELECT count(*) FROM built_index WHERE state <> 'done'").fetchone()
    store.close()
    assert (left, built) == ((0,), (0,))
    assert_complete(case)


def _oid(case: Case, table: str) -> int:
    return int(case.source.fetch(f"SELECT '{table}'::regclass::oid::bigint")[0][0])


def _running(workdir: Path, oid: int) -> bool:
    with sqlite3.connect(f"file:{workdir}/schema/source.db?mode=ro", uri=True) as store:
        found = store.execute("SELECT 1 FROM copy_part WHERE state = 'running' AND table_oid = ?", (oid,)).fetchall()
    store.close()
    return bool(found)


def test_a_second_resume_does_nothing(case: Case, pgcopydb: Command, workdir_path: Path) -> None:
    arguments = clone_of(case, workdir_path)
    pgcopydb.run(*arguments)
    before = case.target.fetch("SELECT pg_current_wal_insert_lsn(), xmin FROM keyed LIMIT 1")
    again = pgcopydb.run(*arguments, "--resume")
    assert "nothing is left to do" in again.stderr
    assert case.target.fetch("SELECT pg_current_wal_insert_lsn(), xmin FROM keyed LIMIT 1")[0][1] == before[0][1]


def test_a_lost_snapshot_is_refused(case: Case, pgcopydb: Command, workdir_path: Path) -> None:
    arguments = clone_of(case, workdir_path)
    killed = pgcopydb.run(*arguments, env={"PGCOPYDB_FAILPOINTS": "copy.after_mark=kill"}, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    write_on_source(case.source)
    refused = pgcopydb.run(*arguments, "--resume", check=False)
    assert refused.returncode == 3
    assert "the snapshot that the earlier run read under is gone" in refused.stderr
    assert "--not-consistent" in refused.stderr
