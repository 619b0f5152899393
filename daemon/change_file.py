"""The files that changes are kept in: JSON lines, one file for each WAL segment, one writer.

While it is written a file is called ``<segment>.json.partial``; ``publish`` gives it its final name ``<segment>.json``.
What is true when ``sync`` returns: every line appended so far is on the disk, whole. After a crash ``recover`` cuts
what follows the last complete transaction or keepalive: a torn line, or a transaction whose end had not arrived and
comes again. What lines hold is the business of ``change_line``; which positions are acknowledged is the receiver's.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import orjson

from pgcopydb.daemon.segments import Segment
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.durable import disk_errors, fsync_directory, publish
from pgcopydb.runtime.errors import CorruptState

_PARTIAL: Final = ".json.partial"
_FINAL: Final = ".json"
_BUFFER_BYTES: Final = 1 << 18
_BLOCK_BYTES: Final = 1 << 20
_BOUNDARIES: Final = frozenset({"C", "K"})
"""Actions after which nothing is left open."""


def change_line(action: str, lsn: Lsn, *, xid: str | None = None, timestamp: str | None = None) -> bytes:
    """A line without a payload: begin, commit, keepalive, end of a file."""
    fields = {"action": action, "xid": xid, "lsn": str(lsn), "timestamp": timestamp}
    return orjson.dumps({name: value for name, value in fields.items() if value is not None}) + b"\n"


def change_line_with(
    action: str, lsn: Lsn, payload: bytes, *, xid: str | None = None, timestamp: str | None = None
) -> bytes:
    """A line whose payload is JSON text already; it is embedded as it is, so that no number in it is ever read."""
    head = change_line(action, lsn, xid=xid, timestamp=timestamp)
    return b'%b,"message":%b}\n' % (head[:-2], payload)


class ChangeFile:
    """The file that is being written."""

    def __init__(self, folder: Path, segment: Segment) -> None:
        """Open it for appending; it may be there from before (``recover``)."""
        self.segment = segment
        self.path = folder / f"{segment.name}{_PARTIAL}"
        self._pending = bytearray()
        with disk_errors(self.path, "opening"):
            new = not self.path.exists()
            self._fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            if new:
                fsync_directory(folder)

    def append(self, line: bytes) -> None:
        """A whole line. It reaches the file at the latest with the next ``flush``."""
        self._pending += line
        if len(self._pending) >= _BUFFER_BYTES:
            self.flush()

    def flush(self) -> None:
        """Readers see every line appended so far."""
        with disk_errors(self.path, "writing"):
            while self._pending:
                written = os.write(self._fd, self._pending)
                del self._pending[:written]

    def sync(self) -> None:
        """As ``flush``, and on the disk."""
        self.flush()
        with disk_errors(self.path, "flushing"):
            os.fdatasync(self._fd)

    def publish(self) -> Path:
        """Close the file for good, under its final name."""
        self.sync()
        os.close(self._fd)
        final = self.path.with_name(f"{self.segment.name}{_FINAL}")
        with disk_errors(final, "publishing"):
            publish(self.path, final)
        return final

    def close(self) -> None:
        """Leave it to be continued. What was not flushed is gone, and comes again."""
        os.close(self._fd)


def segment_to_write(folder: Path, wanted: Segment) -> Segment:
    """The file to go on with after a start: the unfinished one, else one behind all that are published."""
    for path in folder.glob(f"*{_PARTIAL}"):
        return Segment.parse(path.name.removesuffix(_PARTIAL), wanted.size)
    names = [path.name.removesuffix(_FINAL) for path in folder.glob(f"*{_FINAL}")]
    last = max((Segment.parse(name, wanted.size).number for name in names), default=-1)
    return Segment(wanted.timeline, max(wanted.number, last + 1), wanted.size)


def recover(folder: Path) -> Lsn:
    """Cut the unfinished end of the file that was being written; where the last complete transaction of all ends.

    0/0 when there is none. What a file that is published holds of an unfinished transaction stays there: the writer
    says with a line of its own that it was given up.
    """
    found = sorted(folder.glob(f"*{_PARTIAL}"))
    if len(found) > 1:
        raise CorruptState(
            f"{folder} has {len(found)} unfinished files, one is possible: {', '.join(path.name for path in found)}",
            hint="Two processes have written here. Begin again with a new slot and a new copy.",
        )
    for path in found:
        with disk_errors(path, "repairing"):
            kept, position = _last_boundary(path)
            with path.open("rb+") as file:
                file.truncate(kept)
                file.flush()
                os.fsync(file.fileno())
        if position:
            return position
    published = sorted(folder.glob(f"*{_FINAL}"), reverse=True)
    for path in published:
        with disk_errors(path, "reading"):
            position = _last_boundary(path)[1]
        if position:
            return position
    return Lsn()


def _last_boundary(path: Path) -> tuple[int, Lsn]:
    """Bytes up to the end of the last line that ends a transaction, and its position; 0 and 0/0 when none does."""
    for start, line in _lines_backwards(path):
        if not line.endswith(b"\n"):
            continue
        try:
            found = orjson.loads(line)
            action, lsn = found["action"], Lsn.parse(found["lsn"])
        except (ValueError, KeyError, TypeError) as exc:
            raise CorruptState(
                f"{path}, byte {start}: not a line of a change file: {line[:80]!r}",
                hint="The file was damaged. Begin again with a new slot and a new copy.",
            ) from exc
        if action in _BOUNDARIES:
            return start + len(line), lsn
    return 0, Lsn()


def _lines_backwards(path: Path) -> Iterator[tuple[int, bytes]]:
    """Lines from the last to the first, with where each begins. Memory: a block and the longest line."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        tail = b""
        while end > 0:
            start = max(0, end - _BLOCK_BYTES)
            file.seek(start)
            tail = file.read(end - start) + tail
            end = start
            # The first piece may be the rest of a line that begins further ahead.
            first = 0 if start == 0 else tail.find(b"\n") + 1
            if start > 0 and first == 0:
                continue
            position = start + len(tail)
            *whole, torn = tail[first:].split(b"\n")
            for line in (torn, *(line + b"\n" for line in reversed(whole))):
                position -= len(line)
                if line:
                    yield position, line
            tail = tail[:first]
