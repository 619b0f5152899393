"""What an output plugin says, as far as keeping it needs to know: where transactions begin and end.

Pure. ``read_message`` tells the sort of a message and turns its payload into the JSON text that the change file holds:
wal2json's is that already, test_decoding's becomes a JSON string. Values are not looked at.
Facts: test_decoding's output has no specification but its source (``contrib/test_decoding``); wal2json's format 2 is in
its README.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from enum import StrEnum
from typing import Final, NamedTuple

import orjson

from pgcopydb.runtime.errors import CorruptState, SourceError


class Plugin(StrEnum):
    TEST_DECODING = "test_decoding"
    WAL2JSON = "wal2json"
    PGOUTPUT = "pgoutput"


class PluginChoice(StrEnum):
    """What an operator may ask for."""

    AUTO = "auto"
    TEST_DECODING = "test_decoding"
    WAL2JSON = "wal2json"
    PGOUTPUT = "pgoutput"

    @property
    def plugin(self) -> Plugin | None:
        """None leaves it to what the source has."""
        return None if self is PluginChoice.AUTO else Plugin(self.value)


BEGIN: Final = "B"
COMMIT: Final = "C"
MESSAGE: Final = "M"
"""``pg_logical_emit_message``: not a change of a row."""


class PluginMessage(NamedTuple):
    """``action`` is B, C, I, U, D, T or M. ``xid`` and ``timestamp`` come with B and C. ``payload`` is JSON text."""

    action: str
    xid: str | None
    timestamp: str | None
    payload: bytes


TEST_DECODING_OPTIONS: Final[Mapping[str, str]] = {
    "include-xids": "true",
    "include-timestamp": "true",
    "skip-empty-xacts": "true",
}
WAL2JSON_OPTIONS: Final[Mapping[str, str]] = {
    "format-version": "2",
    "include-xids": "true",
    "include-schemas": "true",
    "include-transaction": "true",
    # Names of types that need quotes are printed in a way that is no JSON.
    "include-types": "false",
    "include-type-oids": "true",
    "include-timestamp": "true",
    "filter-tables": "pgcopydb.*",
}
NUMERIC_AS_STRING: Final[Mapping[str, str]] = {"numeric-data-types-as-string": "true"}
"""Of wal2json from 2.6 on."""

_OWN_TABLES: Final = b"table pgcopydb."
_LOGICAL_MESSAGE: Final = b"message: "

_TEST_DECODING_BOUNDARY: Final = re.compile(rb"(BEGIN|COMMIT) (\d+)(?: \(at (.*)\))?")
# A quoted name may hold anything, ": INSERT: " too; a quote in it is doubled.
_NAME: Final = rb'(?:"(?:[^"]|"")*"|[^"., :]+)'
_TEST_DECODING_ROW: Final = re.compile(
    rb"table "
    + _NAME
    + rb"\."
    + _NAME
    + rb"(?:, "
    + _NAME
    + rb"\."
    + _NAME
    + rb")*: ([IUDT])(?:NSERT|PDATE|ELETE|RUNCATE):(?: |\Z)"
)
_WAL2JSON_ACTION: Final = re.compile(rb'\{"action":"([BCIUDTM])"')
_WAL2JSON_XID: Final = re.compile(rb'"xid":(\d+)')
_WAL2JSON_TIMESTAMP: Final = re.compile(rb'"timestamp":"([^"]*)"')


MessageReader = Callable[[bytes], PluginMessage | None]
"""Reads one message of a plugin; None for one that is of no interest. Raises ``CorruptState`` for an unknown one."""


def read_test_decoding(payload: bytes) -> PluginMessage | None:
    if payload.startswith(_OWN_TABLES):
        return None
    if payload.startswith(_LOGICAL_MESSAGE):
        return PluginMessage(MESSAGE, None, None, b"null")  # its content may be anything
    text = orjson.dumps(_in_utf8(payload))
    row = _TEST_DECODING_ROW.match(payload)
    if row is not None:
        return PluginMessage(row[1].decode(), None, None, text)
    boundary = _TEST_DECODING_BOUNDARY.fullmatch(payload)
    if boundary is not None:
        timestamp = boundary[3].decode() if boundary[3] else None
        return PluginMessage(boundary[1][:1].decode(), boundary[2].decode(), timestamp, text)
    raise _unknown(Plugin.TEST_DECODING, payload)


def read_wal2json(payload: bytes) -> PluginMessage:
    action = _WAL2JSON_ACTION.match(payload)
    if action is None:
        raise _unknown(Plugin.WAL2JSON, payload)
    if not payload.isascii():
        _in_utf8(payload)
    kind = action[1].decode()
    if kind not in {BEGIN, COMMIT}:
        return PluginMessage(kind, None, None, payload)
    xid, timestamp = _WAL2JSON_XID.search(payload), _WAL2JSON_TIMESTAMP.search(payload)
    return PluginMessage(kind, xid[1].decode() if xid else None, timestamp[1].decode() if timestamp else None, payload)


def _in_utf8(payload: bytes) -> str:
    """As files of changes are written; a database of another encoding has a plugin that converts."""
    try:
        return payload.decode("utf-8")
    except UnicodeDecodeError as error:
        raise SourceError(
            f"a change holds bytes that are not UTF-8, at {error.start}: {payload[:120]!r}",
            hint="The source's encoding is SQL_ASCII, which promises nothing of its bytes: such a row can be copied and"
            " not followed. Copy this database while nobody writes, without --follow.",
        ) from error


def _unknown(plugin: Plugin, payload: bytes) -> CorruptState:
    return CorruptState(
        f"{plugin} sent a message that is not known: {payload[:120]!r}",
        hint="The plugin is of a version that this program does not know. Nothing was acknowledged.",
    )
