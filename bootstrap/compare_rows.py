"""Which rows of a table differ between two servers, by key.

Rows are counted and summed up in buckets by their hash; only buckets that differ are read row by row. What is held of
them is bounded: a few buckets, with no more rows than are told.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.names import Name, quote_ident

_HASH_SINCE: Final = 110000
_BUCKETS: Final = 1 << 16
_READ: Final = 256
"""Buckets that are read row by row."""
_LONGEST: Final = 200
"""Characters of a key that are told."""
_KEY: Final = """
SELECT a.attname
  FROM pg_catalog.pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k (number, position)
  JOIN pg_catalog.pg_attribute a ON a.attnum = k.number
 WHERE i.indrelid = to_regclass(%s) AND a.attrelid = i.indrelid AND i.indisprimary AND k.position <= i.indnatts
 ORDER BY k.position
"""


class Hashing(Enum):
    """How 64 bits are made of a text that are the same on both sides."""

    NATIVE = auto()
    """The server's own, which is fast, and hashes bytes."""
    MD5 = auto()
    """For a server that has no other."""
    MD5_IN_UTF8 = auto()
    """For sides whose encodings differ."""

    @classmethod
    def between(cls, encodings: Collection[str], versions: Collection[int]) -> Hashing:
        """``versions`` as libpq has them. Bytes of SQL_ASCII have no other form."""
        if len(set(encodings)) > 1 and "SQL_ASCII" not in encodings:
            return cls.MD5_IN_UTF8
        return cls.NATIVE if min(versions) >= _HASH_SINCE else cls.MD5

    def of(self, text: str) -> str:
        """An expression."""
        if self is Hashing.NATIVE:
            return f"pg_catalog.hashtextextended({text}, 0)"
        value = f"pg_catalog.convert_to({text}, 'UTF8')" if self is Hashing.MD5_IN_UTF8 else text
        return f"('x' || substr(md5({value}), 1, 16))::bit(64)::bigint"


@dataclass(frozen=True, slots=True)
class Rows:
    """A table, and expressions of what both sides have. ``only``: without what inherits from it."""

    name: Name
    columns: Sequence[str]
    only: bool
    hashing: Hashing

    @property
    def hashed(self) -> str:
        """An expression: 64 bits of ``r``, the same on both sides for the same text."""
        return self.hashing.of("r")

    @property
    def sql(self) -> str:
        """Of one column, ``r``: the text of each row."""
        return self.sql_where("")

    def sql_where(self, condition: str) -> str:
        """The same, of the rows of a part."""
        where = f" WHERE {condition}" if condition else ""
        return f"({self._select('', where)})"

    def with_key(self, key: Sequence[str]) -> str:
        """Of two columns: ``r``, and ``k``, the text of the key; of the row where there is none."""
        return f"({self._select(f', {_row([*map(quote_ident, key)] or self.columns)} AS k')})"

    def _select(self, more: str, where: str = "") -> str:
        # The subquery keeps its rows: the text would be made once for each use otherwise.
        only = "ONLY " if self.only else ""
        return f'SELECT {_row(self.columns)} COLLATE "C" AS r{more} FROM {only}{self.name.sql}{where} OFFSET 0'  # noqa: S608


def _row(columns: Sequence[str]) -> str:
    return f"ROW({', '.join(columns)})::text"


def differing_rows(source: Connection, target: Connection, table: Rows, most: int) -> list[str]:
    """At most this many, each with its key and how it differs."""
    one, other = (_buckets(connection, table) for connection in (source, target))
    differing = sorted(bucket for bucket in one.keys() | other.keys() if one.get(bucket) != other.get(bucket))
    key = [row[0] for row in source.execute(_KEY, (table.name.sql,)).fetchall()]
    found = [_rows(connection, table, key, differing[:_READ]) for connection in (source, target)]
    return [*_told(*found)][:most]


def _buckets(connection: Connection, table: Rows) -> dict[int, tuple[int, int]]:
    hashed = table.hashed
    rows = connection.execute(
        f"SELECT h & {_BUCKETS - 1}, count(*), sum(h) FROM"  # noqa: S608
        f" (SELECT {hashed} AS h FROM {table.sql} AS rows OFFSET 0) AS hashes GROUP BY 1".encode()
    ).fetchall()
    return {row[0]: (row[1], int(row[2])) for row in rows}


def _rows(connection: Connection, table: Rows, key: Sequence[str], buckets: Sequence[int]) -> Counter[tuple[str, int]]:
    # No parameter: names of columns may have what stands for one.
    wanted = ", ".join(map(str, buckets))
    rows = connection.execute(
        f"SELECT k, h FROM (SELECT left(k, {_LONGEST}) AS k, {table.hashed} AS h"  # noqa: S608
        f" FROM {table.with_key(key)} AS rows OFFSET 0) AS hashes"
        f" WHERE h & {_BUCKETS - 1} = ANY (ARRAY[{wanted}]::bigint[])".encode(),
    )
    return Counter((row[0], row[1]) for row in rows)


def _told(one: Counter[tuple[str, int]], other: Counter[tuple[str, int]]) -> Iterator[str]:
    left, right = one - other, other - one
    keys_left, keys_right = {key for key, _ in left}, {key for key, _ in right}
    for key in sorted(keys_left | keys_right):
        if key in keys_left and key in keys_right:
            yield f"{key} differs"
        else:
            yield f"{key} is only on the {'source' if key in keys_left else 'target'}"
