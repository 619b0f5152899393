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

from pgcopydb.runtime.errors import CorruptState


class Plugin(StrEnum):
    TEST_DECODING = "test_decoding"
    WAL2JSON = "wal2json"


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


_OPTIONS: Final[Mapping[Plugin, Mapping[str, str]]] = {
    Plugin.TEST_DECODING: {"include-xids": "true", "include-timestamp": "true", "skip-empty-xacts": "true"},
    Plugin.WAL2JSON: {
        "format-version": "2",
        "include-xids": "true",
        "include-schemas": "true",
        "include-transaction": "true",
        "include-types": "true",
        "include-timestamp": "true",
        "filter-tables": "pgcopydb.*",
    },
}

_TEST_DECODING_BOUNDARY: Final = re.compile(rb"(BEGIN|COMMIT) (\d+)(?: \(at (.*)\))?")
# A quoted name may hold anything, ": INSERT: " too; a quote in it is doubled.
_NAME: Final = rb'(?:"(?:[^"]|"")*"|[^"., :]+)'
_TEST_DECODING_ROW: Final = re.compile(
    rb"table " + _NAME + rb"\." + _NAME + rb"(?:, " + _NAME + rb"\." + _NAME + rb")*: (INSERT|UPDATE|DELETE|TRUNCATE): "
)
_WAL2JSON_ACTION: Final = re.compile(rb'\{"action":"([BCIUDTM])"')
_WAL2JSON_XID: Final = re.compile(rb'"xid":(\d+)')
_WAL2JSON_TIMESTAMP: Final = re.compile(rb'"timestamp":"([^"]*)"')


def stream_options(plugin: Plugin) -> Mapping[str, str]:
    """The options of START_REPLICATION."""
    return _OPTIONS[plugin]


def reader_of(plugin: Plugin) -> Callable[[bytes], PluginMessage]:
    """The function that reads this plugin's messages; it raises ``CorruptState`` for one that it does not know."""
    return {Plugin.TEST_DECODING: _read_test_decoding, Plugin.WAL2JSON: _read_wal2json}[plugin]


def _read_test_decoding(payload: bytes) -> PluginMessage:
    text = orjson.dumps(payload.decode("utf-8"))
    row = _TEST_DECODING_ROW.match(payload)
    if row is not None:
        return PluginMessage(row[1][:1].decode(), None, None, text)
    boundary = _TEST_DECODING_BOUNDARY.fullmatch(payload)
    if boundary is not None:
        timestamp = boundary[3].decode() if boundary[3] else None
        return PluginMessage(boundary[1][:1].decode(), boundary[2].decode(), timestamp, text)
    if payload.startswith(b"message: "):
        return PluginMessage(MESSAGE, None, None, text)
    raise _unknown(Plugin.TEST_DECODING, payload)


def _read_wal2json(payload: bytes) -> PluginMessage:
    action = _WAL2JSON_ACTION.match(payload)
    if action is None:
        raise _unknown(Plugin.WAL2JSON, payload)
    kind = action[1].decode()
    if kind not in {BEGIN, COMMIT}:
        return PluginMessage(kind, None, None, payload)
    xid, timestamp = _WAL2JSON_XID.search(payload), _WAL2JSON_TIMESTAMP.search(payload)
    return PluginMessage(kind, xid[1].decode() if xid else None, timestamp[1].decode() if timestamp else None, payload)


def _unknown(plugin: Plugin, payload: bytes) -> CorruptState:
    return CorruptState(
        f"{plugin} sent a message that is not known: {payload[:120]!r}",
        hint="The plugin is of a version that this program does not know. Nothing was acknowledged.",
    )
