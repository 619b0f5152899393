"""Decode the JSON that the plugin wal2json (2.5 and later, format version 2) prints of a row change or a TRUNCATE.

Pure. A number keeps its JSON text, which is what Postgres wrote; with ``numeric-data-types-as-string`` it is a string
and may be NaN or Infinity, without it those two have become NULL and cannot be told from it. Booleans are ``t`` and
``f``. Of each column the message must name the type or its OID, for ``bytea`` comes without ``\\x`` (and is hex only if
``bytea_output`` was, in the session that streams). A column whose TOASTed value did not change is not there; an UPDATE
always has the identity. TRUNCATE is one message for each relation, and its options are not in it. Nothing is guessed:
whatever does not fit is ``CorruptState``.
"""

from __future__ import annotations

from typing import Final

import msgspec

from pgcopydb.apply.changes import Action, Change, RowChange, Truncate
from pgcopydb.apply.changes import Column as ChangedColumn
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import CorruptState


class Column(msgspec.Struct, gc=False):
    """As a message has it. Its type is named, or told by its OID."""

    name: str
    # Raw: a parsed number would not be the text that Postgres wrote.
    value: msgspec.Raw
    type: str = ""
    typeoid: int = 0


class _Message(msgspec.Struct, gc=False):
    action: Action
    schema: str
    table: str
    columns: list[Column] | None = None
    identity: list[Column] | None = None


_BYTEA: Final = "bytea"
_BYTEA_OID: Final = 17
_QUOTE: Final = ord('"')
_LITERALS: Final = {b"null": None, b"true": "t", b"false": "f"}
_OF_NUMBERS: Final = b"-0123456789"

_read_message: Final = msgspec.json.Decoder(_Message).decode
_read_string: Final = msgspec.json.Decoder(str).decode


def decode(payload: bytes) -> Change:
    """Raises ``CorruptState``."""
    try:
        message = _read_message(payload)
        relation = Name(message.schema, message.table)
        match message.action:
            case Action.INSERT:
                return RowChange(Action.INSERT, relation, _columns(message.columns, "columns"), ())
            case Action.UPDATE:
                new = _columns(message.columns, "columns")
                return RowChange(Action.UPDATE, relation, new, _columns(message.identity, "identity"))
            case Action.DELETE:
                return RowChange(Action.DELETE, relation, (), _columns(message.identity, "identity"))
            case Action.TRUNCATE:
                return Truncate((relation,), restart_identity=False, cascade=False)
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise CorruptState(
            f"wal2json's message cannot be read, {exc}: {bytes(payload[:120])!r}",
            hint="Nothing of this transaction was applied. Report the message with the version of the source's plugin.",
        ) from exc


def _columns(found: list[Column] | None, where: str) -> tuple[ChangedColumn, ...]:
    if found is None:
        raise ValueError(f"field {where!r} is missing")
    return tuple([ChangedColumn(column.name, column.type, value_of(column)) for column in found])


def value_of(column: Column) -> str | None:
    """The text that Postgres wrote. Raises ``ValueError``."""
    text = bytes(column.value)
    first = text[0]
    kind = column.type
    if not kind and not column.typeoid:
        raise ValueError(f"the type of column {column.name!r} is missing")
    if first == _QUOTE:
        value = _read_string(text)
        # Exactly this type: of a domain over it, or an array of it, wal2json prints what the type's output gave.
        return "\\x" + value if kind == _BYTEA or column.typeoid == _BYTEA_OID else value
    if first in _OF_NUMBERS:
        # That the rest of it is a number was checked when the message was read.
        return text.decode("ascii")
    if text in _LITERALS:
        return _LITERALS[text]
    raise ValueError(f"the value of column {column.name!r} is {text[:40]!r}")
