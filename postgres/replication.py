"""A walsender session: slots, timelines, and the stream of changes of a logical slot.

Speaks the streaming replication protocol (PostgreSQL documentation, "Streaming Replication Protocol") over libpq's COPY
calls. ``read`` never waits; ``wait`` does, for the server or for whatever else the caller names. Nothing is
acknowledged unless ``feedback`` is called. When ``finish`` returns the server has ended the stream in good order. The
values that the plugins print have one form, whatever the settings of the server, the database or the role.
What positions mean to the files and the target is left to others.
"""

from __future__ import annotations

import math
import select
import struct
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Final, NamedTuple, Self

import psycopg
from psycopg import pq

from pgcopydb.postgres.classify import classify, hint_for, is_transient
from pgcopydb.postgres.connect import hang_up, log_in
from pgcopydb.postgres.conninfo import ConnInfo
from pgcopydb.postgres.liveness import ASK_SECONDS
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import quote_ident, quote_literal
from pgcopydb.postgres.slot_loss import loss_of, reason_column
from pgcopydb.runtime.errors import Kind, PgcopydbError, SourceError, TargetError
from pgcopydb.runtime.stop import Stop

_XLOG_DATA: Final = ord("w")
_KEEPALIVE: Final = ord("k")
_DATA_HEADER: Final = struct.Struct(">cQQq")
_KEEPALIVE_BODY: Final = struct.Struct(">cQqB")
_STATUS: Final = struct.Struct(">cQQQqB")
_SEND_SECONDS: Final = 30.0
_LONGEST_WAIT: Final = 30.0
_CANCEL_SECONDS: Final = 5.0
_CANCELLED: Final = "57014"
_EPOCH: Final = 946_684_800
"""2000-01-01 in seconds since 1970: the protocol counts microseconds from there."""

_SETTINGS: Final = {
    "client_encoding": "UTF8",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    "extra_float_digits": "3",
    "lc_monetary": "C",
    "quote_all_identifiers": "off",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "row_security": "off",
    "search_path": "pg_catalog",
    # wal2json says so, and nothing else, when it leaves out a change.
    "client_min_messages": "warning",
}
_READ_RESULTS: Final = frozenset({pq.ExecStatus.TUPLES_OK, pq.ExecStatus.COMMAND_OK})


@dataclass(frozen=True, slots=True)
class SystemIdentity:
    """``IDENTIFY_SYSTEM``: which cluster, which timeline, and how far its WAL is flushed."""

    system: str
    timeline: int
    flushed: Lsn


@dataclass(frozen=True, slots=True)
class CreatedSlot:
    """A new slot: every change after ``consistent_point`` comes, and ``snapshot`` shows everything before it.

    The snapshot lives until the session runs its next command.
    """

    name: str
    plugin: str
    consistent_point: Lsn
    snapshot: str


class Change(NamedTuple):
    """One message of the output plugin. ``lsn`` is the record's position, in the server's count of bytes."""

    lsn: int
    payload: bytes


class Keepalive(NamedTuple):
    """The server has sent everything up to ``lsn``; ``urgent`` when it wants an answer at once."""

    lsn: int
    urgent: bool


class ReplicationSession:
    """One connection in replication mode (``replication=database``)."""

    def __init__(self, info: ConnInfo, title: str) -> None:
        """Log in. Raises ``SourceError`` (or ``TargetError``), ``Kind.RETRY`` when the server may come back."""
        self._side = info.side
        self._connection = log_in(info, title, replication="database")
        self._pgconn = self._connection.pgconn
        self._pgconn.notice_handler = self._warned
        self._warnings: list[str] = []
        self._sender_timeout = math.inf
        self.heard = time.monotonic()
        """When the server last said something."""
        self._run("; ".join(f"SET {name} = {quote_literal(value)}" for name, value in _SETTINGS.items()))

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, _type: type[BaseException] | None, _exc: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Break off. What was not acknowledged comes again."""
        self._connection.close()

    def hang_up(self) -> None:
        """Wake whoever waits for the server, with an error; from any thread."""
        hang_up(self._connection)

    def fileno(self) -> int:
        return self._connection.fileno()

    @property
    def server_version(self) -> int:
        """As ``server_version_num``."""
        return self._connection.info.server_version

    def identify(self) -> SystemIdentity:
        row = self._row("IDENTIFY_SYSTEM")
        return SystemIdentity(row[0], int(row[1]), Lsn.parse(row[2]))

    def timeline_history(self, timeline: int) -> tuple[str, bytes]:
        """Name and content of the history file of a timeline above 1."""
        result = self._run(f"TIMELINE_HISTORY {timeline}")
        return (result.get_value(0, 0) or b"").decode(), result.get_value(0, 1) or b""

    def create_slot(self, name: str, plugin: str, stop: Stop, *, temporary: bool = False) -> CreatedSlot:
        """Make a logical slot and export the snapshot that goes with it.

        Waits until every transaction that writes now has ended. Raises ``Stopped`` when a stop is requested meanwhile;
        then there is no slot.
        """
        kind = "TEMPORARY LOGICAL" if temporary else "LOGICAL"
        command = f"CREATE_REPLICATION_SLOT {quote_ident(name)} {kind} {quote_ident(plugin)} EXPORT_SNAPSHOT"
        try:
            row = self._row(command, stop)
        except PgcopydbError as error:
            if error.sqlstate == _CANCELLED:
                stop.check()
            raise
        return CreatedSlot(row[0], row[3], Lsn.parse(row[1]), row[2])

    def backend_pid(self) -> int:
        """The server's process, as it says itself."""
        return int(self._row("SELECT pg_catalog.pg_backend_pid()")[0])

    def drop_slot(self, name: str) -> None:
        """Drop a slot; one that is in use is waited for."""
        self._run(f"DROP_REPLICATION_SLOT {quote_ident(name)} WAIT")

    def confirmed_flush(self, slot: str) -> Lsn:
        """How far a slot was acknowledged. Raises ``SourceError`` when there is no such slot, or it is lost."""
        lost = "wal_status = 'lost'" if self.server_version >= 130000 else "false"
        reason = reason_column(self.server_version)
        result = self._run(
            f"SELECT confirmed_flush_lsn, {lost}, {reason} FROM pg_catalog.pg_replication_slots"  # noqa: S608
            f" WHERE slot_name = {quote_literal(slot)}"
        )
        if result.ntuples == 0:
            raise self._side.error(
                f"there is no replication slot {slot} on the {self._side}",
                hint="Changes since it was dropped are gone: begin again with a new slot and a new copy.",
            )
        why = (result.get_value(0, 2) or b"").decode()
        if why or result.get_value(0, 1) == b"t":
            loss = loss_of(why)
            raise self._side.error(
                f"replication slot {slot} is lost: {loss.why}",
                hint=f"Begin again with a new slot and a new copy; before that {loss.before}.",
            )
        return Lsn.parse((result.get_value(0, 0) or b"0/0").decode())

    def start(self, slot: str, start: Lsn, options: Mapping[str, str]) -> None:
        """Begin to stream from ``start``, or from where the slot was acknowledged if that is later."""
        milliseconds = self._row("SELECT setting FROM pg_catalog.pg_settings WHERE name = 'wal_sender_timeout'")[0]
        self._sender_timeout = int(milliseconds) / 1000 or math.inf
        chosen = ", ".join(f"{quote_ident(name)} {quote_literal(value)}" for name, value in options.items())
        text = f"START_REPLICATION SLOT {quote_ident(slot)} LOGICAL {start}" + (f" ({chosen})" if chosen else "")
        result = self._execute(text)
        if result.status != pq.ExecStatus.COPY_BOTH:
            raise self._error(result, f"starting to stream from slot {slot}")
        self._pgconn.nonblocking = 1

    def read(self) -> Iterator[Change | Keepalive]:
        """Everything that has arrived. Raises when the stream has ended or the connection is lost."""
        get, unpack = self._pgconn.get_copy_data, _DATA_HEADER.unpack_from
        try:
            self._pgconn.consume_input()
            while True:
                size, data = get(1)
                if size <= 0:
                    break
                self.heard = time.monotonic()
                if data[0] == _XLOG_DATA:
                    yield Change(unpack(data)[1], bytes(data[_DATA_HEADER.size :]))
                elif data[0] == _KEEPALIVE:
                    _, lsn, _, urgent = _KEEPALIVE_BODY.unpack(data)
                    yield Keepalive(lsn, bool(urgent))
                else:
                    raise self._side.error(f"unknown replication message {bytes(data[:1])!r}")
        except psycopg.Error as exc:
            raise self._lost(exc) from exc
        if size < 0:
            raise self._ended()

    def warnings(self) -> list[str]:
        """What the server has warned of since the last call: a plugin that leaves out a change does that."""
        said, self._warnings = self._warnings, []
        return said

    def sender_timeout(self) -> float:
        """Seconds of silence after which the server gives up; infinite when it does not. Known once it streams."""
        return self._sender_timeout

    def wait(self, seconds: float, others: Sequence[int] = ()) -> bool:
        """Until the server has sent something or one of the file descriptors is ready; false when the time is over."""
        poll = select.poll()
        for descriptor in (self.fileno(), *others):
            poll.register(descriptor, select.POLLIN)
        return bool(poll.poll(max(0.0, seconds) * 1000))

    def feedback(self, *, written: Lsn, flushed: Lsn, applied: Lsn, ask: bool = False) -> None:
        """Standby status update; ``flushed`` is what the slot may forget. ``ask`` for a keepalive in return; a server
        that has been silent for long is asked anyway."""
        ask = ask or time.monotonic() - self.heard > ASK_SECONDS
        now = int((time.time() - _EPOCH) * 1_000_000)
        self._put(_STATUS.pack(b"r", written.value, flushed.value, applied.value, now, ask))

    def finish(self, seconds: float = 10.0) -> None:
        """End the stream: CopyDone both ways. What still arrives is discarded, it was not acknowledged."""
        deadline = time.monotonic() + seconds
        try:
            self._pgconn.put_copy_end()
            while self._pgconn.flush():
                self._await(deadline, select.POLLIN | select.POLLOUT)
            while (size := self._pgconn.get_copy_data(1)[0]) >= 0:
                if size == 0:
                    self._await(deadline, select.POLLIN)
                    self._pgconn.consume_input()
            self._pgconn.nonblocking = 0
            while (result := self._pgconn.get_result()) is not None:
                if result.status not in _READ_RESULTS:
                    raise self._error(result, "ending the stream")
        except psycopg.Error as exc:
            raise self._lost(exc) from exc

    def _warned(self, result: pq.abc.PGresult) -> None:
        text = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or b""
        self._warnings.append(text.decode(errors="replace"))

    def _put(self, message: bytes) -> None:
        try:
            self._pgconn.put_copy_data(message)
            while self._pgconn.flush():
                self._await(time.monotonic() + _SEND_SECONDS, select.POLLIN | select.POLLOUT)
        except psycopg.Error as exc:
            raise self._lost(exc) from exc

    def _await(self, deadline: float, events: int) -> None:
        poll = select.poll()
        poll.register(self.fileno(), events)
        if not poll.poll(max(0.0, deadline - time.monotonic()) * 1000):
            raise self._side.error(
                f"the walsender of the {self._side} does not answer",
                hint="Look for it in pg_stat_replication; nothing that was not acknowledged is lost.",
                kind=Kind.RETRY,
            )
        if events & select.POLLIN:
            # A server that sends while it is written to must be read, or both wait for each other.
            self._pgconn.consume_input()

    def _row(self, command: str, stop: Stop | None = None) -> list[str]:
        result = self._run(command, stop)
        values = [result.get_value(0, column) for column in range(result.nfields)]
        return ["" if value is None else value.decode() for value in values]

    def _run(self, command: str, stop: Stop | None = None) -> pq.abc.PGresult:
        result = self._execute(command, stop)
        if result.status not in _READ_RESULTS:
            raise self._error(result, command.partition(";")[0])
        return result

    def _execute(self, command: str, stop: Stop | None = None) -> pq.abc.PGresult:
        """The last result. Waits outside of libpq, for within it no signal is handled; a stop cancels the command."""
        last: pq.abc.PGresult | None = None
        try:
            self._pgconn.send_query(command.encode())
            while True:
                while self._pgconn.is_busy():
                    self.wait(_LONGEST_WAIT, [stop.fileno()] if stop is not None else [])
                    if stop is not None and stop.mode:
                        self._connection.cancel_safe(timeout=_CANCEL_SECONDS)
                        stop = None
                    self._pgconn.consume_input()
                result = self._pgconn.get_result()
                if result is None:
                    break
                last = result
                if result.status == pq.ExecStatus.COPY_BOTH:
                    break
        except psycopg.Error as exc:
            # A server that hangs up may have said why.
            if last is None or last.status != pq.ExecStatus.FATAL_ERROR:
                raise classify(self._side, exc, command.partition(";")[0]) from exc
        assert last is not None  # noqa: S101  every command is answered
        return last

    def _error(self, result: pq.abc.PGresult, doing: str) -> SourceError | TargetError:
        sqlstate = (result.error_field(pq.DiagnosticField.SQLSTATE) or b"").decode() or None
        said = result.error_field(pq.DiagnosticField.MESSAGE_PRIMARY) or self._pgconn.error_message
        hint = result.error_field(pq.DiagnosticField.MESSAGE_HINT)
        lost = sqlstate is None and self._pgconn.status != pq.ConnStatus.OK
        return self._side.error(
            f"{doing}: {said.decode(errors='replace').strip()}",
            hint=hint_for(sqlstate) or (hint.decode(errors="replace") if hint else None),
            kind=Kind.RETRY if lost or is_transient(sqlstate) else Kind.OPERATOR,
            sqlstate=sqlstate,
        )

    def _lost(self, exc: psycopg.Error) -> SourceError | TargetError:
        return classify(self._side, exc, "streaming changes")

    def _ended(self) -> SourceError | TargetError:
        """The server ended the stream by itself: it shuts down, or says why."""
        result = self._pgconn.get_result()
        if result is not None and result.status not in _READ_RESULTS:
            return self._error(result, "streaming changes")
        return self._side.error(
            f"the {self._side} ended the stream of changes", hint="Is it shutting down?", kind=Kind.RETRY
        )
