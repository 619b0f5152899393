"""The tools that are measured: where each one is, which version, and the commands that copy a database with it.

A tool that is not installed, or does not start, says so in ``missing``; the measurements go on without it.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.measure import Command
from benchmarks.servers import MAJOR, Servers, program_environment
from demo.clusters import find_major

OURS: Final = "pgcopydb (Python)"
PEER: Final = "pgcopydb (C)"
DUMP: Final = "pg_dump | pg_restore"

_DEBIAN_PGCOPYDB: Final = Path("/usr/bin/pgcopydb")
_HINT: Final = "benchmarks/peers.sh installs it"


@dataclass(frozen=True, slots=True)
class CopyJob:
    """One copy: between which databases, with how many workers, and a folder for the tool's own files."""

    servers: Servers
    scratch: Path
    jobs: int


@dataclass(frozen=True, slots=True)
class Tool:
    """``commands`` run one after the other; their times are added up. ``version`` is None when ``missing`` is not."""

    name: str
    version: str | None
    missing: str | None
    commands: Callable[[CopyJob], list[Command]]


def all_tools() -> list[Tool]:
    """Ours first, then the peers."""
    bin_dir = find_major(MAJOR)
    pg_dump = Path("pg_dump") if bin_dir is None else bin_dir / "pg_dump"
    ours = Path(sys.executable).parent / "pgcopydb"
    return [
        _tool(OURS, ours, "make install brings it", lambda job: [_clone(ours, job)]),
        _tool(PEER, _DEBIAN_PGCOPYDB, _HINT, lambda job: [_clone(_DEBIAN_PGCOPYDB, job)]),
        _tool(DUMP, pg_dump, _HINT, _dump_and_restore),
    ]


def _tool(name: str, program: Path, hint: str, commands: Callable[[CopyJob], list[Command]]) -> Tool:
    if not program.exists():
        return Tool(name, None, f"{program.name} is not installed: {hint}", commands)
    environment = program_environment(program.parent)
    done = subprocess.run([program, "--version"], check=False, capture_output=True, text=True, env=environment)
    if done.returncode != 0 or not done.stdout:
        last_line = (done.stderr.strip() or "it printed nothing").splitlines()[-1]
        return Tool(name, None, f"{program.name} does not start: {last_line}", commands)
    return Tool(name, done.stdout.splitlines()[0], None, commands)


def _clone(program: Path, job: CopyJob) -> Command:
    """Both pgcopydb take the same command line; neither splits a table unless it is told to."""
    return [
        *(str(program), "clone", "--source", job.servers.source_dsn, "--target", job.servers.target_dsn),
        *("--dir", str(job.scratch / "work"), "--table-jobs", str(job.jobs), "--index-jobs", str(job.jobs)),
    ]


def _dump_and_restore(job: CopyJob) -> list[Command]:
    programs = job.servers.bin_dir
    folder, workers = str(job.scratch / "dump"), str(job.jobs)
    return [
        [str(programs / "pg_dump"), "-Fd", "-j", workers, "-Z0", "-f", folder, "-d", job.servers.source_dsn],
        [str(programs / "pg_restore"), "-j", workers, "-d", job.servers.target_dsn, folder],
        [str(programs / "vacuumdb"), "--quiet", "--analyze", "-j", workers, "-d", job.servers.target_dsn],
    ]
