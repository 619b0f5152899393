"""The stage that receives: one process of its own, for as long as the migration runs.

Reads the slot and the sentinel, writes the change files and the sentinel's positions. What is true when
``receive_stage`` returns: everything up to the sentinel's end position is on disk, and the sentinel says so. A lost
connection is made again, however long that takes; a lost slot is an error.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from io import BytesIO
from pathlib import Path
from typing import IO, Final

from pgcopydb.daemon.control import SentinelControl, check_reached
from pgcopydb.daemon.disk import Limits, Room
from pgcopydb.daemon.heartbeat import heartbeat_of, told_how_it_ends
from pgcopydb.daemon.pgoutput import PgoutputReader
from pgcopydb.daemon.pgoutput import stream_options as pgoutput_options
from pgcopydb.daemon.plugins import (
    NUMERIC_AS_STRING,
    TEST_DECODING_OPTIONS,
    WAL2JSON_OPTIONS,
    MessageReader,
    Plugin,
    read_test_decoding,
    read_wal2json,
)
from pgcopydb.daemon.receive import Control, Receiver
from pgcopydb.daemon.sentinel import Sentinel
from pgcopydb.daemon.stream import Stream, load_stream
from pgcopydb.daemon.timeline import check_history
from pgcopydb.postgres.connect import Endpoint, unless_stopped
from pgcopydb.postgres.liveness import Liveness, end_lost
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.replication import ReplicationSession
from pgcopydb.runtime.errors import Kind, PgcopydbError, SourceError
from pgcopydb.runtime.retry import persist
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

SERVICE: Final = "receive"
"""Name of the stage's lock in the work directory."""

_IN_USE: Final = "55006"
_INTERNAL: Final = "XX000"
_SESSIONS: Final = 12
"""So many are made, in about half a minute, before an error of the source's own is final."""


def stream_options(stream: Stream) -> Mapping[str, str]:
    """The options of START_REPLICATION for a stream."""
    if stream.plugin is Plugin.TEST_DECODING:
        return TEST_DECODING_OPTIONS
    if stream.plugin is Plugin.WAL2JSON:
        return {**WAL2JSON_OPTIONS, **NUMERIC_AS_STRING} if stream.numeric_as_string else WAL2JSON_OPTIONS
    return pgoutput_options(stream.publications)


def message_reader(plugin: Plugin) -> MessageReader:
    """A new reader for each session: pgoutput's remembers what it was told of relations."""
    if plugin is Plugin.TEST_DECODING:
        return read_test_decoding
    return read_wal2json if plugin is Plugin.WAL2JSON else PgoutputReader()


def receive_stage(
    source: Endpoint, sentinel: Sentinel, workdir: WorkDir, stream: Stream, stop: Stop, limits: Limits
) -> None:
    """Receive until the end position. Raises ``Stopped`` when a stop came before."""
    control = SentinelControl(sentinel)
    heart = heartbeat_of(workdir, SERVICE)
    receiver = Receiver(workdir.changes, stream.timeline, stream.segment_size, stream.consistent_point, heart=heart)
    receiver.room = Room(workdir.changes, stream.segment_size, limits)
    errors = InternalErrors()
    with workdir.lock(SERVICE), told_how_it_ends(heart), stop.on_fast_stop(sentinel.hang_up):
        persist(
            # Read again each time: the source may have come to another timeline.
            lambda: _receive(source, control, receiver, load_stream(workdir), stop, errors, workdir),
            what="receiving changes",
            stop=stop,
            on_retry=heart.retrying,
        )
        check_reached(receiver.reached)
    logger.info("Received everything up to %s: %d transactions", control.endpos, receiver.transactions)


@dataclass(slots=True)
class Printer(Receiver):
    """Writes lines to a pipe instead of files. Nothing is acknowledged but what the target has."""

    sink: IO[bytes] = field(default_factory=BytesIO)

    def repair(self, _stop: Stop) -> Lsn:
        return Lsn()

    def begin(self, confirmed: Lsn) -> Lsn:
        self._xid, self._begun, self.reached = None, False, False
        self.complete = max(self.complete, confirmed)
        return self.complete

    def _write(self, _lsn: int, line: bytes) -> None:
        self.sink.write(line)

    def _flush(self) -> None:
        self.sink.flush()

    def _sync(self) -> None:
        self._flush()

    def _acknowledge(self, session: ReplicationSession, control: Control) -> None:
        self.durable = control.replayed
        super(Printer, self)._acknowledge(session, control)


def print_stage(source: Endpoint, sentinel: Sentinel, stream: Stream, stop: Stop, sink: IO[bytes]) -> None:
    """Write the lines of change files to a pipe, until the end position or a stop. A lost connection is an error:
    whoever reads the pipe has part of a transaction then."""
    control = SentinelControl(sentinel)
    printer = Printer(Path(), stream.timeline, stream.segment_size, stream.consistent_point, sink=sink)
    _receive(source, control, printer, stream, stop, InternalErrors())


@dataclass(slots=True)
class InternalErrors:
    """Errors of the source's own while it decodes, one after the other at one place.

    What a walsender makes of a change depends on the catalogs as it has seen them: releases of PostgreSQL have had
    "could not map filenode … to relation OID" and "could not open relation with OID …" that another session did not
    meet (commit 272248a0c1 of PostgreSQL; https://github.com/2ndQuadrant/pglogical/issues/347).
    """

    position: Lsn = field(default_factory=Lsn)
    count: int = 0

    def judge(self, error: SourceError, position: Lsn) -> SourceError:
        """The error to be raised. ``position``: everything up to there is received."""
        if position > self.position:
            self.position, self.count = position, 0
        self.count += 1
        if self.count < _SESSIONS:
            hint = "An error of the source's own: a new session may not meet it."
            return SourceError(error.message, hint=hint, kind=Kind.RETRY, sqlstate=error.sqlstate)
        return SourceError(
            f"{error.message}; so said {self.count} sessions that began at {position}",
            hint="The source cannot decode its own WAL: look for the error in release notes of newer minor releases,"
            " and go on with --resume on one of these. If it stays, begin again with a new slot: `stream cleanup`, and"
            " then clone with --restart --drop-if-exists.",
            sqlstate=error.sqlstate,
        )


def _receive(
    source: Endpoint,
    control: SentinelControl,
    receiver: Receiver,
    stream: Stream,
    stop: Stop,
    errors: InternalErrors,
    workdir: WorkDir | None = None,
) -> None:
    control.open()
    with (
        unless_stopped(lambda: ReplicationSession(source.info, source.title(SERVICE)), stop) as session,
        stop.on_fast_stop(session.hang_up),
    ):
        kept = receiver.repair(stop)
        here = check_history(session, stream, max(kept, control.replayed, stream.consistent_point))
        if here != stream:
            logger.warning("The source is on timeline %d now, with everything that was received", here.timeline)
            if workdir is not None:
                # Before anything is received on it.
                here.save(workdir)
        receiver.timeline = here.timeline
        receiver.liveness = Liveness(source, session.backend_pid())
        logger.info("Receiving changes of slot %s (%s)", stream.slot, stream.plugin)
        try:
            receiver.run(session, stream.slot, stream_options(stream), message_reader(stream.plugin), stop, control)
        except SourceError as error:
            if error.sqlstate == _INTERNAL:
                raise errors.judge(error, receiver.complete) from error
            if error.sqlstate != _IN_USE:
                raise
            if workdir is not None:
                end_lost(source, SERVICE, receiver.liveness.pid)
            raise _in_use(error) from error


def _in_use(error: SourceError) -> PgcopydbError:
    """The server may not have noticed yet that an earlier connection of ours is gone."""
    return SourceError(
        error.message,
        hint="If this lasts, another program reads the slot: look for its process in pg_replication_slots.active_pid.",
        kind=Kind.RETRY,
        sqlstate=error.sqlstate,
    )
