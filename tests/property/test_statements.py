"""What happens on the source happens on the target: server, decoder, SQL, server, compared by content."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pgcopydb.apply.catalog import Catalogs, MissingTable
from pgcopydb.apply.changes import Action, Column, RowChange, Truncate
from pgcopydb.apply.statements import TableFacts, row_statements, truncate_statement
from pgcopydb.apply.test_decoding import decode
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import StateError
from tests.content import assert_same_content
from tests.fix_servers import Database, Servers, fresh_database

SCHEMA = """
CREATE TYPE "pair" AS (a int, b text);
CREATE TABLE keyed (id int PRIMARY KEY, t text, n numeric, f float8, b bytea, j jsonb, a text[]);
ALTER TABLE keyed ALTER t SET STORAGE EXTERNAL;
CREATE TABLE "Odd "" name" ("K 1" text, "k'2" int, v text, PRIMARY KEY ("K 1", "k'2"));
CREATE TABLE by_index (a int NOT NULL, b text);
CREATE UNIQUE INDEX by_index_a ON by_index (a);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_a;
CREATE TABLE full_identity (i int, t text, n numeric, j json, p point, c "pair");
ALTER TABLE full_identity REPLICA IDENTITY FULL;
CREATE TABLE "new
line" (id int PRIMARY KEY, "a\\b
c" text);
CREATE TABLE full_key (id int PRIMARY KEY, t text, j json);
ALTER TABLE full_key REPLICA IDENTITY FULL;
CREATE TABLE full_parts (i int, t text) PARTITION BY LIST (i);
CREATE TABLE full_parts_1 PARTITION OF full_parts FOR VALUES IN (1, 2, 3);
CREATE TABLE full_parts_2 PARTITION OF full_parts DEFAULT;
ALTER TABLE full_parts_1 REPLICA IDENTITY FULL;
ALTER TABLE full_parts_2 REPLICA IDENTITY FULL;
CREATE TABLE computed (id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, x int,
    twice int GENERATED ALWAYS AS (x * 2) STORED);
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY REFERENCES parent);
CREATE TABLE included (id int, v int, PRIMARY KEY (id) INCLUDE (v));
CREATE SCHEMA "Ext s";
CREATE EXTENSION ltree SCHEMA "Ext s";
CREATE EXTENSION citext SCHEMA "Ext s";
CREATE TABLE trees (p "Ext s".ltree, c "Ext s".citext, v int, PRIMARY KEY (p, c));
CREATE TABLE forest (p "Ext s".ltree, c "Ext s".citext, v int);
ALTER TABLE forest REPLICA IDENTITY FULL;
"""
COLLATED = """
CREATE COLLATION any_case (provider = icu, locale = 'und-u-ks-level2', deterministic = false);
CREATE TABLE collated (t text COLLATE any_case, a text[] COLLATE any_case);
ALTER TABLE collated REPLICA IDENTITY FULL;
"""
keys = st.integers(1, 6)
texts = st.one_of(
    st.none(),
    st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30),
    st.just("long " * 3000),
)
numbers = st.sampled_from([None, "NaN", "1.10", "-0.0", "123456789012345678901234567890.123"])
floats = st.sampled_from([None, "NaN", "-Infinity", "-0", "5e-324", "0.1"])


def statement(text: str, *values: st.SearchStrategy[object]) -> st.SearchStrategy[tuple[str, tuple[object, ...]]]:
    return st.tuples(st.just(text), st.tuples(*values))


steps = st.one_of(
    statement(
        "INSERT INTO keyed VALUES (%s, %s, %s, %s, %s, to_jsonb(%s::text), ARRAY[%s::text, NULL])"
        " ON CONFLICT DO NOTHING",
        *(keys, texts, numbers, floats, st.binary(max_size=10), texts, texts),
    ),
    statement("UPDATE keyed SET n = %s WHERE id = %s", numbers, keys),
    statement("UPDATE keyed SET t = %s, a = NULL WHERE id = %s", texts, keys),
    statement("UPDATE keyed SET id = id + 100 WHERE id = %s AND id NOT IN (SELECT id - 100 FROM keyed)", keys),
    statement("DELETE FROM keyed WHERE id = %s", keys),
    statement("TRUNCATE keyed"),
    statement(
        """INSERT INTO "Odd "" name" VALUES (coalesce(%s, ''), %s, %s) ON CONFLICT DO NOTHING""", texts, keys, texts
    ),
    statement("""UPDATE "Odd "" name" SET v = %s WHERE "k'2" = %s""", texts, keys),
    statement("""DELETE FROM "Odd "" name" WHERE "k'2" = %s""", keys),
    statement("INSERT INTO by_index VALUES (%s, %s) ON CONFLICT DO NOTHING", keys, texts),
    statement("UPDATE by_index SET b = %s WHERE a = %s", texts, keys),
    statement("DELETE FROM by_index WHERE a = %s", keys),
    statement(
        "INSERT INTO full_identity VALUES (%s, %s, %s, '{\"a\": 1}', '(1,2)', ROW(%s, NULL))",
        *(st.sampled_from([None, 1]), texts, st.sampled_from([None, "1.0", "1.00", "NaN"]), st.sampled_from([None, 1])),
    ),
    statement("INSERT INTO full_identity SELECT * FROM full_identity LIMIT 20"),
    statement("UPDATE full_identity SET t = %s WHERE ctid = (SELECT min(ctid) FROM full_identity)", texts),
    statement("UPDATE full_identity SET n = n * 1.0 WHERE i = 1"),
    statement("UPDATE full_identity SET i = i"),
    statement("DELETE FROM full_identity WHERE ctid = (SELECT max(ctid) FROM full_identity)"),
    statement("INSERT INTO full_key VALUES (%s, %s, '[1]') ON CONFLICT DO NOTHING", keys, texts),
    statement("UPDATE full_key SET t = %s, id = id + 100 WHERE id = %s", texts, keys),
    statement("DELETE FROM full_key WHERE id > %s", keys),
    statement("INSERT INTO full_parts SELECT %s, %s FROM generate_series(1, 2)", keys, texts),
    statement("UPDATE full_parts SET i = i %% 6 + 1 WHERE i = %s", keys),
    statement("DELETE FROM full_parts WHERE i = %s", keys),
    statement('INSERT INTO "new\nline" VALUES (%s, %s) ON CONFLICT DO NOTHING', keys, texts),
    statement('UPDATE "new\nline" SET "a\\b\nc" = %s WHERE id = %s', texts, keys),
    statement('DELETE FROM "new\nline" WHERE id = %s', keys),
    statement("INSERT INTO computed (x) VALUES (%s)", keys),
    statement("UPDATE computed SET x = x + 1 WHERE x = %s", keys),
    statement("TRUNCATE parent, child"),
    statement("INSERT INTO parent VALUES (%s) ON CONFLICT DO NOTHING", keys),
    statement("INSERT INTO child SELECT id FROM parent ON CONFLICT DO NOTHING"),
    statement("INSERT INTO included VALUES (%s, %s) ON CONFLICT DO NOTHING", keys, keys),
    statement("UPDATE included SET v = v + 1 WHERE id = %s", keys),
    statement("UPDATE included SET v = v + 1, id = -id WHERE id = %s AND -id NOT IN (SELECT id FROM included)", keys),
    statement("DELETE FROM included WHERE v = %s", keys),
    statement("""INSERT INTO trees SELECT "Ext s".text2ltree(%s::text), 'aB' ON CONFLICT DO NOTHING""", keys),
    statement("UPDATE trees SET v = %s WHERE v IS NULL", keys),
    statement("DELETE FROM trees WHERE v = %s", keys),
    statement("""INSERT INTO forest SELECT "Ext s".text2ltree(%s::text), %s""", keys, st.sampled_from(["aB", "Ab"])),
    statement("UPDATE forest SET v = %s WHERE ctid = (SELECT max(ctid) FROM forest)", keys),
    statement("DELETE FROM forest WHERE ctid = (SELECT max(ctid) FROM forest)"),
)


@contextmanager
def both(
    servers: Servers, source_of: tuple[int, str], target_of: tuple[int, str], schema: str
) -> Iterator[tuple[Database, Database]]:
    with (
        fresh_database(servers.get(*source_of), "written") as source,
        fresh_database(servers.get(*target_of), "replayed") as target,
    ):
        for database in (source, target):
            database.execute(schema)
        source.execute(f"SELECT pg_create_logical_replication_slot('{source.name}', 'test_decoding')")
        yield source, target
        source.execute(f"SELECT pg_drop_replication_slot('{source.name}')")


@pytest.fixture(scope="module")
def pair(servers: Servers) -> Iterator[tuple[Database, Database]]:
    with both(servers, (15, "source"), (18, "target"), SCHEMA) as databases:
        yield databases


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(steps, min_size=1, max_size=25))
def test_the_target_becomes_what_the_source_is(
    pair: tuple[Database, Database], work: list[tuple[str, tuple[object, ...]]]
) -> None:
    source, target = pair
    happen(source, target, work)
    # Sequences are no part of a stream of changes.
    assert_same_content(source.dsn, target.dsn, ignore_tables=[("public", "computed_id_seq")])


def happen(source: Database, target: Database, work: list[tuple[str, tuple[object, ...]]]) -> None:
    """On the source, and by what the slot says of it on the target."""
    with source.connect() as writer:
        for text, values in work:
            writer.execute(text.encode(), values or None)
        got = writer.execute(
            "SELECT data FROM pg_logical_slot_get_changes(%s, NULL, NULL, 'include-xids', 'false')", (source.name,)
        ).fetchall()
    replica = {"session_replication_role": "replica"}
    with (
        Endpoint(ConnInfo.parse(Side.SOURCE, source.dsn), "test").connect("apply") as reader,
        Endpoint(ConnInfo.parse(Side.TARGET, target.dsn), "test").connect("apply", settings=replica) as connection,
    ):
        catalogs = Catalogs(reader, connection)
        for (data,) in got:
            if str(data) in {"BEGIN", "COMMIT"}:
                continue
            change = decode(str(data))
            if isinstance(change, Truncate):
                connection.execute(truncate_statement(change).encode())
                continue
            for done in row_statements(change, catalogs.facts(change.relation)):
                assert "\n" not in done
                assert connection.execute(done.encode()).rowcount == 1, done


def test_rows_that_a_collation_takes_for_equal(servers: Servers) -> None:
    """The servers of 17 and 18 here have no ICU."""
    with both(servers, (15, "source"), (15, "target"), COLLATED) as (source, target):
        happen(source, target, [("INSERT INTO collated VALUES ('ab', '{x}'), ('AB', '{x}'), ('AB', '{X}')", ())])
        happen(source, target, [("DELETE FROM collated WHERE t COLLATE \"C\" = 'AB' AND a[1] COLLATE \"C\" = 'X'", ())])
        assert target.fetch('SELECT t, a FROM collated ORDER BY t COLLATE "C" DESC') == [("ab", ["x"]), ("AB", ["x"])]


def test_a_row_that_nothing_identifies() -> None:
    change = RowChange(Action.DELETE, Name("public", "t"), (), ())
    with pytest.raises(StateError, match=r"DELETE on public\.t: nothing in the message tells which row"):
        row_statements(change, TableFacts(frozenset()))
    change = RowChange(Action.UPDATE, Name("public", "t"), (Column("v", "text", "x"),), ())
    with pytest.raises(StateError, match=r"UPDATE on public\.t: nothing in the message"):
        row_statements(change, TableFacts(frozenset({"id"})))


def test_a_table_that_the_target_lacks(target_db: Database) -> None:
    with (
        Endpoint(ConnInfo.parse(Side.TARGET, target_db.dsn), "test").connect("apply") as connection,
        pytest.raises(MissingTable, match=r"table public\.nothing is not on the target"),
    ):
        Catalogs(connection, connection).facts(Name("public", "nothing"))
