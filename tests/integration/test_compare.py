"""``compare data`` finds every kind of difference, says which, and exits with 12; it finds none where there is none."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from tests.fix_command import Command
from tests.fix_servers import Database

BOTH = """
CREATE TABLE t (id int PRIMARY KEY, a text, b numeric, c float8, d jsonb);
INSERT INTO t SELECT i, 'row ' || i, i / 7.0, i / 7.0, jsonb_build_object('i', i) FROM generate_series(1, 1000) i;
CREATE TABLE heap (i int);
INSERT INTO heap SELECT i % 10 FROM generate_series(1, 100) i;
CREATE SEQUENCE s;
SELECT nextval('s') FROM generate_series(1, 5);
SELECT lo_from_bytea(4711, decode(repeat('ab', 5000), 'hex'));
CREATE TABLE parted (i int, t text) PARTITION BY RANGE (i);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (50);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (50) TO (100);
INSERT INTO parted SELECT i, 'p' || i FROM generate_series(0, 99) i;
"""


@pytest.fixture
def pair(source_db: Database, target_db: Database) -> tuple[Database, Database]:
    source_db.execute(BOTH)
    target_db.execute(BOTH)
    return source_db, target_db


def compare(pgcopydb: Command, pair: tuple[Database, Database], *options: str) -> tuple[int, str]:
    done = pgcopydb.run("compare", "data", "--source", pair[0].dsn, "--target", pair[1].dsn, *options, check=False)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stdout


def compared(pgcopydb: Command, pair: tuple[Database, Database], *options: str) -> tuple[int, dict[str, Any]]:
    code, text = compare(pgcopydb, pair, "--json", *options)
    return code, {f"{row['schema']}.{row['name']}": row for row in orjson.loads(text) if not row["equal"]}


def test_equal_databases(pair: tuple[Database, Database], pgcopydb: Command) -> None:
    """Neither the order of the rows nor that of the columns matters."""
    pair[1].execute(
        "CREATE TABLE u AS SELECT i FROM heap ORDER BY i DESC; TRUNCATE heap; INSERT INTO heap SELECT i FROM u;"
        "DROP TABLE u; CREATE TABLE v (d jsonb, c float8, b numeric, a text, id int PRIMARY KEY);"
        "INSERT INTO v SELECT d, c, b, a, id FROM t; DROP TABLE t; ALTER TABLE v RENAME TO t"
    )
    assert compared(pgcopydb, pair) == (0, {})
    code, text = compare(pgcopydb, pair)
    assert code == 0
    assert "parted_2" in text


@pytest.mark.parametrize(
    ("change", "where"),
    [
        ("UPDATE t SET a = 'row 500 ' WHERE id = 500", "public.t"),
        ("UPDATE t SET a = NULL WHERE id = 500", "public.t"),
        ("UPDATE t SET b = b + 1e-15 WHERE id = 500", "public.t"),
        ("UPDATE t SET c = '-0' WHERE id = 500", "public.t"),
        ("DELETE FROM t WHERE id = 1", "public.t"),
        ("INSERT INTO t VALUES (0)", "public.t"),
        ("UPDATE t SET id = -id WHERE id = 7", "public.t"),
        ("UPDATE t a SET a = b.a FROM t b WHERE a.id + b.id = 3", "public.t"),
        ("INSERT INTO heap SELECT 3; DELETE FROM heap WHERE ctid = (SELECT min(ctid) FROM heap)", "public.heap"),
        ("DROP TABLE heap", "public.heap"),
        ("CREATE TABLE more (i int)", "public.more"),
        ("ALTER TABLE heap RENAME i TO j", "public.heap"),
        ("SELECT nextval('s')", "pg_catalog.pg_sequence"),
        ("DROP SEQUENCE s", "pg_catalog.pg_sequence"),
        ("SELECT lo_put(4711, 4000, '\\x00')", "pg_catalog.pg_largeobject"),
        ("SELECT lo_create(1)", "pg_catalog.pg_largeobject"),
        ("SELECT lo_unlink(4711)", "pg_catalog.pg_largeobject"),
        ("UPDATE parted SET t = 'x' WHERE i = 70", "public.parted_2"),
    ],
)
@pytest.mark.parametrize("changed", ["source", "target"])
def test_a_difference_is_found(
    changed: str, change: str, where: str, pair: tuple[Database, Database], pgcopydb: Command
) -> None:
    pair[changed == "target"].execute(change)
    code, differing = compared(pgcopydb, pair)
    assert code == 12
    assert list(differing) == [where]


def test_columns_of_the_target_alone_are_no_difference_of_the_data(
    pair: tuple[Database, Database], pgcopydb: Command
) -> None:
    pair[0].execute("ALTER TABLE t DROP d")
    assert compared(pgcopydb, pair) == (0, {})
    pair[1].execute("ALTER TABLE t DROP c, DROP b")
    code, differing = compared(pgcopydb, pair)
    assert (code, differing["public.t"]["problem"]) == (12, "columns that are not on the target: b, c")


def test_rows_are_named_whatever_the_columns_are_called(pair: tuple[Database, Database], pgcopydb: Command) -> None:
    for side, value in zip(pair, ("one", "other"), strict=True):
        side.execute('CREATE TABLE percent ("a%s%" int PRIMARY KEY, "%(b)s" text)')
        side.execute(f"INSERT INTO percent VALUES (1, '{value}')")
    code, differing = compared(pgcopydb, pair, "--rows", "5")
    assert (code, differing["public.percent"]["rows"]) == (12, ["(1) differs"])


def test_large_tables_are_read_in_parts(pair: tuple[Database, Database], pgcopydb: Command) -> None:
    """Each side is divided by its own pages: the rows of this one are elsewhere."""
    pair[1].execute("INSERT INTO t SELECT id + 5000, a, b, c, d FROM t; DELETE FROM t WHERE id <= 1000")
    pair[1].execute("UPDATE t SET id = id - 5000")
    parts = ("--split-tables-larger-than", "16kB")
    whole = orjson.loads(compare(pgcopydb, pair, "--json")[1])
    code, text = compare(pgcopydb, pair, "--json", *parts)
    assert (code, orjson.loads(text)) == (0, whole)
    pair[1].execute("UPDATE t SET a = 'other' WHERE id = 700")
    code, text = compare(pgcopydb, pair, "--json", *parts)
    assert (code, [row["name"] for row in orjson.loads(text) if not row["equal"]]) == (12, ["t"])


def test_rows_that_differ_are_named(pair: tuple[Database, Database], pgcopydb: Command) -> None:
    pair[1].execute("UPDATE t SET a = 'other' WHERE id = 700; DELETE FROM t WHERE id = 3; INSERT INTO t VALUES (2000)")
    pair[0].execute("INSERT INTO heap VALUES (4711)")
    code, differing = compared(pgcopydb, pair, "--rows", "5")
    assert code == 12
    assert {name: row["rows"] for name, row in differing.items()} == {
        "public.t": ["(2000) is only on the target", "(3) is only on the source", "(700) differs"],
        "public.heap": ["(4711) is only on the source"],
    }
    assert all(len(row["rows"]) == 1 for row in compared(pgcopydb, pair, "--rows", "1")[1].values())


def test_it_reads_each_side_at_one_moment(pair: tuple[Database, Database], pgcopydb: Command) -> None:
    """Nothing is locked for others, and nothing is written."""
    before = pair[0].fetch("SELECT pg_current_wal_insert_lsn()")
    pgcopydb.run("compare", "data", "--source", pair[0].dsn, "--target", pair[1].dsn)
    assert pair[0].fetch("SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgcopydb%'") == [(0,)]
    after = pair[0].fetch(f"SELECT pg_current_wal_insert_lsn() - '{before[0][0]}'::pg_lsn < 100000")
    assert after == [(True,)]
