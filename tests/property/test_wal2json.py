"""wal2json's JSON is decoded to the same changes as test_decoding's text; whatever is damaged is refused."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any

import psycopg
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from psycopg import sql

from pgcopydb.apply import test_decoding
from pgcopydb.apply.changes import UNCHANGED, Action, Change, Column, RowChange, Truncate
from pgcopydb.apply.wal2json import decode
from pgcopydb.daemon.plugins import WAL2JSON_OPTIONS
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import CorruptState
from tests.fix_servers import Database, Servers, fresh_database
from tests.fix_wal2json import require_wal2json

TYPES_AS_OIDS = {**WAL2JSON_OPTIONS, "include-types": "false", "include-type-oids": "true"}
TYPES_AS_NAMES = {**WAL2JSON_OPTIONS, "include-types": "true"}

SCHEMA = 'S "q\\u0041" \u2028'
IDENTITIES = {"by default": "DEFAULT", "by index": "USING INDEX other_key", "by row": "FULL"}
KEYS = {"by default": ["id"], "by index": ["tag", "raw key"]}
TYPES = """
    CREATE TYPE whole AS (t text, b bytea, n numeric);
    CREATE TYPE mood AS ENUM ('sad', 'qu"ote', 'Ünï');
    CREATE DOMAIN word AS text;
    CREATE DOMAIN blob AS bytea;
    CREATE DOMAIN yes AS boolean;
    CREATE DOMAIN amount AS numeric;
"""

characters = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
look_alikes = st.sampled_from(
    ['"', "\\", "\\x41", "\\u0041", "\x01\x1f\x7f", "\b\f\n\r\t", "\u2028\u2029", "😀", "null", "true", "'", "1.0", ""]
)
texts = st.one_of(characters, look_alikes)
digits = st.from_regex(r"-?(0|[1-9][0-9]{0,40})(\.[0-9]{1,30})?", fullmatch=True)
blobs = st.binary(max_size=20)
documents = st.recursive(
    st.none() | st.booleans() | st.integers() | texts,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
    max_leaves=6,
).map(lambda found: json.dumps(found, ensure_ascii=False))
ranges = st.tuples(st.integers(-9, 9), st.integers(0, 9)).map(lambda ends: f"[{ends[0]},{ends[0] + ends[1]})")


def integers(bits: int) -> st.SearchStrategy[int]:
    least, most = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return st.one_of(st.sampled_from([least, most, 0, -1]), st.integers(least, most))


def floats(width: Any) -> st.SearchStrategy[str]:
    edges = st.sampled_from(["-0", "1e30", "1e-30", "0.1", "100000", "1e15", "1e16"])
    return st.one_of(edges, st.floats(allow_nan=False, allow_infinity=False, width=width).map(repr))


COLUMNS: Mapping[str, tuple[str, st.SearchStrategy[Any]]] = {
    "small": ("int2", integers(16)),
    "int": ("int4", integers(32)),
    "big": ("int8", integers(64)),
    "oid": ("oid", st.integers(0, 2**32 - 1)),
    "numeric": ("numeric", digits),
    "fixed": ("numeric(60,12)", digits),
    "float4": ("float4", floats(32)),
    "float8": ("float8", st.one_of(floats(64), st.sampled_from(["1e300", "5e-324", "1.7976931348623157e308"]))),
    "flag": ("bool", st.booleans()),
    "yes": ("yes", st.booleans()),
    "bytes": ("bytea", blobs),
    "byteses": ("bytea[]", st.lists(blobs, max_size=3)),
    "blob": ("blob", blobs),
    'te"xt': ("text", texts),
    "word": ("word", texts),
    "letter": ('"char"', st.sampled_from(["", "a", '"', "\\"])),
    "padded": ("char(40)", texts),
    "document": ("jsonb", documents),
    "as it was": ("json", documents),
    "texts": ("text[]", st.lists(st.none() | texts, max_size=3)),
    "numbers": ("numeric[]", st.lists(st.none() | digits | st.just("NaN"), max_size=3)),
    "whole": ("whole", st.tuples(texts, blobs, digits)),
    "mood": ("mood", st.sampled_from(["sad", 'qu"ote', "Ünï"])),
    "amount": ("amount", digits | st.just("NaN")),
    "day": ("date", st.dates().map(str) | st.sampled_from(["infinity", "0044-03-15 BC"])),
    "at": ("timestamptz", st.datetimes().map(str) | st.sampled_from(["-infinity", "4713-01-01 00:00:00+00 BC"])),
    "span": ("interval", st.integers(-(10**15), 10**15).map("1 mon -3 days {} us".format)),
    "address": ("inet", st.ip_addresses().map(str) | st.just("10.0.0.1/8")),
    "uuid": ("uuid", st.uuids().map(str)),
    "bit": ("bit(3)", st.sampled_from(["000", "101"])),
    "bits": ("varbit", st.text("01", max_size=10)),
    "money": ("money", st.integers(-(10**12), 10**12).map("{}.07".format)),
    "range": ("int4range", ranges | st.just("empty")),
    "numrange": ("numrange", ranges | st.just("(,1.10]")),
    "ranges": ("int4multirange", ranges.map("{{{}}}".format)),
    "words": ("tsvector", st.sampled_from(["'a':1 'b''c'", "'\\\\'"])),
}
rows = st.tuples(*[st.none() | values for _, values in COLUMNS.values()])
keys = st.tuples(integers(32), texts, blobs)

Connection = psycopg.Connection[tuple[Any, ...]]


def name_of(table: str) -> Name:
    return Name(SCHEMA, table)


def create_table(connection: Connection, table: str, identity: str) -> None:
    columns = sql.SQL(", ").join(
        sql.SQL("{} " + type_name).format(sql.Identifier(name)) for name, (type_name, _) in COLUMNS.items()
    )
    name = sql.Identifier(SCHEMA, table)
    connection.execute(
        sql.SQL('CREATE TABLE {} (id int PRIMARY KEY, tag text NOT NULL, "raw key" bytea NOT NULL, {})').format(
            name, columns
        )
    )
    if "other_key" in identity:
        connection.execute(sql.SQL('CREATE UNIQUE INDEX other_key ON {} (tag, "raw key")').format(name))
    connection.execute(sql.SQL("ALTER TABLE {} REPLICA IDENTITY " + identity).format(name))


@contextmanager
def database_with_slots(servers: Servers) -> Iterator[Database]:
    cluster = servers.get(15)
    require_wal2json(cluster)
    with fresh_database(cluster, "wal2json") as database:
        for plugin in ("wal2json", "test_decoding"):
            database.execute(f"SELECT pg_create_logical_replication_slot('{database.name}_{plugin}', '{plugin}')")
        try:
            yield database
        finally:
            database.execute(
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE database = current_database()"
            )


@pytest.fixture
def database(servers: Servers) -> Iterator[Database]:
    with database_with_slots(servers) as database:
        yield database


@pytest.fixture(scope="module")
def tables(servers: Servers) -> Iterator[Database]:
    with database_with_slots(servers) as database, database.connect() as connection:
        connection.execute(TYPES.encode())
        connection.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(SCHEMA)))
        for table, identity in IDENTITIES.items():
            create_table(connection, table, identity)
        yield database


def messages(connection: Connection, database: Database, options: Mapping[str, str] = WAL2JSON_OPTIONS) -> list[str]:
    """What wal2json says of rows since the last time."""
    arguments = [text for pair in options.items() for text in pair]
    got = connection.execute(
        "SELECT data FROM pg_logical_slot_get_changes(%s, NULL, NULL, VARIADIC %s::text[])",
        (f"{database.name}_wal2json", arguments),
    ).fetchall()
    return [data for (data,) in got if data[:13] not in {'{"action":"B"', '{"action":"C"'}]


def truth(connection: Connection, database: Database) -> list[Change]:
    got = connection.execute(
        "SELECT data FROM pg_logical_slot_get_changes(%s, NULL, NULL, 'include-xids', 'false')",
        (f"{database.name}_test_decoding",),
    ).fetchall()
    return [test_decoding.decode(data) for (data,) in got if data not in {"BEGIN", "COMMIT"}]


def decoded(found: list[str]) -> list[Change]:
    return [decode(message.encode()) for message in found]


def values(columns: tuple[Column, ...]) -> dict[str, object]:
    return {column.name: column.value for column in columns}


def true_values(columns: tuple[Column, ...]) -> dict[str, object]:
    """As wal2json has them: test_decoding spells booleans out, and says which TOASTed values did not change."""
    spelt = {"true": "t", "false": "f"}
    return {
        column.name: spelt.get(str(column.value), column.value) if column.type == "boolean" else column.value
        for column in columns
        if column.value is not UNCHANGED
    }


def assert_same(change: Change, true: Change) -> None:
    assert isinstance(change, RowChange)
    assert isinstance(true, RowChange)
    assert (change.action, change.relation) == (true.action, true.relation)
    assert list(values(change.new).items()) == list(true_values(true.new).items())
    identity, old = values(change.identity), true_values(true.identity)
    if true.action is Action.UPDATE and not true.identity:
        assert identity == {name: true_values(true.new)[name] for name in KEYS[true.relation.name]}
    else:
        # test_decoding leaves NULLs out of the old row.
        assert {name: value for name, value in identity.items() if value is not None} == old
        assert true.relation.name in KEYS or true.action is Action.INSERT or len(identity) == len(COLUMNS) + 3


@settings(max_examples=100, deadline=None)
@given(rows, keys, keys)
def test_the_same_as_test_decoding(
    tables: Database, row: tuple[Any, ...], key: tuple[Any, ...], other: tuple[Any, ...]
) -> None:
    places = sql.SQL(", ").join(sql.SQL("%s::" + type_name) for type_name, _ in COLUMNS.values())
    with tables.connect() as connection:
        # Nothing is left of an example that the server refuses.
        with connection.transaction():
            for table in IDENTITIES:
                name = sql.Identifier(SCHEMA, table)
                connection.execute(sql.SQL("INSERT INTO {} VALUES (%s, %s, %s, {})").format(name, places), [*key, *row])
                connection.execute(sql.SQL("UPDATE {} SET small = 1").format(name))
                connection.execute(sql.SQL('UPDATE {} SET id = %s, tag = %s, "raw key" = %s').format(name), other)
                connection.execute(sql.SQL("DELETE FROM {}").format(name))
        said, true = messages(connection, tables), truth(connection, tables)
    found = decoded(said)
    assert len(found) == len(true) == 4 * len(IDENTITIES)
    for change, expected in zip(found, true, strict=True):
        assert_same(change, expected)


def test_xml(database: Database) -> None:
    with database.connect() as connection:
        with suppress(psycopg.errors.FeatureNotSupported):
            connection.execute("CREATE TABLE t AS SELECT '<a b=\"c\">\\d\n</a>'::xml AS x")
        found, true = decoded(messages(connection, database)), truth(connection, database)
    if not true:
        pytest.skip("the server was built without libxml")
    assert_same(found[0], true[0])


def test_types_as_oids_give_the_same_values(tables: Database) -> None:
    with tables.connect() as connection:
        name = sql.Identifier(SCHEMA, "by default")
        columns = sql.SQL('id, tag, "raw key", bytes, byteses, blob, flag, "float8"')
        put = sql.SQL("1, 'a', 'k', 'abc', '{abc}', 'abc', true, 1e300")
        connection.execute(sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(name, columns, put))
        connection.execute(sql.SQL("DELETE FROM {}").format(name))
        found, true = decoded(messages(connection, tables, TYPES_AS_OIDS)), truth(connection, tables)
    for change, expected in zip(found, true, strict=True):
        assert_same(change, expected)
    assert isinstance(found[0], RowChange)
    assert values(found[0].new)["bytes"] == "\\x616263"


def test_names_of_types_in_a_schema_with_a_quoted_name_are_no_json(database: Database) -> None:
    """A limit of wal2json, up to 2.6 at least; with the types' OIDs it does not show."""
    with database.connect() as connection:
        for options in (TYPES_AS_NAMES, TYPES_AS_OIDS):
            connection.execute(
                """CREATE SCHEMA "A b"; CREATE TYPE "A b".e AS ENUM ('x');
                   CREATE TABLE t (e "A b".e); INSERT INTO t VALUES ('x'); DROP SCHEMA "A b" CASCADE; DROP TABLE t"""
            )
            (message,) = messages(connection, database, options)
            if options is TYPES_AS_NAMES:
                assert '"type":"A b".e,' in message
                with pytest.raises(CorruptState, match="cannot be read"):
                    decode(message.encode())
            else:
                assert decode(message.encode()) == RowChange(
                    Action.INSERT, Name("public", "t"), (Column("e", "", "x"),), ()
                )


def test_an_unchanged_toasted_value_is_left_out(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE t (id int PRIMARY KEY, big text, n int); CREATE TABLE f (LIKE t);"
            "ALTER TABLE t ALTER big SET STORAGE EXTERNAL; ALTER TABLE f ALTER big SET STORAGE EXTERNAL;"
            "ALTER TABLE f REPLICA IDENTITY FULL"
        )
        for table in ("t", "f"):
            connection.execute(f"INSERT INTO {table} VALUES (1, repeat('x', 10000), 1)".encode())
            connection.execute(f"UPDATE {table} SET n = 2".encode())
        _, update, _, full = decoded(messages(connection, database))
    assert isinstance(update, RowChange)
    assert isinstance(full, RowChange)
    assert (values(update.new), values(update.identity)) == ({"id": "1", "n": "2"}, {"id": "1"})
    assert values(full.new) == {"id": "1", "n": "2"}
    assert values(full.identity) == {"id": "1", "big": "x" * 10000, "n": "1"}


def test_nan_and_infinity_come_as_null_without_numbers_as_strings(database: Database) -> None:
    """A limit of the stream: nothing tells them from NULL. In arrays and domains they are there."""
    with database.connect() as connection:
        connection.execute(
            "CREATE DOMAIN d AS float8; CREATE TABLE t (n numeric, f float8, r real, a float8[], d d);"
            "INSERT INTO t SELECT v::numeric, v::float8, v::real, ARRAY[v]::float8[], v::float8"
            " FROM unnest(ARRAY['NaN', 'Infinity', '-Infinity']) v"
        )
        found = decoded(messages(connection, database))
    nothing = {"n": None, "f": None, "r": None}
    assert [values(change.new) for change in found if isinstance(change, RowChange)] == [
        {**nothing, "a": f"{{{value}}}", "d": value} for value in ("NaN", "Infinity", "-Infinity")
    ]


def test_truncate_is_one_message_for_each_relation(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("CREATE TABLE a (i serial PRIMARY KEY); CREATE TABLE b (i int REFERENCES a)")
        connection.execute("TRUNCATE a RESTART IDENTITY CASCADE")
        found = decoded(messages(connection, database))
    assert found == [Truncate((Name("public", table),), restart_identity=False, cascade=False) for table in ("a", "b")]


@pytest.mark.parametrize(
    "table",
    ["t (i int)", "t (i int UNIQUE)", "t (i int PRIMARY KEY DEFERRABLE)", "t (i int PRIMARY KEY)"],
)
def test_changes_of_rows_without_identity_do_not_come(database: Database, table: str) -> None:
    """A warning is all there is of them; the last table says itself that it has none."""
    warnings: list[str] = []
    with database.connect() as connection:
        connection.execute(f"CREATE TABLE {table}".encode())
        if "DEFERRABLE" not in table and "PRIMARY" in table:
            connection.execute("ALTER TABLE t REPLICA IDENTITY NOTHING")
        for statement in (b"INSERT INTO t VALUES (1)", b"UPDATE t SET i = 2", b"DELETE FROM t", b"TRUNCATE t"):
            connection.execute(statement)
        connection.add_notice_handler(lambda notice: warnings.append(f"{notice.severity}: {notice.message_primary}"))
        found = decoded(messages(connection, database))
    assert [type(change) for change in found] == [RowChange, Truncate]
    assert warnings == [
        f'WARNING: no tuple identifier for {action} in table "public"."t"' for action in ("UPDATE", "DELETE")
    ]


def test_numbers_as_strings_are_the_text_in_them() -> None:
    """As 2.6 prints them with numeric-data-types-as-string."""
    types = {"integer": "-1", "numeric(9,2)": "1.10", "double precision": "NaN", "real": "-Infinity", "oid": "7"}
    columns = [{"name": name, "type": name, "value": value} for name, value in types.items()]
    message = {"action": "I", "xid": 1, "schema": "s", "table": "t", "columns": columns}
    change = decode(json.dumps(message).encode())
    assert isinstance(change, RowChange)
    assert values(change.new) == types


@pytest.fixture(scope="module")
def payloads(tables: Database) -> list[bytes]:
    with tables.connect() as connection:
        for table in IDENTITIES:
            name = sql.Identifier(SCHEMA, table)
            columns = sql.SQL('id, tag, "raw key", "float8", flag, bytes, "te""xt", texts, whole, document')
            put = sql.SQL(
                """1, 'a"\\b', 'k', -1.5e300, true, 'x', E'\\x01\\u2028', '{a,NULL}', '(a,,1.10)', '{"a": [1, "b"]}'"""
            )
            connection.execute(sql.SQL("INSERT INTO {} ({}) VALUES ({})").format(name, columns, put))
            connection.execute(sql.SQL("UPDATE {} SET id = 2").format(name))
            connection.execute(sql.SQL("DELETE FROM {}").format(name))
            connection.execute(sql.SQL("TRUNCATE {}").format(name))
        found = messages(connection, tables)
        truth(connection, tables)
    assert len(found) == 4 * len(IDENTITIES)
    return [message.encode() for message in found]


def test_a_message_that_was_cut_off_is_refused(payloads: list[bytes]) -> None:
    for payload in payloads:
        for end in range(len(payload)):
            with pytest.raises(CorruptState, match="cannot be read"):
                decode(payload[:end])


@settings(max_examples=2000)
@given(st.data())
def test_a_damaged_message_is_refused_or_read_otherwise(payloads: list[bytes], data: st.DataObject) -> None:
    """It never ends in anything but a change or ``CorruptState``."""
    payload = data.draw(st.sampled_from(payloads))
    start = data.draw(st.integers(0, len(payload)))
    length = data.draw(st.one_of(st.integers(0, 3), st.integers(0, len(payload))))
    pieces = [b"", b'"', b"\\", b"[", b"]", b"{", b"}", b",", b":", b"null", b"-", b"1e999", b"\\ud800", b"\xc3", b"\0"]
    put = data.draw(st.one_of(st.sampled_from(pieces), st.binary(max_size=4)))
    with suppress(CorruptState):
        change = decode(payload[:start] + put + payload[start + length :])
        assert isinstance(change, RowChange | Truncate)


ROW = b'{"action":"I","schema":"s","table":"t","columns":[%b]}'


@pytest.mark.parametrize(
    "payload",
    [
        b"", b"null", b"[]", b"\xff", b'{"action":"I"}',
        b'{"action":"M","schema":"s","table":"t"}', b'{"action":"B","xid":1}', b'{"schema":"s","table":"t"}',
        b'{"action":"I","schema":"s","table":"t"}', b'{"action":"I","schema":"s","table":"t","columns":null}',
        b'{"action":"U","schema":"s","table":"t","columns":[]}', b'{"action":"D","schema":"s","table":"t"}',
        b'{"action":"I","table":"t","columns":[]}', b'{"action":"T","schema":"s","table":1}',
        ROW % b'{"name":"a","type":"text"}', ROW % b'{"type":"text","value":1}', ROW % b'{"name":"a","value":"x"}',
        ROW % b'{"name":"a","type":"json","value":{}}', ROW % b'{"name":"a","type":"json","value":[1]}',
        ROW % b'{"name":"a","type":"numeric","value":01}', ROW % b'{"name":"a","type":"numeric","value":NaN}',
        ROW % b'{"name":"a","type":"numeric","value":1.}', ROW % b'{"name":"a","type":"text","value":"\xe9"}',
        ROW % (b'{"name":"a","type":"json","value":' + b"[" * 100_000 + b"]" * 100_000 + b"}"),
        b'{"action":"T","schema":"s","table":"t"}{}',
    ],
)  # fmt: skip
def test_what_is_no_message(payload: bytes) -> None:
    with pytest.raises(CorruptState, match="cannot be read") as caught:
        decode(payload)
    assert repr(payload[:120]) in str(caught.value)
