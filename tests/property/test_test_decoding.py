"""What the server encodes is decoded to the text that it holds; whatever is damaged is refused, never misread."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress

import psycopg
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from psycopg import sql

from pgcopydb.apply.changes import UNCHANGED, Action, Change, RowChange, Truncate
from pgcopydb.apply.test_decoding import decode
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import CorruptState
from tests.fix_servers import Database, Servers, fresh_database

HOSTILE = ["a b", 'qu"ote', "br[ack]et", "co:lon", "new-tuple: ", "old-key: ", "Ünïcode", "select", "t'ick", "a.b, c"]
TYPES = ["text", "varchar[]", "int8", "numeric", "float8", "bool", "varbit", "bytea", "jsonb", '"odd [type]"']

characters = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=40)
look_alikes = st.sampled_from(
    ["null", "unchanged-toast-datum", "'", "''", "a[text]:'x'", " new-tuple: ", "B'01'", "\n"]
)
texts = st.one_of(st.none(), characters, look_alikes)
rows = st.tuples(
    texts,
    st.one_of(st.none(), st.lists(texts, max_size=3)),
    st.one_of(st.none(), st.integers(-(2**63), 2**63 - 1)),
    st.sampled_from([None, "NaN", "0", "-1.10", "1e-20", "123456789012345678901234567890.5"]),
    st.sampled_from([None, "NaN", "Infinity", "-0", "5e-324", "0.1"]),
    st.one_of(st.none(), st.booleans()),
    st.sampled_from([None, "", "0", "10101"]),
    st.one_of(st.none(), st.binary(max_size=20)),
    st.sampled_from([None, '{"a": "b\'c"}', "[1.10, null]"]),
    texts,
)


@pytest.fixture(scope="module")
def database(servers: Servers) -> Iterator[Database]:
    with fresh_database(servers.get(15), "decoding") as database:
        database.execute('CREATE TYPE "odd [type]" AS (t text)')
        database.execute("CREATE TABLE t (id int PRIMARY KEY)")
        with database.connect() as connection:
            for name, type_name in zip(HOSTILE, TYPES, strict=True):
                statement = sql.SQL("ALTER TABLE t ADD COLUMN {} " + type_name).format(sql.Identifier(name))
                connection.execute(statement)
        database.execute(f"SELECT pg_create_logical_replication_slot('{database.name}', 'test_decoding')")
        yield database
        database.execute(f"SELECT pg_drop_replication_slot('{database.name}')")


def changes(connection: psycopg.Connection[tuple[object, ...]], database: Database) -> list[Change]:
    got = connection.execute(
        f"SELECT data FROM pg_logical_slot_get_changes('{database.name}', NULL, NULL, 'include-xids', 'false')".encode()
    ).fetchall()
    return [decode(str(data)) for (data,) in got if str(data) not in {"BEGIN", "COMMIT"}]


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(rows)
def test_what_the_server_holds_is_what_is_decoded(database: Database, row: tuple[object, ...]) -> None:
    as_text = sql.SQL(", ").join(sql.SQL("{}::text").format(sql.Identifier(name)) for name in HOSTILE)
    with database.connect() as connection:
        connection.execute(
            sql.SQL('INSERT INTO t VALUES (1, %s, %s, %s, %s, %s, %s, %s::varbit, %s, %s, ROW(%s)::"odd [type]")'), row
        )
        held = connection.execute(sql.SQL("SELECT id::text, {} FROM t").format(as_text)).fetchone()
        connection.execute("UPDATE t SET id = 2")
        connection.execute("DELETE FROM t")
        insert, update, delete = changes(connection, database)
    assert held is not None
    assert isinstance(insert, RowChange)
    assert isinstance(update, RowChange)
    assert isinstance(delete, RowChange)
    values = {column.name: column.value for column in insert.new}
    truth = {True: "true", False: "false", None: None}
    expected = dict(zip(["id", *HOSTILE], held, strict=True))
    expected[HOSTILE[5]] = truth[row[5]]  # type: ignore[index]
    assert values == expected
    assert insert.relation == Name("public", "t")
    assert [(column.name, column.value) for column in update.identity] == [("id", "1")]
    assert {column.name: column.value for column in update.new} == {**expected, "id": "2"}
    assert (delete.action, [(column.name, column.value) for column in delete.identity]) == (
        Action.DELETE,
        [("id", "2")],
    )


def test_toast_truncate_and_rows_without_identity(servers: Servers) -> None:
    with fresh_database(servers.get(15), "decoding") as database, database.connect() as connection:
        connection.execute(
            'CREATE SCHEMA "S ,.: x"; CREATE TABLE "S ,.: x"."T: INSERT: y" (id int PRIMARY KEY, big text, n int);'
            "CREATE TABLE bare (i int); CREATE TABLE other (i serial);"
            'ALTER TABLE "S ,.: x"."T: INSERT: y" ALTER big SET STORAGE EXTERNAL'
        )
        connection.execute(f"SELECT pg_create_logical_replication_slot('{database.name}', 'test_decoding')".encode())
        odd = Name("S ,.: x", "T: INSERT: y")
        for statement in (
            f"INSERT INTO {odd.sql} VALUES (1, repeat('x', 10000), 1)",
            f"UPDATE {odd.sql} SET n = 2",
            "INSERT INTO bare VALUES (1)",
            "DELETE FROM bare",
            f"TRUNCATE bare, {odd.sql}",
            "TRUNCATE other RESTART IDENTITY CASCADE",
        ):
            connection.execute(statement.encode())
        found = changes(connection, database)
        connection.execute(f"SELECT pg_drop_replication_slot('{database.name}')".encode())
    update = found[1]
    assert isinstance(update, RowChange)
    assert [column.value for column in update.new] == ["1", UNCHANGED, "2"]
    assert found[3] == RowChange(Action.DELETE, Name("public", "bare"), (), ())
    assert found[4] == Truncate((Name("public", "bare"), odd), restart_identity=False, cascade=False)
    assert found[5] == Truncate((Name("public", "other"),), restart_identity=True, cascade=True)


WHOLE = "table public.t: UPDATE: old-key: id[integer]:1 new-tuple: id[integer]:2 \"a b\"[text]:'it''s' n[numeric]:null"


@given(st.integers(0, len(WHOLE)), st.integers(0, len(WHOLE)), st.sampled_from(["", "'", "[", "]", ":", " ", '"', "x"]))
def test_a_damaged_message_is_refused_or_read_otherwise(start: int, end: int, put: str) -> None:
    """It never ends in anything but a change or ``CorruptState``."""
    with suppress(CorruptState):
        decode(WHOLE[: min(start, end)] + put + WHOLE[max(start, end) :])


@pytest.mark.parametrize(
    "text",
    ["", "BEGIN 1", "table t: INSERT: i[integer]:1", "table public.t: MERGE: ", "table public.t: TRUNCATE: maybe",
     "table public.a, public.b: INSERT: i[integer]:1", "table public.t: INSERT: i[integer]:'open", WHOLE[:-1] + "' "],
)  # fmt: skip
def test_what_is_no_message(text: str) -> None:
    with pytest.raises(CorruptState, match="cannot be read"):
        decode(text)
