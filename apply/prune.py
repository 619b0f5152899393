"""Remove the files of changes that nobody needs any more, so that a migration of weeks takes a bounded disk.

A file is needed as long as the target may have to begin in it again: it holds a transaction, or the begin of one, that
is not durable there. The last SQL file and the change file that it is made of are always kept, because transform and
receive find there where they were.
"""

from __future__ import annotations

from pathlib import Path

from pgcopydb.apply.sql_reader import first_file
from pgcopydb.daemon.change_file import JSON, PARTIAL, SQL
from pgcopydb.daemon.tail import files_of
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.durable import disk_errors
from pgcopydb.runtime.failpoint import failpoint


def prunable(folder: Path, segment_size: int, durable: Lsn) -> list[Path]:
    """What can be removed when the target has everything up to ``durable`` on its disk, oldest first."""
    statements = files_of(folder, SQL, segment_size)
    if not statements:
        return []
    limit = min(first_file(statements, durable, segment_size), max(statements))
    changes = files_of(folder, JSON, segment_size)
    return [
        files[number]
        for number in sorted({*statements, *changes})
        if number < limit
        # In this order: a statement file without its change file can still be replayed.
        for files in (changes, statements)
        if number in files and not files[number].name.endswith(PARTIAL)
    ]


def prune(folder: Path, segment_size: int, durable: Lsn) -> list[Path]:
    """Remove them; which they were."""
    found = prunable(folder, segment_size, durable)
    for path in found:
        failpoint("prune.before_remove")
        with disk_errors(path, "removing"):
            path.unlink(missing_ok=True)
    return found
