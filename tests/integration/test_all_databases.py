"""``clone --all-databases``: every database of a server arrives as it would alone, and those that are made as they were."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import orjson
import pytest

from demo.clusters import Cluster
from tests.content import assert_same_content, assert_same_schema
from tests.fix_command import Command
from tests.fix_servers import Database

SHOP = """
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, what text NOT NULL);
INSERT INTO orders (what) SELECT md5(i::text) FROM generate_series(1, 5000) i;
CREATE INDEX orders_what ON orders (what);
CREATE TABLE lines (id int PRIMARY KEY, order_id bigint REFERENCES orders);
INSERT INTO lines SELECT i, i FROM generate_series(1, 500) i;
CREATE MATERIALIZED VIEW totals AS SELECT count(*) FROM lines;
CREATE SEQUENCE free START 41;
SELECT nextval('free');
SELECT lo_from_bytea(4711, decode(repeat('ab', 5000), 'hex'));
ALTER TABLE lines OWNER TO shop_owner;
"""
ODD = 'odd/"Näme" ..'
STATE = """
SELECT pg_encoding_to_char(encoding), datcollate, datctype, datlocprovider, datconnlimit, datdba::regrole::text,
       shobj_description(oid, 'pg_database'), ARRAY(SELECT a::text FROM unnest(datacl) a ORDER BY 1)
  FROM pg_database WHERE datname = current_database()
"""


@dataclass(frozen=True)
class Two:
    """Two servers, and what the databases of the first are called."""

    source: Cluster
    target: Cluster
    names: tuple[str, ...] = ("postgres", "shop", "latin", ODD)

    def servers(self) -> tuple[str, ...]:
        return ("--source", self.source.dsn(), "--target", self.target.dsn())

    def pair(self, name: str) -> tuple[Database, Database]:
        return Database(self.source, name), Database(self.target, name)

    def assert_complete(self, *names: str) -> None:
        for name in names or self.names:
            source, target = self.pair(name)
            assert_same_content(source.dsn, target.dsn)
            assert_same_schema(source.dsn, target.dsn)

    def on_target(self) -> set[str]:
        rows = Database(self.target, "postgres").fetch("SELECT datname FROM pg_database WHERE NOT datistemplate")
        return {row[0] for row in rows}


@pytest.fixture(scope="module")
def loaded() -> Iterator[Two]:
    with Cluster.of_major(15) as source, Cluster.of_major(15) as target:
        two = Two(source, target)
        for cluster in (source, target):
            Database(cluster, "postgres").execute("CREATE ROLE shop_owner; CREATE ROLE guest")
        source.create_database("shop")
        source.create_database("latin", template="template0", encoding="LATIN1", locale="C")
        source.create_database(ODD)
        two.pair("shop")[0].execute(SHOP)
        two.pair("shop")[0].execute(
            """
            ALTER DATABASE shop OWNER TO shop_owner;
            ALTER DATABASE shop CONNECTION LIMIT 77;
            ALTER DATABASE shop SET work_mem = '7MB';
            COMMENT ON DATABASE shop IS 'what is sold';
            REVOKE ALL ON DATABASE shop FROM PUBLIC;
            GRANT CONNECT ON DATABASE shop TO guest WITH GRANT OPTION;
            """
        )
        two.pair("latin")[0].execute("CREATE TABLE t (t text); INSERT INTO t VALUES ('Grüße')")
        two.pair(ODD)[0].execute("CREATE TABLE t AS SELECT generate_series(1, 100) AS i")
        two.pair("postgres")[0].execute("CREATE TABLE kept (i int PRIMARY KEY); INSERT INTO kept VALUES (1)")
        source.create_database("a template")
        Database(source, "postgres").execute('ALTER DATABASE "a template" IS_TEMPLATE true')
        yield two


@pytest.fixture
def two(loaded: Two) -> Two:
    """The target is as it was made."""
    for name in loaded.on_target() - {"postgres"}:
        loaded.target.drop_database(name)
    Database(loaded.target, "postgres").execute("DROP TABLE IF EXISTS kept, stranger")
    return loaded


def clone(pgcopydb: Command, two: Two, workdir: Path, *options: str, **how: Any) -> Any:
    return pgcopydb.run("clone", "--all-databases", *two.servers(), "--dir", workdir, *options, **how)


def errors_of(stderr: str) -> list[str]:
    return [line for line in stderr.splitlines() if " ERROR " in line]


def test_every_database_arrives(two: Two, pgcopydb: Command, workdir_path: Path) -> None:
    done = clone(pgcopydb, two, workdir_path)
    assert two.on_target() == set(two.names)
    two.assert_complete()
    for name in two.names:
        source, target = two.pair(name)
        assert source.fetch(STATE) == target.fetch(STATE), name
        assert f" {name}: " in done.stderr
    assert "a template" in done.stderr
    shown = orjson.loads(pgcopydb.run("list", "progress", "--dir", workdir_path, "--json").stdout)
    assert shown["complete"]
    assert {each["name"]: each["state"] for each in shown["databases"]} == dict.fromkeys(two.names, "complete")
    assert shown["tables"] == {"total": 5, "done": 5, "in-progress": []}
    assert "Database" in done.stdout
    summary = orjson.loads((workdir_path / "summary.json").read_bytes())
    assert {each["name"] for each in summary["databases"]} == set(two.names)
