"""Room for the change files: how much of the disk they may take, and how much must stay free.

Reads sizes and the free space of the work directory; removes JSON files whose SQL is on the disk when room is short,
for then nothing needs them any more but a person who looks. What to do while there is no room is the receiver's.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from pgcopydb.daemon.change_file import JSON, PARTIAL, SQL
from pgcopydb.daemon.heartbeat import clock
from pgcopydb.daemon.tail import files_of
from pgcopydb.runtime.durable import disk_errors
from pgcopydb.runtime.sizes import pretty_size

_LOOK_SECONDS: Final = 1.0
_LARGEST_FLOOR: Final = 1 << 30
_FLOOR_SHARE: Final = 20
_KEPT_FILES: Final = 2
"""So many of the last files whose SQL is complete are kept: writers go on from them after a crash."""


@dataclass(frozen=True, slots=True)
class DiskUse:
    """Bytes: of the change files, and what is free where they are."""

    json: int
    sql: int
    free: int
    total: int


@dataclass(frozen=True, slots=True)
class Limits:
    """Bytes. ``most``: what the change files may take, 0 for any; ``floor``: what must stay free, None for 5 % of the
    disk, at most 1 GB."""

    most: int = 0
    floor: int | None = None

    def floor_of(self, total: int) -> int:
        return min(_LARGEST_FLOOR, total // _FLOOR_SHARE) if self.floor is None else self.floor


@dataclass(slots=True)
class Room:
    """Asked again and again; looks at the disk once a second, and when much was written since."""

    folder: Path
    segment_size: int
    limits: Limits = field(default_factory=Limits)
    _looked: float = float("-inf")
    _lacking: str = ""
    _over_limit: bool = False
    _written: int = 0
    _step: int = 0

    @property
    def is_own_limit(self) -> bool:
        """Whether what lacks is not room, but the operator's leave to use it."""
        return self._over_limit

    def lacking(self, written: int, needed: int) -> str:
        """What is too small, in words; empty when there is room. A little more is asked for once it was short.

        ``written``: bytes since the beginning, or any other count of them that grows. ``needed``: number of the segment
        in whose file the last transaction or keepalive ends that is on the disk, -1 when there is none.
        """
        now = clock()
        if now - self._looked >= _LOOK_SECONDS or written - self._written >= self._step:
            self._looked, self._written = now, written
            self._lacking = self._look()
            if self._lacking and self._drop_json(needed):
                self._lacking = self._look()
        return self._lacking

    def _look(self) -> str:
        self._over_limit = False
        use = disk_use(self.folder)
        floor = self.limits.floor_of(use.total)
        self._step = floor // 8
        # What is received needs its room once more, as SQL: without that nothing could be applied and removed.
        wanted = (floor + floor // 10 if self._lacking else floor) + untransformed(self.folder, self.segment_size)
        if use.free < wanted:
            return f"{pretty_size(use.free)} are free for change files, less than {pretty_size(wanted)}"
        if self.limits.most:
            size = use.json + use.sql
            allowed = self.limits.most - self.limits.most // 10 if self._lacking else self.limits.most
            if size > allowed:
                self._over_limit = True
                return f"the change files take {pretty_size(size)}, more than {pretty_size(allowed)}"
        return ""

    def _drop_json(self, needed: int) -> int:
        """How many files were removed."""
        files = files_of(self.folder, JSON, self.segment_size)
        # Where the last transaction ends receiving finds out where it was.
        final = [
            path
            for number, path in files.items()
            if number < needed and path.name.endswith(JSON) and path.with_suffix(SQL).exists()
        ]
        dropped = final[:-_KEPT_FILES]
        for path in dropped:
            with disk_errors(path, "removing"):
                path.unlink(missing_ok=True)
        return len(dropped)


def untransformed(folder: Path, segment_size: int) -> int:
    """Bytes of change files of which there is no SQL yet, more or less: a line of the one is about one of the other."""
    statements = files_of(folder, SQL, segment_size)
    last = max(statements, default=-1)
    changes = [path for number, path in files_of(folder, JSON, segment_size).items() if number >= last]
    return max(0, _size_of(changes) - _size_of([statements[last]] if statements else []))


def disk_use(folder: Path) -> DiskUse:
    """All zero when there is no such folder."""
    sizes = {JSON: 0, SQL: 0}
    free = total = 0
    if folder.is_dir():
        with disk_errors(folder, "looking for room"):
            for path in folder.iterdir():
                suffix = Path(path.name.removesuffix(PARTIAL)).suffix
                if suffix in sizes:
                    sizes[suffix] += _size_of([path])
            usage = shutil.disk_usage(folder)
        free, total = usage.free, usage.total
    return DiskUse(sizes[JSON], sizes[SQL], free, total)


def _size_of(paths: Iterable[Path]) -> int:
    """What is removed meanwhile does not count, and one that gets its final name is counted the next time."""
    size = 0
    for path in paths:
        with suppress(FileNotFoundError):
            size += path.stat().st_size
    return size
