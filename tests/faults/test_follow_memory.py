"""Memory of the stages for large work; at a size for every day: ``tests/integration/test_follow_memory.py``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.clusters import Cluster
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair
from tests.memory import assert_bounded
from tests.memory_work import VALUE_SCHEMA, large_value, many_rows, many_subtransactions, many_tables

pytestmark = [pytest.mark.slow, pytest.mark.timeout(3600)]

PLUGINS = ["test_decoding", "pgoutput", "wal2json"]
SETTINGS = {"max_locks_per_transaction": "2000", "max_wal_size": "20GB"}
LONG = 1800.0


@pytest.fixture
def pair() -> Iterator[DbPair]:
    """On clusters of their own, that can lock many tables in one transaction."""
    with Cluster.of_major(15, settings=SETTINGS) as source, Cluster.of_major(15, settings=SETTINGS) as target:
        for cluster in (source, target):
            cluster.create_database("memory")
        yield DbPair(Database(source, "memory"), Database(target, "memory"))


@pytest.mark.parametrize(
    ("plugin", "rows"), [("test_decoding", 1_000_000), ("pgoutput", 5_000_000), ("wal2json", 1_000_000)]
)
def test_millions_of_rows(plugin: str, rows: int, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    assert_bounded(plugin, pair, pgcopydb, workdir_path, *many_rows(rows), timeout=LONG)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_value_of_100_megabytes(plugin: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    assert_bounded(plugin, pair, pgcopydb, workdir_path, VALUE_SCHEMA, large_value(100 << 20), timeout=LONG)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_ten_thousand_subtransactions(plugin: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    assert_bounded(plugin, pair, pgcopydb, workdir_path, *many_subtransactions(10_000), timeout=LONG)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_ten_thousand_tables(plugin: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    assert_bounded(plugin, pair, pgcopydb, workdir_path, *many_tables(10_000), timeout=LONG)
