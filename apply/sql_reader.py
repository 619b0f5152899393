"""Whole transactions out of the SQL files, as they grow.

A transaction comes out when its COMMIT is there, so that nothing is begun that may not end. A small one is in memory;
of a large one only where it is. Whatever was rolled back does not come out at all. Waiting is the caller's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pgcopydb.apply.sql_lines import Mark, MarkLine, misplaced, read_mark
from pgcopydb.daemon.change_file import SQL, open_either
from pgcopydb.daemon.tail import Tail, check_first, files_of
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import CorruptState

_KEPT_BYTES: Final = 8 << 20
"""Up to this size a transaction is kept in memory."""


@dataclass(frozen=True, slots=True)
class Transaction:
    """``lines`` are its statements, or None when it is large: then they are read again (``SqlReader.statements``)."""

    begin: Lsn
    commit: Lsn
    xid: int | None
    timestamp: str | None
    size: int
    place: tuple[int, int]
    lines: list[bytes] | None


@dataclass(frozen=True, slots=True)
class Position:
    """Everything that was committed up to here has come out. ``end``: the source's stream was received no further."""

    lsn: Lsn
    end: bool


@dataclass(slots=True)
class SqlReader:
    """Reads on from ``go_to``. No transaction comes out twice, whatever is made again meanwhile."""

    folder: Path
    segment_size: int
    go_on: Callable[[], bool] = lambda: True
    """Called for each block that is read, for a transaction may have any number of them before its COMMIT is there.
    When it says no, ``next`` returns None in the middle of one, and reads on from there the next time."""
    _tail: Tail = field(init=False)
    _units: Iterator[Transaction | Position] = field(init=False)
    _begin: MarkLine | None = None
    _began: tuple[int, int] = (-1, 0)
    _lines: list[bytes] | None = None
    _size: int = 0
    _from: Lsn = field(default_factory=Lsn)
    _returned: Lsn = field(default_factory=Lsn)
    """Where the last transaction was committed that came out."""
    _between: bool = False
    """Whether the last line that was read is known to end something."""

    def __post_init__(self) -> None:
        self._tail = Tail(self.folder, SQL, self.segment_size)
        self._units = iter(())

    def close(self) -> None:
        self._tail.close()

    def go_to(self, position: Lsn) -> None:
        """Before the first transaction that was committed after ``position``."""
        self._from, self._returned, self._between = position, Lsn(), False
        files = files_of(self.folder, SQL, self.segment_size)
        check_first(files, self.segment_size)
        self._restart((first_file(files, position, self.segment_size) if files else -1, 0))

    def next(self) -> Transaction | Position | None:
        """None when no more is there yet."""
        while True:
            unit = next(self._units, None)
            if unit is not None:
                return unit
            if not self.go_on():
                return None
            block = self._tail.read()
            if block:
                self._units = self._read_block(block)
            elif self._tail.was_replaced():
                self._read_again()
            else:
                return None

    def statements(self, transaction: Transaction) -> Iterator[bytes]:
        """The lines of its statements."""
        if transaction.lines is not None:
            yield from transaction.lines
            return
        tail = Tail(self.folder, SQL, self.segment_size)
        tail.go_to(*transaction.place)
        try:
            while block := tail.read():
                # Part of it may have been applied: what it says does not end it, what it raises does.
                self.go_on()
                for line in block.splitlines(keepends=True):
                    mark = read_mark(line)
                    if mark is None:
                        yield line
                    elif mark.mark is Mark.COMMIT:
                        return
                    elif mark.mark is Mark.SWITCH:
                        tail.follow(mark.lsn)
            raise CorruptState(
                f"the end of transaction {transaction.xid} at {transaction.commit} is gone from {tail.name}",
                hint="Was the file removed or edited? Run again with --resume.",
            )
        finally:
            tail.close()

    def _read_again(self) -> None:
        """From a place that is certain: after a power failure what was made again may have other lines before it."""
        self._between = False
        position = max(self._from, self._returned)
        files = files_of(self.folder, SQL, self.segment_size)
        self._restart((first_file(files, position, self.segment_size) if files else -1, 0))

    def _restart(self, place: tuple[int, int]) -> None:
        self._tail.go_to(*place)
        self._units = iter(())
        self._begin, self._lines, self._size = None, None, 0

    def _read_block(self, block: bytes) -> Iterator[Transaction | Position]:
        number = self._tail.number
        end = self._tail.offset - len(block)
        for line in block.splitlines(keepends=True):
            end += len(line)
            try:
                mark = read_mark(line)
                if mark is None:
                    self._keep(line)
                    continue
                unit = self._read_mark(mark, (number, end))
            except CorruptState as error:
                error.message = f"{self.folder / self._tail.name}, byte {end - len(line)}: {error.message}"
                raise
            if unit is not None:
                yield unit

    def _read_mark(self, mark: MarkLine, place: tuple[int, int]) -> Transaction | Position | None:
        kind = mark.mark
        if kind is Mark.SWITCH:
            self._tail.follow(mark.lsn)
            return None
        if kind is Mark.BEGIN:
            if self._begin is not None:
                raise misplaced("a transaction begins within another", mark.lsn)
            self._begin, self._began, self._lines, self._size = mark, place, [], 0
            self._between = False
            return None
        begin, lines, size = self._begin, self._lines, self._size
        self._begin, self._lines, self._size = None, None, 0
        self._between = True
        if kind is Mark.COMMIT:
            if begin is None and mark.lsn > max(self._from, self._returned):
                raise misplaced("the end of a transaction that did not begin", mark.lsn)
            if begin is None or mark.lsn <= self._returned:
                return None  # it began before where reading began, or has come out before
            self._returned = mark.lsn
            return Transaction(begin.lsn, mark.lsn, mark.xid, mark.timestamp, size, self._began, lines)
        if kind is Mark.ROLLBACK:
            return None
        if begin is not None:
            raise misplaced("no more is said of a transaction", mark.lsn)
        return Position(mark.lsn, kind is Mark.ENDPOS)

    def _keep(self, line: bytes) -> None:
        if self._between:
            raise misplaced("a statement outside of a transaction", repr(line[:80]))
        self._size += len(line)
        if self._size > _KEPT_BYTES:
            self._lines = None
        elif self._lines is not None:
            self._lines.append(line)


def first_file(files: Mapping[int, Path], position: Lsn, segment_size: int) -> int:
    """Which of the SQL files, by the numbers of their segments, the first transaction behind a position begins in."""
    wanted = position.value // segment_size
    numbers = list(files)
    # A commit is never in a file before that of its position; its transaction may begin in an earlier one.
    start = next((index for index, number in enumerate(numbers) if number >= wanted), len(numbers) - 1)
    while start > 0 and _continues(files[numbers[start]]):
        start -= 1
    return numbers[start]


def _continues(path: Path) -> bool:
    """Whether the file begins within a transaction."""
    with open_either(path) as file:
        mark = read_mark(line) if (line := file.readline()).endswith(b"\n") else None
        return line != b"" and (mark is None or mark.mark in {Mark.COMMIT, Mark.ROLLBACK})
