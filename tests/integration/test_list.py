"""``list …``: what the source has, as tables for people and as JSON."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.fix_command import Command
from tests.fix_servers import Database, Servers, fresh_database
from tests.integration.test_filters import SCHEMA


@pytest.fixture
def database(servers: Servers) -> Iterator[Database]:
    with fresh_database(servers.get(15), "source") as database:
        database.execute(SCHEMA)
        database.execute('CREATE EXTENSION hstore; CREATE TABLE app.keyless (t text COLLATE "C"); ANALYZE')
        yield database


class Lists:
    def __init__(self, pgcopydb: Command, database: Database, folder: Path) -> None:
        self.pgcopydb = pgcopydb
        self.folder = folder
        self.env = {"PGCOPYDB_SOURCE_PGURI": database.dsn}

    def text(self, *arguments: str) -> str:
        return self.pgcopydb.run("list", *arguments, env=self.env).stdout

    def json(self, *arguments: str) -> Any:
        return orjson.loads(self.text(*arguments, "--json"))

    def filters(self, text: str) -> tuple[str, str]:
        path = self.folder / "filters.ini"
        path.write_text(text, encoding="utf-8")
        return "--filters", str(path)


@pytest.fixture
def lists(pgcopydb: Command, database: Database, tmp_path: Path) -> Lists:
    return Lists(pgcopydb, database, tmp_path)


def names(rows: list[dict[str, Any]]) -> set[str]:
    return {f"{row['schema']}.{row['name']}" for row in rows}


def test_tables(lists: Lists, database: Database) -> None:
    rows = lists.json("tables")
    found = database.fetch(
        "SELECT oid::int, pg_table_size(oid)::int, reltuples::int FROM pg_class"
        " WHERE relkind = 'r' AND oid >= 16384 AND relnamespace::regnamespace::text NOT LIKE 'pg_%'"
    )
    assert sorted((row["oid"], row["bytes"], row["reltuples"]) for row in rows) == sorted(found)
    assert [row["bytes"] for row in rows] == sorted((row["bytes"] for row in rows), reverse=True)
    assert "Some Table" in lists.text("tables")
    keyless = names(lists.json("tables", "--without-pkey"))
    assert keyless == {"app.keyless", "app.log_1", "app.log_2", "public.tmp_1", "public.tmp_2"}


def test_filters_and_what_they_leave_out(lists: Lists) -> None:
    filters = lists.filters("[exclude-table]\napp.orders\n[exclude-table-data]\napp.log\n")
    kept = names(lists.json("tables", *filters))
    assert "app.orders" not in kept
    assert "app.log_1" in kept
    skipped = {f"{row['schema']}.{row['name']}": row["why"] for row in lists.json("tables", *filters, "--list-skipped")}
    assert skipped == {
        "app.orders": "left out: [exclude-table] app.orders (line 2)",
        "app.log": "without rows: [exclude-table-data] app.log (line 4)",
        "app.log_1": "without rows: [exclude-table-data] app.log (line 4)",
        "app.log_2": "without rows: [exclude-table-data] app.log (line 4)",
    }
    depends = {(row["type"], row["identity"]) for row in lists.json("depends", *filters, "--list-skipped")}
    assert {("view", "app.named"), ("view", "app.above"), ("materialized view", "app.totals")} <= depends
    # A default of another table uses it.
    assert lists.json("sequences", *filters, "--list-skipped") == []
    assert "app.orders_id_seq" in names(lists.json("sequences", *filters))
    assert {row["name"] for row in lists.json("indexes", *filters)} & {"orders_pkey", "totals_customer"} == set()


def test_sequences_indexes_extensions_collations_databases(lists: Lists, database: Database) -> None:
    database.execute("SELECT setval('app.orders_id_seq', 70, false)")
    sequences = {row["name"]: row for row in lists.json("sequences")}
    assert {row["schema"] for row in sequences.values()} == {"app"}
    assert sequences.keys() == {"customer_id_seq", "orders_id_seq"}
    orders = sequences["orders_id_seq"]
    assert (orders["last-value"], orders["is-called"]) == (70, False)
    assert orders["attrelid"] == database.fetch("SELECT 'app.orders'::regclass::oid::bigint")[0][0]
    assert orders["restore-list-name"] == f"app orders_id_seq {database.fetch('SELECT current_user')[0][0]}"
    one = lists.json("indexes", "--schema-name", "app", "--table-name", "customer")
    assert {(row["name"], row["constraint"]) for row in one} == {
        ("customer_pkey", "customer_pkey"),
        ("customer_name_key", "customer_name_key"),
        ("customer_name", None),
    }
    extensions = {row["name"]: row for row in lists.json("extensions")}
    assert extensions["hstore"]["schema"] == "public"
    available = {row["name"]: row for row in lists.json("extensions", "--available-versions")}
    assert extensions["hstore"]["version"] in available["hstore"]["versions"]
    assert {"name": "hstore", "version": available["hstore"]["default"]} in lists.json("extensions", "--requirements")
    assert "column t of table app.keyless" in {row["object"] for row in lists.json("collations")}
    databases = {row["name"]: row for row in lists.json("databases")}
    assert databases[database.name]["bytes"] > 0
    assert "template1" not in databases


def test_table_parts(lists: Lists, database: Database) -> None:
    database.execute(
        "CREATE TABLE split (id int PRIMARY KEY, t text);"
        "INSERT INTO split SELECT i, repeat('x', 500) FROM generate_series(1, 1000) i"
    )
    parts = lists.json("table-parts", "--table-name", "split", "--split-tables-larger-than", "128 kB")
    assert [row["part"] for row in parts] == [f"{number}/{len(parts)}" for number in range(1, len(parts) + 1)]
    assert len(parts) > 2
    assert (parts[0]["min"], parts[-1]["max"]) == (None, None)
    assert [row["count"] for row in parts[1:-1]] == [row["max"] - row["min"] + 1 for row in parts[1:-1]]
    assert parts[0]["count"] is None
    assert all(one["max"] + 1 == other["min"] for one, other in pairwise(parts))
    assert len(lists.json("table-parts", "--table-name", "split")) == 1
    database.execute("INSERT INTO split VALUES (2000000000, 'far from all others'); ANALYZE split")
    parts = lists.json("table-parts", "--table-name", "split", "--split-tables-larger-than", "128 kB")
    inside = "SELECT count(*) FROM split WHERE id BETWEEN {} AND {}"
    counts = [database.fetch(inside.format(row["min"] or 0, row["max"] or 2**31 - 1))[0][0] for row in parts]
    assert sum(counts) == 1001
    assert max(counts) < 2 * min(counts)


def test_schema(lists: Lists, database: Database) -> None:
    lists.env = {"PGCOPYDB_SOURCE_PGURI": f"{database.dsn}?password=secret"}
    found = lists.json("schema", *lists.filters("[exclude-table]\napp.orders\n"))
    tables = {f"{row['schema']}.{row['name']}": row for row in found["tables"]}
    assert [column["attname"] for column in tables["app.customer"]["cols"]] == ["id", "name", "m"]
    assert "app.orders" not in tables
    assert {"type": "view", "identity": "app.above"} in found["left-out"]
    owner = database.fetch("SELECT current_user")[0][0]
    assert tables["app.customer"]["restore-list-name"] == f"app customer {owner}"
    columns = {row["name"]: (row["columns"], row["restore-list-name"]) for row in found["indexes"]}
    assert columns["customer_pkey"] == ("id", f"app customer_pkey {owner}")
    assert found["sequences"] == lists.json("sequences")
    assert f"dbname={database.name}" in found["setup"]["source_pguri"]
    assert "secret" not in found["setup"]["source_pguri"]


def test_a_value_that_may_not_be_read(lists: Lists, database: Database) -> None:
    database.execute("CREATE ROLE looks_only LOGIN")
    try:
        lists.env = {"PGCOPYDB_SOURCE_PGURI": f"{database.dsn}?user=looks_only"}
        sequences = {row["name"]: row["last-value"] for row in lists.json("sequences")}
        assert sequences == {"customer_id_seq": None, "orders_id_seq": None}
    finally:
        database.execute("DROP ROLE looks_only")


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("tables", "--list-skipped"), "--list-skipped says nothing without --filters"),
        (("indexes", "--schema-name", "app"), "--schema-name says nothing without --table-name"),
        (("table-parts",), "no table is named"),
        (("depends",), "`list depends` shows what depends on what is filtered"),
    ],
)
def test_what_makes_no_sense(lists: Lists, arguments: tuple[str, ...], said: str) -> None:
    done = lists.pgcopydb.run("list", *arguments, env=lists.env, check=False)
    assert (done.returncode, said in done.stderr) == (1, True), done.stderr


def test_a_table_that_is_not_there(lists: Lists) -> None:
    done = lists.pgcopydb.run("list", "table-parts", "--table-name", "none", env=lists.env, check=False)
    assert (done.returncode, "there is no table public.none" in done.stderr) == (6, True)
