"""How much there is in the change files that the target does not have yet."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

from pgcopydb.daemon.change_file import JSON, SQL
from pgcopydb.daemon.tail import files_of
from pgcopydb.postgres.lsn import Lsn

_COMMIT: Final = re.compile(rb'(?:\{"action":"C",|COMMIT; -- \{).*"lsn":"([0-9A-F/]+)"')


def transactions_between(folder: Path, segment_size: int, after: Lsn, until: Lsn) -> int:
    """Transactions that were committed behind ``after`` and not behind ``until`` (0/0: as far as the files go)."""
    count = 0
    # Where disk space is short an SQL file may be all that is left of a change file.
    files = {**files_of(folder, SQL, segment_size), **files_of(folder, JSON, segment_size)}
    for number, path in sorted(files.items()):
        if number < after.value // segment_size:
            continue
        with path.open("rb") as file:
            for line in file:
                found = _COMMIT.match(line)
                if found is not None:
                    position = Lsn.parse(found[1].decode())
                    count += position > after and (not until or position <= until)
    return count
