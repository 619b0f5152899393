"""The stage that transforms: change files into SQL files, one for one, as they grow.

Reads the JSON files of the work directory and both servers' catalogs; writes the SQL files. What is true when
``transform_stage`` returns: everything that was received up to the end position is SQL. An SQL file can be made again
from its change file at any time; after a crash the work goes on behind the last line that ends something in both. While
the copy is still running a change may go to a table that is not there yet: it is waited for.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pgcopydb.apply.catalog import Catalogs, MissingTable
from pgcopydb.apply.decode import Line, decoder_of, read_line
from pgcopydb.apply.known_rows import messages_of
from pgcopydb.apply.sql_lines import BOUNDARIES, Mark, MarkLine, read_mark
from pgcopydb.apply.transform import SchemaMismatch, Transformer, describe
from pgcopydb.daemon.backlog import last_commit
from pgcopydb.daemon.change_file import JSON, PARTIAL, ROW_LINES, SQL, Beat, ChangeFile, no_beat
from pgcopydb.daemon.control import check_reached
from pgcopydb.daemon.heartbeat import BEAT_SECONDS, Heartbeat, Phase, heartbeat_of, told_how_it_ends
from pgcopydb.daemon.segments import Segment
from pgcopydb.daemon.sentinel import Sentinel
from pgcopydb.daemon.stream import Stream
from pgcopydb.daemon.tail import Tail, check_first, files_of
from pgcopydb.postgres.connect import Endpoint, hang_up, unless_stopped
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.selection import load_selection
from pgcopydb.runtime.durable import disk_errors, fsync_file, publish
from pgcopydb.runtime.errors import CorruptState, PgcopydbError, StateError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.retry import persist
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.watch import FolderWatch, wait_for_any
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

SERVICE: Final = "transform"
APPLY: Final = "apply"
_LONGEST_BLIND_WAIT: Final = 5.0
"""What ends a wait for the target's schema, or for the end of another stage, is not announced."""
_STARTING_SECONDS: Final = 2.0
"""So long the stage that applies may take to start, when both were started together."""
_BLOCK_BYTES: Final = 1 << 20
_BOUNDARY_ACTIONS: Final = frozenset("CRKXE")
_POSITIONS: Final = frozenset("CKE")
"""Actions that say up to where nothing is missing any more."""


@dataclass(slots=True)
class Stage:
    """One process's work. ``reached``: everything up to the end position is SQL."""

    source: Endpoint
    target: Endpoint
    sentinel: Sentinel
    workdir: WorkDir
    stream: Stream
    stop: Stop
    keep_no_op: bool = False
    reached: bool = False
    transactions: int = 0
    endpos: Lsn = field(default_factory=Lsn)
    position: Lsn = field(default_factory=Lsn)
    _file: ChangeFile | None = None
    _warned: bool = False
    _committed: Lsn = field(default_factory=Lsn)
    heart: Heartbeat = field(init=False)
    _tail: Tail = field(init=False)

    def __post_init__(self) -> None:
        self.heart = heartbeat_of(self.workdir, SERVICE)
        self._tail = Tail(self.workdir.changes, JSON, self.stream.segment_size)

    def run(self) -> None:
        """From where the files are, until the end position or a stop. Raises ``Kind.RETRY`` for a lost connection."""
        self.sentinel.listen()
        with (
            FolderWatch(self.workdir.changes) as watch,
            unless_stopped(lambda: self.source.connect(SERVICE), self.stop) as reader,
            unless_stopped(lambda: self.target.connect(SERVICE), self.stop) as writer,
            self.stop.on_fast_stop(lambda: hang_up(reader)),
            self.stop.on_fast_stop(lambda: hang_up(writer)),
        ):
            catalogs = Catalogs(reader, writer, load_selection(self.workdir))
            transformer = Transformer(
                catalogs.facts,
                decoder_of(self.stream.plugin),
                messages_of(self.stream.plugin),
                keep_no_op=self.keep_no_op,
                follows=catalogs.follows,
                parts=catalogs.parts,
            )
            self.position = resume_at(self._tail, self._alive)
            try:
                while not self.stop.mode:
                    if self.sentinel.was_announced():
                        self.endpos = self.sentinel.read().endpos
                    watch.drain()
                    self.reached = self._at_end() or any(
                        self._feed(transformer, catalogs, line) for line in self._lines()
                    )
                    self._flush()
                    self.heart.at(self.position, self.transactions)
                    if self.reached:
                        break
                    self.heart.beat()
                    wait_for_any([watch.fileno(), self.sentinel.fileno(), self.stop.fileno()], BEAT_SECONDS)
            finally:
                self._close()

    def _lines(self) -> Iterator[Line]:
        """What is there now."""
        while not self.stop.mode and (block := self._tail.read()):
            self.heart.at(self.position, self.transactions)
            self.heart.beat()
            start = self._tail.offset - len(block)
            for text in block.splitlines(keepends=True):
                try:
                    line = read_line(text)
                except CorruptState as error:
                    self._give_up(error, f"{self._tail.folder / self._tail.name}, byte {start}: {error.message}")
                    raise
                if line.action == "X" and not self._tail.is_final():
                    # It comes with the file's final name, or not at all: the writer may have died before.
                    self._tail.offset -= len(text)
                    return
                start += len(text)
                yield line

    def _feed(self, transformer: Transformer, catalogs: Catalogs, line: Line) -> bool:
        """Whether this line has brought it to the end position."""
        while True:
            try:
                out = transformer.feed(line)
                break
            except (MissingTable, SchemaMismatch, StateError) as error:
                catalogs.forget()
                transformer.forget()
                message = describe(error, self._tail.name, line)
                if isinstance(error, StateError) or self.sentinel.read().apply:
                    self._give_up(error, message)
                    raise
                self._flush()
                error.message = message
                # The table may not be there yet; or there is time to mend it until the copy is complete.
                level = logging.DEBUG if isinstance(error, MissingTable) or self._warned else logging.WARNING
                logger.log(level, "waiting for the copy: %s", error)
                logger.log(level, "hint: %s", error.hint)
                self._warned = self._warned or level == logging.WARNING
                self.heart.beat(Phase.WAITING, "the copy")
                self._wait_for_sentinel()
        self._write(out)
        if line.action == "X":
            self._publish()
            self._tail.follow(line.position)
        elif line.action in _POSITIONS:
            if line.action == "C":
                self.transactions += 1
                self._committed = line.position
            self.position = max(self.position, line.position)
            return self._at_end()
        return False

    def _at_end(self) -> bool:
        return bool(self.endpos) and self.position >= self.endpos

    def _give_up(self, error: PgcopydbError, message: str) -> None:
        """What came before a change that does not fit is applied before this stage ends, and with it all others."""
        error.message = message
        self._flush()
        if not self._committed:
            # An earlier process may have left more than apply has taken since.
            files = files_of(self.workdir.changes, SQL, self.stream.segment_size)
            self._committed = last_commit([*files.values()], self._alive)
        if self._apply_is_behind():
            logger.warning("what came before it is applied first: %s", error)
        begun = time.monotonic()
        while self._apply_is_behind():
            self.heart.beat(Phase.WAITING, "what came before is applied")
            if not self.workdir.is_locked(APPLY) and time.monotonic() - begun > _STARTING_SECONDS:
                break
            self._wait_for_sentinel(_STARTING_SECONDS)

    def _apply_is_behind(self) -> bool:
        row = self.sentinel.read()
        # Positions behind the last transaction are not worth a report to apply.
        return row.apply and row.replay_lsn < self._committed

    def _wait_for_sentinel(self, longest: float = _LONGEST_BLIND_WAIT) -> None:
        wait_for_any([self.sentinel.fileno(), self.stop.fileno()], longest)
        self.sentinel.was_announced()
        self.stop.check()

    def _alive(self) -> None:
        """While files are read as a whole."""
        self.heart.beat()
        self.stop.check()

    def _write(self, out: bytes) -> None:
        if self._file is None:
            segment = Segment.parse(self._tail.name.removesuffix(JSON), self.stream.segment_size)
            self._file = ChangeFile(self.workdir.changes, segment, SQL)
        self._file.append(out)

    def _flush(self) -> None:
        if self._file is not None:
            self._file.flush()
            failpoint("transform.after_write")

    def _publish(self) -> None:
        assert self._file is not None  # noqa: S101  a line was just written to it
        failpoint("transform.before_publish")
        self._file.sync()
        failpoint("transform.before_rename")
        file, self._file = self._file, None
        file.publish()
        failpoint("transform.after_publish")

    def _close(self) -> None:
        self._tail.close()
        # Forgotten whatever comes: after an error the file is repaired, and another one may stand in its place.
        file, self._file = self._file, None
        if file is not None:
            try:
                file.flush()
            finally:
                file.close()


def transform_stage(stage: Stage) -> None:
    """Transform until the end position. Raises ``Stopped`` when a stop came before."""
    with (
        stage.workdir.lock(SERVICE),
        told_how_it_ends(stage.heart),
        stage.stop.on_fast_stop(stage.sentinel.hang_up),
    ):
        persist(stage.run, what="transforming changes", stop=stage.stop, on_retry=stage.heart.retrying)
        check_reached(stage.reached)
    logger.info("Transformed everything that was received: %d transactions", stage.transactions)


def resume_at(tail: Tail, beat: Beat = no_beat) -> Lsn:
    """Cut the unfinished end of the last SQL file, and go to the line behind what it was made of.

    Returns where the last transaction or keepalive of that file is, 0/0 when it has none.
    """
    files = files_of(tail.folder, SQL, tail.segment_size)
    if not files:
        check_first(files_of(tail.folder, JSON, tail.segment_size), tail.segment_size)
        tail.go_to(-1)
        return Lsn()
    number, path = next(reversed(files.items()))
    with disk_errors(path, "repairing"):
        marks = _boundaries(path, beat)
        if path.name.endswith(PARTIAL):
            tail.go_to(number)
            matched, offset = _match(tail, marks, beat)
            marks = marks[:matched]
            kept = marks[-1][0] if marks else 0
            if kept < path.stat().st_size:
                _shorten(path, kept, beat)
                failpoint("repair.after_shorten")
            tail.go_to(number, offset)
            if marks and marks[-1][1].mark is Mark.SWITCH:
                fsync_file(path)
                publish(path, path.with_name(path.name.removesuffix(PARTIAL)))
        if marks and marks[-1][1].mark is Mark.SWITCH:
            tail.follow(marks[-1][1].lsn)
        elif not path.name.endswith(PARTIAL):
            raise StateError(
                f"{path} does not end with a line that closes it",
                hint=f"Remove {path.name}: it is made again from its change file.",
            )
    positions = [mark.lsn for _, mark in marks if mark.mark in {Mark.COMMIT, Mark.KEEPALIVE, Mark.ENDPOS}]
    return max(positions, default=Lsn())


def _shorten(path: Path, size: int, beat: Beat) -> None:
    """By a new file in the place of the old one: who is reading that can tell, and begins again."""
    aside = path.with_name(f".{path.name}")
    with path.open("rb") as old, aside.open("wb") as new:
        left = size
        while left:
            beat()
            left -= new.write(old.read(min(left, _BLOCK_BYTES)))
    publish(aside, path)


def _boundaries(path: Path, beat: Beat) -> list[tuple[int, MarkLine]]:
    """Lines of an SQL file that end something, with the byte behind each."""
    found: list[tuple[int, MarkLine]] = []
    end, told = 0, 0
    with path.open("rb") as file:
        for line in file:
            end += len(line)
            if end - told >= _BLOCK_BYTES:
                told = end
                beat()
            if b"\0" in line:
                break  # a power failure left a hole
            if line.endswith(b"\n") and line[:1] in b"CR-":
                mark = read_mark(line)
                if mark is not None and mark.mark in BOUNDARIES:
                    found.append((end, mark))
    return found


def _match(tail: Tail, marks: list[tuple[int, MarkLine]], beat: Beat) -> tuple[int, int]:
    """How many of the marks the change file has too, and the byte behind the line of the last one.

    A change file whose last lines a power failure took has others in their place: keepalives come at other times.
    """
    matched, offset, position = 0, 0, 0
    while block := tail.read():
        beat()
        for line in block.splitlines(keepends=True):
            position += len(line)
            if line.startswith(ROW_LINES):
                continue
            found = read_line(line)
            if found.action not in _BOUNDARY_ACTIONS:
                continue
            if matched == len(marks) or not _is_same(marks[matched][1], found):
                return matched, offset
            matched, offset = matched + 1, position
            if found.action == "X":
                return matched, offset
    return matched, offset


def _is_same(mark: MarkLine, line: Line) -> bool:
    return mark.lsn == line.position and mark.mark.name[0] == {"X": "S"}.get(line.action, line.action)
