r"""The lines of an SQL file: what transform writes, psql can run and replay reads.

Every statement is one line: a newline in a value or a name is written as an escape. Lines that end a transaction or say
where the source is carry a JSON object in a comment. A line of statements that touches another number of rows than one
carries that number as a comment at its end, or ``*`` where any number is right.

    BEGIN; -- {"xid":745,"lsn":"0/24D42C8"}
    INSERT INTO "public"."t" ("a") OVERRIDING SYSTEM VALUE VALUES ('1'), ('2'); -- 2
    COMMIT; -- {"xid":745,"lsn":"0/24D5038","timestamp":"2026-01-10 15:00:00.123456+00"}
    -- KEEPALIVE {"lsn":"0/24D5100"}
    -- SWITCH WAL {"lsn":"0/25000000"}
    -- ENDPOS {"lsn":"0/24D5100"}
    ROLLBACK; -- {"lsn":"0/24D5038"}
"""

from __future__ import annotations

import re
from enum import Enum
from typing import Final, NamedTuple

import msgspec
import orjson

from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import CorruptState

MADE_AGAIN: Final = "The file was damaged or edited. Remove it and all later .sql files: transform makes them again."
"""A hint."""


class Mark(Enum):
    """A line that is no statement; its value is how the line begins."""

    BEGIN = b"BEGIN; -- {"
    COMMIT = b"COMMIT; -- {"
    ROLLBACK = b"ROLLBACK; -- {"
    KEEPALIVE = b"-- KEEPALIVE {"
    SWITCH = b"-- SWITCH WAL {"
    ENDPOS = b"-- ENDPOS {"


class MarkLine(NamedTuple):
    mark: Mark
    lsn: Lsn
    xid: int | None
    timestamp: str | None


class _Fields(msgspec.Struct):
    lsn: str
    xid: int | None = None
    timestamp: str | None = None


_read: Final = msgspec.json.Decoder(_Fields).decode

BOUNDARIES: Final = frozenset({Mark.COMMIT, Mark.ROLLBACK, Mark.KEEPALIVE, Mark.SWITCH, Mark.ENDPOS})
"""Exactly one of these is written for each such line of a change file."""

_FIRST_BYTES: Final = {mark.value[0] for mark in Mark}
IDENT: Final = rb'(?:U&)?"(?:[^"]|"")*"'
"""A quoted identifier, as a regular expression."""
_ROWS: Final = re.compile(
    rb"(?:INSERT INTO|UPDATE|(?:WITH gone AS \()?DELETE FROM) (?:ONLY )?(" + IDENT + rb"\." + IDENT + rb")"
)
_STATEMENTS: Final = (b"INSERT ", b"UPDATE ", b"DELETE ", b"WITH ", b"TRUNCATE ", b"REFRESH ")


def mark_line(mark: Mark, lsn: Lsn, xid: str | None = None, timestamp: str | None = None) -> bytes:
    """One line, newline included."""
    fields: dict[str, object] = {} if xid is None else {"xid": int(xid)}
    fields["lsn"] = str(lsn)
    if timestamp is not None:
        fields["timestamp"] = timestamp
    return mark.value[:-1] + orjson.dumps(fields) + b"\n"


def read_mark(line: bytes) -> MarkLine | None:
    """None for a line of statements. Raises ``CorruptState`` for anything else."""
    if line[:1] and line[0] in _FIRST_BYTES:
        for mark in Mark:
            if line.startswith(mark.value):
                return _read_fields(mark, line)
    if not line.startswith(_STATEMENTS):
        raise _unreadable(line)
    return None


def _read_fields(mark: Mark, line: bytes) -> MarkLine:
    try:
        fields = _read(line[len(mark.value) - 1 :])
        return MarkLine(mark, Lsn.parse(fields.lsn), fields.xid, fields.timestamp)
    except (msgspec.MsgspecError, ValueError) as exc:
        raise _unreadable(line) from exc


def misplaced(what: str, where: object) -> CorruptState:
    """A line that cannot follow the one before it: others are gone from between them."""
    return CorruptState(
        f"{what}, lines are missing before it: {where}",
        hint=MADE_AGAIN,
    )


def expected_rows(line: bytes) -> int:
    """How many rows the statement of a line touches on the source; -1 where that means nothing."""
    if line.startswith((b"TRUNCATE ", b"REFRESH ")) or line.endswith(b"; -- *\n"):
        return -1
    comment = line.rfind(b"; -- ", max(0, len(line) - 32))
    digits = line[comment + 5 :].rstrip()
    # A value cannot look like this: a line ends behind its statement, and in a value a quote follows.
    return int(digits) if comment >= 0 and digits.isdigit() else 1


def table_of(line: bytes) -> bytes | None:
    """The one whose rows a line changes, as it is written there; None for a line that names several, or a view."""
    found = _ROWS.match(line)
    return None if found is None else found[1]


def _unreadable(line: bytes) -> CorruptState:
    return CorruptState(
        f"not a line of an SQL file: {line[:80]!r}",
        hint=MADE_AGAIN,
    )
