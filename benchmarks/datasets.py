"""The data that is copied: how each set is named and how it gets into the source.

Everything is made on the server from row numbers, so that a set is the same in every run. When ``load`` returns the
rows are vacuumed, so that no measured run is the one that sets their hint bits.
"""

from __future__ import annotations

import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from benchmarks.servers import Servers, program_environment

FULL_SIZE: Final = 1_400_000_000
"""Bytes of the ``clone`` set at its full size: 5 M accounts and 2 M events."""

_SCALE: Final = 50
_EVENTS: Final = 2_000_000
_FOLDER: Final = Path(__file__).parent


@dataclass(frozen=True, slots=True)
class DataSet:
    """One database's worth of data."""

    name: str
    description: str
    load: Callable[[Servers], None]


def whole_database(size: int) -> DataSet:
    """pgbench's tables and a table of events, together about ``size`` bytes."""
    scale = max(1, round(_SCALE * size / FULL_SIZE))
    events = max(1, round(_EVENTS * size / FULL_SIZE))

    def load(servers: Servers) -> None:
        load_pgbench(servers, servers.source_dsn, scale)
        _psql(servers, "events.sql", rows=events)

    return DataSet("whole database", f"{scale * 100_000:,} pgbench_accounts and {events:,} events with 3 indexes", load)


def small_tables(tables: int) -> DataSet:
    """Many tables of ten rows, each with a primary key and an index."""

    def load(servers: Servers) -> None:
        _psql(servers, "small_tables.sql", tables=tables)

    return DataSet(f"{tables:,} tables", f"{tables:,} tables of 10 rows, each with a primary key and an index", load)


def wide_row(megabytes: int) -> DataSet:
    """One row with one long text."""

    def load(servers: Servers) -> None:
        _psql(servers, "wide_row.sql", megabytes=megabytes)

    return DataSet(f"{megabytes} MB row", f"one table with one row, whose text is {megabytes} MB long", load)


def long_table(scale: int) -> DataSet:
    """One table with many short rows."""

    def load(servers: Servers) -> None:
        load_pgbench(servers, servers.source_dsn, scale)

    return DataSet(f"{scale * 100_000:,} rows", f"pgbench with {scale * 100_000:,} accounts", load)


def load_pgbench(servers: Servers, dsn: str, scale: int) -> None:
    """pgbench's four tables; the history is empty and has no primary key."""
    # G: rows are made on the server; v: vacuumed; p: primary keys.
    _run(servers, str(servers.bin_dir / "pgbench"), "-i", "-q", "-I", "dtGvp", "-s", str(scale), dsn)


def _psql(servers: Servers, script: str, **variables: int) -> None:
    values = [f"--set={name}={value}" for name, value in variables.items()]
    _run(
        servers,
        *(str(servers.bin_dir / "psql"), "-X", "-q", "-v", "ON_ERROR_STOP=1", *values),
        *("-f", str(_FOLDER / script), servers.source_dsn),
    )


def _run(servers: Servers, *argv: str) -> None:
    environment = program_environment(servers.bin_dir)
    done = subprocess.run(argv, check=False, capture_output=True, text=True, env=environment)
    if done.returncode != 0:
        raise RuntimeError(f"{Path(argv[0]).name} failed while it loaded the data:\n{done.stderr}")
