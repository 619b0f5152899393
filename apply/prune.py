"""Remove the files of changes that nobody needs any more, so that a migration of weeks takes a bounded disk.

A file is needed as long as the target may have to begin in it again: it holds a transaction, or the begin of one, that
is not durable there. The last SQL file and the change file that it is made of are always kept, and so is the last
change file in which a transaction ends: transform and receive find there where they were. Which commit was the last one
in a file that was removed is kept in ``removed``: a target that has gone back behind it, to a backup or a standby that
lagged, cannot be brought forward any more. Only one process removes files at a time, by a lock of the work directory.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from pgcopydb.apply.sql_reader import first_file
from pgcopydb.daemon.backlog import last_commit
from pgcopydb.daemon.change_file import JSON, PARTIAL, SQL, Beat, ends_a_transaction, no_beat
from pgcopydb.daemon.segments import Segment
from pgcopydb.daemon.tail import files_of, move_first_on
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.durable import disk_errors
from pgcopydb.runtime.errors import CorruptState, StateError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.sealed import read_sealed, write_sealed
from pgcopydb.runtime.workdir import WorkDir

_REMOVED: Final = "removed"
LOCK: Final = "prune"
"""Its name in the work directory."""


def prunable(folder: Path, segment_size: int, durable: Lsn, beat: Beat = no_beat) -> list[Path]:
    """What can be removed when the target has everything up to ``durable`` on its disk, oldest first."""
    statements = files_of(folder, SQL, segment_size)
    if not statements:
        return []
    limit = min(first_file(statements, durable, segment_size), max(statements))
    changes = files_of(folder, JSON, segment_size)
    # The ones that are kept first, in their order: of a large transaction that is open now only a file or two is read.
    look = [
        *(number for number in changes if number >= limit),
        *(number for number in reversed(changes) if number < limit),
    ]
    limit = min(limit, next((number for number in look if ends_a_transaction(changes[number], beat)), limit))
    return [
        files[number]
        for number in sorted({*statements, *changes})
        if number < limit
        # In this order: a statement file without its change file can still be replayed.
        for files in (changes, statements)
        if number in files and not files[number].name.endswith(PARTIAL)
    ]


def prune(workdir: WorkDir, segment_size: int, durable: Lsn, beat: Beat = no_beat, *, wait: bool = False) -> list[Path]:
    """Remove them; which they were. Raises ``InUse`` while another process does so, unless it is to be waited for."""
    with workdir.lock(LOCK, wait=wait):
        return _prune(workdir.changes, segment_size, durable, beat)


def _prune(folder: Path, segment_size: int, durable: Lsn, beat: Beat) -> list[Path]:
    found = prunable(folder, segment_size, durable, beat)
    last = last_commit([path for path in found if path.name.endswith(SQL)], beat)
    failpoint("prune.before_note")
    if last > last_removed(folder):
        write_sealed(folder / _REMOVED, {"lsn": str(last)})
    if found:
        left = next(path for path in files_of(folder, SQL, segment_size).values() if path not in found)
        failpoint("prune.before_first")
        move_first_on(folder, Segment.parse(left.name.partition(".")[0], segment_size))
    for path in found:
        failpoint("prune.before_remove")
        with disk_errors(path, "removing"):
            path.unlink(missing_ok=True)
        failpoint("prune.after_remove")
    return found


def last_removed(folder: Path) -> Lsn:
    """Where the last transaction was committed whose file is gone; 0/0 when none is."""
    path = folder / _REMOVED
    if not path.exists():
        return Lsn()
    try:
        return Lsn.parse(str(read_sealed(path)["lsn"]))
    except (ValueError, KeyError) as exc:
        raise CorruptState(
            f"{path} does not hold a position: {exc}",
            hint="Restore it; or remove it, if the target is not a restored one that is behind what it was.",
        ) from exc


def check_not_behind(folder: Path, applied: Lsn) -> None:
    """Raises ``StateError`` when the target has everything up to ``applied`` and needs files that are removed."""
    last = last_removed(folder)
    if applied < last:
        raise StateError(
            f"the target is at {applied}, and it was at {last} before: it was restored, or a standby took over without"
            " the last transactions; the files of changes in between are removed",
            hint="Begin again with a new slot and a new copy. --keep-files keeps all files for such a case.",
        )
