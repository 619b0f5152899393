"""Changes that did not find their rows on the target and were let be, for as long as the work directory has the stream.

One JSON line each in ``conflicts.jsonl``, on the disk before the transaction commits: at the end the run has to say
that there were some, whichever process met them. A transaction that is applied again after a crash may be there twice.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import orjson

from pgcopydb.apply.execute import Conflict
from pgcopydb.apply.sql_reader import Transaction
from pgcopydb.runtime.durable import disk_errors, fsync_directory
from pgcopydb.runtime.failpoint import failpoint


@dataclass(frozen=True, slots=True)
class ConflictFile:
    """Where they are kept."""

    path: Path

    def add(self, transaction: Transaction, conflicts: Sequence[Conflict]) -> None:
        """Return when they are on the disk."""
        where = {"xid": transaction.xid, "lsn": str(transaction.commit)}
        lines = b"".join(orjson.dumps({**where, **asdict(conflict)}) + b"\n" for conflict in conflicts)
        with disk_errors(self.path, "writing"):
            new = not self.path.exists()
            fd = os.open(self.path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            with os.fdopen(fd, "ab") as file:
                file.write(lines)
                file.flush()
                os.fsync(file.fileno())
            if new:
                fsync_directory(self.path.parent)
        failpoint("conflicts.after_keep")

    def count(self) -> int:
        """How many there are."""
        if not self.path.exists():
            return 0
        with disk_errors(self.path, "reading"), self.path.open("rb") as file:
            return sum(1 for _ in file)
