"""Stages without files: lines come from a pipe and go to one, so that a shell can put them together.

``transform_pipe`` reads the lines of change files and writes those of SQL files. ``print_statements`` shows these.
``apply_pipe`` reads them; the target's own progress tells what it has already, so that nothing is applied twice,
whatever is fed in. When they return the input has ended; a transaction whose end did not come was not applied.
"""

from __future__ import annotations

import logging
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Final

from pgcopydb.apply.catalog import Catalogs
from pgcopydb.apply.decode import decoder_of, read_line
from pgcopydb.apply.known_rows import messages_of
from pgcopydb.apply.replay import ApplyMode, Counts, OnConflict, Replay
from pgcopydb.apply.sql_lines import Mark, MarkLine, misplaced, read_mark
from pgcopydb.apply.sql_reader import Position, Transaction
from pgcopydb.apply.transform import Transformer, describe
from pgcopydb.daemon.change_file import PARTIAL, SQL
from pgcopydb.daemon.plugins import Plugin
from pgcopydb.daemon.progress import Progress
from pgcopydb.postgres.connect import Connection, hang_up
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.durable import disk_errors
from pgcopydb.runtime.errors import CorruptState, PgcopydbError, StateError, TargetError
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.watch import wait_for_any

logger = logging.getLogger(__name__)

_BLOCK_BYTES: Final = 1 << 18
_KEPT_BYTES: Final = 8 << 20
_LONGEST_WAIT: Final = 30.0
_ENDS: Final = frozenset({Mark.COMMIT, Mark.ROLLBACK})


def transform_pipe(
    source: IO[bytes], sink: IO[bytes], catalogs: Catalogs, plugin: Plugin, *, name: str, keep_no_op: bool = False
) -> None:
    """Lines of change files in, lines of SQL files out. ``name`` says in an error where the lines come from."""
    transformer = Transformer(
        catalogs.facts, decoder_of(plugin), messages_of(plugin), keep_no_op=keep_no_op, parts=catalogs.parts
    )
    for number, text in enumerate(source, 1):
        line = read_line(text)
        try:
            out = transformer.feed(line)
        except (StateError, TargetError) as error:
            sink.flush()
            error.message = describe(error, f"{name}, line {number}", line)
            raise
        sink.write(out)
        if line.action in "CKER":
            sink.flush()
    sink.flush()


def print_statements(folder: Path, name: str | None, sink: IO[bytes]) -> None:
    """The SQL files of a work directory behind each other, or one file; from stdin for -."""
    if name == "-":
        shutil.copyfileobj(sys.stdin.buffer, sink)
        return
    files = sorted([*folder.glob(f"*{SQL}"), *folder.glob(f"*{SQL}{PARTIAL}")]) if name is None else [Path(name)]
    for path in files:
        with disk_errors(path, "reading"), path.open("rb") as file:
            shutil.copyfileobj(file, sink)


@dataclass(slots=True)
class PipeReader:
    """Whole transactions out of a pipe; a large one is kept in a temporary file."""

    descriptor: int
    ended: bool = False
    go_on: Callable[[], bool] = lambda: True
    """Asked for each block that is read: when it says no, ``next`` returns None."""
    _pending: bytearray = field(default_factory=bytearray)
    _searched: int = 0
    _begin: MarkLine | None = None
    _lines: list[bytes] = field(default_factory=list)
    _size: int = 0
    _spool: IO[bytes] | None = None
    _from: Lsn = field(default_factory=Lsn)

    def go_to(self, position: Lsn) -> None:
        """A pipe cannot be moved in: whoever writes to it begins early enough."""
        self._from = position

    def next(self) -> Transaction | Position | None:
        """None when no more is there yet, or at the end."""
        while True:
            end = self._pending.find(b"\n", self._searched) + 1
            if end == 0:
                self._searched = len(self._pending)
                if not self._fill():
                    return None
                continue
            self._searched = 0
            line = bytes(self._pending[:end])
            del self._pending[:end]
            unit = self._take(line)
            if unit is not None:
                return unit

    def statements(self, transaction: Transaction) -> Iterator[bytes]:
        if transaction.lines is not None:
            yield from transaction.lines
        elif self._spool is not None:
            self._spool.seek(0)
            yield from self._spool

    def _fill(self) -> bool:
        if self.ended or not self.go_on() or not wait_for_any([self.descriptor], 0):
            return False
        block = os.read(self.descriptor, _BLOCK_BYTES)
        self.ended = not block
        self._pending += block
        return bool(block)

    def _take(self, line: bytes) -> Transaction | Position | None:
        mark = read_mark(line)
        if mark is None:
            self._keep(line)
            return None
        if mark.mark is Mark.SWITCH:
            return None
        if self._begin is not None and mark.mark not in _ENDS:
            raise misplaced("no more is said of a transaction", f"{self._begin.xid}, at {mark.lsn}")
        if self._begin is None and mark.mark is Mark.COMMIT and mark.lsn > self._from:
            raise CorruptState(
                f"the input begins within transaction {mark.xid}, which was committed at {mark.lsn}; the target is at"
                f" {self._from}",
                hint="Apply the file before this one first.",
            )
        begin, lines, size, large = self._begin, self._lines, self._size, self._size > _KEPT_BYTES
        self._begin = mark if mark.mark is Mark.BEGIN else None
        self._lines, self._size = [], 0
        if mark.mark is Mark.COMMIT and begin is not None:
            return Transaction(begin.lsn, mark.lsn, mark.xid, mark.timestamp, size, (0, 0), None if large else lines)
        if mark.mark in {Mark.KEEPALIVE, Mark.ENDPOS}:
            return Position(mark.lsn, mark.mark is Mark.ENDPOS)
        return None

    def _keep(self, line: bytes) -> None:
        before, self._size = self._size, self._size + len(line)
        if self._size <= _KEPT_BYTES:
            self._lines.append(line)
            return
        if before <= _KEPT_BYTES:
            self._spool = tempfile.TemporaryFile(prefix="pgcopydb-")  # noqa: SIM115  it lives as long as the transaction
            self._spool.writelines(self._lines)
            self._lines = []
        assert self._spool is not None  # noqa: S101  it was just made, or before
        self._spool.write(line)


def apply_pipe(
    connection: Connection,
    progress: Progress,
    descriptor: int,
    on_conflict: OnConflict,
    mode: ApplyMode,
    stop: Stop,
    endpos: Lsn,
) -> Counts:
    """Apply what comes until the input ends, the end position or a stop."""
    reader = PipeReader(descriptor, go_on=lambda: not stop.mode)
    replay = Replay(connection, progress, reader, on_conflict, mode)
    replay.begin()
    logger.info("Applying changes from %s on", replay.position)
    with stop.on_fast_stop(lambda: hang_up(connection)):
        while not stop.mode:
            busy = replay.step(endpos)
            if replay.reached or (reader.ended and not busy):
                break
            if not busy:
                wait_for_any([descriptor, stop.fileno()], _LONGEST_WAIT)
        replay.flush()
    logger.info("Applied %d transactions, up to %s", replay.counts.transactions, replay.durable)
    if replay.counts.conflicts:
        raise PgcopydbError(f"{replay.counts.conflicts} changes did not find their rows on the target")
    return replay.counts
