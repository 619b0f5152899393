"""The two servers of a suite: a source that keeps its data, and a target that every run finds empty.

When ``fresh_target`` returns, the target holds one empty database and both servers have written a checkpoint, so that
no run pays for what the run before it left in memory.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg

from demo.clusters import Cluster

MAJOR: Final = 15
"""The newest server that Debian's pgcopydb 0.10 was made for."""

DATABASE: Final = "bench"

SETTINGS: Final[Mapping[str, str]] = {
    "shared_buffers": "512MB",
    "wal_level": "logical",
    # A copy is only as fast as its target is durable: what a server in use has, not what a test server has.
    "fsync": "on",
    "full_page_writes": "on",
    "synchronous_commit": "on",
}


@dataclass(frozen=True, slots=True)
class Servers:
    """A started source and a started target of one major version."""

    source: Cluster
    target: Cluster
    settings: Mapping[str, str]

    @property
    def bin_dir(self) -> Path:
        return self.source.bin_dir

    @property
    def source_dsn(self) -> str:
        return self.source.dsn(DATABASE)

    @property
    def target_dsn(self) -> str:
        return self.target.dsn(DATABASE)

    def fresh_target(self) -> None:
        self.target.drop_database(DATABASE)
        self.target.create_database(DATABASE, template="template0")
        for cluster in (self.source, self.target):
            with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
                connection.execute("CHECKPOINT")

    def version(self) -> str:
        with psycopg.connect(self.source.dsn()) as connection:
            row = connection.execute("SHOW server_version").fetchone()
        assert row is not None
        return f"PostgreSQL {row[0]}"


@contextmanager
def start_servers(**settings: str) -> Iterator[Servers]:
    """Both servers, with these settings besides the usual ones; gone when the block is left."""
    chosen = {**SETTINGS, **settings}
    with Cluster.of_major(MAJOR, settings=chosen) as source, Cluster.of_major(MAJOR, settings=chosen) as target:
        source.create_database(DATABASE, template="template0")
        yield Servers(source, target, chosen)


def program_environment(bin_dir: Path) -> dict[str, str]:
    """What every measured program sees: the servers' own client tools first, and no PG* or PGCOPYDB_* variable."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PGCOPYDB_"))}
    return {**kept, "PATH": f"{bin_dir}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
