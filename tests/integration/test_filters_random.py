"""Filters drawn by lot: schema, rows, changes, lists and comparisons all leave out the same, and nothing else."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from random import Random

import orjson
import pytest

from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers
from tests.following import Following, pair_of, uris
from tests.lot import SEED

SCHEMA = """
CREATE SCHEMA a; CREATE SCHEMA b; CREATE SCHEMA "C d";
CREATE TABLE a.orders (id int PRIMARY KEY, t text);
CREATE TABLE a.tmp_1 (id int PRIMARY KEY, t text);
CREATE TABLE a.tmp_2 (id int PRIMARY KEY, t text);
CREATE TABLE b.orders (id int PRIMARY KEY, t text);
CREATE TABLE b.items (id serial PRIMARY KEY, t text);
CREATE TABLE "C d"."Big One" (id int PRIMARY KEY, t text);
CREATE TABLE "C d".orders (id int PRIMARY KEY, t text);
CREATE TABLE a.log (id int PRIMARY KEY, t text) PARTITION BY RANGE (id);
CREATE TABLE a.log_1 PARTITION OF a.log FOR VALUES FROM (0) TO (50);
CREATE TABLE a.log_2 PARTITION OF a.log FOR VALUES FROM (50) TO (1000);
CREATE TABLE b.base (id int PRIMARY KEY, t text);
CREATE TABLE b.derived (PRIMARY KEY (id)) INHERITS (b.base);
"""
ABOVE = {("a", "log_1"): ("a", "log"), ("a", "log_2"): ("a", "log"), ("b", "derived"): ("b", "base")}
PARTITIONED = ("a", "log")
TABLES = [
    ("a", "orders"),
    ("a", "tmp_1"),
    ("a", "tmp_2"),
    ("b", "orders"),
    ("b", "items"),
    ("C d", "Big One"),
    ("C d", "orders"),
    PARTITIONED,
    ("a", "log_1"),
    ("a", "log_2"),
    ("b", "base"),
    ("b", "derived"),
]
WRITTEN = [table for table in TABLES if table not in {("a", "log_1"), ("a", "log_2")}]
Name = tuple[str, str]


@dataclass(frozen=True)
class Half:
    """A schema or a name as the file has it, and what it means."""

    text: str
    meaning: str

    def hits(self, name: str) -> bool:
        return re.search(self.meaning, name) is not None


def exactly(name: str) -> Half:
    quoted = f'"{name}"' if re.search(r"[^a-z0-9_]", name) else name
    return Half(quoted, f"^{re.escape(name)}$")


SCHEMAS = [*map(exactly, ["a", "b", "C d"]), Half("~/^[ab]$/", "^[ab]$"), Half("~/./", ".")]
NAMES = [
    *(exactly(name) for _, name in TABLES),
    Half("~/^tmp_/", "^tmp_"),
    Half("~/_1$/", "_1$"),
    Half("~{order|Big}", "order|Big"),
]
ENTRIES = [
    (schema, name)
    for schema in SCHEMAS
    for name in NAMES
    if any(schema.hits(table[0]) and name.hits(table[1]) for table in TABLES)
]
"""A name that is not there is an error, where it is one of the only ones."""


@dataclass(frozen=True)
class Drawn:
    """Some rules of each section."""

    schemas: Sequence[Half]
    only_schemas: Sequence[Half]
    tables: Sequence[tuple[Half, Half]]
    only_tables: Sequence[tuple[Half, Half]]
    rows: Sequence[tuple[Half, Half]]

    def text(self) -> str:
        sections = {
            "exclude-schema": [half.text for half in self.schemas],
            "include-only-schema": [half.text for half in self.only_schemas],
            "exclude-table": [f"{schema.text}.{name.text}" for schema, name in self.tables],
            "include-only-table": [f"{schema.text}.{name.text}" for schema, name in self.only_tables],
            "exclude-table-data": [f"{schema.text}.{name.text}" for schema, name in self.rows],
        }
        return "".join(f"[{section}]\n" + "\n".join(lines) + "\n" for section, lines in sections.items() if lines)

    def is_there(self, table: Name) -> bool:
        schema, _ = table
        if any(half.hits(schema) for half in self.schemas):
            return False
        if self.only_schemas and not any(half.hits(schema) for half in self.only_schemas):
            return False
        if self._of(self.tables, table):
            return False
        return not self.only_tables or self._of(self.only_tables, table) or self._has_one_below(table)

    def has_rows(self, table: Name) -> bool:
        if self.only_tables and not self._of(self.only_tables, table) and table != PARTITIONED:
            return False
        return self.is_there(table) and not self._of(self.rows, table)

    def _has_one_below(self, table: Name) -> bool:
        return any(self._of(self.only_tables, below) for below, above in ABOVE.items() if above == table)

    @staticmethod
    def _of(rules: Sequence[tuple[Half, Half]], table: Name) -> bool:
        line = [table, *([ABOVE[table]] if table in ABOVE else [])]
        return any(schema.hits(each[0]) and name.hits(each[1]) for schema, name in rules for each in line)


def draw(lot: Random) -> Drawn:
    """Rules that keep some tables with their rows, and not all."""
    while True:
        of_schemas, of_tables = lot.choice(["", "not", "only"]), lot.choice(["not", "only"])
        schemas = lot.sample(SCHEMAS, lot.randint(1, 2)) if of_schemas else []
        tables = [lot.choice(ENTRIES) for _ in range(lot.randint(1, 4))]
        rows = [lot.choice(ENTRIES) for _ in range(lot.randint(0, 2))]
        drawn = Drawn(
            schemas if of_schemas == "not" else [],
            schemas if of_schemas == "only" else [],
            tables if of_tables == "not" else [],
            tables if of_tables == "only" else [],
            rows,
        )
        if 2 <= sum(drawn.has_rows(table) for table in TABLES) < len(TABLES):
            return drawn


def sql(table: Name) -> str:
    return '"{}"."{}"'.format(*table)


def rows_of(database: Database, table: Name) -> list[tuple[object, ...]]:
    return database.fetch(f"SELECT * FROM ONLY {sql(table)} ORDER BY id")


def write(database: Database, lot: Random) -> None:
    """Every table of the source gets, changes and loses some rows; one is emptied."""
    for table in WRITTEN:
        first = int(str(database.fetch(f"SELECT coalesce(max(id), 0) + 1 FROM {sql(table)}")[0][0]))
        database.execute(
            f"INSERT INTO {sql(table)} SELECT i, 'n' || i FROM generate_series({first}, {first + 70}) i;"
            f"UPDATE {sql(table)} SET t = t || '+' WHERE id % 7 = {lot.randint(0, 6)};"
            f"DELETE FROM {sql(table)} WHERE id % 11 = {lot.randint(0, 10)}"
        )
    database.execute(f"TRUNCATE {sql(lot.choice(TABLES))}")


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 17) as pair:
        yield pair


@pytest.mark.parametrize("plugin", ["test_decoding", "pgoutput"])
@pytest.mark.parametrize("number", range(2))
def test_all_parts_leave_out_the_same(
    pgcopydb: Command, pair: DbPair, workdir_path: Path, tmp_path: Path, plugin: str, number: int
) -> None:
    lot = Random(f"{SEED} {plugin} {number}")
    drawn = draw(lot)
    filters = tmp_path / "filters.ini"
    filters.write_text(drawn.text(), encoding="utf-8")
    pair.source.execute(SCHEMA)
    write(pair.source, lot)
    env = uris(pair)
    listed = orjson.loads(pgcopydb.run("list", "tables", "--json", "--filters", filters, env=env).stdout)
    there = {table for table in TABLES if drawn.is_there(table)}
    assert {(row["schema"], row["name"]) for row in listed} == there - {PARTITIONED}, drawn.text()
    run = Following(pgcopydb, pair, workdir_path).start("--plugin", plugin, "--filters", str(filters))
    write(pair.source, lot)
    run.set_end()
    assert run.process.wait(60) == 0, run.log
    found = pair.target.fetch(
        "SELECT n.nspname, c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace"
        " WHERE c.relkind IN ('r', 'p') AND n.nspname IN ('a', 'b', 'C d')"
    )
    assert set(found) == there, drawn.text()
    for table in there:
        expected = rows_of(pair.source, table) if drawn.has_rows(table) else []
        assert rows_of(pair.target, table) == expected, f"{table}\n{drawn.text()}"
    for what in ("schema", "data"):
        done = pgcopydb.run("compare", what, "--dir", workdir_path, "--filters", filters, env=env, check=False)
        assert done.returncode == 0, f"{drawn.text()}\n{done.stdout}\n{done.stderr}"
