"""Keep every change of a slot on disk, and acknowledge what is there.

Reads a walsender's stream, writes the change files. What is true at every moment: the position that was acknowledged as
flushed is not past the last complete transaction (or keepalive) that is on the disk. Transactions without a change are
left out. A transaction that was broken off is followed by a line ``R``; it comes again, whole, after the next start.
Which stream, and when to stop, is the caller's; reconnecting too.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pgcopydb.daemon.change_file import ChangeFile, change_line, change_line_with, recover, segment_to_write
from pgcopydb.daemon.plugins import BEGIN, COMMIT, MESSAGE, Plugin, PluginMessage, reader_of, stream_options
from pgcopydb.daemon.segments import Segment
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.replication import Change, ReplicationSession
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

_FEEDBACK_SECONDS: Final = 10.0
"""A walsender gives up after wal_sender_timeout, 60 seconds unless set."""
_SYNC_BYTES: Final = 16 << 20


@dataclass(slots=True)
class Receiver:
    """Writes one stream. ``complete``: where the last transaction or keepalive ends that a file holds."""

    folder: Path
    plugin: Plugin
    timeline: int
    segment_size: int
    complete: Lsn = field(default_factory=Lsn)
    durable: Lsn = field(default_factory=Lsn)
    transactions: int = 0
    _file: ChangeFile | None = None
    _xid: str | None = None
    _withheld: bytes | None = None
    _unsynced: int = 0

    def begin(self) -> Lsn:
        """Repair what an earlier writer left. Where to start from: 0/0 leaves it to the slot."""
        self.complete = self.durable = recover(self.folder)
        if self.complete:
            # A published file may end within a transaction, which now begins anew.
            self._write(self.complete, change_line("R", self.complete))
            self._sync()
        return self.complete

    def run(self, session: ReplicationSession, slot: str, stop: Stop, *, endpos: Lsn | None = None) -> None:
        """Until a stop is requested or everything before ``endpos`` is on disk. Raises when the stream breaks."""
        session.start(slot, self.begin(), stream_options(self.plugin))
        read = reader_of(self.plugin)
        told = time.monotonic()
        try:
            while True:
                urgent, reached = False, False
                for message in session.read():
                    if isinstance(message, Change):
                        self._keep(Lsn(message.lsn), read(message.payload))
                        reached = endpos is not None and self.complete >= endpos
                    else:
                        urgent = urgent or message.urgent
                        self._pass(Lsn(message.lsn), urgent=urgent)
                        reached = endpos is not None and self._xid is None and message.lsn >= endpos.value
                    if reached:
                        break
                self._sync()
                if urgent or reached or time.monotonic() - told >= _FEEDBACK_SECONDS or stop.mode:
                    session.feedback(written=self.durable, flushed=self.durable, applied=self.durable)
                    told = time.monotonic()
                if reached or stop.mode:
                    session.finish()
                    return
                session.wait(told + _FEEDBACK_SECONDS - time.monotonic())
        finally:
            self._leave()

    def _keep(self, lsn: Lsn, message: PluginMessage) -> None:
        if message.action == MESSAGE:
            return
        line = change_line_with(
            message.action, lsn, message.payload, xid=message.xid or self._xid, timestamp=message.timestamp
        )
        if message.action == BEGIN:
            self._xid, self._withheld = message.xid, line
            return
        if self._withheld is not None:
            withheld, self._withheld = self._withheld, None
            if message.action == COMMIT:
                # Nothing in it was of interest; the position behind it is kept with the next keepalive.
                self._xid = None
                return
            self._write(lsn, withheld)
        self._write(lsn, line)
        if message.action == COMMIT:
            self._xid = None
            self.complete = lsn
            self.transactions += 1

    def _pass(self, lsn: Lsn, *, urgent: bool) -> None:
        """A keepalive: everything before it has been sent. Outside a transaction nothing is missing before it."""
        if self._xid is None and lsn > self.complete and urgent:
            self._write(lsn, change_line("K", lsn))
            self.complete = lsn

    def _write(self, lsn: Lsn, line: bytes) -> None:
        """To the file of the position, never to an earlier one: transactions come in the order of their commits."""
        segment = Segment.holding(lsn, self.timeline, self.segment_size)
        if self._file is None:
            self._file = ChangeFile(self.folder, segment_to_write(self.folder, segment))
        elif segment.number > self._file.segment.number:
            self._file.append(change_line("X", segment.start))
            self._file.publish()
            self._file = ChangeFile(self.folder, segment)
        self._file.append(line)
        self._unsynced += len(line)
        if self._unsynced >= _SYNC_BYTES:
            self._sync()

    def _sync(self) -> None:
        if self._file is not None and self._unsynced:
            self._file.sync()
            self._unsynced = 0
        self.durable = self.complete

    def _leave(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
