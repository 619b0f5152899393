"""Read what another process writes: the lines of a row of files, one for each WAL segment, while they grow.

A file is read under its unfinished or its final name. Only whole lines come out. Which file follows is said by the line
that closes one; a file that is not there although a later one is has been lost, and is an error. Which one is the first
is kept in ``first``, by whoever makes it and by whoever removes those before. Waiting is the caller's.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pgcopydb.daemon.change_file import PARTIAL, SQL
from pgcopydb.daemon.segments import Segment
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.durable import disk_errors
from pgcopydb.runtime.errors import CorruptState
from pgcopydb.runtime.sealed import read_sealed, write_sealed

_BLOCK_BYTES: Final = 1 << 18
_PIECE_BYTES: Final = 1 << 30
_LOST: Final = "Changes in it are lost unless it comes back. Restore it, or begin again with a new slot and a new copy."
_FIRST: Final = "first"
_MADE_AGAIN: Final = "Remove the later .sql files too: transform makes them again from the .json files."


def files_of(folder: Path, suffix: str, segment_size: int) -> dict[int, Path]:
    """The files with ``.json`` or ``.sql``, finished or not, by the number of their segment, in order."""
    found: dict[int, Path] = {}
    with disk_errors(folder, "reading the folder"):
        paths = list(folder.iterdir())
    for path in paths:
        name = path.name.removesuffix(PARTIAL)
        if name.endswith(suffix) and not name.startswith("."):
            try:
                found[Segment.parse(name.removesuffix(suffix), segment_size).number] = path
            except ValueError as exc:
                raise CorruptState(
                    f"{path}: {exc}", hint="Only pgcopydb's own files belong in this folder; move it away."
                ) from exc
    return dict(sorted(found.items()))


def remember_first(folder: Path, segment: str) -> None:
    """The file of this segment is the first one that there has to be."""
    write_sealed(folder / _FIRST, {"segment": segment})


def move_first_on(folder: Path, segment: Segment) -> None:
    """As ``remember_first``, unless a later one is the first already."""
    note = folder / _FIRST
    if not note.exists() or _read_first(note, segment.size).number < segment.number:
        remember_first(folder, segment.name)


def check_first(files: Mapping[int, Path], segment_size: int) -> None:
    """Raises ``CorruptState`` when somebody else than this program has removed the first ones."""
    number, path = next(iter(files.items()), (-1, Path()))
    note = path.with_name(_FIRST) if files else path
    if not note.is_file():
        return
    first = _read_first(note, segment_size)
    if number > first.number:
        suffix = path.name.removesuffix(PARTIAL).partition(".")[2]
        raise CorruptState(
            f"files are missing in {path.parent}: the first one is {path.name}, and the target may not have the changes"
            f" of {first.name}.{suffix}",
            hint=_MADE_AGAIN if f".{suffix}" == SQL else _LOST,
        )


def _read_first(note: Path, segment_size: int) -> Segment:
    try:
        return Segment.parse(str(read_sealed(note)["segment"]), segment_size)
    except (ValueError, KeyError) as exc:
        raise CorruptState(
            f"{note} does not say which file is the first: {exc}",
            hint="Restore it; or remove it, if you know that no file of changes is gone.",
        ) from exc


@dataclass(slots=True)
class Tail:
    """Where a reader is: the number of the segment whose file it reads, and the byte behind what it has taken."""

    folder: Path
    suffix: str
    segment_size: int
    number: int = -1
    offset: int = 0
    name: str = ""
    _fd: int = field(default=-1, repr=False)
    _searched: int = field(default=0, repr=False)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def go_to(self, number: int, offset: int = 0) -> None:
        """Read on in the file of this segment, which may not be there yet."""
        self.close()
        self.number, self.offset, self._searched = number, offset, 0

    def follow(self, switch: Lsn) -> None:
        """The file is closed, and says that the next one is that of this position."""
        self.go_to(switch.value // self.segment_size)

    def is_final(self) -> bool:
        """Whether the file that is being read has its final name: nothing is written to it any more."""
        return not (self.folder / f"{self.name}{PARTIAL}").exists()

    def was_replaced(self) -> bool:
        """Whether the file that is being read was put aside for another one, which begins as it did."""
        if self._fd < 0:
            return False
        final = self.folder / self.name
        for path in (final.with_name(final.name + PARTIAL), final):
            try:
                found = path.stat()
            except FileNotFoundError:
                continue
            mine = os.fstat(self._fd)
            return (found.st_ino, found.st_dev) != (mine.st_ino, mine.st_dev)
        return False

    def read(self) -> bytes:
        """Some whole lines, or nothing when no more are there yet. Raises ``CorruptState`` for a lost file, and for one
        that nobody writes to any more whose last line does not close it."""
        if self._fd < 0 and not self._open():
            return b""
        # Before reading: what is written until it gets its final name is there then.
        final = (self.folder / self.name).exists()
        with disk_errors(self.folder / self.name, "reading"):
            block = os.pread(self._fd, _BLOCK_BYTES, self.offset)
            end = block.rfind(b"\n") + 1
            if not end and len(block) == _BLOCK_BYTES:
                block = self._long_line()
                end = len(block)
        if final and not end:
            # Behind the line that closes a file nobody reads on in it.
            raise CorruptState(
                f"{self.folder / self.name} does not end with a line that closes it: it was cut off",
                hint="Remove it and all later .sql files: transform makes them again."
                if self.suffix == SQL
                else "Restore it. If you cannot, remove it and all later files of both kinds: what the source has still"
                " comes again, and receiving says so if something does not.",
            )
        self.offset += end
        return block[:end]

    def _long_line(self) -> bytes:
        """One that is longer than a block, alone; nothing while its end is not there."""
        # A writer may take its time: what was searched is not searched again.
        self._searched = max(self._searched, self.offset)
        while block := os.pread(self._fd, _BLOCK_BYTES, self._searched):
            end = block.find(b"\n") + 1
            if end:
                return self._between(self.offset, self._searched + end)
            self._searched += len(block)
        return b""

    def _between(self, start: int, end: int) -> bytes:
        pieces: list[bytes] = []
        # One call of the system reads 2 GB at most.
        while start < end and (piece := os.pread(self._fd, min(end - start, _PIECE_BYTES), start)):
            pieces.append(piece)
            start += len(piece)
        return b"".join(pieces) if start == end else b""

    def _open(self) -> bool:
        files = files_of(self.folder, self.suffix, self.segment_size)
        if self.number < 0 and files:
            self.number = next(iter(files))
        path = files.get(self.number)
        if path is None:
            later = next((number for number in files if number > self.number), None)
            if later is not None:
                raise CorruptState(
                    f"a file is missing in {self.folder}: the one before {files[later].name}",
                    hint=_MADE_AGAIN if self.suffix == SQL else _LOST,
                )
            return False
        final = path.with_name(path.name.removesuffix(PARTIAL))
        for candidate in (path, final):
            try:
                self._fd = os.open(candidate, os.O_RDONLY | os.O_CLOEXEC)
            except FileNotFoundError:
                continue  # it got its final name meanwhile
            self.name = final.name
            return True
        return False
