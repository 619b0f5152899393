"""A worker's connection, as ``WorkerPool`` wants it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import psycopg

from pgcopydb.postgres.connect import Connection


@dataclass(frozen=True, slots=True)
class SingleSession:
    """One connection to one server."""

    connection: Connection

    def cancel(self) -> None:
        cancel_statement(self.connection)

    def close(self) -> None:
        self.connection.close()


def cancel_statement(connection: Connection) -> None:
    """Ask the server to cancel what the connection runs. That the server is gone is as good as cancelled."""
    with contextlib.suppress(psycopg.Error):
        connection.cancel_safe(timeout=5)
