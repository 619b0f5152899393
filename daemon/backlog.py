"""What transactions there are in the files of changes: how many that the target does not have yet, and the last one."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Final

from pgcopydb.daemon.change_file import JSON, SQL, Beat, lines_backwards, no_beat
from pgcopydb.daemon.tail import files_of
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.durable import disk_errors

_COMMIT: Final = re.compile(rb'(?:\{"action":"C",|COMMIT; -- \{).*"lsn":"([0-9A-F/]+)"')


def transactions_between(folder: Path, segment_size: int, after: Lsn, until: Lsn) -> int:
    """Transactions that were committed behind ``after`` and not behind ``until`` (0/0: as far as the files go)."""
    count = 0
    for number, path in files_with_changes(folder, segment_size).items():
        if number < after.value // segment_size:
            continue
        with path.open("rb") as file:
            for line in file:
                found = _COMMIT.match(line)
                if found is not None:
                    position = Lsn.parse(found[1].decode())
                    count += position > after and (not until or position <= until)
    return count


def files_with_changes(folder: Path, segment_size: int) -> dict[int, Path]:
    """One for each segment, in order: the change file, or the SQL file where room was short and only that is left."""
    return dict(sorted({**files_of(folder, SQL, segment_size), **files_of(folder, JSON, segment_size)}.items()))


def last_commit(paths: Sequence[Path], beat: Beat = no_beat) -> Lsn:
    """Of these files of changes, of either kind, in their order; 0/0 when no transaction ends in them."""
    for path in reversed(paths):
        # What is removed meanwhile the target has.
        with disk_errors(path, "reading"), suppress(FileNotFoundError):
            for _, line in lines_backwards(path, beat):
                found = _COMMIT.match(line)
                if found is not None:
                    return Lsn.parse(found[1].decode())
    return Lsn()
