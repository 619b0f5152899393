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

    def fresh_target(self, template: str = "template0") -> None:
        self.target.drop_database(DATABASE)
        self.target.create_database(DATABASE, template=template)
        self._checkpoint()

    def fresh_pair(self, template: str) -> None:
        """Both databases, the same on both sides."""
        self.source.drop_database(DATABASE)
        self.source.create_database(DATABASE, template=template)
        self.fresh_target(template)

    def source_size(self) -> int:
        """Bytes of the source's database."""
        with psycopg.connect(self.source_dsn) as source:
            row = source.execute("SELECT pg_database_size(current_database())").fetchone()
        assert row is not None
        return int(row[0])

    def cpu(self) -> float:
        """Seconds of the processor that both servers have taken since they started."""
        return cpu_of(self.source.pid) + cpu_of(self.target.pid)

    def _checkpoint(self) -> None:
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


def cpu_of(pid: int) -> float:
    """Of this process, of its children, and of those that have ended."""
    ticks = sum(_ticks(pid, ended=True)) + sum(sum(_ticks(child, ended=False)) for child in _children(pid))
    return ticks / os.sysconf("SC_CLK_TCK")


def _children(pid: int) -> list[int]:
    return [int(word) for word in Path(f"/proc/{pid}/task/{pid}/children").read_text(encoding="ascii").split()]


def _ticks(pid: int, *, ended: bool) -> list[int]:
    """User and system time; nothing for a process that has just ended."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return []
    # The name, in brackets, may hold anything; user time is the twelfth field behind it.
    fields = text.rpartition(")")[2].split()
    return [int(field) for field in fields[11 : 15 if ended else 13]]


def program_environment(bin_dir: Path) -> dict[str, str]:
    """What every measured program sees: the servers' own client tools first, and no variable that is about PostgreSQL
    or Python. One that keeps Python from writing byte code would have each start compile the whole program."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PG", "PYTHON"))}
    return {**kept, "PATH": f"{bin_dir}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
