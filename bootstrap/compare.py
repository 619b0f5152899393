"""Compare the rows of both databases by checksum, table by table, each side under one snapshot.

A table's checksum is the number of its rows and the sum of 64-bit hashes of the rows' text: neither the order of rows
matters, nor does a row that is there twice go unnoticed. Columns are matched by name; tables that the sides divide in
different ways are compared as a whole. Large objects and the values of sequences are compared as well. Large tables are
read in parts, whose sums add up: each side is divided by its own pages. Reads only; nothing is written anywhere.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable, Collection, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import zip_longest
from typing import Any, Final, TypeVar

import orjson

from pgcopydb.bootstrap.compare_rows import Hashing, Rows, differing_rows
from pgcopydb.bootstrap.compare_shapes import Columns, Shape, compared_whole, gathered, values_of
from pgcopydb.bootstrap.copy_plan import TID_RANGE_SCAN, parts_wanted, ranges
from pgcopydb.bootstrap.filtering import left_out_relations
from pgcopydb.bootstrap.options import Split
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.sequences import read_sequences
from pgcopydb.bootstrap.session import cancel_statement
from pgcopydb.bootstrap.snapshot import begin_under
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.filters import FilterRules
from pgcopydb.postgres.names import Name
from pgcopydb.postgres.partitions import read_above
from pgcopydb.postgres.selection import select
from pgcopydb.runtime.stop import Stop

LARGE_OBJECTS: Final = Name("pg_catalog", "pg_largeobject")
SEQUENCES: Final = Name("pg_catalog", "pg_sequence")

_NO_RULES: Final = FilterRules()
_WHOLE: Final = Split()
_PAGE: Final = 8192

T = TypeVar("T")
_Sum = tuple[int, int | None]
"""How many rows, and the sum of their hashes, which none have."""


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
    rows: Sequence[str] = ()
    """Keys of some rows that differ, with how."""
    database: str = ""
    """Where several are compared."""

    @property
    def title(self) -> str:
        return f"{self.database}.{self.name}" if self.database else str(self.name)

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
    encoding: str
    version: int
    shape: Shape
    relations: dict[Name, Columns]
    pages: dict[Name, int]
    """Of what can be divided by pages."""
    roots: frozenset[Name]
    """Compared as a whole: their rows may be in other partitions on the other side. To begin with, as far as one side
    can tell."""
    sequences: list[Name]
    owned: frozenset[Name]
    """Sequences that belong to a column."""

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


def compare_data(
    source: Endpoint,
    target: Endpoint,
    jobs: int,
    stop: Stop,
    *,
    rules: FilterRules = _NO_RULES,
    split: Split = _WHOLE,
    rows: int = 0,
) -> DataComparison:
    """Every table of both sides that ``rules`` let through, ``jobs`` at a time, large ones first and in parts.

    ``rows``: of how many rows of a table that differs the keys are told. Raises when a side cannot be read.
    """
    with _opened(source) as of_source, _opened(target) as of_target:
        left_out = _left_out(source, rules)
        one, other = _side_by_side(*(_without(side, left_out) for side in (of_source, of_target)))
        names = [*one.relations, *sorted(other.relations.keys() - one.relations.keys())]
        partial = {root for root in one.roots if left_out & one.shape.below(root)}
        with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="compare") as pool:
            tables = [
                _partly_left_out(name) if name in partial else _begin_table(one, other, name, split, pool, stop)
                for name in names
            ]
            others = [pool.submit(act, one, other, stop) for act in (_compare_large_objects, _compare_sequences)]
            compared = [table if isinstance(table, TableComparison) else _ended(*table) for table in tables]
            if rows:
                compared = [*pool.map(lambda table: _with_rows(one, other, table, rows, stop), compared)]
            compared += [each.result() for each in others]
    stop.check()
    return DataComparison(compared)


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
            above = read_above(connection)
        found.sort(key=lambda relation: -relation[3])
        columns = {Name(row[0], row[1]): dict(orjson.loads(row[2] or "[]")) for row in found}
        partitioned = {Name(row[0], row[1]) for row in found if row[5]}
        shape = Shape(
            relations={name: own for name, own in columns.items() if name not in partitioned},
            partitioned={name: columns[name] for name in partitioned},
            above=above,
        )
        by_tid = connection.info.server_version >= TID_RANGE_SCAN
        yield _Side(
            endpoint=endpoint,
            snapshot=str(row[0]) if row else "",
            encoding=connection.info.parameter_status("server_encoding") or "",
            version=connection.info.server_version,
            shape=shape,
            relations={},
            pages={Name(row[0], row[1]): row[3] for row in found if row[4] and by_tid},
            roots=frozenset(Name(row[3], row[4]) for row in rerouted),
            sequences=sorted(Name(sequence[1], sequence[2]) for sequence in sequences),
            owned=frozenset(Name(sequence[1], sequence[2]) for sequence in sequences if sequence[3]),
        )


def _side_by_side(one: _Side, other: _Side) -> tuple[_Side, _Side]:
    """Both sides with what is compared."""
    roots = compared_whole(one.shape, other.shape) | one.roots | other.roots
    of_one, of_other = (replace(side, relations=gathered(side.shape, roots), roots=roots) for side in (one, other))
    return of_one, of_other


def _without(side: _Side, left_out: Collection[Name]) -> _Side:
    """What is kept is in the same place as where nothing is left out: ``above`` goes on saying where that is."""
    kept = {name: columns for name, columns in side.shape.relations.items() if name not in left_out}
    return replace(
        side,
        shape=replace(side.shape, relations=kept),
        sequences=[name for name in side.sequences if name not in left_out],
    )


def _partly_left_out(name: Name) -> TableComparison:
    problem = "is divided in another way on the target, and cannot be compared while parts of it are left out"
    return TableComparison(name, None, None, problem)


def _begin_table(
    one: _Side, other: _Side, name: Name, split: Split, pool: ThreadPoolExecutor, stop: Stop
) -> TableComparison | tuple[Name, list[Future[tuple[_Sum, _Sum]]]]:
    """What needs no rows to be read is decided at once; otherwise who reads them."""
    for side in (one, other):
        if name not in side.relations:
            return TableComparison(name, None, None, f"does not exist, or was never filled, on the {side.side}")
    missing = sorted(one.relations[name].keys() - other.relations[name].keys())
    if missing:
        return TableComparison(name, None, None, f"columns that are not on the target: {', '.join(missing)}")
    table = _rows_of(one, other, name)
    parts = zip_longest(_parts(one, name, split), _parts(other, name, split))
    return name, [pool.submit(_compare_part, one, other, table, *conditions, stop) for conditions in parts]


def _ended(name: Name, parts: Sequence[Future[tuple[_Sum, _Sum]]]) -> TableComparison:
    """Sums of parts add up, whatever the parts of the other side are."""
    sums = [part.result() for part in parts]
    source, target = (
        _checksum((sum(each[side][0] for each in sums), sum(each[side][1] or 0 for each in sums))) for side in (0, 1)
    )
    return TableComparison(name, source, target)


def _parts(side: _Side, name: Name, split: Split) -> list[str]:
    """Conditions that divide the table's rows among readers."""
    pages = side.pages.get(name, 0)
    wanted = parts_wanted(pages * _PAGE, split)
    if wanted == 1:
        return [""]
    return [part.condition(None) for part in ranges("ctid", 0, pages - 1, wanted)]


def _rows_of(one: _Side, other: _Side, name: Name) -> Rows:
    values = values_of(one.relations[name], other.relations[name])
    return Rows(name, values, only=name not in one.roots, hashing=_hashing(one, other))


def _hashing(one: _Side, other: _Side) -> Hashing:
    return Hashing.between((one.encoding, other.encoding), (one.version, other.version))


def _compare_part(
    one: _Side, other: _Side, table: Rows, condition: str | None, beside: str | None, stop: Stop
) -> tuple[_Sum, _Sum]:
    """``condition`` is the source's, ``beside`` the target's; None where that side has no more parts."""
    stop.check()
    wanted = {one.side: condition, other.side: beside}

    def read(reader: Connection, side: Side) -> _Sum:
        part = wanted[side]
        return (0, None) if part is None else _table_sum(reader, table, part)

    return _on_both(one, other, read, stop)


def _with_rows(one: _Side, other: _Side, table: TableComparison, rows: int, stop: Stop) -> TableComparison:
    if table.equal or table.source is None:
        return table
    with one.reader(stop) as reader, other.reader(stop) as beside:
        return replace(table, rows=differing_rows(reader, beside, _rows_of(one, other, table.name), rows))


def _left_out(source: Endpoint, rules: FilterRules) -> set[Name]:
    """Tables that are not there or have no rows there, and sequences that are not there."""
    if not rules:
        return set()
    with source.connect("compare") as connection, server_errors(Side.SOURCE, "reading what filters leave out"):
        selection = select(connection, rules)
        gone = left_out_relations(connection, selection)
        names = connection.execute(
            "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c"
            " JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE c.oid = ANY (%s::text[]::oid[])",
            ([str(oid) for oid in gone],),
        ).fetchall()
    return {Name(*row) for row in names} | {name for name in selection.relations if not selection.keeps_rows(name)}


def _on_both(one: _Side, other: _Side, read: Callable[[Connection, Side], T], stop: Stop) -> tuple[T, T]:
    """Both sides at the same time: the slower one is waited for once."""

    def on_side(side: _Side) -> T:
        with side.reader(stop) as reader:
            return read(reader, side.side)

    with ThreadPoolExecutor(max_workers=1) as pool:
        ahead = pool.submit(on_side, one)
        behind = on_side(other)
        return ahead.result(), behind


def _table_sum(connection: Connection, table: Rows, condition: str) -> _Sum:
    row = connection.execute(
        f"SELECT count(*), sum({table.hashed}) FROM {table.sql_where(condition)} AS rows".encode()  # noqa: S608
    ).fetchone()
    assert row is not None  # noqa: S101  an aggregate returns one row
    return row[0], row[1] and int(row[1])


def _checksum(found: Sequence[Any] | None) -> Checksum:
    count, total = found or (0, 0)
    return Checksum(count, f"{int(total) % (1 << 64):016x}" if count else "")


def _compare_large_objects(one: _Side, other: _Side, stop: Stop) -> TableComparison:
    def read(reader: Connection, _side: Side) -> Checksum:
        value = _hashing(one, other).of("concat_ws(':', oid, start, digest)")
        text = query("large_object_chunks").replace("{hash}", value)
        return _checksum(reader.execute(text).fetchone())

    return TableComparison(LARGE_OBJECTS, *_on_both(one, other, read, stop))


def _compare_sequences(one: _Side, other: _Side, stop: Stop) -> TableComparison:
    # That of a column which only the target has is as little a difference as the column.
    missing = sorted((set(one.sequences) ^ set(other.sequences)) - (other.owned - set(one.sequences)))
    values: list[dict[Name, tuple[int, bool]]] = []
    for side in (one, other):
        with side.reader(stop) as reader:
            shared = [name for name in side.sequences if name in one.sequences and name not in missing]
            values.append({name: (value, called) for name, value, called in read_sequences(reader, shared)})
    differing = sorted(name for name in values[0] if values[0][name] != values[1].get(name))
    sums = [
        Checksum(len(found), f"{zlib.crc32(repr(sorted(found.items())).encode()):08x}" if found else "")
        for found in values
    ]
    problems = [f"sequence {name} has another value" for name in differing]
    problems += [f"sequence {name} is not on both sides" for name in missing]
    return TableComparison(SEQUENCES, sums[0], sums[1], "; ".join(problems) or None)
