"""Messages in the documented format are decoded to what was put in; whatever is damaged is refused, never misread."""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgcopydb.apply.changes import Action, Column, RowChange, Truncate
from pgcopydb.apply.pgoutput import decode
from pgcopydb.daemon.pgoutput import PgoutputReader, stream_options
from pgcopydb.daemon.plugins import PluginMessage
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import CorruptState

Value = str | None | bytes
"""``UNCHANGED`` is the only one in bytes."""
UNCHANGED = b"u"

characters = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), max_size=30)
look_alikes = st.sampled_from(["%b", "%", "%%s", '"', "\\", "\n", '"},{"name":"x"', "null", "\x7f\u2028", "\U0010ffff"])
names = st.one_of(characters.filter(bool), look_alikes)
values = st.one_of(st.none(), st.just(UNCHANGED), characters, look_alikes)
whole_values = st.one_of(st.none(), characters, look_alikes)


@dataclass(frozen=True)
class Table:
    oid: int
    schema: str
    name: str
    columns: tuple[tuple[str, bool], ...]
    """With whether it is of the key."""
    setting: bytes = b"d"

    @property
    def relation(self) -> Name:
        return Name(self.schema or "pg_catalog", self.name)


def string(text: str) -> bytes:
    return text.encode() + b"\0"


def describe(table: Table) -> bytes:
    columns = b"".join(
        struct.pack(">B", key) + string(name) + struct.pack(">Ii", 25, -1) for name, key in table.columns
    )
    return (
        b"R"
        + struct.pack(">I", table.oid)
        + string(table.schema)
        + string(table.name)
        + table.setting
        + struct.pack(">H", len(table.columns))
        + columns
    )


def encode_value(value: Value) -> bytes:
    if value is None:
        return b"n"
    if isinstance(value, bytes):
        return value
    return b"t" + struct.pack(">I", len(value.encode())) + value.encode()


def encode_tuple(kind: bytes, row: Sequence[Value]) -> bytes:
    return kind + struct.pack(">H", len(row)) + b"".join(map(encode_value, row))


def row_message(action: str, table: Table, *tuples: tuple[bytes, Sequence[Value]]) -> bytes:
    return action.encode() + struct.pack(">I", table.oid) + b"".join(encode_tuple(*each) for each in tuples)


def truncate_message(options: int, *oids: int) -> bytes:
    return b"T" + struct.pack(f">IB{len(oids)}I", len(oids), options, *oids)


def begin_message(lsn: int, microseconds: int, xid: int) -> bytes:
    return b"B" + struct.pack(">QqI", lsn, microseconds, xid)


def commit_message(microseconds: int) -> bytes:
    return b"C" + struct.pack(">BQQq", 0, 1, 2, microseconds)


def expected(table: Table, row: Sequence[Value], *, keys_only: bool = False) -> tuple[Column, ...]:
    return tuple(
        Column(name, "", value)
        for (name, key), value in zip(table.columns, row, strict=True)
        if not isinstance(value, bytes) and (key or not keys_only)
    )


def reader_of(*tables: Table) -> PgoutputReader:
    reader = PgoutputReader()
    for table in tables:
        assert reader(describe(table)) is None
    return reader


def read(reader: PgoutputReader, payload: bytes) -> PluginMessage:
    message = reader(payload)
    assert message is not None
    # What is embedded in a line of a file has to be one value, on one line.
    assert orjson.loads(message.payload)["action"] == message.action
    assert b"\n" not in message.payload
    return message


tables = st.builds(
    Table,
    st.integers(0, 2**32 - 1),
    # The program's own schema is left out; hypothesis tries names that it finds in the code.
    st.one_of(st.just(""), names.filter(lambda name: name != "pgcopydb")),
    names,
    st.lists(st.tuples(names, st.booleans()), max_size=6).map(tuple),
    st.sampled_from([b"d", b"n", b"i"]),
)


@st.composite
def rows_of_a_table(draw: st.DrawFn) -> tuple[Table, list[Value], list[Value]]:
    """With the old row and the new."""
    table = draw(tables)
    size = len(table.columns)
    return (
        table,
        [*draw(st.lists(whole_values, min_size=size, max_size=size))],
        draw(st.lists(values, min_size=size, max_size=size)),
    )


@given(rows_of_a_table())
def test_rows(case: tuple[Table, list[Value], list[Value]]) -> None:
    table, old, new = case
    reader = reader_of(table)
    key_unchanged = any(value == UNCHANGED for value, (_, key) in zip(new, table.columns, strict=True) if key)
    key_of_new = () if key_unchanged else expected(table, new, keys_only=True)
    for action, tuples, columns, identity in (
        (Action.INSERT, [(b"N", new)], expected(table, new), ()),
        (Action.UPDATE, [(b"N", new)], expected(table, new), key_of_new),
        (Action.UPDATE, [(b"K", old), (b"N", new)], expected(table, new), expected(table, old, keys_only=True)),
        (Action.UPDATE, [(b"O", old), (b"N", new)], expected(table, new), expected(table, old)),
        (Action.DELETE, [(b"K", old)], (), expected(table, old, keys_only=True)),
        (Action.DELETE, [(b"O", old)], (), expected(table, old)),
    ):
        message = read(reader, row_message(action, table, *tuples))
        assert (message.action, message.xid, message.timestamp) == (action, None, None)
        assert decode(message.payload) == RowChange(action, table.relation, columns, identity)


def test_the_form_of_the_json_text() -> None:
    table = Table(7, "s", "t", (("a", True), ("b", False), ("c", False)))
    reader = reader_of(table)
    update = read(reader, row_message("U", table, (b"N", ["1", None, UNCHANGED])))
    assert update.payload == (
        b'{"action":"U","schema":"s","table":"t","columns":[{"name":"a","value":"1"},{"name":"b","value":null}],'
        b'"identity":[{"name":"a","value":"1"}]}'
    )
    assert orjson.loads(read(reader, row_message("I", table, (b"N", ["1", "2", "3"]))).payload).keys() == {
        "action", "schema", "table", "columns"
    }  # fmt: skip
    assert orjson.loads(read(reader, row_message("D", table, (b"K", ["1", None, None]))).payload).keys() == {
        "action", "schema", "table", "identity"
    }  # fmt: skip


def test_a_row_of_a_partition_that_is_not_full_has_no_identity() -> None:
    table = Table(7, "s", "t", (("a", True), ("b", True)), setting=b"f")
    message = read(reader_of(table), row_message("U", table, (b"N", ["1", "2"])))
    assert decode(message.payload) == RowChange(Action.UPDATE, table.relation, expected(table, ["1", "2"]), ())


def test_a_relation_that_changed_is_described_again() -> None:
    before = Table(7, "s", "t", (("a", True),))
    after = Table(7, "s", "renamed", (("b", True), ("a", False)))
    reader = reader_of(before, after)
    message = read(reader, row_message("I", after, (b"N", ["1", "2"])))
    assert decode(message.payload) == RowChange(Action.INSERT, after.relation, expected(after, ["1", "2"]), ())


@given(st.lists(tables, min_size=1, max_size=4, unique_by=lambda table: table.oid), st.booleans(), st.booleans())
def test_truncate(found: list[Table], cascade: bool, restart: bool) -> None:
    reader = reader_of(*found)
    message = read(reader, truncate_message(cascade + 2 * restart, *(table.oid for table in found)))
    assert decode(message.payload) == Truncate(
        tuple(table.relation for table in found), restart_identity=restart, cascade=cascade
    )
    assert orjson.loads(message.payload).keys() == {"action", "relations", "cascade", "restart_identity"}


def test_own_tables_are_left_out() -> None:
    own, other = Table(1, "pgcopydb", "sentinel", (("a", True),)), Table(2, "pgcopydb_", "t", ())
    reader = reader_of(own, other)
    assert reader(row_message("I", own, (b"N", ["1"]))) is None
    assert reader(row_message("U", own, (b"N", ["1"]))) is None
    assert reader(row_message("D", own, (b"K", ["1"]))) is None
    assert reader(truncate_message(0, 1)) is None
    assert decode(read(reader, truncate_message(0, 1, 2)).payload) == Truncate(
        (other.relation,), restart_identity=False, cascade=False
    )


@given(
    st.integers(0, 2**64 - 1),
    st.integers(0, 2**32 - 1),
    st.datetimes(datetime(1970, 1, 1), datetime(9999, 1, 1)),  # noqa: DTZ001 -- in UTC all along
)
def test_transactions(lsn: int, xid: int, moment: datetime) -> None:
    microseconds = (moment.replace(tzinfo=UTC) - datetime(2000, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)
    reader = PgoutputReader()
    begin = read(reader, begin_message(lsn, microseconds, xid))
    assert begin[:2] == ("B", str(xid))
    assert begin.payload == b'{"action":"B","commit_lsn":"%X/%X"}' % (lsn >> 32, lsn & 0xFFFFFFFF)
    commit = read(reader, commit_message(microseconds))
    assert commit == ("C", str(xid), begin.timestamp, b'{"action":"C"}')
    assert begin.timestamp is not None
    assert datetime.fromisoformat(begin.timestamp) == moment.replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("microseconds", "text"),
    [
        (709_651_471_460_822, "2022-06-27 13:24:31.460822+00"),
        (1, "2000-01-01 00:00:00.000001+00"),
        (120_000, "2000-01-01 00:00:00.12+00"),
        (0, "2000-01-01 00:00:00+00"),
        (10_000_000, "2000-01-01 00:00:10+00"),
        (-1, "1999-12-31 23:59:59.999999+00"),
    ],
)
def test_times_are_written_as_postgres_does(microseconds: int, text: str) -> None:
    assert read(PgoutputReader(), begin_message(1, microseconds, 3)).timestamp == text


ORIGIN = b"O" + struct.pack(">Q", 1) + string("node")
TYPE = b"Y" + struct.pack(">I", 1) + string("public") + string("mood")
LOGICAL = b"M" + struct.pack(">BQ", 1, 5) + string("pre%fix") + struct.pack(">I", 3) + b"\0\xff\n"
TABLE = Table(7, "s", "t", (("a", True), ("é", False)))
WHOLE = [
    describe(Table(8, "s", "other", TABLE.columns)),
    row_message("I", TABLE, (b"N", ["1", "é'%"])),
    row_message("U", TABLE, (b"N", [None, UNCHANGED])),
    row_message("U", TABLE, (b"K", ["1", None]), (b"N", ["2", "x"])),
    row_message("U", TABLE, (b"O", ["1", ""]), (b"N", ["2", "x"])),
    row_message("D", TABLE, (b"K", ["1", None])),
    row_message("D", TABLE, (b"O", ["1", "long" * 20])),
    truncate_message(3, 7, 7),
    begin_message(1 << 33, 709_651_471_460_822, 1234),
    commit_message(5),
    ORIGIN,
    TYPE,
    LOGICAL,
]


def reader_in_a_transaction() -> PgoutputReader:
    reader = reader_of(TABLE)
    reader(begin_message(1, 1, 1))
    return reader


def test_what_is_no_change_of_a_row() -> None:
    reader = PgoutputReader()
    assert reader(ORIGIN) is None
    assert reader(TYPE) is None
    assert read(reader, LOGICAL) == ("M", None, None, b'{"action":"M","transactional":true,"prefix":"pre%fix"}')


@pytest.mark.parametrize("payload", WHOLE, ids=lambda payload: payload[:1].decode())
def test_a_message_that_was_cut_or_goes_on_is_refused(payload: bytes) -> None:
    reader_in_a_transaction()(payload)
    for size in range(len(payload)):
        with pytest.raises(CorruptState, match=f"of {size} bytes cannot be read at byte"):
            reader_in_a_transaction()(payload[:size])
    for more in (b"\0", b"n", payload):
        with pytest.raises(CorruptState, match="the end of"):
            reader_in_a_transaction()(payload + more)


@given(st.sampled_from(WHOLE), st.integers(0, 200), st.integers(0, 200), st.binary(max_size=8))
def test_a_damaged_message_is_refused_or_read_otherwise(payload: bytes, start: int, end: int, put: bytes) -> None:
    """It never ends in anything but a message or ``CorruptState``; and what is read is sound."""
    reader = reader_in_a_transaction()
    with suppress(CorruptState):
        message = reader(payload[: min(start, end)] + put + payload[max(start, end) :])
        if message is not None:
            assert orjson.loads(message.payload)["action"] == message.action
        if message is not None and message.action in set(Action):
            decode(message.payload)


@given(st.binary(max_size=60))
def test_random_bytes(payload: bytes) -> None:
    with suppress(CorruptState):
        reader_in_a_transaction()(payload)


@pytest.mark.parametrize(
    ("payload", "message"),
    [
        (b"", "byte 0, the kind of message"),
        (b"S\0\0\0\1\1", "byte 0, the kind of message"),
        (row_message("I", Table(9, "s", "t", ()), (b"N", [])), "byte 1, a row of a relation that was not described"),
        (row_message("I", TABLE, (b"K", ["1", "2"])), "byte 5, which tuple follows"),
        (row_message("D", TABLE, (b"N", ["1", "2"])), "byte 5, which tuple follows"),
        (row_message("U", TABLE, (b"x", ["1", "2"])), "byte 5, which tuple follows"),
        (row_message("U", TABLE, (b"K", ["1", "2"]), (b"K", ["1", "2"])), "byte 20, the new tuple"),
        (row_message("D", TABLE, (b"O", ["1", UNCHANGED])), "byte 6, an old tuple with a value that is left out"),
        (row_message("I", TABLE, (b"N", ["1"])), "byte 6, a tuple of a relation with 2 columns"),
        (row_message("I", TABLE, (b"N", ["1", b"b\0\0\0\1x"])), "byte 14, the status of a value"),
        (row_message("I", TABLE, (b"N", ["1", b"t\0\0\0\1\xff"])), "byte 14, value 2 of 2"),
        (truncate_message(4, 7), "byte 5, the options of TRUNCATE"),
        (truncate_message(0, 7, 9), "byte 10, TRUNCATE of a relation that was not described"),
        (b"T\xff\xff\xff\xff\0", "byte 6, a relation that is truncated"),
        (describe(Table(7, "s", "t", (), b"x")), "byte 9, the replica identity"),
        (begin_message(1, 2**63 - 1, 1), "byte 9, the time of a commit"),
        (begin_message(1, -(2**63), 1), "byte 9, the time of a commit"),
        (b"C\1" + commit_message(1)[2:], "byte 1, the flags of a commit"),
        (b"Y\0\0\0\1\xff\0x\0", "byte 5, the schema of a type"),
        (ORIGIN[:-1], "byte 9, the name of the origin"),
    ],
)
def test_what_is_no_message(payload: bytes, message: str) -> None:
    with pytest.raises(CorruptState, match=message):
        reader_of(TABLE)(payload)


def test_a_commit_needs_a_begin() -> None:
    reader = PgoutputReader()
    reader(begin_message(1, 1, 1))
    reader(commit_message(1))
    with pytest.raises(CorruptState, match="did not begin"):
        reader(commit_message(1))


NAMED = {"schema": "s", "table": "t"}
FLAGS = {"cascade": False, "restart_identity": False}


@pytest.mark.parametrize(
    "fields",
    [
        [],
        "U",
        {},
        {"action": "B"},
        {"action": ["I"]},
        {"action": "I", **NAMED},
        {"action": "I", "schema": "s", "columns": []},
        {"action": "U", **NAMED, "columns": []},
        {"action": "U", **NAMED, "identity": []},
        {"action": "D", **NAMED, "columns": []},
        {"action": "I", **NAMED, "columns": {}},
        {"action": "I", **NAMED, "columns": ["a"]},
        {"action": "I", **NAMED, "columns": [{"name": "a"}]},
        {"action": "I", **NAMED, "columns": [{"name": "a", "value": 1.1}]},
        {"action": "I", **NAMED, "columns": [{"name": None, "value": "1"}]},
        {"action": "I", "schema": None, "table": "t", "columns": []},
        {"action": "T", "relations": [NAMED]},
        {"action": "T", "relations": [], **FLAGS},
        {"action": "T", "relations": ["t"], **FLAGS},
        {"action": "T", "relations": [{"schema": "s"}], **FLAGS},
        {"action": "T", "relations": [NAMED], **FLAGS, "cascade": 0},
    ],
)
def test_what_is_no_change(fields: Mapping[str, object]) -> None:
    with pytest.raises(CorruptState, match="change cannot be read"):
        decode(orjson.dumps(fields))


def test_what_is_no_json() -> None:
    for payload in (b"", b'{"action":', b'{"action":"I","schema":"\xff"}', b"[" * 100_000):
        with pytest.raises(CorruptState, match="change cannot be read"):
            decode(payload)


@given(st.lists(names, min_size=1, max_size=3))
def test_options(publications: list[str]) -> None:
    options = stream_options(publications)
    assert options.keys() == {"proto_version", "publication_names"}
    assert options["proto_version"] == "1"
    rest, found = options["publication_names"], []
    while rest:
        size = 1
        while rest[size] != '"' or rest[size + 1 : size + 2] == '"':
            size += 2 if rest[size] == '"' else 1
        found.append(rest[1:size].replace('""', '"'))
        assert rest[size + 1 : size + 2] in {"", ","}
        rest = rest[size + 2 :]
    assert found == publications
