"""The forms of lines that the net effect knows: what is between the literals, and which literal is what.

Reads lines as ``statements`` writes them. A line is of a form only when it is exactly that: a name may look like a
literal, and a value like a line. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Hashable
from typing import Final, NamedTuple, TypeVar

from pgcopydb.apply.sql_lines import IDENT

_SHAPES: Final = 4096
"""So many are remembered."""

_LITERAL: Final = rb"E?'[^'\\]*(?:(?:''|\\.)[^'\\]*)*'"
_ROWS: Final = rb"(?P<rows>(?:ONLY )?(?P<table>" + IDENT + rb"\." + IDENT + rb"))"
_ASSIGNED: Final = IDENT + rb" = (?:''|NULL)"
_EQUAL: Final = IDENT + rb" = ''"

_split_any = re.compile(rb"(" + _LITERAL + rb")", re.DOTALL).split
find_literals = re.compile(_LITERAL, re.DOTALL).findall
find_values = re.compile(_LITERAL + rb"|NULL", re.DOTALL).findall
_find_names = re.compile(IDENT).findall
_find_assigned = re.compile(rb"(" + IDENT + rb") = (''|NULL)").findall
_match_update = re.compile(
    rb"UPDATE " + _ROWS + rb" SET (?P<set>" + _ASSIGNED + rb"(?:, " + _ASSIGNED + rb")*)"
    rb" WHERE (?P<where>" + _EQUAL + rb"(?: AND " + _EQUAL + rb")*);\n"
).fullmatch
INSERT_HEAD_END: Final = b" OVERRIDING SYSTEM VALUE VALUES "
_match_insert = re.compile(
    rb"INSERT INTO " + _ROWS + rb" \((?P<names>" + IDENT + rb"(?:, " + IDENT + rb")*)\)"
).fullmatch
DELETE_HEAD_END: Final = b" IN ("
_match_delete = re.compile(
    rb"DELETE FROM "
    + _ROWS
    + rb" WHERE (?:(?P<one>"
    + IDENT
    + rb")|\((?P<names>"
    + IDENT
    + rb"(?:, "
    + IDENT
    + rb")+)\))"
).fullmatch

Values = list[bytes]

F = TypeVar("F")
H = TypeVar("H", bound=Hashable)


class Update(NamedTuple):
    """The form of an UPDATE. ``nulls``: which of the columns are set to NULL; the others have a literal each."""

    rows: bytes
    table: bytes
    columns: tuple[bytes, ...]
    nulls: tuple[int, ...]
    keys: tuple[bytes, ...]
    sets_key: bool


class Insert(NamedTuple):
    """How an INSERT begins."""

    head: bytes
    table: bytes
    columns: tuple[bytes, ...]


class Delete(NamedTuple):
    """How a DELETE by keys begins."""

    rows: bytes
    table: bytes
    keys: tuple[bytes, ...]


def split_literals(line: bytes) -> tuple[tuple[bytes, ...], list[bytes]]:
    """What is between the literals of a line, and these."""
    if b"''" in line or b"\\" in line:
        parts = _split_any(line)
        return tuple(parts[::2]), parts[1::2]
    parts = line.split(b"'")
    return tuple(parts[::2]), [b"'%b'" % part for part in parts[1::2]]


def update_form(shape: tuple[bytes, ...]) -> Update | None:
    """None unless it is exactly one that goes by a key. ``shape``: a line without its literals."""
    match = _match_update(b"''".join(shape))
    if match is None:
        return None
    assigned = _find_assigned(match["set"])
    keys = [name for name, _ in _find_assigned(match["where"])]
    literals = sum(value == b"''" for _, value in assigned) + len(keys)
    if literals != len(shape) - 1:
        return None  # something in a name looks like a literal
    columns = tuple(name for name, _ in assigned)
    nulls = tuple(place for place, (_, value) in enumerate(assigned) if value == b"NULL")
    return Update(match["rows"], match["table"], columns, nulls, tuple(keys), not set(keys).isdisjoint(columns))


def insert_form(head: bytes) -> Insert | None:
    match = _match_insert(head)
    return match and Insert(head, match["table"], tuple(_find_names(match["names"])))


def delete_form(head: bytes) -> Delete | None:
    match = _match_delete(head)
    return match and Delete(match["rows"], match["table"], tuple(_find_names(match["one"] or match["names"])))


def known(forms: dict[H, F], seen: H, find: Callable[[H], F | None]) -> F | None:
    """The form of what was seen, which is found once."""
    form = forms.get(seen)
    if form is None:
        form = find(seen)
        if form is not None and len(forms) < _SHAPES:
            forms[seen] = form
    return form


def in_rows(text: bytes, values: Values, width: int, *, brackets: int) -> list[Values] | None:
    """``values`` of a text by ``width``; None when it is anything else than these, commas, and ``brackets`` a row."""
    rows = len(values) // width
    if rows * width != len(values) or len(text) != sum(map(len, values)) + 2 * (len(values) - 1) + brackets * rows:
        return None
    return [values[start : start + width] for start in range(0, len(values), width)]
