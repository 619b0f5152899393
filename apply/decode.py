"""A line of a change file as what happened, whichever output plugin said it.

Pure. Raises ``CorruptState`` for whatever is not such a line.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

import msgspec
import orjson

from pgcopydb.apply import pgoutput, test_decoding, wal2json
from pgcopydb.apply.changes import Change
from pgcopydb.daemon.plugins import Plugin
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import CorruptState


class Line(msgspec.Struct):
    """``message`` is JSON text as the plugin gave it; only rows have one."""

    action: str
    lsn: str
    xid: str | None = None
    timestamp: str | None = None
    message: msgspec.Raw = msgspec.Raw(b"")

    @property
    def position(self) -> Lsn:
        return Lsn.parse(self.lsn)


Decoder = Callable[[bytes], Change]

ROWS: Final = frozenset("IUDT")
OTHERS: Final = frozenset("BCKXER")

_decoder: Final = msgspec.json.Decoder(Line)


def read_line(line: bytes) -> Line:
    try:
        found = _decoder.decode(line)
        if found.action in OTHERS:
            found.position  # noqa: B018  it raises for what is none
            if found.xid is not None:
                int(found.xid)
        elif found.action not in ROWS or not found.message:
            raise ValueError(f"action {found.action!r}")
    except (msgspec.MsgspecError, ValueError, RecursionError) as exc:
        raise CorruptState(
            f"not a line of a change file: {line[:80]!r}: {exc}",
            hint="The file was damaged or edited. Restore it, or begin again with a new slot and a new copy.",
        ) from exc
    return found


def decoder_of(plugin: Plugin) -> Decoder:
    """What turns the message of a row into a change."""
    return {Plugin.TEST_DECODING: _decode_text, Plugin.WAL2JSON: wal2json.decode, Plugin.PGOUTPUT: pgoutput.decode}[
        plugin
    ]


def _decode_text(payload: bytes) -> Change:
    try:
        text = orjson.loads(payload)
    except ValueError as exc:
        raise CorruptState(f"not a message of test_decoding: {payload[:80]!r}") from exc
    if not isinstance(text, str):
        raise CorruptState(f"not a message of test_decoding: {payload[:80]!r}")
    return test_decoding.decode(text)
