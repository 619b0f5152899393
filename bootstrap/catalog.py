"""Read the source's objects, under the snapshot, into the store.

Reads the system catalogs with one query per kind of object (tables' columns and indexes in chunks of tables). Writes
everything in one transaction of the store: after a crash the catalog is there whole or not at all. Step ``catalog``.
Leaves to others: dividing tables into parts (copy_plan), and the fetches that live beside what uses them.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, Final

from pgcopydb.bootstrap.extension_data import fetch_extensions
from pgcopydb.bootstrap.filtering import fetch_selection, left_out_addresses, relations_left_out, views_without_rows
from pgcopydb.bootstrap.foreign_keys import fetch_foreign_keys
from pgcopydb.bootstrap.large_objects import fetch_large_objects
from pgcopydb.bootstrap.matviews import fetch_matviews, leave_unrefreshed
from pgcopydb.bootstrap.options import CloneOptions
from pgcopydb.bootstrap.properties import fetch_properties
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.sequences import fetch_sequences
from pgcopydb.bootstrap.snapshot import begin_under
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name
from pgcopydb.postgres.selection import Selection
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.sizes import pretty_size
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

_CHUNK: Final = 1000
"""Tables per query of their columns and indexes: bounds what is held at once in a catalog of 100,000 tables."""

_CLASS: Final = 1259
_CONSTRAINT: Final = 2606
_OF_CATALOG: Final = {
    "built_index": _CLASS,
    "built_constraint": _CONSTRAINT,
    "foreign_key": _CONSTRAINT,
    "partitioned_table": _CLASS,
    "sequence": _CLASS,
    "matview": _CLASS,
}

_TABLE_COLUMNS: Final = (
    "oid, schema, name, owner, access_method, persistence, is_partition, filenode, pages, rows, bytes, part_key,"
    " replica_identity_index, clustered_index"
)


def fetch_catalog(
    store: CatalogStore, workdir: WorkDir, source: Endpoint, snapshot: str | None, options: CloneOptions
) -> None:
    """Fill the store from the source, as it is now without a snapshot; does nothing when an earlier run has."""
    if store.step_done("catalog"):
        logger.info("Using the catalog that an earlier run fetched")
        return
    with source.connect("catalog") as connection, store.step("catalog"):
        with server_errors(Side.SOURCE, "reading the source's catalog"):
            begin_under(connection, snapshot)
            with store.transaction():
                _clear(store)
                selection = fetch_selection(connection, store, workdir, options.filters)
                _fetch_tables(connection, store, selection, estimate=options.split.estimate_sizes)
                for fetch in _fetches(options):
                    fetch(connection, store)
                _leave_out(connection, store, selection)
                failpoint("catalog.before_commit")
        failpoint("catalog.after_commit")
    _report(store)


def _fetches(options: CloneOptions) -> Iterator[Callable[[Connection, CatalogStore], None]]:
    yield fetch_foreign_keys
    yield fetch_sequences
    yield fetch_extensions
    yield fetch_matviews
    if not options.skip.db_properties:
        yield fetch_properties
    if not options.skip.large_objects:
        yield fetch_large_objects


def _clear(store: CatalogStore) -> None:
    for table in (
        "namespace",
        "copied_table",
        "copied_column",
        "copy_part",
        "built_index",
        "built_constraint",
        "foreign_key",
        "partitioned_table",
        "placed_object",
        "sequence",
        "extension",
        "extension_config",
        "large_object_batch",
        "large_object_copied",
        "database_setting",
        "matview",
        "left_out",
        "spared_sequence",
    ):
        store.execute(f"DELETE FROM {table}")  # noqa: S608  names of our own tables


def _fetch_tables(connection: Connection, store: CatalogStore, selection: Selection, *, estimate: bool) -> None:
    found = connection.execute(query("tables"), {"estimate": estimate}).fetchall()
    tables = [row for row in found if selection.keeps(Name(row[1], row[2]))]
    marks = ", ".join("?" * len(_TABLE_COLUMNS.split(",")))
    store.executemany(f"INSERT INTO copied_table ({_TABLE_COLUMNS}) VALUES ({marks})", tables)  # noqa: S608
    without_rows = [(row[0],) for row in tables if not selection.keeps_rows(Name(row[1], row[2]))]
    store.executemany("UPDATE copied_table SET with_rows = 0 WHERE oid = ?", without_rows)
    oids = [row[0] for row in tables]
    for start in range(0, len(oids), _CHUNK):
        chunk = oids[start : start + _CHUNK]
        _fetch_columns(connection, store, chunk)
        _fetch_indexes(connection, store, chunk)
    store.executemany(
        "UPDATE copied_table SET via_schema = ?, via_name = ? WHERE oid = ?",
        [(row[3], row[4], row[0]) for row in connection.execute(query("rerouted_partitions")).fetchall()],
    )
    store.executemany("INSERT INTO namespace VALUES (?, ?)", connection.execute(query("namespaces")).fetchall())
    store.executemany(
        "INSERT INTO placed_object VALUES (?, ?, ?, ?, ?, ?)",
        [row[:6] for row in connection.execute(query("placed_objects")).fetchall()],
    )
    store.executemany(
        "INSERT INTO partitioned_table (oid, schema, name, is_root) VALUES (?, ?, ?, ?)",
        connection.execute(query("partitioned_tables")).fetchall(),
    )


def _fetch_columns(connection: Connection, store: CatalogStore, tables: Sequence[int]) -> None:
    generated = "a.attgenerated <> ''" if connection.info.server_version >= 120000 else "false"
    text = query("columns").format(generated=generated)
    rows = connection.execute(text, {"tables": list(tables)}).fetchall()
    store.executemany("INSERT INTO copied_column VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)", rows)


def _fetch_indexes(connection: Connection, store: CatalogStore, tables: Sequence[int]) -> None:
    period = "coalesce(con.conperiod, false)" if connection.info.server_version >= 180000 else "false"
    rows = connection.execute(query("indexes").format(period=period), {"tables": list(tables)}).fetchall()
    store.executemany(
        "INSERT INTO built_index (oid, table_oid, schema, name, sql, tablespace, is_unique, statistics, extensions,"
        " bytes) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [(*row[:9], row[16]) for row in rows if not row[15]],
    )
    store.executemany(
        "INSERT INTO built_constraint (oid, table_oid, index_oid, name, kind, is_deferrable, is_deferred, definition,"
        " tablespace) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        [_constraint(row) for row in rows if row[9] is not None],
    )


def _constraint(row: Sequence[Any]) -> tuple[Any, ...]:
    index_oid, table_oid, tablespace, builds_its_own = row[0], row[1], row[5], row[15]
    return (row[9], table_oid, 0 if builds_its_own else index_oid, *row[10:15], tablespace)


def _leave_out(connection: Connection, store: CatalogStore, selection: Selection) -> None:
    """What was fetched of objects that go with those that filters leave out."""
    if not selection:
        return
    gone = left_out_addresses(store)
    _forget_indexes(store, relations_left_out(store))
    for table, catalog in _OF_CATALOG.items():
        oids = [(oid,) for catalog_oid, oid in gone if catalog_oid == catalog]
        store.executemany(f"DELETE FROM {table} WHERE oid = ?", oids)  # noqa: S608  names of our own tables
    store.executemany("DELETE FROM placed_object WHERE catalog_oid = ? AND oid = ?", sorted(gone))
    store.executemany("DELETE FROM namespace WHERE name = ?", [(name,) for name in selection.schemas])
    store.executemany("DELETE FROM extension WHERE name = ?", [(name,) for name in selection.extensions])
    store.executemany("DELETE FROM extension_config WHERE extension = ?", [(name,) for name in selection.extensions])
    leave_unrefreshed(store, views_without_rows(connection, selection))


def _forget_indexes(store: CatalogStore, gone: Collection[int]) -> None:
    """A table is neither clustered nor identified by an index that is left out."""
    for row in store.rows("SELECT oid, schema, name, table_oid FROM built_index"):
        if row["oid"] not in gone:
            continue
        store.execute(
            "UPDATE copied_table SET clustered_index = NULL WHERE oid = ? AND clustered_index = ?",
            (row["table_oid"], row["name"]),
        )
        if store.execute(
            "UPDATE copied_table SET replica_identity_index = NULL WHERE oid = ? AND replica_identity_index = ?",
            (row["table_oid"], row["name"]),
        ):
            logger.warning(
                "%s was the replica identity of its table and is left out: the table on the target has another one",
                Name(row["schema"], row["name"]),
            )


def _report(store: CatalogStore) -> None:
    counts = store.row(
        "SELECT (SELECT count(*) FROM copied_table), (SELECT coalesce(sum(bytes), 0) FROM copied_table),"
        " (SELECT count(*) FROM built_index), (SELECT count(*) FROM built_constraint),"
        " (SELECT count(*) FROM sequence), (SELECT coalesce(sum(objects), 0) FROM large_object_batch)"
    )
    assert counts is not None  # noqa: S101  an aggregate returns one row
    logger.info(
        "The source has %d tables (%s), %d indexes, %d constraints that need an index, %d sequences, %d large objects",
        counts[0],
        pretty_size(counts[1]),
        *counts[2:],
    )
