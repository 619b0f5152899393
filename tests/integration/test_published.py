"""What pgoutput is not told by the source does not go unnoticed, and the source's own writes go on."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers, fresh_database
from tests.following import drop_progress, is_applied, uris
from tests.integration.test_follow import end_here, sequences
from tests.wait import wait_until

SCHEMA = """
CREATE TABLE keyed (id int PRIMARY KEY, t text);
CREATE TABLE keyless (a int, b int);
CREATE TABLE full_parent (a int, b int) PARTITION BY RANGE (a);
CREATE TABLE full_1 PARTITION OF full_parent FOR VALUES FROM (0) TO (10);
ALTER TABLE full_parent REPLICA IDENTITY FULL;
CREATE TABLE full_leaf (a int, b int) PARTITION BY RANGE (a);
CREATE TABLE full_leaf_1 PARTITION OF full_leaf FOR VALUES FROM (0) TO (10);
ALTER TABLE full_leaf_1 REPLICA IDENTITY FULL;
CREATE TABLE keyed_parent (a int PRIMARY KEY, b int) PARTITION BY RANGE (a);
CREATE TABLE keyed_1 PARTITION OF keyed_parent FOR VALUES FROM (0) TO (10);
CREATE TABLE nothing_1 PARTITION OF keyed_parent FOR VALUES FROM (10) TO (20);
ALTER TABLE nothing_1 REPLICA IDENTITY NOTHING;
"""
TABLES = ("keyed", "keyless", "full_parent", "full_leaf", "keyed_parent")


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with (
        fresh_database(servers.get(15), "source") as source,
        fresh_database(servers.get(17, "target"), "target") as target,
    ):
        source.execute(SCHEMA)
        for table in TABLES:
            source.execute(f"INSERT INTO {table} VALUES (1, 1), (2, 2)")
        yield DbPair(source, target)
        drop_progress(target)


def follow(pgcopydb: Command, pair: DbPair, workdir: Path) -> subprocess.Popen[bytes]:
    process = pgcopydb.start("clone", "--follow", "--plugin", "pgoutput", "--dir", workdir, env=uris(pair))
    wait_until(lambda: is_applied(pair) or process.poll() is not None, 60, "changes to be applied")
    return process


def test_every_write_of_the_source_goes_on(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.source.execute("INSERT INTO keyed_parent VALUES (11, 1)")
    process = follow(pgcopydb, pair, workdir_path)
    for table in TABLES:
        pair.source.execute(f"INSERT INTO {table} VALUES (3, 3)")
        pair.source.execute(f"UPDATE {table} SET {'t' if table == 'keyed' else 'b'} = 7")
        pair.source.execute(f"DELETE FROM {table} WHERE {'id' if table == 'keyed' else 'a'} = 2")
    end_here(pgcopydb, pair, workdir_path)
    assert process.wait(60) != 0
    log = pgcopydb.log_of(process)
    assert "public.full_1, public.keyless, public.nothing_1" in log
    different = [("public", name) for name in ("keyless", "full_1", "full_parent", "nothing_1", "keyed_parent")]
    assert_same_content(pair.source.dsn, pair.target.dsn, ignore_tables=[*sequences(pair), *different])


def test_without_such_writes_all_is_well(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    process = follow(pgcopydb, pair, workdir_path)
    for table in TABLES:
        pair.source.execute(f"INSERT INTO {table} VALUES (3, 3)")
    pair.source.execute("TRUNCATE keyless; UPDATE keyed SET t = 'x'; UPDATE full_leaf SET b = 5; CREATE TABLE empty ()")
    end_here(pgcopydb, pair, workdir_path)
    assert process.wait(60) == 0, pgcopydb.log_of(process)


def test_tables_that_are_made_meanwhile(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    process = follow(pgcopydb, pair, workdir_path)
    with psycopg.connect(pair.source.dsn) as connection:
        connection.execute("CREATE TABLE later AS SELECT 1 AS i")
    end_here(pgcopydb, pair, workdir_path)
    assert process.wait(60) != 0
    assert "made on the source since: public.later" in pgcopydb.log_of(process)
    second = pgcopydb.run("follow", "--dir", workdir_path, env=uris(pair), check=False)
    assert second.returncode != 0, "it does not become right by being asked once more"
