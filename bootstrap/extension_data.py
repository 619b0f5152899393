"""Rows that users put into the configuration tables of extensions (``pg_extension_config_dump``).

The tables belong to their extension and are made by CREATE EXTENSION, possibly with rows of its own. Only rows that are
not on the target yet are inserted, so a second run adds nothing; a row of the same key that differs is an error, never
overwritten. Step ``extension_data``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import closing
from typing import Final

from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.snapshot import ReadUnder, begin_under
from pgcopydb.bootstrap.store import CatalogStore, Row
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.copy_stream import CancelToken, copy_between, is_plain, kept_encoding
from pgcopydb.postgres.names import Name, quote_ident, quote_literal
from pgcopydb.runtime.errors import SourceError, TargetError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

_NOT_THERE: Final = frozenset({"42P01", "3F000", "42703"})
_DUPLICATE: Final = "23505"


def fetch_extensions(connection: Connection, store: CatalogStore) -> None:
    """Extensions, and their configuration tables in an order that their foreign keys allow."""
    store.executemany(
        "INSERT INTO extension VALUES (?, ?, ?, ?, ?)", connection.execute(query("extensions")).fetchall()
    )
    store.executemany(
        "INSERT INTO extension_config (oid, extension, schema, name, kind, condition, position)"
        " VALUES (?, ?, ?, ?, ?, ?, ?)",
        connection.execute(query("extension_config")).fetchall(),
    )


def copy_extension_data(
    store: CatalogStore, source: Endpoint, target: Endpoint, snapshot: ReadUnder, options: RestoreOptions, stop: Stop
) -> None:
    """Raises when a configuration table is missing on the target, or has a row that contradicts the source's."""
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
                    begin_under(reader, snapshot.id)
                for row in pending:
                    stop.check()
                    if _is_gone(reader, row):
                        name = Name(row["schema"], row["name"])
                        logger.warning("%s of extension %s was dropped on the source meanwhile", name, row["extension"])
                    else:
                        _copy_or_explain(reader, writer, row, stop)
                    failpoint("extension_data.after_commit")
                    store.execute(
                        "UPDATE extension_config SET state = 'done', read_at = ? WHERE oid = ?",
                        (snapshot.read_at, row["oid"]),
                    )


def _is_gone(reader: Connection, row: Row) -> bool:
    """Catalogs are read as they are now, whatever the snapshot. Raises when the name means another table now."""
    name = Name(row["schema"], row["name"])
    with server_errors(Side.SOURCE, f"looking for {name}"):
        found = reader.execute("SELECT to_regclass(%s)::oid::bigint", (name.sql,)).fetchone()
    if found not in {(None,), (row["oid"],)}:
        raise SourceError(
            f"{name} of extension {row['extension']} was dropped after the snapshot was taken, and made anew",
            hint="Begin again with --restart --drop-if-exists.",
        )
    return found == (None,)


def _copy_or_explain(reader: Connection, writer: Connection, row: Row, stop: Stop) -> None:
    try:
        _copy(reader, writer, row, stop)
    except TargetError as error:
        hint = error.hint
        if error.sqlstate in _NOT_THERE:
            hint = (
                f"Install the source's version of extension {row['extension']} on the target, then go on with --resume."
            )
        elif error.sqlstate == _DUPLICATE:
            hint = (
                "Remove the row of this key from the target or make it equal to the source's, then go on with --resume."
            )
        raise TargetError(error.message, hint=hint, kind=error.kind, sqlstate=error.sqlstate) from error


def _copy(reader: Connection, writer: Connection, row: Row, stop: Stop) -> None:
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
    with closing(CancelToken()) as token, stop.on_fast_stop(token.cancel):
        plain = is_plain(reader) and is_plain(writer)
        encoding = kept_encoding(reader, writer)
        form = f" WITH (ENCODING {quote_literal(encoding)})" if encoding else ""
        copy_between(
            reader,
            writer,
            f"COPY (SELECT {chosen} FROM ONLY {name.sql} {row['condition']}) TO STDOUT{form}",  # noqa: S608
            f"COPY pg_temp.pgcopydb_rows FROM STDIN{form}",
            binary=False,
            cancel=token,
            on_bytes=lambda _count: None,
            through_libpq=not plain,
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
    """Those that can be written: a generated one follows from the others."""
    generated = "attgenerated <> ''" if reader.info.server_version >= 120000 else "false"
    for (name,) in reader.execute(
        f"SELECT attname FROM pg_catalog.pg_attribute WHERE attrelid = %s AND attnum > 0 AND NOT attisdropped"  # noqa: S608
        f" AND NOT {generated} ORDER BY attnum",
        (oid,),
    ).fetchall():
        yield name


def _copy_sequence(reader: Connection, writer: Connection, name: Name) -> None:
    with server_errors(Side.SOURCE, f"reading sequence {name}"):
        row = reader.execute(f"SELECT last_value, is_called FROM {name.sql}").fetchone()  # noqa: S608
    with server_errors(Side.TARGET, f"setting sequence {name}"):
        writer.execute("SELECT pg_catalog.setval(%s::regclass, %s, %s)", (name.sql, *(row or (1, False))))
