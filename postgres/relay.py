"""Rows from one socket to the other without passing through Python objects.

``relay_copy`` works on two logged-in, idle connections without TLS or GSS encryption. It sends both COPY commands by
hand on the connections' sockets, so that libpq never knows of them: when it returns, both servers have said
ReadyForQuery and libpq goes on where it was. When it raises, both connections are closed: a row may have been sent in
part.
Memory: one buffer, whatever the size of the rows.
"""

from __future__ import annotations

import logging
import os
import secrets
import select
import socket
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from pgcopydb.postgres.classify import hint_for, is_transient
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.copy_frames import (
    TAIL,
    AnswerScanner,
    BinaryScanner,
    Message,
    TailScanner,
    TextScanner,
    last_error,
    message_size,
    take_message,
)
from pgcopydb.runtime.errors import Kind, PgcopydbError, Stopped
from pgcopydb.runtime.logs import NOTICE

logger = logging.getLogger(__name__)

BUFFER_BYTES: Final = 1 << 20
_FIRST_READ_BYTES: Final = 1 << 13
_COPY_DONE: Final = b"c\x00\x00\x00\x04"
_ASYNCHRONOUS: Final = frozenset({b"N", b"S", b"A"})
_ANSWER: Final = frozenset({b"T", b"D"})


_SILENCE_SECONDS: Final = 1.0
"""How long a source that seems to have ended a binary COPY with an error has to say nothing more."""

Scanner = TextScanner | TailScanner | BinaryScanner | AnswerScanner


class CancelToken:
    """A request to give up, from any thread; wakes a relay that waits."""

    def __init__(self) -> None:
        self._event = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._lock = threading.Lock()
        self._set = False

    def cancel(self) -> None:
        self._set = True
        with self._lock:
            if self._event >= 0:
                os.eventfd_write(self._event, 1)

    def is_set(self) -> bool:
        return self._set

    def fileno(self) -> int:
        return self._event

    def close(self) -> None:
        with self._lock:
            os.close(self._event)
            self._event = -1


def _fields(body: bytes) -> dict[bytes, str]:
    return {part[:1]: part[1:].decode("utf-8", "replace") for part in body.split(b"\x00") if part}


def log_notice(side: Side, body: bytes) -> None:
    """What a server remarks between rows, where libpq does not hear it."""
    fields = _fields(body)
    level = logging.WARNING if fields.get(b"V") == "WARNING" else NOTICE
    logger.log(level, "%s: %s", side, fields.get(b"M", ""))


def diagnostic_error(side: Side, body: bytes, doing: str) -> PgcopydbError:
    """The error that an ErrorResponse tells (documentation, "Error and Notice Message Fields")."""
    fields = _fields(body)
    sqlstate = fields.get(b"C")
    detail = f" ({fields[b'D']})" if b"D" in fields else ""
    where = f" [{fields[b'W']}]" if b"W" in fields else ""
    message = f"{doing}: {fields.get(b'M', 'unknown error')}{detail}{where}".replace("\n", " ")
    kind = Kind.RETRY if is_transient(sqlstate) else Kind.OPERATOR
    return side.error(message, hint=hint_for(sqlstate) or fields.get(b"H"), kind=kind, sqlstate=sqlstate)


def _scanner(word: str, *, binary: bool, quiet: bool) -> Scanner:
    if quiet:
        return AnswerScanner(word.encode()) if binary else TailScanner()
    return BinaryScanner() if binary else TextScanner()


class _Wire:
    """One side's socket and what has been received on it and not been used."""

    def __init__(self, side: Side, connection: Connection) -> None:
        self.side = side
        self.socket = socket.socket(fileno=os.dup(connection.fileno()))
        self.socket.settimeout(0)
        self.buffer = bytearray(_FIRST_READ_BYTES)
        self.end = 0

    def lost(self, reason: str) -> PgcopydbError:
        return self.side.error(
            f"the connection to the {self.side} was lost during COPY: {reason}",
            hint="Rows that were in flight are rolled back and copied again.",
            kind=Kind.RETRY,
        )

    def receive(self) -> bool:
        """Read what is there into the buffer's free end; false when nothing is.

        The buffer grows while it is found full: a small table never pays for a large one.
        """
        if self.end == len(self.buffer):
            self.buffer.extend(bytes(len(self.buffer)))
        try:
            count = self.socket.recv_into(memoryview(self.buffer)[self.end :])
        except BlockingIOError:
            return False
        except OSError as exc:
            raise self.lost(exc.strerror or str(exc)) from exc
        if count == 0:
            raise self.lost("the server closed it")
        self.end += count
        if self.end == len(self.buffer) < BUFFER_BYTES:
            self.buffer.extend(bytes(min(3 * self.end, BUFFER_BYTES - self.end)))
        return True

    def send_some(self, data: memoryview) -> int:
        try:
            return self.socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as exc:
            raise self.lost(exc.strerror or str(exc)) from exc

    def drop(self, count: int) -> None:
        """Forget the first ``count`` bytes; make room for a message that does not fit."""
        rest = self.end - count
        self.buffer[:rest] = self.buffer[count : self.end]
        self.end = rest

    def make_room(self) -> None:
        wanted = message_size(self.buffer, 0, self.end)
        if wanted > len(self.buffer):
            self.buffer.extend(bytes(wanted - len(self.buffer)))

    def take(self) -> Message | None:
        """The next whole message, if it has been received."""
        taken = take_message(self.buffer, 0, self.end)
        if taken is None:
            self.make_room()
            return None
        message, finish = taken
        self.drop(finish)
        return message


class _Relay:
    def __init__(
        self,
        source: Connection,
        target: Connection,
        cancel: CancelToken,
        on_bytes: Callable[[int], None],
        scanner: Scanner,
    ) -> None:
        self.source = _Wire(Side.SOURCE, source)
        self.target = _Wire(Side.TARGET, target)
        self._cancel = cancel
        self._on_bytes = on_bytes
        self._scanner = scanner
        self.bytes = 0

    def close(self) -> None:
        self.source.socket.close()
        self.target.socket.close()

    def _wait(self, wire: _Wire, events: int, *, watch_target: bool = False, seconds: float | None = None) -> bool:
        """Until the wire is ready, or the target has something to say; false when the time is over before that."""
        poll = select.poll()
        poll.register(wire.socket, events)
        poll.register(self._cancel, select.POLLIN)
        if watch_target and wire is not self.target:
            poll.register(self.target.socket, select.POLLIN)
        ready = poll.poll(None if seconds is None else seconds * 1000)
        if self._cancel.is_set():
            raise Stopped("the copy was cancelled", hint="Continue with --resume.")
        return bool(ready)

    def send(self, wire: _Wire, data: memoryview) -> None:
        while data:
            sent = wire.send_some(data)
            data = data[sent:]
            if data and not sent:
                self._wait(wire, select.POLLOUT | select.POLLIN)
                self._listen_to_target()

    def command(self, wire: _Wire, sql: str, wanted: bytes) -> None:
        """Send a Query and read until its COPY has begun."""
        self.send(wire, _query(sql))
        while (message := self.next_message(wire)).type != wanted:
            self._no_error(wire, message, "starting COPY")

    def next_message(self, wire: _Wire) -> Message:
        while (message := wire.take()) is None:
            if not wire.receive():
                self._wait(wire, select.POLLIN)
        return message

    @staticmethod
    def _no_error(wire: _Wire, message: Message, doing: str) -> None:
        if message.type == b"E":
            raise diagnostic_error(wire.side, message.body, doing)
        if message.type == b"Z":
            raise wire.side.error(f"{doing}: the {wire.side} ended the copy with an error longer than {TAIL} bytes")
        if message.type == b"N":
            log_notice(wire.side, message.body)
        if message.type not in _ASYNCHRONOUS:
            raise wire.side.error(f"{doing}: unexpected message {message.type!r} from the {wire.side}")

    def _listen_to_target(self) -> None:
        """While rows go out, the target speaks only to complain."""
        while self.target.receive():
            while (message := self.target.take()) is not None:
                self._no_error(self.target, message, "writing rows")

    def pump(self) -> None:
        """Forward rows until the source says that there are no more."""
        wire = self.source
        while True:
            safe, at_message = self._scanner.scan(wire.buffer, wire.end)
            if safe:
                with memoryview(wire.buffer) as view:
                    self.send(self.target, view[:safe])
                wire.drop(safe)
                self.bytes += safe
                self._on_bytes(safe)
            if at_message:
                message = self.next_message(wire)
                if message.type == b"c":
                    return
                self._no_error(wire, message, "reading rows")
            elif not self._receive_rows():
                self._await_rows()

    def _await_rows(self) -> None:
        """Until there are more, or the source has ended the copy with an error that no answer follows."""
        wire = self.source
        if isinstance(self._scanner, AnswerScanner) and (error := self._scanner.settled(wire.buffer, wire.end)):
            if not self._wait(wire, select.POLLIN, watch_target=True, seconds=_SILENCE_SECONDS):
                wire.drop(error.safe)
                self._no_error(wire, self.next_message(wire), "reading rows")
        else:
            self._wait(wire, select.POLLIN, watch_target=True)
        self._listen_to_target()

    def _receive_rows(self) -> bool:
        """As ``receive``; a server that goes down says why before it closes."""
        try:
            return self.source.receive()
        except PgcopydbError:
            wire = self.source
            wire.drop(last_error(wire.buffer, wire.end))
            if (last := wire.take()) is not None:
                self._no_error(wire, last, "reading rows")
            raise

    def finish(self, wire: _Wire, doing: str) -> int:
        """Read until ReadyForQuery; the number of rows of the command tag ``COPY n``."""
        rows = -1
        while (message := self.next_message(wire)).type != b"Z":
            if message.type == b"C":
                rows = int(message.body.rstrip(b"\x00").split()[-1])
            elif message.type not in _ANSWER:
                self._no_error(wire, message, doing)
        return rows


def _query(sql: str) -> memoryview:
    text = sql.encode() + b"\x00"
    return memoryview(b"Q" + struct.pack(">I", len(text) + 4) + text)


def relay_copy(
    source: Connection,
    target: Connection,
    copy_out: str,
    copy_in: str,
    *,
    binary: bool,
    quiet: bool,
    cancel: CancelToken,
    on_bytes: Callable[[int], None],
) -> tuple[int, int, int]:
    """Rows as the source counted them, rows as the target counted them, bytes of CopyData."""
    # Chosen when the snapshot has been taken: whoever wrote the rows could not know it.
    word = f"end {secrets.token_hex(16)}"
    asks = binary and quiet
    relay = _Relay(source, target, cancel, on_bytes, _scanner(word, binary=binary, quiet=quiet))
    try:
        relay.command(relay.target, copy_in, b"G")
        relay.command(relay.source, copy_out, b"H")
        if asks:
            relay.send(relay.source, _query(f'SELECT 1 AS "{word}"'))
        relay.pump()
        relay.send(relay.target, memoryview(_COPY_DONE))
        sent = relay.finish(relay.source, "reading rows")
        if asks:
            relay.finish(relay.source, "reading the answer behind the rows")
        return sent, relay.finish(relay.target, "writing rows"), relay.bytes
    except BaseException:
        with suppress(OSError):
            relay.target.socket.shutdown(socket.SHUT_RDWR)
        with suppress(OSError):
            relay.source.socket.shutdown(socket.SHUT_RDWR)
        source.close()
        target.close()
        raise
    finally:
        relay.close()
