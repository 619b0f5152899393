"""Where a stream of COPY OUT ends: finding what is not CopyData without looking at rows one by one.

Pure: no socket, no clock. A scanner is fed a buffer that begins where the previous scan stopped, and says how many of
its bytes are certainly CopyData frames (or parts of one) and can be forwarded as they are, and whether another message
begins right there.

Text format. A payload holds no zero byte, and a newline only as its last byte; a length is below 2^30, so its first
byte is below 0x40. Zero bytes are therefore found in headers of frames and in other messages only, and each other
message has a mark that no frame can show (PostgreSQL documentation, "Message Formats"):

- CopyDone is ``c 00 00 00 04``. A frame's length is at least 5 and its first byte is below ``c``, so the three zeros
  can be no three bytes of a length that have this byte before them.
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
Binary format. Any byte may be anywhere: the headers are walked (``BinaryScanner``). Where nothing comes in the middle,
the source is asked a question behind its COPY, and the end is where the answer is: it repeats a random word that was
chosen after every row had been written, so no row can hold it (``AnswerScanner``).
"""

from __future__ import annotations

import re
import struct
from dataclasses import dataclass
from typing import Final, NamedTuple

_HEADER: Final = struct.Struct(">BI")
_COPY_DATA: Final = ord("d")
_COPY_DONE_MESSAGE: Final = b"c\x00\x00\x00\x04"
_SEVERITY: Final = re.compile(rb"\x00V(?:ERROR|FATAL|PANIC|WARNING|NOTICE|DEBUG|INFO|LOG)\x00")
# A diagnostic is no 16 MB long. Without the zero, its own length could hold the letter and the row before it the type.
_DIAGNOSTIC_HEAD: Final = re.compile(rb"[EN]\x00[\x00-\xff]{3}S[^\x00\n]{1,60}\Z")
_DIAGNOSTIC_SPAN: Final = 80
"""More than type, length and the longest localized severity take."""

_FINISHED: Final = re.compile(rb"c\x00\x00\x00\x04C\x00\x00\x00.COPY \d{1,20}\x00Z\x00\x00\x00\x05[IT]\Z", re.DOTALL)
_ABORTED: Final = re.compile(rb"\x00C25P02\x00")
_ANSWER_SPAN: Final = 256
"""More than CommandComplete and ReadyForQuery of the COPY take, and more than the answer to a question."""

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
        found = buffer.find(_COPY_DONE_MESSAGE, 0, end)
        return None if found < 0 else Scan(found, at_message=True)

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


class AnswerScanner:
    """Recognises nothing before the source has answered a question; for any format, where no notice can come.

    ``word``: what the answer repeats as the name of its only column. An error leaves the question without an answer:
    the source then says that the transaction is aborted, which is believed when nothing follows (``settled``).
    """

    def __init__(self, word: bytes) -> None:
        self._name = word + b"\x00"

    def scan(self, buffer: bytearray, end: int) -> Scan:
        """Look at ``buffer[:end]``."""
        if _READY.search(buffer, max(0, end - 6), end) is None:
            return Scan(max(0, end - TAIL), at_message=False)
        name = buffer.rfind(self._name, max(0, end - _ANSWER_SPAN), end)
        if name < 0:
            return Scan(max(0, end - TAIL), at_message=False)
        # Before the name: type, length and number of columns of its RowDescription.
        answer = name - 7
        finished = _FINISHED.search(buffer, max(0, answer - _ANSWER_SPAN), answer)
        if finished is not None:
            return Scan(finished.start(), at_message=True)
        return Scan(last_error(buffer, answer - 6), at_message=True)

    @staticmethod
    def settled(buffer: bytearray, end: int) -> Scan | None:
        """Where the error begins that a silent source has ended the stream with; none when it has not ended."""
        if _READY.search(buffer, max(0, end - 6), end) is None:
            return None
        refusal = last_error(buffer, end - 6)
        if _ABORTED.search(buffer, refusal, end) is None or _READY.search(buffer, max(0, refusal - 6), refusal) is None:
            return None
        return Scan(last_error(buffer, refusal - 6), at_message=True)


def last_error(buffer: bytearray, end: int) -> int:
    """Where the ErrorResponse begins that ends at ``end``; ``end`` itself when none does or its beginning is gone."""
    found = buffer.rfind(b"\x00V", 0, end)
    while found >= 0:
        if _SEVERITY.match(buffer, found, end):
            head = _DIAGNOSTIC_HEAD.search(buffer, max(0, found - _DIAGNOSTIC_SPAN), found)
            if head is not None and head.start() + message_size(buffer, head.start(), end) == end:
                return head.start()
        found = buffer.rfind(b"\x00V", 0, found)
    return end


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
