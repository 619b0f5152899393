"""Keep every change of a slot on disk, and acknowledge what is there.

Reads a walsender's stream, writes the change files. What is true at every moment: the position that was acknowledged as
flushed is not past the last complete transaction (or keepalive) that is on the disk, nor past what is durable on the
target once that replays. Transactions without a change are left out. A transaction that was broken off is followed by a
line ``R``; it comes again, whole, after the next start. Where to stop and how far the target is are set by the caller
through ``Control``; reconnecting is the caller's too.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Protocol

from pgcopydb.daemon.backlog import files_with_changes, last_commit
from pgcopydb.daemon.change_file import JSON, ChangeFile, Recovered, change_line, recover, row_line, segment_to_write
from pgcopydb.daemon.disk import Room
from pgcopydb.daemon.heartbeat import BEAT_SECONDS, Heartbeat, Phase
from pgcopydb.daemon.plugins import BEGIN, COMMIT, MESSAGE, MessageReader, PluginMessage
from pgcopydb.daemon.segments import Segment
from pgcopydb.daemon.tail import files_of, remember_first
from pgcopydb.postgres.liveness import Liveness
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.replication import Change, Keepalive, ReplicationSession
from pgcopydb.runtime.errors import SourceError, StateError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.watch import wait_for_any

logger = logging.getLogger(__name__)

_LEFT_OUT: Final = re.compile("no (?:tuple|old tuple) (?:identifier|data) for ")
"""What wal2json's warnings begin with when a change cannot be told."""
_FEEDBACK_SECONDS: Final = BEAT_SECONDS
"""A walsender gives up after wal_sender_timeout, 60 seconds unless set; it asks when half of that is over."""
_BUSY_FEEDBACK_SECONDS: Final = 1.0
_SYNC_BYTES: Final = 16 << 20
_ROOM_WARNING_SECONDS: Final = 60.0
_ROOM_HINT: Final = (
    "Make room on the disk of the work directory, or set apply going so that files can be removed. Meanwhile the source"
    " keeps its WAL."
)
_KEEPALIVE_SECONDS: Final = 10.0
"""Least time between two keepalives that are kept though nobody asked for them."""


class Control(Protocol):
    """What steers a receiver from outside."""

    @property
    def endpos(self) -> Lsn:
        """Where to stop; 0/0 is never."""

    @property
    def replayed(self) -> Lsn:
        """What is durable on the target; 0/0 while it does not replay yet."""

    def descriptors(self) -> list[int]:
        """Readable when ``refresh`` should be called before its time."""

    def refresh(self, receiver: Receiver) -> None:
        """Read the two again, and tell whoever wants to know how far the receiver is."""


@dataclass(slots=True)
class Receiver:
    """Writes one stream.

    ``start``: the slot's first position; ``complete``: where the last transaction or keepalive ends that a file holds;
    ``durable``: the same, on the disk; ``reached``: the stream was received up to the end position.
    """

    folder: Path
    timeline: int
    segment_size: int
    start: Lsn
    complete: Lsn = field(default_factory=Lsn)
    durable: Lsn = field(default_factory=Lsn)
    acknowledged: Lsn = field(default_factory=Lsn)
    transactions: int = 0
    reached: bool = False
    heart: Heartbeat = field(default_factory=lambda: Heartbeat(None, "receive"))
    room: Room | None = None
    liveness: Liveness | None = None
    _file: ChangeFile | None = None
    _xid: str | None = None
    _begun: bool = False
    _limit: int = 0
    _unsynced: int = 0
    _bytes: int = 0
    _kept: float = 0.0
    _commit_lsn: Lsn = field(default_factory=Lsn)
    """Of the last transaction that the files have; found out only where they may take so much room and no more."""
    _room_said: dict[str, float] = field(default_factory=dict)
    _room_level: int = logging.WARNING
    _committed: str | None = None
    _found: Recovered | None = None
    _ended_in: int = -1
    """Number of the segment in whose file ``complete`` is; -1 when no file has it."""
    _durable_in: int = -1

    def repair(self, stop: Stop) -> Lsn:
        """Before each ``run``: repair what an earlier writer left. Where the last transaction or keepalive ends.

        However large the transaction is that was left open: it beats, and raises ``Stopped`` when a stop is requested.
        """

        def beat() -> None:
            self.heart.beat()
            stop.check()

        self._found = found = recover(self.folder, beat)
        if found.action == "C":
            self._commit_lsn = found.position
        elif self.room is not None and self.room.limits.most:
            self._commit_lsn = last_commit([*files_with_changes(self.folder, self.segment_size).values()], beat)
        return found.position

    def begin(self, confirmed: Lsn) -> Lsn:
        """Where to start from, behind what was found.

        Raises ``StateError`` when the slot was acknowledged further than the files reach: changes are missing.
        """
        # What an earlier attempt has come to says nothing of this one: the end position may have been moved.
        self._xid, self._begun, self._unsynced, self.reached = None, False, 0, False
        found, self._found = self._found, None
        assert found is not None  # noqa: S101  repair() comes first
        position = max(found.position, self.start)
        if confirmed > position:
            raise StateError(
                f"the slot was acknowledged up to {confirmed}, the files of {self.folder} end at {position}",
                hint="Changes in between are lost: files were removed, or another program reads this slot. "
                "Begin again with a new slot and a new copy.",
            )
        self.complete = self.durable = position
        self._ended_in = -1
        if found.path is not None:
            self._ended_in = Segment.parse(found.path.name.partition(".")[0], self.segment_size).number
        if found.open:
            # What is there of the transaction stays; it now comes again from its beginning.
            self._write_end(position, change_line("R", position))
        self._sync()
        return position

    def run(
        self,
        session: ReplicationSession,
        slot: str,
        options: Mapping[str, str],
        read: MessageReader,
        stop: Stop,
        control: Control,
    ) -> None:
        """Until a stop is requested or everything up to the end position is there. Raises when the stream breaks."""
        try:
            session.start(slot, self.begin(session.confirmed_flush(slot)), options)
            control.refresh(self)
            told = time.monotonic()
            while True:
                has_room = self._wait_for_room(session, stop, control)
                urgent = has_room and self._take(session, read, control)
                self._heed_warnings(session)
                self._flush()
                self.heart.at(self.complete, self.transactions, committed=self._committed)
                self.heart.beat()
                now = time.monotonic()
                pause = _BUSY_FEEDBACK_SECONDS if self._behind(control) else _FEEDBACK_SECONDS
                if urgent or self.reached or stop.mode or now - told >= pause:
                    self._sync()
                    self._acknowledge(session, control)
                    told = now
                if self.reached or stop.mode:
                    self._end(session, control)
                    return
                if self.liveness is not None:
                    self.liveness.check(session.heard)
                if session.wait(told + pause - time.monotonic(), [stop.fileno(), *control.descriptors()]):
                    control.refresh(self)
        finally:
            self._leave()

    def _wait_for_room(self, session: ReplicationSession, stop: Stop, control: Control) -> bool:
        """Nothing is read from the server while there is no room, and it is told that we live: its place is kept.

        False when a stop was requested before there was room.
        """
        paused = False
        while self.room is not None and not stop.mode and (lacking := self.room.lacking(self._bytes, self._durable_in)):
            if self.room.is_own_limit and control.replayed >= self._commit_lsn:
                self._say_room(
                    "%s, though all of it is applied: the next transaction is received all the same", lacking
                )
                return True
            if not paused:
                paused = True
                self._say_room("%s: receiving is paused, and goes on by itself when there is room", lacking)
            self._flush()
            self._sync()
            self._acknowledge(session, control)
            self.heart.beat(Phase.PAUSED, lacking)
            pause = min(_BUSY_FEEDBACK_SECONDS, session.sender_timeout() / 4)
            wait_for_any([stop.fileno(), *control.descriptors()], pause)
            control.refresh(self)
        if paused and stop.mode:
            return False
        if paused:
            logger.log(self._room_level, "There is room again: receiving goes on")
        return True

    def _say_room(self, message: str, lacking: str) -> None:
        """Aloud once in a while: where room is just so short it comes and goes with each transaction."""
        now = time.monotonic()
        before = self._room_said.get(message)
        aloud = before is None or now - before > _ROOM_WARNING_SECONDS
        self._room_level = logging.WARNING if aloud else logging.DEBUG
        if aloud:
            self._room_said[message] = now
        logger.log(self._room_level, message, lacking)
        logger.log(self._room_level, "hint: %s", _ROOM_HINT)

    def _take(self, session: ReplicationSession, read: MessageReader, control: Control) -> bool:
        """Everything that has arrived. Whether the server wants an answer at once."""
        urgent = False
        endpos = control.endpos.value or 1 << 64
        for message in session.read():
            if isinstance(message, Keepalive):
                urgent = urgent or message.urgent
                self._pass(message, endpos)
            elif message.lsn > endpos:
                self.reached = True
            else:
                self._take_change(message, read)
                if self._xid is None:
                    self.reached = self.complete.value >= endpos
            if self.reached:
                break
        else:
            # It may have been set to what is here already.
            self.reached = self._xid is None and self.complete.value >= endpos
        return urgent

    def _heed_warnings(self, session: ReplicationSession) -> None:
        """A change that was left out is not acknowledged."""
        for warning in session.warnings():
            if not _LEFT_OUT.match(warning):
                logger.warning("the source says: %s", warning)
                continue
            raise SourceError(
                f"the output plugin has left out a change: {warning}",
                hint="The table has no replica identity. Give it one (ALTER TABLE … REPLICA IDENTITY FULL) and begin "
                "again: what the change was cannot be found out any more.",
            )

    def _take_change(self, change: Change, read: MessageReader) -> None:
        message = read(change.payload)
        if message is None:
            return
        action, xid, _, payload = message
        if action == BEGIN:
            self._xid, self._begun = xid, False
        elif action == COMMIT:
            self._commit(Lsn(change.lsn), message)
        elif action != MESSAGE:
            if not self._begun:
                # Where the first change is: the server gives no position with the begin.
                self._begun = True
                self._write(change.lsn, change_line("B", Lsn(change.lsn), xid=self._xid))
            self._write(change.lsn, row_line(action, self._xid or "", change.lsn, payload))

    def _commit(self, lsn: Lsn, message: PluginMessage) -> None:
        xid, self._xid = self._xid, None
        if not self._begun:
            # Nothing in it was of interest; the position behind it is kept with the next keepalive.
            return
        self._write_end(lsn, change_line("C", lsn, xid=xid, timestamp=message.timestamp))
        self.complete = lsn
        self._commit_lsn, self._committed = lsn, message.timestamp
        self.transactions += 1

    def _pass(self, keepalive: Keepalive, endpos: int) -> None:
        """All before a keepalive's position has been sent. Outside a transaction nothing is missing before it."""
        if self._xid is not None or keepalive.lsn <= self.complete.value:
            return
        now = time.monotonic()
        if keepalive.urgent or keepalive.lsn >= endpos or now - self._kept >= _KEEPALIVE_SECONDS:
            position = Lsn(keepalive.lsn)
            self._write_end(position, change_line("K", position))
            self.complete = position
            self.reached = keepalive.lsn >= endpos
            self._kept = now

    def _write(self, lsn: int, line: bytes) -> None:
        """To the file of the position, never to an earlier one: transactions come in the order of their commits."""
        if self._file is None or lsn >= self._limit:
            file, self._file = self._file, None
            self._file = self._file_for(Lsn(lsn), file)
            self._limit = self._file.segment.end.value
        self._file.append(line)
        self._unsynced += len(line)
        self._bytes += len(line)
        if self._unsynced >= _SYNC_BYTES:
            self._sync()

    def _write_end(self, lsn: Lsn, line: bytes) -> None:
        """A line behind which no transaction is open."""
        self._write(lsn.value, line)
        if self._file is not None:
            self._ended_in = self._file.segment.number

    def _file_for(self, lsn: Lsn, file: ChangeFile | None) -> ChangeFile:
        """The one that is written on, or the one that follows it."""
        segment = Segment.holding(lsn, self.timeline, self.segment_size)
        if file is None:
            if not files_of(self.folder, JSON, self.segment_size):
                remember_first(self.folder, segment.name)
            file = ChangeFile(self.folder, segment_to_write(self.folder, segment))
        if segment.number <= file.segment.number:
            return file
        file.append(change_line("X", segment.start))
        failpoint("receive.before_publish")
        file.sync()
        failpoint("receive.before_rename")
        file.publish()
        failpoint("receive.after_publish")
        return ChangeFile(self.folder, segment)

    def _flush(self) -> None:
        """Readers see what has arrived."""
        if self._file is not None:
            self._file.flush()
            failpoint("receive.after_write")

    def _sync(self) -> None:
        if self._file is not None and self._unsynced:
            failpoint("receive.before_sync")
            self._file.sync()
            self._unsynced = 0
            self.heart.beat()
            failpoint("receive.after_sync")
        self.durable, self._durable_in = self.complete, self._ended_in

    def _behind(self, control: Control) -> bool:
        return self._unsynced > 0 or self.acknowledged < min(self.durable, control.replayed or self.durable)

    def _acknowledge(self, session: ReplicationSession, control: Control) -> None:
        self.acknowledged = min(self.durable, control.replayed or self.durable)
        session.feedback(written=self.durable, flushed=self.acknowledged, applied=control.replayed)
        failpoint("receive.after_feedback")

    def _end(self, session: ReplicationSession, control: Control) -> None:
        if self.reached:
            failpoint("receive.at_endpos")
            left_open = self._xid is not None and self._begun
            if left_open or self.complete < control.endpos:
                # In the file of the end position, for earlier ones are removed when the target has come to it.
                self._write(control.endpos.value, change_line("R" if left_open else "K", self.complete))
            self._write(control.endpos.value, change_line("E", control.endpos))
            # What was received reaches as far as that: nothing more was committed before it.
            self.complete = max(self.complete, control.endpos)
            self._sync()
        session.finish()
        control.refresh(self)

    def _leave(self) -> None:
        if self._file is not None:
            self._file.close()
            self._file = None
