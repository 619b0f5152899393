"""What pgoutput says of real work is what test_decoding says of it, on every major."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

import orjson
import psycopg
import pytest

from pgcopydb.apply import pgoutput, test_decoding
from pgcopydb.apply.changes import UNCHANGED, Action, Change, Column, RowChange, Truncate
from pgcopydb.daemon.pgoutput import PgoutputReader, stream_options
from pgcopydb.daemon.plugins import (
    COMMIT,
    MESSAGE,
    TEST_DECODING_OPTIONS,
    MessageReader,
    PluginMessage,
    read_test_decoding,
)
from pgcopydb.postgres.names import Name
from tests.fix_servers import Database, Servers, fresh_database

PUBLICATION = 'odd "pub", %b'
SCHEMA = r"""
CREATE SCHEMA "S ,.: ""x";
CREATE TYPE mood AS ENUM ('so la la', 'it''s');
CREATE TYPE pair AS (a text, "b %" int);
CREATE DOMAIN small AS int CHECK (VALUE < 100);
CREATE TABLE "S ,.: ""x"."T: INSERT: %b" (
    "id ""%s"" x" int PRIMARY KEY, "new-tuple: " text, U&"\00DCn\00EF\000Acode" text,
    gen int GENERATED ALWAYS AS (7) STORED
);
CREATE TABLE types (
    id bigint PRIMARY KEY, b bool, i int2, n numeric, f float8, by bytea, j jsonb, a text[], p pair, r int4range,
    m mood, ms mood[], s small, v varbit, ts timestamptz, iv interval, u uuid, ip inet, g point, c char(5)
);
CREATE TABLE fully (id int, t text, n numeric, b bool);
ALTER TABLE fully REPLICA IDENTITY FULL;
CREATE TABLE indexed (c text, a int NOT NULL, "b %" text NOT NULL, UNIQUE ("b %", a));
ALTER TABLE indexed REPLICA IDENTITY USING INDEX "indexed_b %_a_key";
CREATE TABLE toasted (id int PRIMARY KEY, big text, n int);
ALTER TABLE toasted ALTER big SET STORAGE EXTERNAL;
CREATE TABLE toasted_key (k text PRIMARY KEY, n int);
CREATE TABLE fully_toasted (id int, big text);
ALTER TABLE fully_toasted ALTER big SET STORAGE EXTERNAL, REPLICA IDENTITY FULL;
CREATE TABLE parent (id serial PRIMARY KEY);
CREATE TABLE child (id serial PRIMARY KEY, parent int REFERENCES parent);
CREATE TABLE changing (id int PRIMARY KEY, gone text, a text);
CREATE TABLE parted (id int PRIMARY KEY, t text) PARTITION BY RANGE (id);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (10);
CREATE TABLE parted_2 PARTITION OF parted FOR VALUES FROM (10) TO (20);
CREATE TABLE no_columns ();
CREATE SCHEMA pgcopydb;
CREATE TABLE pgcopydb.sentinel (id int PRIMARY KEY);
"""
KEYS: Mapping[str, Sequence[str]] = {
    "T: INSERT: %b": ['id "%s" x'],
    "indexed": ["a", "b %"],
    "toasted_key": ["k"],
    "fully": [],
    "fully_toasted": [],
}
"""``id`` where it is not said."""
GENERATED = frozenset({"gen", "virtual"})

ODD = '"S ,.: ""x"."T: INSERT: %b"'
HOSTILE = r"""'it''s', E'%b"\\"\n},{"name":"x\u2028\U0001F418'"""
WORK = (
    f"INSERT INTO {ODD} VALUES (1, {HOSTILE}), (2, NULL, ''), (3, 'null', 'unchanged-toast-datum')",
    f'UPDATE {ODD} SET "new-tuple: " = NULL WHERE "id ""%s"" x" = 3',
    f'UPDATE {ODD} SET "id ""%s"" x" = -1 WHERE "id ""%s"" x" = 1',
    f'DELETE FROM {ODD} WHERE "id ""%s"" x" < 3',
    """INSERT INTO types VALUES
    (9223372036854775807, true, -1, 'NaN', '-0', '\\x00ff5c', '{"a": 1.10, "b": "\\"%"}',
     ARRAY['a,b', NULL, '"', '{}', ''], ROW('(,")', 5), '[1,5)', 'it''s', '{so la la,it''s}', 99, B'10101',
     '2022-06-27 13:24:31.4608+02', '1 year -3 days 04:05:06.7', 'a0eebc99-9c0b-4ef8-bb6d-6bb9bd380a11', '::1/64',
     '(1.5,-2)', 'ab'),
    (-1, false, 0, 123456789012345678901234567890.50, 'Infinity', '', 'null', '{}', NULL, 'empty', 'so la la', '{}', 0,
     '', 'infinity', '0', NULL, '10.0.0.0/8', NULL, '')""",
    "INSERT INTO types VALUES (2, NULL, NULL, '-1.10', 5e-324)",
    "UPDATE types SET b = NOT b, n = n * 2, f = -f",
    "DELETE FROM types",
    "INSERT INTO fully VALUES (1, 'a', NULL, true), (NULL, NULL, NULL, NULL), (1, '', 'NaN', false)",
    "UPDATE fully SET t = coalesce(t, '') || '%' WHERE id IS NULL OR b",
    "DELETE FROM fully WHERE id = 1",
    "INSERT INTO indexed VALUES ('x', 1, 'one'), (NULL, 2, 'two')",
    "UPDATE indexed SET c = 'y'",
    "UPDATE indexed SET \"b %\" = 'new ' || \"b %\" WHERE a = 1",
    "DELETE FROM indexed",
    "INSERT INTO toasted VALUES (1, repeat('x', 10000), 1), (2, repeat('%', 9000), NULL)",
    "UPDATE toasted SET n = 3",
    "UPDATE toasted SET id = id + 10",
    "UPDATE toasted SET big = 'y' WHERE id = 11",
    "DELETE FROM toasted",
    "INSERT INTO toasted_key SELECT string_agg(md5(i::text), ''), 1 FROM generate_series(1, 75) i",
    "UPDATE toasted_key SET n = 2",
    "INSERT INTO fully_toasted VALUES (1, repeat('x', 10000))",
    "UPDATE fully_toasted SET id = 2",
    "INSERT INTO parent DEFAULT VALUES; INSERT INTO child VALUES (DEFAULT, 1)",
    "TRUNCATE fully, types",
    "TRUNCATE parent RESTART IDENTITY CASCADE",
    f"TRUNCATE {ODD} RESTART IDENTITY",
    "INSERT INTO changing VALUES (1, 'gone', 'a'); ALTER TABLE changing DROP gone",
    "INSERT INTO changing VALUES (2, 'a')",
    "ALTER TABLE changing RENAME a TO \"%b\"; ALTER TABLE changing ADD z text DEFAULT 'z'; UPDATE changing SET z = 'q'",
    "ALTER TABLE changing RENAME TO changed; DELETE FROM changed",
    "INSERT INTO parted VALUES (1, 'a'), (11, 'b'); UPDATE parted SET id = 12 WHERE id = 1; TRUNCATE parted",
    "INSERT INTO pgcopydb.sentinel VALUES (1); UPDATE pgcopydb.sentinel SET id = 2; DELETE FROM pgcopydb.sentinel",
    "TRUNCATE pgcopydb.sentinel",
    "INSERT INTO changed VALUES (1); SELECT pg_logical_emit_message(true, 'pre%fix', 'no row')",
    "INSERT INTO changed SELECT i, 'x' || i, NULL FROM generate_series(100, 599) i",
    "UPDATE changed SET z = id WHERE id % 3 = 0",
    "DELETE FROM changed WHERE id % 2 = 0",
)  # fmt: skip


@pytest.fixture(params=[15, 17, 18])
def database(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Database]:
    with fresh_database(servers.get(request.param), "pgoutput", encoding="UTF8", template="template0") as database:
        yield from with_slots(database)


def with_slots(database: Database) -> Iterator[Database]:
    for plugin in ("test_decoding", "pgoutput"):
        database.execute(f"SELECT pg_create_logical_replication_slot('{database.name}_{plugin}', '{plugin}')")
    yield database
    database.execute(
        f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{database.name}'"
    )


Connection = psycopg.Connection[tuple[object, ...]]


def received(connection: Connection, slot: str, options: Mapping[str, str]) -> list[bytes]:
    arguments = [text for option in options.items() for text in option]
    query = "SELECT data FROM pg_logical_slot_get_binary_changes(%s, NULL, NULL, VARIADIC %s::text[])"
    return [bytes(data) for (data,) in connection.execute(query, [slot, arguments])]  # type: ignore[call-overload]


def messages(payloads: Sequence[bytes], reader: MessageReader) -> list[PluginMessage]:
    return [message for message in map(reader, payloads) if message is not None]


def row_changes(found: Sequence[PluginMessage], decode: Callable[[bytes], Change]) -> list[Change]:
    return [decode(message.payload) for message in found if message.action in set(Action)]


def boundaries(found: Sequence[PluginMessage]) -> list[tuple[str, str | None, str | None]]:
    """test_decoding says when a transaction was committed at its end only."""
    return [
        (message.action, message.xid, message.timestamp if message.action == COMMIT else None)
        for message in found
        if message.action not in set(Action)
    ]


def as_test_decoding(connection: Connection, database: Database) -> list[PluginMessage]:
    return messages(received(connection, f"{database.name}_test_decoding", TEST_DECODING_OPTIONS), read_test_decoding)


def as_pgoutput(connection: Connection, database: Database, *publications: str) -> list[PluginMessage]:
    options = {**stream_options(publications or [PUBLICATION]), "messages": "true"}
    return messages(received(connection, f"{database.name}_pgoutput", options), PgoutputReader())


def in_the_words_of_pgoutput(change: Change) -> Change:
    """It names no types, writes booleans as the type does, leaves out what did not change and what is generated. Of a
    partitioned table that is truncated it names the partitions only."""
    if isinstance(change, Truncate):
        return replace(change, relations=tuple(name for name in change.relations if name.name != "parted"))
    new = tuple(column for column in map(without_type, change.new) if column.value is not UNCHANGED)
    new = tuple(column for column in new if column.name not in GENERATED)
    identity = tuple(map(without_type, change.identity))
    if change.action is Action.UPDATE and not identity:
        keys = KEYS.get(change.relation.name, ["id"])
        identity = tuple(column for column in new if column.name in keys)
    return change._replace(sparse=False, new=new, identity=identity)


def without_type(column: Column) -> Column:
    value = column.value
    if column.type == "boolean" and isinstance(value, str):
        value = value[0]
    return Column(column.name, "", value)


def without_nulls_of_the_identity(change: Change) -> Change:
    """test_decoding leaves those out."""
    if isinstance(change, Truncate):
        return change
    return change._replace(
        sparse=False, identity=tuple(column for column in change.identity if column.value is not None)
    )


def publish(connection: Connection, what: str = "FOR ALL TABLES") -> None:
    name = '"' + PUBLICATION.replace('"', '""') + '"'
    connection.execute(f"CREATE PUBLICATION {name} {what}".encode())


def work(connection: Connection, database: Database) -> None:
    for statements in WORK:
        connection.execute(statements.encode())
    with connection.transaction():
        connection.execute("INSERT INTO changed VALUES (1000, 'a', NULL)")
        connection.execute("SAVEPOINT s; DELETE FROM changed; ROLLBACK TO s")
        connection.execute("UPDATE changed SET z = 'same' WHERE id = 1000")
    origin = f"{database.name} origin"
    connection.execute("SELECT pg_replication_origin_create(%s)", [origin])
    connection.execute("SELECT pg_replication_origin_session_setup(%s)", [origin])
    with connection.transaction():
        connection.execute("SELECT pg_replication_origin_xact_setup('0/ABCDEF', now())")
        connection.execute("DELETE FROM changed WHERE id = 1000")
    connection.execute("SELECT pg_replication_origin_session_reset()")
    connection.execute("SELECT pg_replication_origin_drop(%s)", [origin])


def test_the_same_work_through_both_plugins(database: Database) -> None:
    with database.connect() as connection:
        connection.execute(SCHEMA)
        if connection.info.server_version >= 180000:
            connection.execute("ALTER TABLE child ADD virtual int GENERATED ALWAYS AS (id * 2) VIRTUAL")
        publish(connection)
        work(connection, database)
        reference = as_test_decoding(connection, database)
        payloads = received(
            connection, f"{database.name}_pgoutput", {**stream_options([PUBLICATION]), "messages": "true"}
        )
    assert {payload[:1] for payload in payloads} == {bytes([kind]) for kind in b"BCIUDTMROY"}
    found = messages(payloads, PgoutputReader())
    expected = row_changes(reference, lambda payload: test_decoding.decode(orjson.loads(payload)))
    decoded = row_changes(found, pgoutput.decode)
    assert len(decoded) > 900
    for change, reference_change in zip(decoded, expected, strict=True):
        assert without_nulls_of_the_identity(change) == in_the_words_of_pgoutput(reference_change)
    assert boundaries(found) == boundaries(reference)
    assert MESSAGE in {message.action for message in found}
    begun = [message.timestamp for message in found if message.action == "B"]
    assert begun == [message.timestamp for message in found if message.action == "C"]


def test_identities(database: Database) -> None:
    """What test_decoding does not say: the identity of an UPDATE that changed no key, and NULLs of old rows."""
    with database.connect() as connection:
        connection.execute(SCHEMA)
        publish(connection)
        for statement in (
            "INSERT INTO fully VALUES (1, NULL, 1.10, true)",
            "UPDATE fully SET id = 2",
            "DELETE FROM fully",
            "INSERT INTO indexed VALUES (NULL, 1, 'one')",
            "UPDATE indexed SET c = 'y'",
            "UPDATE indexed SET a = 2",
            "DELETE FROM indexed",
            "INSERT INTO no_columns DEFAULT VALUES",
            "SELECT pg_logical_emit_message(true, 'binary', '\\x00ff'::bytea)",
        ):
            connection.execute(statement.encode())
        changes = row_changes(as_pgoutput(connection, database), pgoutput.decode)
    identities = [
        [(column.name, column.value) for column in change.identity]
        for change in changes
        if isinstance(change, RowChange)
    ]
    assert identities == [
        [],
        [("id", "1"), ("t", None), ("n", "1.10"), ("b", "t")],
        [("id", "2"), ("t", None), ("n", "1.10"), ("b", "t")],
        [],
        [("a", "1"), ("b %", "one")],
        [("a", "1"), ("b %", "one")],
        [("a", "2"), ("b %", "one")],
        [],
    ]
    assert changes[-1] == RowChange(Action.INSERT, Name("public", "no_columns"), (), ())


def test_several_publications_with_some_columns_and_rows(database: Database) -> None:
    with database.connect() as connection:
        connection.execute("CREATE TABLE t (id int PRIMARY KEY, secret text, a text)")
        connection.execute("CREATE TABLE u (id int PRIMARY KEY)")
        publish(connection, "FOR TABLE t (id, a) WHERE (id > 1)")
        connection.execute('CREATE PUBLICATION "P" FOR TABLE u')
        connection.execute("INSERT INTO t VALUES (1, 's', 'x'), (2, 's', 'y'); INSERT INTO u VALUES (1); TRUNCATE t, u")
        found = row_changes(as_pgoutput(connection, database, PUBLICATION, "P"), pgoutput.decode)
    t, u = Name("public", "t"), Name("public", "u")
    assert found == [
        RowChange(Action.INSERT, t, (Column("id", "", "2"), Column("a", "", "y")), ()),
        RowChange(Action.INSERT, u, (Column("id", "", "1"),), ()),
        Truncate((t, u), restart_identity=False, cascade=False),
    ]


def test_generated_columns_that_are_published(servers: Servers) -> None:
    with fresh_database(servers.get(18), "pgoutput") as fresh:
        for database in with_slots(fresh):
            with database.connect() as connection:
                connection.execute("CREATE TABLE t (id int PRIMARY KEY, gen int GENERATED ALWAYS AS (id * 2) STORED)")
                publish(connection, "FOR ALL TABLES WITH (publish_generated_columns = stored)")
                connection.execute("INSERT INTO t VALUES (1)")
                (insert,) = row_changes(as_pgoutput(connection, database), pgoutput.decode)
    assert isinstance(insert, RowChange)
    assert insert.new == (Column("id", "", "1"), Column("gen", "", "2"))


def test_a_root_that_is_full_where_its_partition_is_not(database: Database) -> None:
    """The server then says that all columns are of the identity, and sends no old row."""
    with database.connect() as connection:
        connection.execute(
            "CREATE TABLE root (id int PRIMARY KEY, t text) PARTITION BY RANGE (id);"
            "CREATE TABLE leaf PARTITION OF root DEFAULT; ALTER TABLE root REPLICA IDENTITY FULL"
        )
        publish(connection, "FOR TABLE root WITH (publish_via_partition_root)")
        connection.execute("INSERT INTO root VALUES (1, 'a'); UPDATE root SET t = 'b'")
        _, update = row_changes(as_pgoutput(connection, database), pgoutput.decode)
    new = (Column("id", "", "1"), Column("t", "", "b"))
    assert update == RowChange(Action.UPDATE, Name("public", "root"), new, ())
