"""The files that changes are kept in: JSON lines, one file for each WAL segment, one writer.

While it is written a file is called ``<segment>.json.partial``; ``publish`` gives it its final name ``<segment>.json``.
What is true when ``sync`` returns: every line appended so far is on the disk, whole. After a crash ``recover`` cuts the
torn line at the end, what a power failure left unwritten, and nothing else: readers may have read every whole line. A
transaction whose end is missing stays; the writer says with a line of its own (``R``) that it was given up, and it
comes again. What lines hold is the business of ``change_line``; which positions are acknowledged is the receiver's.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Final, NamedTuple

import orjson

from pgcopydb.daemon.segments import Segment
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.durable import disk_errors, fsync_directory, publish
from pgcopydb.runtime.errors import CorruptState
from pgcopydb.runtime.failpoint import failpoint

JSON: Final = ".json"
SQL: Final = ".sql"
PARTIAL: Final = ".partial"
"""Behind the name of a file that is still being written."""

_BUFFER_BYTES: Final = 1 << 18
_BLOCK_BYTES: Final = 1 << 20
_SYNC_BYTES: Final = 1 << 28
"""At the latest after so much a file goes to the disk: of more, ``publish`` might have to wait for minutes."""
_POSITIONS: Final = frozenset({"C", "K", "R"})
"""Actions after which nothing is left open, and whose position is that of the last complete transaction."""
_BETWEEN: Final = frozenset({"E", "X"})
"""Actions that open nothing and end nothing."""
ROW_LINES: Final = (b'{"action":"I"', b'{"action":"U"', b'{"action":"D"', b'{"action":"T"')
"""How the lines of changes begin."""

Beat = Callable[[], None]
"""Called for each block of a file that is read as a whole, which a transaction may make as large as it likes: to say
that the process lives. What it raises ends the reading."""


def no_beat() -> None:
    """For whoever has nobody to tell."""


def change_line(action: str, lsn: Lsn, *, xid: str | None = None, timestamp: str | None = None) -> bytes:
    """A line without a payload: begin, commit, keepalive, end of a file."""
    fields = {"action": action, "xid": xid, "lsn": str(lsn), "timestamp": timestamp}
    return orjson.dumps({name: value for name, value in fields.items() if value is not None}) + b"\n"


def row_line(action: str, xid: str, lsn: int, payload: bytes) -> bytes:
    """A line of one change. The payload is JSON text already; it is embedded as it is, so that no number in it is ever
    read."""
    return b'{"action":"%b","xid":"%b","lsn":"%X/%X","message":%b}\n' % (
        action.encode(),
        xid.encode(),
        lsn >> 32,
        lsn & 0xFFFFFFFF,
        payload,
    )


class ChangeFile:
    """The file that is being written."""

    def __init__(self, folder: Path, segment: Segment, suffix: str = JSON) -> None:
        """Open it for appending; it may be there from before (``recover``)."""
        self.segment = segment
        self.path = folder / f"{segment.name}{suffix}{PARTIAL}"
        self._pending = bytearray()
        self._unsynced = 0
        with disk_errors(self.path, "opening"):
            new = not self.path.exists()
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            if new:
                fsync_directory(folder)

    def append(self, line: bytes) -> None:
        """One or more whole lines. They reach the file at the latest with the next ``flush``."""
        self._pending += line
        if len(self._pending) >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Readers see every line appended so far."""
        with disk_errors(self.path, "writing"):
            while self._pending:
                written = os.write(self._fd, self._pending)
                del self._pending[:written]
                self._unsynced += written
        if self._unsynced >= _SYNC_BYTES:
            self._to_disk()

    def sync(self) -> None:
        """As ``flush``, and on the disk."""
        self.flush()
        self._to_disk()

    def _to_disk(self) -> None:
        with disk_errors(self.path, "flushing"):
            os.fdatasync(self._fd)
        self._unsynced = 0

    def publish(self) -> Path:
        """Close the file for good, under its final name."""
        self.sync()
        os.close(self._fd)
        final = self.path.with_name(self.path.name.removesuffix(PARTIAL))
        with disk_errors(final, "publishing"):
            publish(self.path, final)
        return final

    def close(self) -> None:
        """Leave it to be continued. What was not flushed is gone, and comes again."""
        os.close(self._fd)


class Recovered(NamedTuple):
    """Where the last complete transaction or keepalive of all files ends (0/0: nowhere), and whether one is open.

    ``path``: the file that it ends in; ``action``: of the line that ends it.
    """

    position: Lsn
    open: bool
    path: Path | None = None
    action: str = ""


def segment_to_write(folder: Path, wanted: Segment) -> Segment:
    """The file to go on with after a start: the unfinished one, else the one that the last published one announces."""
    for path in folder.glob(f"*{JSON}{PARTIAL}"):
        return Segment.parse(path.name.removesuffix(JSON + PARTIAL), wanted.size)
    published = sorted(folder.glob(f"*{JSON}"))
    if not published:
        return wanted
    switch = _switch_at_end(published[-1])
    if switch is not None:
        return Segment(wanted.timeline, switch.value // wanted.size, wanted.size)
    raise CorruptState(
        f"{published[-1]} does not end with a line that closes it",
        hint="The file was damaged. Begin again with a new slot and a new copy.",
    )


def recover(folder: Path, beat: Beat = no_beat) -> Recovered:
    """Cut the torn line at the end of the file that was being written, if there is one, and find where to go on.

    A file that was closed gets the final name that its writer did not come to give it.
    """
    found = sorted(folder.glob(f"*{JSON}{PARTIAL}"))
    if len(found) > 1:
        raise CorruptState(
            f"{folder} has {len(found)} unfinished files, one is possible: {', '.join(path.name for path in found)}",
            hint="Two processes have written here. Begin again with a new slot and a new copy.",
        )
    for path in found:
        with disk_errors(path, "repairing"):
            _cut_torn_line(path, beat)
            failpoint("repair.after_cut")
            if _switch_at_end(path) is not None:
                # Nothing may follow that line: readers look for the next file when they have read it.
                publish(path, path.with_name(path.name.removesuffix(PARTIAL)))
                failpoint("repair.after_publish")
    left_open = False
    for path in sorted([*folder.glob(f"*{JSON}{PARTIAL}"), *folder.glob(f"*{JSON}")], reverse=True):
        with disk_errors(path, "reading"):
            action, position, opened = _last_boundary(path, beat)
        left_open = left_open or opened
        if position:
            return Recovered(position, left_open, path, action)
    return Recovered(Lsn(), left_open)


def ends_a_transaction(path: Path, beat: Beat = no_beat) -> bool:
    """Whether the end of a transaction is in the file, or a position outside of one, for ``recover`` to go on from.

    The file may be written to meanwhile: half a line at its end does not count.
    """
    with disk_errors(path, "reading"):
        try:
            return bool(_last_boundary(path, beat, being_written=True)[1])
        except FileNotFoundError:
            # Whoever has removed it meanwhile has seen such an end in a later one.
            return True


def _cut_torn_line(path: Path, beat: Beat) -> None:
    """The last one, or the first with a zero in it, for a power failure may leave a hole: later pages came to the disk,
    an earlier one did not. Whatever was acknowledged is before it, as ``Receiver.begin`` checks."""
    with path.open("rb+") as file:
        end, kept = 0, 0
        while block := file.read(_BLOCK_BYTES):
            beat()
            whole, hole, _ = block.partition(b"\0")
            newline = whole.rfind(b"\n")
            if newline >= 0:
                kept = end + newline + 1
            end += len(block)
            if hole:
                break
        file.truncate(kept)
        os.fsync(file.fileno())


def _switch_at_end(path: Path) -> Lsn | None:
    """Where the line that closes a file says that the next one begins; None when it is not closed."""
    for start, line in lines_backwards(path):
        action, lsn = _read_head(path, start, line)
        return lsn if action == "X" else None
    return None


def _last_boundary(path: Path, beat: Beat, *, being_written: bool = False) -> tuple[str, Lsn, bool]:
    """Action and position of the last line that ends a transaction (0/0 when none does), and whether one begins
    behind it."""
    opened = False
    for start, line in lines_backwards(path, beat):
        if being_written and not line.endswith(b"\n"):
            continue
        if line.startswith(ROW_LINES):
            # An open transaction may have any number of them: what else they say is for transform to read.
            opened = True
            continue
        action, lsn = _read_head(path, start, line)
        if action in _POSITIONS:
            return action, lsn, opened
        opened = opened or action not in _BETWEEN
    return "", Lsn(), opened


def _read_head(path: Path, start: int, line: bytes) -> tuple[str, Lsn]:
    try:
        found = orjson.loads(line)
        return str(found["action"]), Lsn.parse(found["lsn"])
    except (ValueError, KeyError, TypeError) as exc:
        raise CorruptState(
            f"{path}, byte {start}: not a line of a change file: {line[:80]!r}",
            hint="The file was damaged. Begin again with a new slot and a new copy.",
        ) from exc


def open_either(path: Path) -> IO[bytes]:
    """Open a file to read it, which may have got its final name since it was found."""
    try:
        return path.open("rb")
    except FileNotFoundError:
        return path.with_name(path.name.removesuffix(PARTIAL)).open("rb")


def lines_backwards(path: Path, beat: Beat = no_beat) -> Iterator[tuple[int, bytes]]:
    """Lines from the last to the first, with where each begins. Memory: a block and the longest line."""
    with open_either(path) as file:
        end = file.seek(0, os.SEEK_END)
        behind: list[bytes] = []  # of the line that goes on there, the last piece first
        while end > 0:
            start = max(0, end - _BLOCK_BYTES)
            file.seek(start)
            block = file.read(end - start)
            beat()
            end = start
            # The first piece may be the rest of a line that begins further ahead.
            first = 0 if start == 0 else block.find(b"\n") + 1
            if start > 0 and first == 0:
                behind.append(block)
                continue
            text = b"".join([block[first:], *reversed(behind)])
            position = start + first + len(text)
            *whole, torn = text.split(b"\n")
            for line in (torn, *(line + b"\n" for line in reversed(whole))):
                position -= len(line)
                if line:
                    yield position, line
            behind = [block[:first]]
