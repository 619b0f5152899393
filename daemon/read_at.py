"""At which position of the source each table was read, where that is later than the stream's first one.

``read_at.json`` of the work directory; written by the copy when it is complete and before anything is applied, read by
whoever applies. A change that was committed up to a table's position is in its rows already.
"""

from __future__ import annotations

from collections.abc import Mapping

from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import CorruptState
from pgcopydb.runtime.sealed import read_sealed, write_sealed
from pgcopydb.runtime.workdir import WorkDir


def save_read_at(workdir: WorkDir, positions: Mapping[Name, Lsn]) -> None:
    """Return when it is on the disk."""
    tables = [
        {"schema": name.schema, "name": name.name, "read_at": str(position)} for name, position in positions.items()
    ]
    write_sealed(workdir.read_at, {"tables": tables})


def load_read_at(workdir: WorkDir) -> dict[Name, Lsn]:
    """Empty when all tables were read at the stream's first position. Raises ``CorruptState``."""
    if not workdir.read_at.exists():
        return {}
    try:
        tables = read_sealed(workdir.read_at)["tables"]
        return {Name(table["schema"], table["name"]): Lsn.parse(table["read_at"]) for table in tables}
    except (ValueError, KeyError, TypeError, AttributeError) as exc:
        raise CorruptState(
            f"{workdir.read_at} does not say when tables were read: {exc}",
            hint="`pgcopydb clone --follow --resume` writes it again.",
        ) from exc
