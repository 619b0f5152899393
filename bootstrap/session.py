"""A worker's connection, as ``WorkerPool`` wants it."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass
from typing import Final

import psycopg

from pgcopydb.postgres.connect import Connection, hang_up

_CANCEL_SECONDS: Final = 2.0


@dataclass(frozen=True, slots=True)
class SingleSession:
    """One connection to one server."""

    connection: Connection

    def cancel(self) -> None:
        cancel_statement(self.connection)

    def close(self) -> None:
        self.connection.close()


def cancel_statement(connection: Connection) -> None:
    """Ask the server to cancel what the connection runs, then hang up: also a server that says nothing is left.

    The connection cannot be used afterwards. Whoever waits on it gets an error.
    """
    with contextlib.suppress(psycopg.Error):
        connection.cancel_safe(timeout=_CANCEL_SECONDS)
    hang_up(connection)
