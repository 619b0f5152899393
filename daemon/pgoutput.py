"""The output plugin pgoutput: its binary messages, protocol version 1, as JSON text for the change files.

Pure but for what a session has told so far: a ``PgoutputReader`` belongs to one session, as each session of a walsender
describes its relations anew before their first row. Facts: PostgreSQL documentation, "Logical Replication Message
Formats". Everything is checked to the last byte; what does not fit is ``CorruptState``.

A row change is ``{"action","schema","table","columns":[{"name","value"},…],"identity":[…]}``: INSERT has no identity,
DELETE no columns. A value is the text that Postgres wrote, as a JSON string, or null. A column whose TOASTed value did
not change is left out. The identity is what finds the old row: every column of it under REPLICA IDENTITY FULL, else
those of the key; empty where the message has none. TRUNCATE is ``{"action","relations":[{"schema","table"},…],
"cascade","restart_identity"}``. The schema ``pgcopydb`` is this program's own: nothing of it is kept.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

import orjson

from pgcopydb.daemon.plugins import BEGIN, COMMIT, MESSAGE, PluginMessage
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import quote_ident
from pgcopydb.runtime.errors import CorruptState

_INT16: Final = struct.Struct(">H")
_INT32: Final = struct.Struct(">I")
_INT64: Final = struct.Struct(">Q")
_SIGNED64: Final = struct.Struct(">q")
_ROW_HEAD: Final = struct.Struct(">IB")
"""What follows the kind of a row change: the relation, and which tuple comes first."""
_FIRST_TUPLE: Final = 1 + _ROW_HEAD.size

_KEY, _OLD, _NEW = b"KON"
_TEXT, _NULL, _UNCHANGED = b"tnu"
_IDENTITY_SETTINGS: Final = b"dnfi"
_EPOCH: Final = datetime(2000, 1, 1, tzinfo=UTC)
_OWN_SCHEMA: Final = "pgcopydb"

_Values = list[bytes | None]
"""One for each column of the relation: JSON text, None where unchanged."""


def stream_options(publications: Sequence[str]) -> dict[str, str]:
    """The server reads the names as a list of identifiers."""
    return {"proto_version": "1", "publication_names": ",".join(map(quote_ident, publications))}


@dataclass(frozen=True, slots=True)
class _Relation:
    """What is the same in the JSON text of all rows. The templates take values with ``%``."""

    own: bool
    full: bool
    names: bytes
    columns: tuple[bytes, ...]
    """A template each."""
    row: bytes
    """Template of all columns."""
    keys: tuple[int, ...]
    """Which columns are of the replica identity: all of them if ``full``."""
    key: bytes
    """Template of those."""


class PgoutputReader:
    """A ``MessageReader`` for one session."""

    def __init__(self) -> None:
        self._relations: dict[int, _Relation] = {}
        self._xid: str | None = None
        self._readers: Final[Mapping[bytes, Callable[[bytes], PluginMessage | None]]] = {
            b"I": self._insert,
            b"U": self._update,
            b"D": self._delete,
            b"T": self._truncate,
            b"B": self._begin,
            b"C": self._commit,
            b"R": self._describe,
            b"Y": _skip_type,
            b"O": _skip_origin,
            b"M": _logical_message,
        }

    def __call__(self, payload: bytes) -> PluginMessage | None:
        reader = self._readers.get(payload[:1])
        if reader is None:
            raise _unreadable(payload, 0, "the kind of message")
        return reader(payload)

    def _insert(self, payload: bytes) -> PluginMessage | None:
        relation, first = self._row_head(payload)
        if relation.own:
            return None
        if first != _NEW:
            raise _unreadable(payload, _FIRST_TUPLE - 1, "which tuple follows")
        values = _last_tuple(payload, _FIRST_TUPLE, relation)
        return PluginMessage(
            "I", None, None, b'{"action":"I",%b,"columns":%b}' % (relation.names, _columns(relation, values))
        )

    def _update(self, payload: bytes) -> PluginMessage | None:
        relation, first = self._row_head(payload)
        if relation.own:
            return None
        if first == _NEW:
            new = _last_tuple(payload, _FIRST_TUPLE, relation)
            # A partitioned table can be FULL where the partition is not: the old values are then known to nobody.
            identity = b"[]" if relation.full else _key(relation, new)
        else:
            identity, position = _old_tuple(payload, first, relation)
            if payload[position : position + 1] != b"N":
                raise _unreadable(payload, position, "the new tuple")
            new = _last_tuple(payload, position + 1, relation)
        columns = _columns(relation, new)
        return PluginMessage(
            "U", None, None, b'{"action":"U",%b,"columns":%b,"identity":%b}' % (relation.names, columns, identity)
        )

    def _delete(self, payload: bytes) -> PluginMessage | None:
        relation, first = self._row_head(payload)
        if relation.own:
            return None
        identity, position = _old_tuple(payload, first, relation)
        if position != len(payload):
            raise _unreadable(payload, position, "the end of the message")
        return PluginMessage("D", None, None, b'{"action":"D",%b,"identity":%b}' % (relation.names, identity))

    def _row_head(self, payload: bytes) -> tuple[_Relation, int]:
        try:
            oid, first = _ROW_HEAD.unpack_from(payload, 1)
            return self._relations[oid], first
        except struct.error as exc:
            raise _unreadable(payload, 1, "which relation a row is of") from exc
        except KeyError as exc:
            raise _unreadable(payload, 1, "a row of a relation that was not described before") from exc

    def _truncate(self, payload: bytes) -> PluginMessage | None:
        cursor = _Cursor(payload)
        count = cursor.number(_INT32, "how many relations are truncated")
        options = cursor.byte(b"\0\1\2\3", "the options of TRUNCATE")
        names: list[bytes] = []
        # A damaged count ends with the message.
        for _ in range(count):
            relation = self._relations.get(cursor.number(_INT32, "a relation that is truncated"))
            if relation is None:
                raise _unreadable(payload, cursor.position - 4, "TRUNCATE of a relation that was not described before")
            if not relation.own:
                names.append(b"{%b}" % relation.names)
        cursor.end()
        if not names:
            return None
        flags = (b"true" if options & 1 else b"false", b"true" if options & 2 else b"false")
        text = b'{"action":"T","relations":[%b],"cascade":%b,"restart_identity":%b}' % (b",".join(names), *flags)
        return PluginMessage("T", None, None, text)

    def _begin(self, payload: bytes) -> PluginMessage:
        cursor = _Cursor(payload)
        lsn = Lsn(cursor.number(_INT64, "the position of a commit"))
        timestamp = cursor.timestamp()
        xid = str(cursor.number(_INT32, "the number of a transaction"))
        cursor.end()
        self._xid = xid
        return PluginMessage(BEGIN, xid, timestamp, orjson.dumps({"action": BEGIN, "commit_lsn": str(lsn)}))

    def _commit(self, payload: bytes) -> PluginMessage:
        cursor = _Cursor(payload)
        cursor.byte(b"\0", "the flags of a commit")
        cursor.number(_INT64, "the position of a commit")
        cursor.number(_INT64, "the end of a transaction")
        timestamp = cursor.timestamp()
        cursor.end()
        if self._xid is None:
            raise _unreadable(payload, 0, "the commit of a transaction that did not begin")
        xid, self._xid = self._xid, None
        return PluginMessage(COMMIT, xid, timestamp, b'{"action":"C"}')

    def _describe(self, payload: bytes) -> None:
        cursor = _Cursor(payload)
        oid = cursor.number(_INT32, "the identifier of a relation")
        schema = cursor.string("the schema of a relation") or "pg_catalog"
        table = cursor.string("the name of a relation")
        setting = cursor.byte(_IDENTITY_SETTINGS, "the replica identity of a relation")
        columns: list[bytes] = []
        keys: list[int] = []
        for number in range(cursor.number(_INT16, "how many columns a relation has")):
            if cursor.byte(b"\0\1", "the flags of a column"):
                keys.append(number)
            name = cursor.string("the name of a column")
            columns.append(b'{"name":%b,"value":%%b}' % orjson.dumps(name).replace(b"%", b"%%"))
            cursor.number(_INT32, "the type of a column")
            cursor.number(_INT32, "the type modifier of a column")
        cursor.end()
        self._relations[oid] = _Relation(
            own=schema == _OWN_SCHEMA,
            full=setting == ord("f"),
            names=b'"schema":%b,"table":%b' % (orjson.dumps(schema), orjson.dumps(table)),
            columns=tuple(columns),
            row=_array(columns),
            keys=tuple(keys),
            key=_array([columns[number] for number in keys]),
        )


def _last_tuple(payload: bytes, position: int, relation: _Relation) -> _Values:
    values, position = _tuple(payload, position, relation)
    if position != len(payload):
        raise _unreadable(payload, position, "the end of a tuple")
    return values


def _old_tuple(payload: bytes, first: int, relation: _Relation) -> tuple[bytes, int]:
    """The identity, and where the tuple ends."""
    if first not in {_KEY, _OLD}:
        raise _unreadable(payload, _FIRST_TUPLE - 1, "which tuple follows")
    values, position = _tuple(payload, _FIRST_TUPLE, relation)
    if None in values:
        # The server writes old tuples whole: a part of one would find other rows too.
        raise _unreadable(payload, _FIRST_TUPLE, "an old tuple with a value that is left out")
    return _columns(relation, values) if first == _OLD else _key(relation, values), position


def _tuple(payload: bytes, position: int, relation: _Relation) -> tuple[_Values, int]:
    """The values, and where the tuple ends: past the end of the message if that was cut within the last value."""
    values: _Values = []
    number, to_json, append = _INT32.unpack_from, orjson.dumps, values.append
    try:
        if _INT16.unpack_from(payload, position)[0] != len(relation.columns):
            raise _unreadable(payload, position, f"a tuple of a relation with {len(relation.columns)} columns")
        position += 2
        for _ in relation.columns:
            status = payload[position]
            if status == _TEXT:
                start = position + 5
                end = start + number(payload, position + 1)[0]
                append(to_json(payload[start:end].decode()))
                position = end
            elif status == _NULL:
                append(b"null")
                position += 1
            elif status == _UNCHANGED:
                append(None)
                position += 1
            else:
                raise _unreadable(payload, position, "the status of a value, which is not sent as text")
    except (IndexError, struct.error, UnicodeDecodeError) as exc:
        raise _unreadable(payload, position, f"value {len(values) + 1} of {len(relation.columns)}") from exc
    return values, position


def _columns(relation: _Relation, values: _Values) -> bytes:
    if None in values:
        present = [column for column, value in zip(relation.columns, values, strict=True) if value is not None]
        return _array(present) % tuple(value for value in values if value is not None)
    return relation.row % tuple(values)


def _key(relation: _Relation, values: _Values) -> bytes:
    """A part of a key would find other rows too: all of it, or nothing."""
    key = [values[number] for number in relation.keys]
    return b"[]" if None in key else relation.key % tuple(key)


def _array(columns: Sequence[bytes]) -> bytes:
    return b"[%b]" % b",".join(columns)


def _skip_type(payload: bytes) -> None:
    cursor = _Cursor(payload)
    cursor.number(_INT32, "the identifier of a type")
    cursor.string("the schema of a type")
    cursor.string("the name of a type")
    cursor.end()


def _skip_origin(payload: bytes) -> None:
    cursor = _Cursor(payload)
    cursor.number(_INT64, "the position at the origin")
    cursor.string("the name of the origin")
    cursor.end()


def _logical_message(payload: bytes) -> PluginMessage:
    """Its content may be any bytes; it is not kept."""
    cursor = _Cursor(payload)
    transactional = cursor.byte(b"\0\1", "the flags of a logical message")
    cursor.number(_INT64, "the position of a logical message")
    prefix = cursor.string("the prefix of a logical message")
    length = cursor.number(_INT32, "the length of a logical message")
    cursor.position += length
    cursor.end()
    text = orjson.dumps({"action": MESSAGE, "transactional": bool(transactional), "prefix": prefix})
    return PluginMessage(MESSAGE, None, None, text)


@dataclass(slots=True)
class _Cursor:
    """Reads the fields of a message one after the other. For messages that are rare: a call for each field."""

    payload: bytes
    position: int = 1

    def number(self, form: struct.Struct, reading: str) -> int:
        try:
            found: int = form.unpack_from(self.payload, self.position)[0]
        except struct.error as exc:
            raise _unreadable(self.payload, self.position, reading) from exc
        self.position += form.size
        return found

    def byte(self, known: bytes, reading: str) -> int:
        found = self.payload[self.position : self.position + 1]
        if not found or found not in known:
            raise _unreadable(self.payload, self.position, reading)
        self.position += 1
        return found[0]

    def string(self, reading: str) -> str:
        try:
            end = self.payload.index(b"\0", self.position)
            found = self.payload[self.position : end].decode()
        except ValueError as exc:
            raise _unreadable(self.payload, self.position, reading) from exc
        self.position = end + 1
        return found

    def timestamp(self) -> str:
        """As Postgres prints it in UTC: a fraction of a second without zeros at its end."""
        microseconds = self.number(_SIGNED64, "the time of a commit")
        try:
            moment = _EPOCH + timedelta(microseconds=microseconds)
        except OverflowError as exc:
            raise _unreadable(self.payload, self.position - _SIGNED64.size, "the time of a commit") from exc
        text = moment.isoformat(" ").removesuffix("+00:00")
        return (text.rstrip("0") if moment.microsecond else text) + "+00"

    def end(self) -> None:
        if self.position != len(self.payload):
            raise _unreadable(self.payload, self.position, "the end of the message")


def _unreadable(payload: bytes, position: int, reading: str) -> CorruptState:
    return CorruptState(
        f"pgoutput's message of {len(payload)} bytes cannot be read at byte {position}, {reading}: {payload[:120]!r}",
        hint="The plugin is of a version that this program does not know. Nothing was acknowledged.",
    )
