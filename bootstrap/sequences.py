"""Sequences: their values are read from the source when the copy is complete, and set on the target.

A value that is read later than the snapshot is never behind the rows that were copied. Reading is not transactional, so
no snapshot is needed. Step ``sequences``; running it again sets the values of that moment.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
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


def fetch_sequences(connection: Connection, store: CatalogStore) -> None:
    """Which sequences there are: owned, identity, standalone, unlogged."""
    rows = connection.execute(query("sequences")).fetchall()
    store.executemany("INSERT INTO sequence (oid, schema, name, owned_by) VALUES (?, ?, ?, ?)", rows)


def reset_sequences(store: CatalogStore, source: Endpoint, target: Endpoint, stop: Stop) -> None:
    """Set every sequence of the target to what the source's is now."""
    if store.step_done("sequences"):
        return
    sequences = store.rows("SELECT schema, name FROM sequence ORDER BY oid")
    with store.step("sequences"):
        if sequences:
            with (
                source.connect_patiently("sequences", stop) as reader,
                target.connect_patiently("sequences", stop) as writer,
            ):
                copy_sequences(reader, writer, [_name(row) for row in sequences], stop)
    if sequences:
        logger.info("Set %d sequences to their current values on the source", len(sequences))


def copy_sequences(reader: Connection, writer: Connection, names: Sequence[Name], stop: Stop) -> None:
    """Set these sequences of the target to the source's values of now."""
    for start in range(0, len(names), _CHUNK):
        stop.check()
        _copy_values(reader, writer, names[start : start + _CHUNK])
        failpoint("sequences.after_set")


def _name(row: Row) -> Name:
    return Name(row["schema"], row["name"])


def _copy_values(reader: Connection, writer: Connection, names: Sequence[Name]) -> None:
    with server_errors(Side.SOURCE, "reading sequences"):
        values = list(read_sequences(reader, names))
    with server_errors(Side.TARGET, "setting sequences"):
        writer.execute(
            "SELECT pg_catalog.setval(name::regclass, value, called)"
            " FROM unnest(%s::text[], %s::bigint[], %s::bool[]) AS s (name, value, called)",
            ([name.sql for name, _, _ in values], [value for _, value, _ in values], [called for *_, called in values]),
        )


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
