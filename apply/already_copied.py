"""Leave out what a table's rows have in them already.

A table that was read later than the stream's first position holds every change that was committed up to where it was
read. Works on the lines of SQL files, which name one table each, or several for TRUNCATE. Pure.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Final

from pgcopydb.apply.sql_lines import IDENT, table_of
from pgcopydb.apply.statements import table_sql
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import Name

_TRUNCATED: Final = re.compile(rb"(?:ONLY )?(" + IDENT + rb"\." + IDENT + rb")")
_TRUNCATE: Final = b"TRUNCATE "


@dataclass(slots=True)
class AlreadyCopied:
    """``read_at``: tables with the position up to which changes are in their rows."""

    read_at: Mapping[Name, Lsn]
    latest: Lsn = field(init=False)
    _positions: dict[bytes, Lsn] = field(init=False)

    def __post_init__(self) -> None:
        self.latest = max(self.read_at.values(), default=Lsn())
        self._positions = {table_sql(name).encode(): position for name, position in self.read_at.items()}

    def left(self, lines: Iterable[bytes], commit: Lsn) -> Iterable[bytes]:
        """The lines that remain of a transaction that was committed at this position."""
        return lines if commit > self.latest else self._left(lines, commit)

    def _left(self, lines: Iterable[bytes], commit: Lsn) -> Iterator[bytes]:
        for line in lines:
            if line.startswith(_TRUNCATE):
                remains = self._truncate(line, commit)
                if remains:
                    yield remains
                continue
            table = table_of(line)
            if table is None or not self._has(table, commit):
                yield line

    def _has(self, table: bytes, commit: Lsn) -> bool:
        position = self._positions.get(table)
        return position is not None and commit <= position

    def _truncate(self, line: bytes, commit: Lsn) -> bytes:
        """The statement with the tables that remain; empty when none does."""
        found = list(_TRUNCATED.finditer(line, len(_TRUNCATE)))
        remain = [table[0] for table in found if not self._has(table[1], commit)]
        if len(remain) == len(found):
            return line
        return _TRUNCATE + b", ".join(remain) + line[found[-1].end() :] if remain else b""
