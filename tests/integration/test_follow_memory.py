"""Memory of the stages does not grow with transactions, subtransactions or tables. At size: ``tests/faults``."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers, fresh_database
from tests.memory import assert_bounded
from tests.memory_work import VALUE_SCHEMA, large_value, many_rows, many_subtransactions, many_tables


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with (
        fresh_database(servers.get(15), "source") as source,
        fresh_database(servers.get(15, "target"), "target") as target,
    ):
        yield DbPair(source, target)


def test_many_rows_and_tables(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    rows, tables, subtransactions = many_rows(200_000), many_tables(300), many_subtransactions(1000)
    schema = rows[0] + tables[0] + subtransactions[0]
    assert_bounded("test_decoding", pair, pgcopydb, workdir_path, schema, [*rows[1], *tables[1], *subtransactions[1]])


@pytest.mark.parametrize("plugin", ["pgoutput", "wal2json"])
def test_a_large_value(plugin: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    assert_bounded(plugin, pair, pgcopydb, workdir_path, VALUE_SCHEMA, large_value(10 << 20))
