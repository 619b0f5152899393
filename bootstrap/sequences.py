"""Sequences: their values are read from the source when the copy is complete, and set on the target.

A value that is read later than the snapshot is never behind the rows that were copied. Reading is not transactional, so
no snapshot is needed. Step ``sequences``; running it again sets the values of that moment. What was set is remembered:
a sequence that somebody else has moved since is in use, and is never set back.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Final

import psycopg

from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.store import CatalogStore, Row
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

_CHUNK: Final = 200
_GONE: Final = frozenset({"42P01", "3F000"})

Value = tuple[Name, int, bool]

_SET: Final = "sequences_set"
"""The setting of the store that holds what was set."""
_THERE: Final = (
    "SELECT n.nspname, c.relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace"
    " WHERE c.relkind = 'S'"
)
_STEPS: Final = """
SELECT n.nspname, c.relname, s.seqincrement, s.seqcycle
  FROM unnest(%s::text[], %s::text[]) AS wanted (schema, name)
  JOIN pg_catalog.pg_namespace n ON n.nspname = wanted.schema
  JOIN pg_catalog.pg_class c ON c.relnamespace = n.oid AND c.relname = wanted.name
  JOIN pg_catalog.pg_sequence s ON s.seqrelid = c.oid
"""


def fetch_sequences(connection: Connection, store: CatalogStore) -> None:
    """Which sequences there are: owned, identity, standalone, unlogged."""
    rows = connection.execute(query("sequences")).fetchall()
    store.executemany("INSERT INTO sequence (oid, schema, name, owned_by) VALUES (?, ?, ?, ?)", rows)


def reset_sequences(
    store: CatalogStore, source: Endpoint, target: Endpoint, stop: Stop, *, again: bool = False
) -> None:
    """Set every sequence of the target to what the source's is now.

    ``again``: though that was done before, and whoever made those of the target; one that it lacks is left out then.
    """
    if store.step_done("sequences") and not again:
        return
    # Nothing was set yet: whatever the target's are at, it is what creating them left.
    before = values_set(store) or None
    sequences = store.rows("SELECT schema, name FROM sequence ORDER BY oid")
    with store.step("sequences"):
        if sequences:
            with (
                source.connect_patiently("sequences", stop) as reader,
                target.connect_patiently("sequences", stop) as writer,
            ):
                names = [_name(row) for row in sequences]
                done = [*copy_sequences(reader, writer, _those_there(writer, names) if again else names, stop, before)]
                remember_set(store, done)
                logger.info("Set %d sequences to their current values on the source", len(done))


def sequences_there(writer: Connection) -> set[Name]:
    """All of the target."""
    with server_errors(Side.TARGET, "reading which sequences there are"):
        return {Name(row[0], row[1]) for row in writer.execute(_THERE).fetchall()}


def _those_there(writer: Connection, names: Sequence[Name]) -> list[Name]:
    there = sequences_there(writer)
    for name in names:
        if name not in there:
            logger.warning("sequence %s is not on the target: what takes its place there has to be set by hand", name)
    return [name for name in names if name in there]


def remember_set(store: CatalogStore, values: Iterable[Value]) -> None:
    store.set_setting(_SET, [[name.schema, name.name, value, called] for name, value, called in values])


def values_set(store: CatalogStore) -> dict[Name, tuple[int, bool]]:
    """What was set when that was last done."""
    return {Name(schema, name): (value, called) for schema, name, value, called in store.setting(_SET) or []}


def copy_sequences(
    reader: Connection,
    writer: Connection,
    names: Sequence[Name],
    stop: Stop,
    set_before: Mapping[Name, tuple[int, bool]] | None = None,
) -> Iterator[Value]:
    """Set these sequences of the target to the source's values of now; which were set to what.

    ``set_before``: what the target's are if nobody else has used them; None when nobody can have.
    """
    for start in range(0, len(names), _CHUNK):
        stop.check()
        chunk = names[start : start + _CHUNK]
        with server_errors(Side.SOURCE, "reading sequences"):
            values = list(read_sequences(reader, chunk))
        with server_errors(Side.TARGET, "setting sequences"):
            if set_before is not None:
                used = _used_by_others(writer, values, set_before)
                values = [value for value in values if value[0] not in used]
            _set(writer, values)
        failpoint("sequences.after_set")
        yield from values


def _name(row: Row) -> Name:
    return Name(row["schema"], row["name"])


def _set(writer: Connection, values: Sequence[Value]) -> None:
    writer.execute(
        "SELECT pg_catalog.setval(name::regclass, value, called)"
        " FROM unnest(%s::text[], %s::bigint[], %s::bool[]) AS s (name, value, called)",
        ([name.sql for name, _, _ in values], [value for _, value, _ in values], [called for *_, called in values]),
    )


def _used_by_others(
    writer: Connection, values: Sequence[Value], set_before: Mapping[Name, tuple[int, bool]]
) -> frozenset[Name]:
    """Sequences of the target that would be set back behind what they have given to somebody."""
    names = [name for name, _, _ in values]
    here = {name: (value, called) for name, value, called in read_sequences(writer, names)}
    rows = writer.execute(_STEPS, ([name.schema for name in names], [name.name for name in names])).fetchall()
    steps = {Name(row[0], row[1]): (int(row[2]), bool(row[3])) for row in rows}
    found = set()
    for name, value, called in values:
        if name not in here or here[name] == set_before.get(name):
            continue
        step, cycles = steps[name]
        ahead = here[name][0] - value + step * (here[name][1] - called)
        if ahead * step > 0 or (cycles and ahead):
            logger.warning(
                "sequence %s is used on the target: it stays at %d, the source's is at %d", name, here[name][0], value
            )
            found.add(name)
    return frozenset(found)


def read_sequences(reader: Connection, names: Sequence[Name]) -> Iterator[Value]:
    """``(name, last_value, is_called)`` of each; one that is gone meanwhile is left out with a warning."""
    for start in range(0, len(names), _CHUNK):
        yield from _read_values(reader, names[start : start + _CHUNK])


def _read_values(reader: Connection, names: Sequence[Name]) -> list[Value]:
    """All in one query; one by one when a sequence of them was dropped meanwhile."""
    text = " UNION ALL ".join(
        f"SELECT {number}, last_value, is_called FROM {name.sql}"  # noqa: S608  names are quoted
        for number, name in enumerate(names)
    )
    try:
        return [(names[number], value, called) for number, value, called in reader.execute(text).fetchall()]
    except psycopg.Error as exc:
        if exc.sqlstate not in _GONE:
            raise
    if len(names) == 1:
        logger.warning("sequence %s was dropped meanwhile; it is left as it is", names[0])
        return []
    return [value for name in names for value in _read_values(reader, [name])]
