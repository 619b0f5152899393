"""The one snapshot that everything is read under: export, hold, notice its loss, import.

A snapshot can be imported as long as the session that exported it keeps its transaction open (PostgreSQL documentation,
"Snapshot Synchronization Functions"). ``HeldSnapshot`` owns that session, keeps it alive, and calls back within moments
of the kernel's learning that it is lost. Two snapshots of one primary whose content (``xmin:xmax:xip_list``) is equal
see the same rows, whoever exported them. On a standby the list is always empty, so a snapshot equals itself only.
"""

from __future__ import annotations

import logging
import os
import secrets
import select
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

import psycopg

from pgcopydb.postgres.classify import classify, server_errors
from pgcopydb.postgres.connect import Connection, Endpoint, hang_up
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import quote_literal
from pgcopydb.runtime.durable import write_atomic
from pgcopydb.runtime.errors import Kind, PgcopydbError, SourceError, StateError
from pgcopydb.runtime.logs import in_this_context
from pgcopydb.runtime.stop import Stop, StopMode
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

SERVICE: Final = "snapshot"
"""Name of the lock that ``pgcopydb snapshot`` holds in the work directory."""

KEEPALIVE_SECONDS: Final = 20.0
"""Shorter than the idle timeouts of the usual NAT gateways and proxies."""

_RELEASE_SECONDS: Final = 5.0
"""How long the server may take to answer a keepalive that is under way."""

_BEGIN: Final = "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY"


@dataclass(frozen=True, slots=True)
class ReadUnder:
    """The snapshot that a run reads under.

    ``content`` is for comparing with an earlier run's. ``read_at``: an LSN, where changes are followed and this is not
    their first snapshot: rows that are read under it have what was committed up to there.
    """

    id: str
    content: str
    read_at: str | None = None


def begin_under(connection: Connection, snapshot: str | None) -> None:
    """Open a read-only transaction that sees what the snapshot sees; a snapshot of its own when none is given."""
    connection.execute(_BEGIN)
    if snapshot is not None:
        connection.execute(f"SET TRANSACTION SNAPSHOT {quote_literal(snapshot)}")


def snapshot_content(connection: Connection, adopted: str | None = None) -> str:
    """What the transaction's snapshot sees, for comparing.

    On a standby it is told apart by the name of the snapshot that it was ``adopted`` from, or equals no other.
    """
    function = "pg_current_snapshot" if connection.info.server_version >= 130000 else "txid_current_snapshot"
    row = connection.execute(f"SELECT pg_catalog.{function}()::text, pg_catalog.pg_is_in_recovery()").fetchone()
    assert row is not None  # noqa: S101  a function call returns one row
    return f"{row[0]} {adopted or secrets.token_hex(8)}" if row[1] else str(row[0])


class HeldSnapshot:
    """An exported snapshot and the session that keeps it. ``under``: what readers are told of it."""

    def __init__(
        self, connection: Connection, on_lost: Callable[[SourceError], None], adopted: str | None = None
    ) -> None:
        self._connection = connection
        self._on_lost = on_lost
        content = snapshot_content(connection, adopted)
        row = connection.execute("SELECT pg_catalog.pg_export_snapshot()").fetchone()
        assert row is not None  # noqa: S101  a function call returns one row
        self.under = ReadUnder(str(row[0]), content)
        self._release = os.eventfd(0, os.EFD_CLOEXEC)
        self._thread = threading.Thread(target=in_this_context(self._watch), name="snapshot", daemon=True)
        self._thread.start()

    def release(self) -> None:
        """End the transaction, so that the source can vacuum what it saw. May be called twice, by one thread."""
        if self._release >= 0:
            os.eventfd_write(self._release, 1)
            self._thread.join(_RELEASE_SECONDS)
            if self._thread.is_alive():
                hang_up(self._connection)
                self._thread.join()
            os.close(self._release)
            self._release = -1

    def _watch(self) -> None:
        try:
            while not self._wait():
                self._connection.execute("SELECT 1")
        except psycopg.Error as exc:
            self._on_lost(_lost(exc))
        finally:
            self._connection.close()

    def _wait(self) -> bool:
        """True when the snapshot is to be released; false when it is time to show that this session is alive."""
        poll = select.poll()
        poll.register(self._release, select.POLLIN)
        poll.register(self._connection.fileno(), select.POLLIN)
        events = poll.poll(KEEPALIVE_SECONDS * 1000)
        return any(fd == self._release for fd, _ in events)


def _lost(exc: psycopg.Error) -> SourceError:
    error = classify(Side.SOURCE, exc, "the session that holds the snapshot was lost")
    return SourceError(
        error.message,
        hint="Run again with --resume. Without --follow, what is not copied yet then needs --not-consistent, or a "
        "snapshot that `pgcopydb snapshot` holds.",
        kind=Kind.RETRY,
        sqlstate=error.sqlstate,
    )


def export_snapshot(source: Endpoint, on_lost: Callable[[SourceError], None], stop: Stop | None = None) -> HeldSnapshot:
    """Take a new snapshot and hold it. With a ``stop`` to end that, a source that restarts is waited for."""
    connection = source.connect("snapshot") if stop is None else source.connect_patiently("snapshot", stop)
    try:
        with server_errors(Side.SOURCE, "exporting a snapshot"):
            begin_under(connection, None)
            return HeldSnapshot(connection, on_lost)
    except PgcopydbError:
        connection.close()
        raise


def adopt_snapshot(source: Endpoint, snapshot: str, on_lost: Callable[[SourceError], None]) -> HeldSnapshot:
    """Import a snapshot that another session exported, and export it again: it then outlives that session.

    Raises ``StateError`` when it is gone.
    """
    connection = source.connect("snapshot")
    try:
        begin_under(connection, snapshot)
        return HeldSnapshot(connection, on_lost, snapshot)
    except psycopg.Error as exc:
        connection.close()
        if exc.sqlstate is None:
            raise classify(Side.SOURCE, exc, f"importing the snapshot {snapshot}") from exc
        raise StateError(
            f"the snapshot {snapshot} is gone: {exc.diag.message_primary}",
            hint="A snapshot lives as long as the session that exported it: run `pgcopydb snapshot` and use its "
            "identifier, or leave consistency with what is already copied aside with --not-consistent.",
            sqlstate=exc.sqlstate,
        ) from exc


def hold_snapshot(
    source: Endpoint,
    workdir: WorkDir,
    stop: Stop,
    announce: Callable[[str], None],
    take: Callable[[Endpoint, Callable[[SourceError], None]], HeldSnapshot] = export_snapshot,
) -> None:
    """Export a snapshot for other commands of the same work directory and hold it until a stop is requested.

    ``take`` makes it, when the work directory is ours. ``announce`` is called with its identifier once the file
    ``snapshot`` names it. Raises ``SourceError`` when it is lost.
    """
    lost: list[SourceError] = []

    def on_lost(error: SourceError) -> None:
        lost.append(error)
        stop.request(StopMode.FAST)

    workdir.create()
    with workdir.lock(SERVICE):
        held = take(source, on_lost)
        try:
            write_atomic(workdir.snapshot, f"{held.under.id}\n".encode())
            announce(held.under.id)
            while not stop.wait(3600):
                logger.debug("holding snapshot %s", held.under.id)
        finally:
            workdir.snapshot.unlink(missing_ok=True)
            held.release()
    if lost:
        raise lost[0]


def offered_snapshot(workdir: WorkDir) -> str | None:
    """The snapshot that a ``pgcopydb snapshot`` of this work directory holds right now."""
    try:
        with workdir.lock(SERVICE):
            return None
    except StateError:
        return workdir.snapshot.read_text().strip() if workdir.snapshot.exists() else None
