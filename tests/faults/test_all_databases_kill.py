"""Kill a copy of all databases at every failpoint of its own, and within one; resume it, and compare them all."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.clusters import Cluster
from pgcopydb.bootstrap.run_state import database_step
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.runtime.failpoint import NAMES
from pgcopydb.runtime.workdir import WorkDir
from tests.content import assert_same_content, assert_same_schema
from tests.fix_command import Command
from tests.fix_servers import Database

OWN = sorted(name for name in NAMES if name.startswith("databases.") and name != "databases.after_follow")
WITHIN = ("catalog.after_commit", "copy.before_commit", "copy.after_commit", "large_objects.after_commit")
LATER = ("index.after_mark", "post_data.after_restore", "summary.before_write")
# Walked on every change; the others with `make faults`.
SHORT = {"databases.after_create", "databases.after_copy", "copy.after_commit"}
DATA = """
CREATE TABLE t (id int PRIMARY KEY, t text NOT NULL);
INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 3000) i;
CREATE INDEX t_t ON t (t);
CREATE TABLE refers (id int REFERENCES t);
INSERT INTO refers SELECT i FROM generate_series(1, 100) i;
SELECT lo_from_bytea(0, decode(repeat('ab', 5000), 'hex')) FROM generate_series(1, 3);
"""
DATABASES = ("first", "second", "third")
STATE = """
SELECT datname, datdba::regrole::text, datconnlimit, shobj_description(oid, 'pg_database') FROM pg_database
 WHERE datname = ANY ('{first,second,third}') ORDER BY 1
"""


@dataclass(frozen=True)
class Two:
    source: Cluster
    target: Cluster

    def arguments(self, workdir: Path) -> tuple[str, ...]:
        servers = ("--source", self.source.dsn(), "--target", self.target.dsn())
        jobs = ("--table-jobs", "2", "--index-jobs", "2", "--roles", "--split-tables-larger-than", "100kB")
        return ("clone", "--all-databases", *servers, "--dir", str(workdir), *jobs)

    def assert_complete(self) -> None:
        for name in ("postgres", *DATABASES):
            assert_same_content(self.source.dsn(name), self.target.dsn(name))
            assert_same_schema(self.source.dsn(name), self.target.dsn(name))
        of_source, of_target = (Database(each, "postgres").fetch(STATE) for each in (self.source, self.target))
        assert of_source == of_target


@pytest.fixture(scope="module")
def loaded() -> Iterator[Two]:
    with Cluster.of_major(15) as source, Cluster.of_major(15) as target:
        Database(source, "postgres").execute("CREATE ROLE chief")
        for number, name in enumerate(DATABASES):
            source.create_database(name)
            Database(source, name).execute(DATA)
            Database(source, name).execute(
                f"ALTER DATABASE {name} OWNER TO chief; ALTER DATABASE {name} CONNECTION LIMIT {50 + number};"
                f"COMMENT ON DATABASE {name} IS '{name}'"
            )
        yield Two(source, target)


@pytest.fixture
def two(loaded: Two) -> Two:
    for name in DATABASES:
        loaded.target.drop_database(name)
    Database(loaded.target, "postgres").execute("DROP ROLE IF EXISTS chief")
    return loaded


def complete(workdir: Path) -> list[str]:
    with closing(CatalogStore.read(WorkDir(workdir).catalog)) as store:
        return [name for name in DATABASES if store.step_done(database_step(name))]


def versions(two: Two, name: str) -> list[tuple[str]]:
    return Database(two.target, name).fetch("SELECT ctid::text, xmin::text FROM t")


def kill_and_resume(two: Two, pgcopydb: Command, workdir: Path, failpoint: str) -> None:
    arguments = two.arguments(workdir)
    killed = pgcopydb.run(*arguments, env={"PGCOPYDB_FAILPOINTS": failpoint}, check=False)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    before = {database: versions(two, database) for database in complete(workdir)}
    pgcopydb.run(*arguments, "--resume", "--not-consistent")
    two.assert_complete()
    for database, rows in before.items():
        assert versions(two, database) == rows, f"{database} was complete, and was copied again"


def walked() -> list[object]:
    names = (*OWN, *WITHIN, *LATER)
    return [pytest.param(name, marks=() if name in SHORT else pytest.mark.slow) for name in names]


@pytest.mark.parametrize("name", walked())
def test_killed_and_resumed(name: str, two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    kill_and_resume(two, pgcopydb, workdir_path, f"{name}=kill")
    for cluster in (two.source, two.target):
        left = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'pgcopydb%'"
        assert Database(cluster, "postgres").fetch(left) == []


@pytest.mark.slow
@pytest.mark.parametrize("passes", [2, 3])
@pytest.mark.parametrize("name", ["databases.after_create", "databases.after_mark", "copy.after_commit"])
def test_killed_later(name: str, passes: int, two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    """When some databases are complete, or several are under way."""
    kill_and_resume(two, pgcopydb, workdir_path, f"{name}=kill@{passes}")
