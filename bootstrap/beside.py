"""What a copy needs of the stream of changes that runs beside it. Implemented by the command that follows.

With changes kept since a first position, tables need not all show the same moment: one that was read later is right
when changes that were committed before its own moment are left out of what is applied to it. So a lost snapshot, or a
table that was truncated before its turn, costs another snapshot whose position is known, and no consistency.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import NamedTuple, Protocol

from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.stop import Stop


class PositionedSnapshot(NamedTuple):
    """It sees everything that was committed before ``position``, and nothing else."""

    id: str
    position: Lsn


class ChangesBeside(Protocol):
    """The stream of changes beside a copy."""

    def begin(self) -> str | None:
        """Called when nothing stands in the way of the copy any more. The stream's own snapshot, while that is held."""

    def snapshot_taken(self) -> None:
        """The stream's own snapshot is held by the copy from here on, or is not wanted."""

    def another_snapshot(self) -> AbstractContextManager[PositionedSnapshot]:
        """A new one, which can be imported inside the block."""

    def caught_up(self, read_at: Mapping[Name, Lsn]) -> AbstractContextManager[None]:
        """Tables that were read later than the first snapshot, with where that was.

        Inside the block the target has every change up to the last of these positions, and nothing is applied: all
        tables show one moment, and what relates them to each other can be made.
        """


class FollowedCopy(ChangesBeside, Protocol):
    """The stream of one of several databases."""

    def running(self) -> AbstractContextManager[None]:
        """Around everything else; when the block is left nothing of the stream runs."""

    def finish(self) -> None:
        """The copy is complete. Returns at the end position; raises ``Stopped`` when a stop came before."""


class ChangesOfAll(Protocol):
    """The streams of a run of several databases."""

    def expect(self, databases: Sequence[str]) -> None:
        """Which will be followed, before the first one is."""

    def of(self, database: str, stop: Stop) -> FollowedCopy:
        """The stream of one."""


def tables_read_later(store: CatalogStore) -> dict[Name, Lsn]:
    """Tables that were not read, or found gone, under the stream's own snapshot, with the position of that."""
    rows = store.rows(
        "SELECT schema, name, read_at FROM copied_table WHERE read_at IS NOT NULL"
        " UNION ALL SELECT schema, name, read_at FROM extension_config WHERE read_at IS NOT NULL"
    )
    return {Name(row["schema"], row["name"]): Lsn.parse(row["read_at"]) for row in rows}
