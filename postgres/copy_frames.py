"""Where a stream of COPY OUT ends: finding what is not CopyData without looking at rows one by one.

Pure: no socket, no clock. A scanner is fed a buffer that begins where the previous scan stopped, and says how many of
its bytes are certainly CopyData frames (or parts of one) and can be forwarded as they are, and whether another message
begins right there.

Text format. A payload holds no zero byte, and a newline only as its last byte; a length is below 2^30, so its first
byte is below 0x40. Zero bytes are therefore found in headers of frames and in other messages only, and each other
message has a mark that no frame can show (PostgreSQL documentation, "Message Formats"):

- CopyDone is ``c 00 00 00 04``. A frame's length is at least 5, and ``00 00 00 04`` cannot be put together from two
  places: the last byte of a length is followed by a payload byte, which is not zero.
- ErrorResponse and NoticeResponse carry the severity twice, so they hold ``00 V<severity> 00``. Between two zero bytes
  of frames stand either at most two bytes of one length, or a whole payload with its newline; the severity is longer
  than the one and has not the other.
- ParameterStatus is ``S 00 00 hh ll name 00 value 00``. ``S 00 00`` may be part of the length of a frame of some
  megabytes, and then no zero byte follows for longer than a ParameterStatus lasts; so all of it is looked at before
  deciding.

A header is never forwarded before its mark could have been seen: the last bytes of a buffer are held back.
Where the source runs no code of users (all columns have built-in types) no notice or parameter can come in the middle,
and the server says nothing after ReadyForQuery, ``Z 00 00 00 05 x``, which no frame can show either: ``TailScanner``
looks only whether the buffer ends in it, and no byte is looked at twice. Would another message come all the same, the
target refuses it (or ignores it, as it does a Sync): no row is lost silently.
Binary format. Any byte may be anywhere: the headers are walked.
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct(">BI")
_COPY_DATA: Final = ord("d")
_COPY_DONE_TAIL: Final = b"\x00\x00\x00\x04"
_SEVERITY: Final = re.compile(rb"\x00V(?:ERROR|FATAL|PANIC|WARNING|NOTICE|DEBUG|INFO|LOG)\x00")
_DIAGNOSTIC_HEAD: Final = re.compile(rb"[EN][\x00-\x3f][\x00-\xff]{3}S[^\x00\n]{1,60}\Z")
_DIAGNOSTIC_SPAN: Final = 80
"""More than type, length and the longest localized severity take."""

_READY: Final = re.compile(rb"Z\x00\x00\x00\x05[ITE]\Z")

HOLD: Final = 128
"""Bytes at the end of a buffer that are not forwarded yet: more than from a header to the end of its mark."""

TAIL: Final = 1 << 15
"""As HOLD where only the end of the stream is recognised: an ErrorResponse that is no longer is told word for word."""


class Scan(NamedTuple):
    """``safe`` bytes are CopyData; ``at_message``: another message begins right behind them."""

    safe: int
    at_message: bool


@dataclass(frozen=True, slots=True)
class Message:
    """A backend message that is not CopyData. ``body`` is what follows the length."""

    type: bytes
    body: bytes


def take_message(buffer: bytearray, start: int, end: int) -> tuple[Message, int] | None:
    """The message that begins at ``start`` and where it ends; none while its end has not been received."""
    if end - start < _HEADER.size:
        return None
    kind, length = _HEADER.unpack_from(buffer, start)
    finish = start + 1 + length
    if finish > end:
        return None
    return Message(bytes((kind,)), bytes(buffer[start + _HEADER.size : finish])), finish


def message_size(buffer: bytearray, start: int, end: int) -> int:
    """Bytes of the message that begins at ``start``; as many as a header has while that is not complete."""
    if end - start < _HEADER.size:
        return _HEADER.size
    return 1 + int(_HEADER.unpack_from(buffer, start)[1])


class TextScanner:
    """Recognises the end of text rows by the marks of what is not a row."""

    def scan(self, buffer: bytearray, end: int) -> Scan:
        """Look at ``buffer[:end]``."""
        found = [self._copy_done(buffer, end), self._diagnostic(buffer, end), self._parameter(buffer, end)]
        first = min((scan for scan in found if scan is not None), key=lambda scan: scan.safe, default=None)
        if first is not None and first.at_message:
            return first
        held = max(0, end - HOLD)
        return Scan(held if first is None else min(held, first.safe), at_message=False)

    @staticmethod
    def _copy_done(buffer: bytearray, end: int) -> Scan | None:
        found = buffer.find(_COPY_DONE_TAIL, 0, end)
        return None if found < 1 else Scan(found - 1, at_message=True)

    @staticmethod
    def _diagnostic(buffer: bytearray, end: int) -> Scan | None:
        found = buffer.find(b"\x00V", 0, end)
        while found >= 0:
            if _SEVERITY.match(buffer, found, end):
                head = _DIAGNOSTIC_HEAD.search(buffer, max(0, found - _DIAGNOSTIC_SPAN), found)
                if head is not None:
                    return Scan(head.start(), at_message=True)
            found = buffer.find(b"\x00V", found + 1, end)
        return None

    @staticmethod
    def _parameter(buffer: bytearray, end: int) -> Scan | None:
        found = buffer.find(b"S\x00\x00", 0, end)
        while found >= 0:
            size = message_size(buffer, found, end)
            if found + size > end:
                # Not all there yet: nothing from here on is forwarded until it can be told.
                return Scan(found, at_message=False)
            body = buffer[found + _HEADER.size : found + size]
            if body.count(b"\x00") == 2 and body.endswith(b"\x00"):
                return Scan(found, at_message=True)
            found = buffer.find(b"S\x00\x00", found + 1, end)
        return None


class TailScanner:
    """Recognises nothing before the source has said its last word; for tables whose columns are of built-in types."""

    def __init__(self) -> None:
        self._thorough = TextScanner()

    def scan(self, buffer: bytearray, end: int) -> Scan:
        """Look at ``buffer[:end]``."""
        if _READY.search(buffer, max(0, end - 6), end) is None:
            return Scan(max(0, end - TAIL), at_message=False)
        found = self._thorough.scan(buffer, end)
        # An error that is longer than what was held back: its beginning is gone, the end of the stream is not.
        return found if found.at_message else Scan(end - 6, at_message=True)


class BinaryScanner:
    """Walks from header to header; remembers how much of a frame is still to come."""

    def __init__(self) -> None:
        self._left = 0

    def scan(self, buffer: bytearray, end: int) -> Scan:
        """Look at ``buffer[:end]``."""
        position = self._left
        unpack = _HEADER.unpack_from
        while position + 5 <= end:
            kind, length = unpack(buffer, position)
            if kind != _COPY_DATA:
                self._left = 0
                return Scan(position, at_message=True)
            position += 1 + length
        if position >= end:
            self._left = position - end
            return Scan(end, at_message=False)
        self._left = 0
        return Scan(position, at_message=False)
