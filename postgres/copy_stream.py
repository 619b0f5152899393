"""COPY from one server into another: the relay where both connections are plain, libpq's copy calls elsewhere.

What is true when ``copy_between`` returns: the target has taken every row that the source sent (both counted the same
number) and both connections can be used. When it raises, the connections may be closed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Final

import psycopg

from pgcopydb.postgres.classify import classify
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.relay import CancelToken, relay_copy
from pgcopydb.runtime.errors import PgcopydbError, Stopped

__all__ = ["CancelToken", "CopyCounts", "copy_between", "is_plain", "kept_encoding"]

_BATCH_BYTES: Final = 1 << 17
_GSS_SINCE: Final = 120000


@dataclass(frozen=True, slots=True)
class CopyCounts:
    """Rows as both servers counted them; bytes of rows as they went over the wire."""

    rows: int
    bytes: int


def copy_between(
    source: Connection,
    target: Connection,
    copy_out: str,
    copy_in: str,
    *,
    binary: bool,
    cancel: CancelToken,
    on_bytes: Callable[[int], None],
    quiet: bool = False,
    through_libpq: bool = False,
) -> CopyCounts:
    """Run ``copy_out`` (COPY … TO STDOUT) on the source into ``copy_in`` (COPY … FROM STDIN) on the target.

    ``quiet`` promises that the source runs no code of users for it, so that no notice comes between the rows.
    ``through_libpq`` takes the slower way, the only one where a connection is not ``is_plain``. Raises ``SourceError``,
    ``TargetError`` or ``Stopped``.
    """
    if through_libpq:
        sent, received, size = _copy_through_libpq(source, target, copy_out, copy_in, cancel, on_bytes)
    else:
        sent, received, size = relay_copy(
            source, target, copy_out, copy_in, binary=binary, quiet=quiet, cancel=cancel, on_bytes=on_bytes
        )
    if sent != received:
        raise PgcopydbError(f"the source sent {sent} rows and the target received {received}: {copy_in}")
    return CopyCounts(rows=received, bytes=size)


def is_plain(connection: Connection) -> bool:
    """Whether what goes over the connection's socket is the protocol itself, encrypted by neither TLS nor GSS."""
    if connection.pgconn.ssl_in_use:
        return False
    modes = [option.val for option in connection.pgconn.info if option.keyword == b"gssencmode"]
    if not modes or modes == [b"disable"] or connection.info.server_version < _GSS_SINCE:
        return True
    row = connection.execute(
        "SELECT encrypted FROM pg_catalog.pg_stat_gssapi WHERE pid = pg_catalog.pg_backend_pid()"
    ).fetchone()
    return row is None or not row[0]


def kept_encoding(source: Connection, target: Connection) -> str | None:
    """The encoding in which rows go over as they are stored: that of both databases. None is UTF-8, or converts to it.

    Named in both COPY statements, it spares a conversion forth and back, which SQL_ASCII, whose bytes may be anything,
    does not survive. Rows in binary form do not heed it.
    """
    of_source, of_target = (each.info.parameter_status("server_encoding") for each in (source, target))
    return of_source if of_source == of_target != "UTF8" else None


def _batches(rows: psycopg.Copy) -> Iterator[bytes]:
    """Rows joined to pieces of about ``_BATCH_BYTES``: a call of libpq for each row costs more than the row."""
    pieces: list[bytes] = []
    size = 0
    for row in rows:
        pieces.append(bytes(row))
        size += len(row)
        if size >= _BATCH_BYTES:
            yield b"".join(pieces)
            pieces, size = [], 0
    if pieces:
        yield b"".join(pieces)


def _copy_through_libpq(
    source: Connection,
    target: Connection,
    copy_out: str,
    copy_in: str,
    cancel: CancelToken,
    on_bytes: Callable[[int], None],
) -> tuple[int, int, int]:
    side = Side.TARGET
    size = 0
    try:
        with source.cursor() as reader, target.cursor() as writer:
            with writer.copy(copy_in.encode()) as copy:
                side = Side.SOURCE
                with reader.copy(copy_out.encode()) as rows:
                    for batch in _batches(rows):
                        if cancel.is_set():
                            raise Stopped("the copy was cancelled", hint="Continue with --resume.")
                        side = Side.TARGET
                        copy.write(batch)
                        side = Side.SOURCE
                        size += len(batch)
                        on_bytes(len(batch))
                side = Side.TARGET
            return reader.rowcount, writer.rowcount, size
    except psycopg.Error as exc:
        if cancel.is_set():
            raise Stopped("the copy was cancelled", hint="Continue with --resume.") from exc
        raise classify(side, exc, "copying rows") from exc
