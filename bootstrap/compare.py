"""Compare the rows of both databases by checksum, table by table, each side under one snapshot.

A table's checksum is the number of its rows and the sum of 64-bit hashes of the rows' text: neither the order of rows
matters, nor does a row that is there twice go unnoticed. Columns are matched by name. Large objects and the values of
sequences are compared as well. Reads only; nothing is written anywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import orjson

from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.sequences import read_sequences
from pgcopydb.bootstrap.session import cancel_statement
from pgcopydb.bootstrap.snapshot import begin_under
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name, quote_ident
from pgcopydb.runtime.stop import Stop

LARGE_OBJECTS: Final = Name("pg_catalog", "pg_largeobject")
SEQUENCES: Final = Name("pg_catalog", "pg_sequence")

_HASH_SINCE: Final = 110000


@dataclass(frozen=True, slots=True)
class Checksum:
    """``digest`` is empty for a relation without rows."""

    rows: int
    digest: str


@dataclass(frozen=True, slots=True)
class TableComparison:
    """One relation; a side that lacks it, or lacks one of its columns, has no checksum and ``problem`` says so."""

    name: Name
    source: Checksum | None
    target: Checksum | None
    problem: str | None = None

    @property
    def equal(self) -> bool:
        return self.problem is None and self.source is not None and self.source == self.target


@dataclass(frozen=True, slots=True)
class DataComparison:
    tables: list[TableComparison]

    @property
    def equal(self) -> bool:
        return all(table.equal for table in self.tables)

    @property
    def differences(self) -> list[TableComparison]:
        return [table for table in self.tables if not table.equal]


@dataclass(frozen=True, slots=True)
class _Side:
    endpoint: Endpoint
    snapshot: str
    relations: dict[Name, list[str]]
    roots: frozenset[Name]
    """Compared as a whole: their rows may be in other partitions on the other side."""
    sequences: list[Name]

    @property
    def side(self) -> Side:
        return self.endpoint.side

    @contextmanager
    def reader(self, stop: Stop) -> Iterator[Connection]:
        """A connection that sees what the side's snapshot sees."""
        with (
            self.endpoint.connect_patiently("compare", stop) as connection,
            stop.on_fast_stop(lambda: cancel_statement(connection)),
            server_errors(self.side, f"comparing on the {self.side}"),
        ):
            begin_under(connection, self.snapshot)
            yield connection


def compare_data(source: Endpoint, target: Endpoint, jobs: int, stop: Stop) -> DataComparison:
    """Every table of both sides, ``jobs`` at a time, large ones first. Raises when a side cannot be read."""
    with _opened(source) as one, _opened(target) as other:
        names = [*one.relations, *sorted(other.relations.keys() - one.relations.keys())]
        with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="compare") as pool:
            futures = [pool.submit(_compare_table, one, other, name, stop) for name in names]
            futures.append(pool.submit(_compare_large_objects, one, other, stop))
            futures.append(pool.submit(_compare_sequences, one, other, stop))
            tables = [future.result() for future in futures]
    stop.check()
    return DataComparison(tables)


@contextmanager
def _opened(endpoint: Endpoint) -> Iterator[_Side]:
    """A side with its snapshot, which lives as long as the block."""
    with endpoint.connect("compare") as connection:
        with server_errors(endpoint.side, f"listing the tables of the {endpoint.side}"):
            begin_under(connection, None)
            row = connection.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
            found = connection.execute(query("compared_relations")).fetchall()
            rerouted = connection.execute(query("rerouted_partitions")).fetchall()
            sequences = connection.execute(query("sequences")).fetchall()
        leaves = {Name(row[1], row[2]): Name(row[3], row[4]) for row in rerouted}
        yield _Side(
            endpoint=endpoint,
            snapshot=str(row[0]) if row else "",
            relations={
                leaves.get(Name(schema, name), Name(schema, name)): orjson.loads(columns or "[]")
                for schema, name, columns, _pages in sorted(found, key=lambda relation: -relation[3])
            },
            roots=frozenset(leaves.values()),
            sequences=sorted(Name(sequence[1], sequence[2]) for sequence in sequences),
        )


def _compare_table(one: _Side, other: _Side, name: Name, stop: Stop) -> TableComparison:
    stop.check()
    for side in (one, other):
        if name not in side.relations:
            return TableComparison(name, None, None, f"does not exist, or was never filled, on the {side.side}")
    columns = one.relations[name]
    differing = sorted(set(columns) ^ set(other.relations[name]))
    if differing:
        return TableComparison(name, None, None, f"columns that are not on both sides: {', '.join(differing)}")
    only = name not in one.roots
    found = _on_both(one, other, lambda reader: _table_checksum(reader, name, columns, only=only), stop)
    return TableComparison(name, *found)


def _on_both(one: _Side, other: _Side, read: Callable[[Connection], Checksum], stop: Stop) -> tuple[Checksum, Checksum]:
    """Both sides at the same time: the slower one is waited for once."""

    def on_side(side: _Side) -> Checksum:
        with side.reader(stop) as reader:
            return read(reader)

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(on_side, one)
        behind = on_side(other)
        return ahead.result(), behind


def _hash(connection: Connection, text: str) -> str:
    if connection.info.server_version >= _HASH_SINCE:
        return f"pg_catalog.hashtextextended({text}, 0)"
    return f"('x' || substr(md5({text}), 1, 16))::bit(64)::bigint"


def _table_checksum(connection: Connection, name: Name, columns: Sequence[str], *, only: bool) -> Checksum:
    row_text = f"ROW({', '.join(quote_ident(column) for column in columns)})::text"
    # The subquery keeps its rows: the text would be made once for each use otherwise.
    row = connection.execute(
        f"SELECT count(*), sum({_hash(connection, 'r')}) FROM"  # noqa: S608
        f' (SELECT {row_text} COLLATE "C" AS r FROM {"ONLY " if only else ""}{name.sql} OFFSET 0) AS rows'
    ).fetchone()
    return _checksum(row)


def _checksum(row: Sequence[Any] | None) -> Checksum:
    count, total = row or (0, None)
    return Checksum(count, "" if total is None else f"{int(total) % (1 << 64):016x}")


def _compare_large_objects(one: _Side, other: _Side, stop: Stop) -> TableComparison:
    def read(reader: Connection) -> Checksum:
        value = _hash(reader, "concat_ws(':', oid, start, digest)")
        text = query("large_object_chunks").replace("{hash}", value)
        return _checksum(reader.execute(text).fetchone())

    return TableComparison(LARGE_OBJECTS, *_on_both(one, other, read, stop))


def _compare_sequences(one: _Side, other: _Side, stop: Stop) -> TableComparison:
    missing = sorted(set(one.sequences) ^ set(other.sequences))
    values: list[dict[Name, tuple[int, bool]]] = []
    for side in (one, other):
        with side.reader(stop) as reader:
            shared = [name for name in side.sequences if name not in missing]
            values.append({name: (value, called) for name, value, called in read_sequences(reader, shared)})
    differing = sorted(name for name in values[0] if values[0][name] != values[1].get(name))
    sums = [
        Checksum(len(found), f"{zlib.crc32(repr(sorted(found.items())).encode()):08x}" if found else "")
        for found in values
    ]
    problems = [f"sequence {name} has another value" for name in differing]
    problems += [f"sequence {name} is not on both sides" for name in missing]
    return TableComparison(SEQUENCES, sums[0], sums[1], "; ".join(problems) or None)
