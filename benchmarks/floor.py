"""What the servers alone need: two lower bounds for a copy, measured on the same servers as the tools.

``server_floor`` needs a superuser on both servers and a file that both can reach: the source writes it, the target
reads it. ``statement_floor`` sends the statements that any copy has to send, from psql. Both leave a complete copy on
a target that was empty.
"""

from __future__ import annotations

import os
import re
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import psycopg
from psycopg.rows import class_row

from benchmarks.content import statement
from benchmarks.measure import Command, Cost, measure
from benchmarks.results import Run
from benchmarks.servers import program_environment
from benchmarks.tools import CopyJob

SERVER_FLOOR: Final = "floor: the servers"
STATEMENT_FLOOR: Final = "floor: the statements"

_INDEX_MEMORY: Final = "512MB"
"""As much as index builds get from the tools; the server's default of 64 MB would make the floor too high."""

_OWN_ENTRY: Final = re.compile(r"^\d+; \d+ \d+ (INDEX|CONSTRAINT) ")


@dataclass(frozen=True, slots=True)
class _Table:
    name: str
    indexes: list[str]
    constraints: list[str]


class _Clock:
    """Adds up the seconds spent under each name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def phase(self, name: str) -> Iterator[None]:
        started = time.perf_counter()
        yield
        self.seconds[name] = self.seconds.get(name, 0.0) + time.perf_counter() - started


def server_floor(job: CopyJob, round_: int) -> Run:
    """Reading, writing, index builds and statistics, one after the other, added up and shared among the cores."""
    _restore_pre_data(job)
    clock = _Clock()
    exchange = job.servers.source.folder / "exchange.copy"
    with (
        psycopg.connect(job.servers.source_dsn, autocommit=True) as source,
        psycopg.connect(job.servers.target_dsn, autocommit=True) as target,
    ):
        target.execute(f"SET maintenance_work_mem = '{_INDEX_MEMORY}'")
        for table in _tables(source):
            with clock.phase("COPY to /dev/null"):
                source.execute(f"COPY {table.name} TO '/dev/null'")
            source.execute(f"COPY {table.name} TO '{exchange}'")
            with clock.phase("COPY from a file, FREEZE"), target.transaction():
                target.execute(f"TRUNCATE {table.name}")
                target.execute(f"COPY {table.name} FROM '{exchange}' WITH (FREEZE)")
            exchange.unlink()
            with clock.phase("indexes"):
                for build in (*table.indexes, *table.constraints):
                    target.execute(build)
            with clock.phase("ANALYZE"):
                target.execute(f"ANALYZE {table.name}")
    cores = os.cpu_count() or 1
    return Run(SERVER_FLOOR, round_, Cost(wall=sum(clock.seconds.values()) / cores), clock.seconds)


def statement_floor(job: CopyJob, round_: int) -> Run:
    """The schema by pg_dump and pg_restore, and between its sections one psql script of statements per worker.

    The rows are part of the scripts: what the source needs to read them is not in here.
    """
    programs, target = job.servers.bin_dir, job.servers.target_dsn
    archive, rest = job.scratch / "schema.dump", job.scratch / "rest.list"
    scripts = _write_scripts(job)
    psql = [str(programs / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", target, "-f"]
    restore = [str(programs / "pg_restore"), "-d", target]
    dump = _dump_command(job, archive, "pre-data", "post-data")
    phases: dict[str, float] = {}
    total = Cost()

    def run(phase: str, *commands: Command) -> None:
        nonlocal total
        cost = measure(commands, job.scratch / "floor.log", program_environment(programs))
        phases[phase] = cost.wall
        total = total.then(cost)

    run("pg_dump", dump)
    _write_rest(programs / "pg_restore", archive, rest)
    run("pre-data", [*restore, "--section=pre-data", str(archive)])
    run("statements", *([*psql, str(script)] for script in scripts))
    run("post-data", [*restore, "--section=post-data", "-L", str(rest), str(archive)])
    return Run(STATEMENT_FLOOR, round_, total, phases)


def _tables(source: psycopg.Connection[tuple[object, ...]]) -> list[_Table]:
    cursor = source.cursor(row_factory=class_row(_Table))
    return cursor.execute(statement("tables")).fetchall()


def _dump_command(job: CopyJob, archive: Path, *sections: str) -> Command:
    chosen = [f"--section={section}" for section in sections]
    return [str(job.servers.bin_dir / "pg_dump"), "-Fc", *chosen, "-f", str(archive), "-d", job.servers.source_dsn]


def _restore_pre_data(job: CopyJob) -> None:
    archive, log = job.scratch / "schema.dump", job.scratch / "floor.log"
    environment = program_environment(job.servers.bin_dir)
    measure([_dump_command(job, archive, "pre-data")], log, environment)
    restore = [str(job.servers.bin_dir / "pg_restore"), "-d", job.servers.target_dsn, str(archive)]
    measure([restore], log, environment)


def _write_scripts(job: CopyJob) -> list[Path]:
    """Every worker's share of the tables, with their rows."""
    scripts = [job.scratch / f"worker_{number}.sql" for number in range(job.jobs)]
    for script in scripts:
        script.write_text("", encoding="utf-8")
    with psycopg.connect(job.servers.source_dsn, autocommit=True) as source:
        tables = _tables(source)
        for number, script in enumerate(scripts):
            with script.open("wb") as output:
                for table in tables[number :: job.jobs]:
                    output.write(f"BEGIN;\nTRUNCATE {table.name};\n".encode())
                    output.write(f"COPY {table.name} FROM STDIN WITH (FREEZE);\n".encode())
                    with source.cursor().copy(f"COPY {table.name} TO STDOUT") as rows:
                        output.writelines(rows)
                    output.write(b"\\.\nCOMMIT;\n")
                    output.writelines(f"{build};\n".encode() for build in (*table.indexes, *table.constraints))
                    output.write(f"ANALYZE {table.name};\n".encode())
    return scripts


def _write_rest(pg_restore: Path, archive: Path, rest: Path) -> None:
    """The list of what is left for the end: everything but the indexes and constraints that the scripts build."""
    listing = subprocess.run([pg_restore, "-l", archive], check=True, capture_output=True, text=True).stdout
    kept = [line for line in listing.splitlines() if not _OWN_ENTRY.match(line)]
    rest.write_text("\n".join(kept) + "\n", encoding="utf-8")
