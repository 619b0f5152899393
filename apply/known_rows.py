"""Rows of a form that came before, from a message to SQL without a look at each column.

What a message of one table looks like is learnt from the first one that was decoded in full; others of the same form
differ in their values alone. A message that is not exactly of a known form is not for this module: ``find`` says None,
and it is decoded in full. What comes out is, byte for byte, what ``statements`` makes of the decoded message.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from operator import itemgetter
from typing import Any, Final, Generic, NamedTuple, Protocol, TypeVar

import msgspec

from pgcopydb.apply import wal2json
from pgcopydb.apply.changes import UNCHANGED, Action, Column, RowChange
from pgcopydb.apply.statements import TableFacts, identity_of, insert_head, one_line_ident, one_line_literal, rows_of
from pgcopydb.apply.test_decoding import row_pattern
from pgcopydb.daemon.plugins import Plugin
from pgcopydb.postgres.names import Name

_FORMS: Final = 8
"""Forms that are kept of messages that begin alike."""
_ALL_FORMS: Final = 4096
"""Of all messages; those of further tables are decoded in full."""
_UNCHANGED: Final = "unchanged-toast-datum"
_NULL: Final = "NULL"

Literals = list[str]

_text: Final = msgspec.json.Decoder(str).decode


class _WithLiteral(Protocol):
    @property
    def name(self) -> str: ...

    def literal(self) -> str: ...


C = TypeVar("C", bound=_WithLiteral)


class KnownForm(NamedTuple):
    """How the values of a message, as SQL literals in its order, become a statement or a part of one.

    ``merged_with``: what rows of one statement share; ``head``: how an INSERT begins; ``names``: the key that a DELETE
    goes by; ``text``: an UPDATE, with a place for each of ``pick``. ``same``: pairs of values that have to be equal,
    ``never_null``: ones that must not be NULL, or the message is of another form.
    """

    action: Action
    relation: Name
    facts: TableFacts
    merged_with: object
    names: tuple[str, ...]
    head: str
    text: str
    pick: Callable[[Sequence[str]], Any]
    same: tuple[tuple[int, int], ...]
    never_null: tuple[int, ...]

    def fits(self, values: Sequence[str]) -> bool:
        return all(values[old] == values[new] for old, new in self.same) and not any(
            values[index] == _NULL for index in self.never_null
        )


class Messages(Protocol):
    """What is special about one plugin's messages."""

    def find(self, message: bytes) -> tuple[KnownForm, Literals] | None:
        """The form of a message, and its values."""

    def learn(self, message: bytes, form: KnownForm) -> None:
        """Messages like this one have this form."""

    def forget(self) -> None:
        """The schema may have changed."""


def messages_of(plugin: Plugin) -> Messages:
    if plugin is Plugin.TEST_DECODING:
        return TextMessages()
    return JsonMessages(_Message[_RawColumn]) if plugin is Plugin.WAL2JSON else JsonMessages(_Message[_TextColumn])


def form_of(change: RowChange, facts: TableFacts) -> KnownForm | None:
    """None for what depends on more than the columns that are there."""
    columns = change.new + change.identity
    if not columns or any(column.value is UNCHANGED for column in columns):
        return None
    if change.action is Action.INSERT:
        return _insert_form(change, facts)
    key = identity_of(change, facts)
    if not facts.key or {column.name for column in key} != facts.key:
        return None
    if any(column.name in facts.operators or column.name in facts.casts for column in key):
        return None
    return _update_form(change, facts, key) if change.action is Action.UPDATE else _delete_form(change, facts, key)


def _insert_form(change: RowChange, facts: TableFacts) -> KnownForm:
    kept = [number for number, column in enumerate(change.new) if column.name not in facts.computed]
    merged = ("I", change.relation, tuple(column.name for column in change.new))
    head = insert_head(change, facts)
    return KnownForm(Action.INSERT, change.relation, facts, merged, (), head, "", _tuple_of(kept), (), ())


def _delete_form(change: RowChange, facts: TableFacts, key: Sequence[Column]) -> KnownForm:
    names = tuple(column.name for column in key)
    at = [number for number, column in enumerate(change.identity) if column.name in facts.key]
    merged = ("D", change.relation, names)
    return KnownForm(Action.DELETE, change.relation, facts, merged, names, "", "", _tuple_of(at), (), tuple(at))


def _update_form(change: RowChange, facts: TableFacts, key: Sequence[Column]) -> KnownForm | None:
    """Of UPDATEs that leave the key as it is, with the identity of the key alone or none."""
    if change.sparse or (change.identity and len(change.identity) != len(key)):
        return None
    place = {column.name: number for number, column in enumerate(change.new)}
    if not all(column.name in place for column in key) or facts.always - facts.key:
        return None
    old = {column.name: len(change.new) + number for number, column in enumerate(change.identity)}
    kept = facts.computed | facts.always | facts.key
    assigned = [column.name for column in change.new if column.name not in kept]
    if not assigned:
        return None
    where = [column.name for column in key]
    settings = ", ".join(f"{_in_template(name)} = %s" for name in assigned)
    condition = " AND ".join(f"{_in_template(name)} = %s" for name in where)
    table = rows_of(change.relation, facts).replace("%", "%%")
    return KnownForm(
        Action.UPDATE,
        change.relation,
        facts,
        None,
        (),
        "",
        f"UPDATE {table} SET {settings} WHERE {condition};\n",  # noqa: S608  all quoted
        _tuple_of([place[name] for name in assigned + where]),
        tuple((place[name], old[name]) for name in where if name in old),
        tuple(place[name] for name in where),
    )


def _in_template(name: str) -> str:
    return one_line_ident(name).replace("%", "%%")


def _tuple_of(places: Sequence[int]) -> Callable[[Sequence[str]], Any]:
    """The values at these places, as a tuple."""
    if len(places) == 1:
        place = places[0]
        return lambda values: (values[place],)
    return itemgetter(*places) if places else lambda _values: ()


class TextMessages:
    """Those of test_decoding: a pattern for each form, found by how the message begins."""

    def __init__(self) -> None:
        self._forms: dict[str, list[tuple[re.Pattern[str], KnownForm]]] = {}
        self._count = 0

    def find(self, message: bytes) -> tuple[KnownForm, Literals] | None:
        try:
            text = _text(message)
        except (msgspec.MsgspecError, ValueError):
            return None
        forms = self._forms.get(_beginning(text))
        if forms is None or "\\" in text or "\n" in text or "\r" in text:
            return None
        for pattern, form in forms:
            match = pattern.fullmatch(text)
            if match is not None:
                values = match.groups()
                return None if _UNCHANGED in values else (form, [_literal_of(value) for value in values])
        return None

    def learn(self, message: bytes, form: KnownForm) -> None:
        if self._count >= _ALL_FORMS:
            return
        text = _text(message)
        forms = self._forms.get(_beginning(text))
        if forms is None:
            # A pattern costs as much as some dozens of rows do without: it is made when a second one comes.
            self._forms[_beginning(text)] = []
        elif len(forms) < _FORMS:
            forms.append((row_pattern(text), form))
            self._count += 1

    def forget(self) -> None:
        self._forms.clear()
        self._count = 0


def _beginning(text: str) -> str:
    """The table and the action, unless there is a colon in the name; what begins so is of these forms or of none."""
    return text[: text.find(": ", text.find(": ") + 2)]


def _literal_of(value: str) -> str:
    """As SQL, of what test_decoding prints: without a backslash or a line's end in it a quoted one is a literal."""
    if value[0] == "'":
        return value
    if value == "null":
        return _NULL
    return value[1:] if value.endswith("'") else f"'{value}'"


class _TextColumn(msgspec.Struct, gc=False):
    name: str
    value: str | None

    def literal(self) -> str:
        return _NULL if self.value is None else one_line_literal(self.value)


class _RawColumn(wal2json.Column):
    def literal(self) -> str:
        value = wal2json.value_of(self)
        return _NULL if value is None else one_line_literal(value)


class _Message(msgspec.Struct, Generic[C], gc=False):
    action: str
    schema: str = ""
    table: str = ""
    columns: list[C] = []
    identity: list[C] = []


class JsonMessages(Generic[C]):
    """Those of wal2json and pgoutput: the form is what columns there are."""

    def __init__(self, kind: type[_Message[C]]) -> None:
        self._read = msgspec.json.Decoder(kind).decode
        self._forms: dict[object, KnownForm] = {}

    def find(self, message: bytes) -> tuple[KnownForm, Literals] | None:
        try:
            found = self._read(message)
            form = self._forms.get(_columns_of(found))
            if form is None:
                return None
            values = [column.literal() for column in found.columns]
            values += [column.literal() for column in found.identity]
        except (msgspec.MsgspecError, ValueError, RecursionError):
            return None
        return form, values

    def learn(self, message: bytes, form: KnownForm) -> None:
        if len(self._forms) < _ALL_FORMS:
            self._forms[_columns_of(self._read(message))] = form

    def forget(self) -> None:
        self._forms.clear()


def _columns_of(message: _Message[C]) -> object:
    return (
        message.action,
        message.schema,
        message.table,
        tuple([column.name for column in message.columns]),
        tuple([column.name for column in message.identity]),
    )
