"""Runs of ``clone --all-databases --follow`` between two servers."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from demo.clusters import Cluster
from pgcopydb.runtime.workdir import WorkDir
from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database
from tests.following import processes_of
from tests.wait import wait_until

ODD = "Crm-Main"
NAMES = ("postgres", "shop", ODD)
SCHEMA = """
CREATE TABLE t (id int PRIMARY KEY, t text NOT NULL);
INSERT INTO t SELECT i, md5(i::text) FROM generate_series(1, 3000) i;
CREATE INDEX t_t ON t (t);
CREATE SEQUENCE numbers;
"""
LEFT = """
SELECT 'slot', slot_name FROM pg_replication_slots UNION ALL SELECT 'publication', pubname FROM pg_publication
UNION ALL SELECT 'schema', nspname FROM pg_namespace WHERE nspname = 'pgcopydb'
UNION ALL SELECT 'origin', roname FROM pg_replication_origin
"""
STATE = "SELECT datdba::regrole::text, datconnlimit FROM pg_database WHERE datname = current_database()"


@dataclass
class Run:
    """One run of all databases from one server to another."""

    source: Cluster
    target: Cluster
    pgcopydb: Command
    workdir: Path

    @property
    def env(self) -> dict[str, str]:
        return {"PGCOPYDB_SOURCE_PGURI": self.source.dsn(), "PGCOPYDB_TARGET_PGURI": self.target.dsn()}

    def start(self, *more: str, **env: str) -> subprocess.Popen[bytes]:
        command = ("clone", "--all-databases", "--follow", "--roles", *more)
        return self.pgcopydb.start(*command, "--dir", self.workdir, env={**self.env, **env})

    def json(self, *command: str) -> Any:
        return orjson.loads(self.pgcopydb.run(*command, "--json", "--dir", self.workdir, env=self.env).stdout)

    def states(self) -> dict[str, str]:
        return {each["name"]: each["state"] for each in self.json("status")["databases"]}

    def wait_until_copied(self, process: subprocess.Popen[bytes]) -> None:
        def copied() -> bool:
            assert process.poll() is None, self.pgcopydb.log_of(process)
            if not WorkDir(self.workdir).exists():
                return False
            found = self.json("list", "progress")
            return [each["state"] for each in found.get("databases", [])] == ["copied"] * len(NAMES)

        wait_until(copied, 60, "all databases to be copied")

    def write(self, text: str) -> None:
        for name in NAMES:
            Database(self.source, name).execute(
                f"INSERT INTO t SELECT max(id) + i, '{text}' FROM t, generate_series(1, 5) i GROUP BY i;"
                f"UPDATE t SET t = t || '{text}' WHERE id % 100 = 7; DELETE FROM t WHERE id % 100 = 9;"
                "SELECT nextval('numbers')"
            )

    def set_end(self) -> None:
        self.pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", self.workdir, env=self.env)

    def end(self, process: subprocess.Popen[bytes]) -> None:
        self.set_end()
        self.comes_to_its_end(process)

    def comes_to_its_end(self, process: subprocess.Popen[bytes]) -> None:
        """With 0 and equal content."""
        wait_until(lambda: process.poll() is not None, 60, "the end position")
        assert process.returncode == 0, self.pgcopydb.log_of(process)
        for name in NAMES:
            assert_same_content(self.source.dsn(name), self.target.dsn(name))
        assert Database(self.source, "shop").fetch(STATE) == Database(self.target, "shop").fetch(STATE)

    def processes(self) -> int:
        """Stages of all databases, and what started them."""
        databases = (WorkDir(self.workdir).database(name).top for name in NAMES)
        return sum(len(processes_of(folder)) for folder in (self.workdir, *databases))

    def left(self) -> list[tuple[str, str]]:
        """What following changes has made on either server."""
        ends = [Database(each, name) for each in (self.source, self.target) for name in on(each)]
        return [row for each in ends for row in each.fetch(LEFT)]


def on(cluster: Cluster) -> list[str]:
    """Databases of a server."""
    return [
        row[0] for row in Database(cluster, "postgres").fetch("SELECT datname FROM pg_database WHERE NOT datistemplate")
    ]


@pytest.fixture(scope="module")
def clusters_of_all() -> Iterator[tuple[Cluster, Cluster]]:
    """A source with some databases, and an empty target."""
    with Cluster.of_major(15) as source, Cluster.of_major(17) as target:
        source.create_database("shop")
        source.create_database(ODD)
        for name in NAMES:
            Database(source, name).execute(SCHEMA)
        Database(source, "shop").execute(
            "CREATE ROLE seller; ALTER DATABASE shop OWNER TO seller; ALTER DATABASE shop CONNECTION LIMIT 77"
        )
        yield source, target


@pytest.fixture
def run_of_all(clusters_of_all: tuple[Cluster, Cluster], pgcopydb: Command, workdir_path: Path) -> Iterator[Run]:
    """Afterwards both servers are as they were."""
    source, target = clusters_of_all
    run = Run(source, target, pgcopydb, workdir_path)
    yield run
    pgcopydb.close()
    wait_until(lambda: not run.processes(), 30, "all processes to end")
    pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=run.env)
    assert run.left() == []
    for name in on(target):
        if name != "postgres":
            target.drop_database(name)
    Database(target, "postgres").execute(
        "DROP TABLE IF EXISTS t; DROP SEQUENCE IF EXISTS numbers; DROP ROLE IF EXISTS seller"
    )
