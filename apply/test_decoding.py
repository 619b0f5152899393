"""Decode the text of the plugin test_decoding (its output is defined by ``contrib/test_decoding/test_decoding.c``).

Pure. Names are quoted as ``quote_identifier`` does, types as ``format_type`` prints them; a value is bare (numbers,
booleans, ``null``, ``unchanged-toast-datum``), or between quotes with each quote in it doubled, after a ``B`` for bit
strings. Nothing is guessed: whatever does not fit is ``CorruptState``.
"""

from __future__ import annotations

import re
from typing import Final

from pgcopydb.apply.changes import UNCHANGED, Action, Change, Column, RowChange, Truncate, Value
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import CorruptState

_IDENT: Final = r'(?:"(?:[^"]|"")+"|[a-z_\x80-\U0010ffff][a-z0-9_$\x80-\U0010ffff]*)'
_RELATION: Final = re.compile(rf"({_IDENT})\.({_IDENT})")
_ACTION: Final = re.compile(r": (INSERT|UPDATE|DELETE|TRUNCATE):(?: |\Z)")
# A type may be an array of a type with a quoted name, and hold brackets there and there only. What is between quotes is
# matched without a way back (*+), which would be remembered for each character of a value.
_COLUMN: Final = re.compile(
    rf"""({_IDENT})\[((?:[^\[\]"]|"(?:[^"]|"")*"|\[\])+)\]:(?:B?'([^']*+(?:''[^']*+)*+)'|([^\s']+))(?: |\Z)"""
)
_PRINTED: Final = r"(B?'[^']*+(?:''[^']*+)*+'|[^\s']+)"
_NO_DATA: Final = "(no-tuple-data)"
_OLD: Final = "old-key: "
_NEW: Final = re.compile(r"new-tuple:(?: |\Z)")
_FLAGS: Final = {
    "(no-flags)": (False, False),
    "restart_seqs": (True, False),
    "cascade": (False, True),
    "restart_seqs cascade": (True, True),
}


def decode(text: str) -> Change:
    """A message about rows, which begins with ``table``. Raises ``CorruptState``."""
    if not text.startswith("table "):
        raise _unreadable(text, 0)
    relations, position = _relations(text, len("table "))
    action = _ACTION.match(text, position)
    if action is None:
        raise _unreadable(text, position)
    position = action.end()
    kind = Action(action[1][0])
    if kind is Action.TRUNCATE:
        flags = _FLAGS.get(text[position:])
        if flags is None:
            raise _unreadable(text, position)
        return Truncate(relations, restart_identity=flags[0], cascade=flags[1])
    if len(relations) != 1:
        raise _unreadable(text, 0)
    return _row_change(kind, relations[0], text, position)


def row_pattern(text: str) -> re.Pattern[str]:
    """What matches the messages that differ from this one, which was decoded, in the values of its columns alone.

    Its groups are the values, as they are printed.
    """
    action = _ACTION.match(text, _relations(text, len("table "))[1])
    position = action.end() if action else 0
    pattern = [re.escape(text[:position])]
    while position < len(text):
        match = _COLUMN.match(text, position)
        if match is None:
            raise _unreadable(text, position)
        head, value = match.start(), match.end(2) + len("]:")
        pattern += [re.escape(text[head:value]), _PRINTED]
        position = match.end()
        pattern.append(" " if text[position - 1] == " " and position < len(text) else "")
    return re.compile("".join(pattern))


def _row_change(kind: Action, relation: Name, text: str, position: int) -> RowChange:
    if text[position:] == _NO_DATA:
        return RowChange(kind, relation, (), ())
    old: tuple[Column, ...] = ()
    sparse = kind is Action.DELETE
    if kind is Action.UPDATE and text.startswith(_OLD, position):
        sparse = True
        old, position = _columns(text, position + len(_OLD))
        new_tuple = _NEW.match(text, position)
        if new_tuple is None:
            raise _unreadable(text, position)
        position = new_tuple.end()
    new, position = _columns(text, position)
    if position != len(text):
        raise _unreadable(text, position)
    if kind is Action.DELETE:
        return RowChange(kind, relation, (), new, sparse)
    return RowChange(kind, relation, new, old, sparse)


def _relations(text: str, position: int) -> tuple[tuple[Name, ...], int]:
    found: list[Name] = []
    while (match := _RELATION.match(text, position)) is not None:
        found.append(Name(_unquoted(match[1]), _unquoted(match[2])))
        position = match.end()
        if not text.startswith(", ", position):
            return tuple(found), position
        position += 2
    raise _unreadable(text, position)


def _columns(text: str, position: int) -> tuple[tuple[Column, ...], int]:
    found: list[Column] = []
    while (match := _COLUMN.match(text, position)) is not None:
        found.append(Column(_unquoted(match[1]), match[2], _value(match[3], match[4])))
        position = match.end()
    return tuple(found), position


def _value(quoted: str | None, bare: str | None) -> Value:
    if quoted is not None:
        return quoted.replace("''", "'")
    if bare == "null":
        return None
    return UNCHANGED if bare == "unchanged-toast-datum" else bare


def _unquoted(name: str) -> str:
    return name[1:-1].replace('""', '"') if name.startswith('"') else name


def _unreadable(text: str, position: int) -> CorruptState:
    return CorruptState(
        f"test_decoding's message cannot be read from character {position} on: {text[position : position + 80]!r}",
        hint="Nothing of this transaction was applied. Report the message with the version of the source.",
    )
