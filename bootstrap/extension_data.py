"""Rows that users put into the configuration tables of extensions (``pg_extension_config_dump``).

The tables belong to their extension and are made by CREATE EXTENSION, possibly with rows of its own. Only rows that are
not on the target yet are inserted, so a second run adds nothing. Step ``extension_data``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing

from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.snapshot import begin_under
from pgcopydb.bootstrap.store import CatalogStore, Row
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.copy_stream import CancelToken, copy_between
from pgcopydb.postgres.names import Name, quote_ident
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)


def fetch_extensions(connection: Connection, store: CatalogStore) -> None:
    """Extensions, and their configuration tables in an order that their foreign keys allow."""
    store.executemany("INSERT INTO extension VALUES (?, ?, ?, ?)", connection.execute(query("extensions")).fetchall())
    store.executemany(
        "INSERT INTO extension_config (oid, extension, schema, name, kind, condition, position)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        connection.execute(query("extension_config")).fetchall(),
    )


def copy_extension_data(
    store: CatalogStore, source: Endpoint, target: Endpoint, snapshot: str, options: RestoreOptions, stop: Stop
) -> None:
    """Raises when a configuration table is missing on the target: its extension is of another version there."""
    if store.step_done("extension_data"):
        return
    pending = store.rows("SELECT * FROM extension_config WHERE state <> 'done' ORDER BY position, oid")
    with store.step("extension_data"):
        if pending and not options.skip_extensions:
            with (
                source.connect_patiently("extension data", stop) as reader,
                target.connect_patiently("extension data", stop) as writer,
            ):
                with server_errors(Side.SOURCE, "importing the snapshot"):
                    begin_under(reader, snapshot)
                for row in pending:
                    stop.check()
                    _copy(reader, writer, row)
                    failpoint("extension_data.after_commit")
                    store.execute("UPDATE extension_config SET state = 'done' WHERE oid = ?", (row["oid"],))


def _copy(reader: Connection, writer: Connection, row: Row) -> None:
    name = Name(row["schema"], row["name"])
    logger.debug("copying the configuration data of extension %s: %s", row["extension"], name)
    if row["kind"] == "S":
        _copy_sequence(reader, writer, name)
        return
    with server_errors(Side.SOURCE, f"reading the columns of {name}"):
        columns = list(_columns(reader, row["oid"]))
    chosen = ", ".join(quote_ident(column) for column in columns)
    with server_errors(Side.TARGET, f"writing configuration table {name} of extension {row['extension']}"):
        # The table is temporary, and its name cannot clash: pg_temp has only what this session makes.
        writer.execute("BEGIN")
        writer.execute(
            f"CREATE TEMPORARY TABLE pgcopydb_rows ON COMMIT DROP AS SELECT {chosen} FROM {name.sql} LIMIT 0"  # noqa: S608
        )
    with closing(CancelToken()) as token:
        copy_between(
            reader,
            writer,
            f"COPY (SELECT {chosen} FROM ONLY {name.sql} {row['condition']}) TO STDOUT",  # noqa: S608
            "COPY pg_temp.pgcopydb_rows FROM STDIN",
            binary=False,
            cancel=token,
            on_bytes=lambda _count: None,
        )
    same = f"ROW({_prefixed('t', columns)})::text = ROW({_prefixed('r', columns)})::text"
    with server_errors(Side.TARGET, f"writing configuration table {name} of extension {row['extension']}"):
        writer.execute(
            f"INSERT INTO {name.sql} ({chosen}) OVERRIDING SYSTEM VALUE SELECT {chosen} FROM pg_temp.pgcopydb_rows r"  # noqa: S608
            f" WHERE NOT EXISTS (SELECT FROM {name.sql} t WHERE {same})"
        )
        writer.execute("COMMIT")


def _prefixed(alias: str, columns: list[str]) -> str:
    return ", ".join(f"{alias}.{quote_ident(column)}" for column in columns)


def _columns(reader: Connection, oid: int) -> Iterator[str]:
    for (name,) in reader.execute(
        "SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"
        " ORDER BY attnum",
        (oid,),
    ).fetchall():
        yield name


def _copy_sequence(reader: Connection, writer: Connection, name: Name) -> None:
    with server_errors(Side.SOURCE, f"reading sequence {name}"):
        row = reader.execute(f"SELECT last_value, is_called FROM {name.sql}").fetchone()  # noqa: S608
    with server_errors(Side.TARGET, f"setting sequence {name}"):
        writer.execute("SELECT pg_catalog.setval(%s::regclass, %s, %s)", (name.sql, *(row or (1, False))))
