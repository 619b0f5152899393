"""Sessions of a copy of which only one side knows that they are over.

As ``liveness`` for the sessions of stages: for as long as a block lasts, every session that is opened through the
endpoint is looked for on its server now and then. What is true of one that its server has no more: whoever waits for
an answer on it gets an error, as if the server had closed it. What a server keeps of a session that was given up here,
and with it its locks, is ended. Nothing is done about a session with another machine than the one that was asked, nor
while that cannot be asked.
"""

from __future__ import annotations

import logging
import threading
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Final, NamedTuple

from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint, hang_up
from pgcopydb.runtime.errors import PgcopydbError

logger = logging.getLogger(__name__)

LOOK_SECONDS: Final = 20.0
_THERE: Final = "SELECT pid, application_name FROM pg_catalog.pg_stat_activity WHERE pid = ANY (%s)"


class _Session(NamedTuple):
    connection: weakref.ref[Connection]
    machine: tuple[bytes, bytes]

    def open_connection(self) -> Connection | None:
        connection = self.connection()
        return None if connection is None or connection.closed else connection


class SessionWatch:
    """Sessions of one endpoint, by the processes that the server has for them."""

    def __init__(self, endpoint: Endpoint) -> None:
        self._endpoint = endpoint
        self._lock = threading.Lock()
        self._sessions: dict[int, _Session] = {}
        self._left: set[int] = set()
        """Processes that were there at the last look though we had closed the session."""

    def add(self, connection: Connection, pid: int) -> None:
        with self._lock:
            self._sessions[pid] = _Session(weakref.ref(connection), _machine(connection))
            self._left.discard(pid)

    def look(self) -> None:
        """Hang up what the server has no process for; end what it keeps for a session that is over."""
        with self._lock:
            known = dict(self._sessions)
        if not known:
            return
        side = self._endpoint.side
        try:
            with self._endpoint.connect("liveness") as asking, server_errors(side, "looking for sessions"):
                there: dict[int, str] = dict(asking.execute(_THERE, (sorted(known),)).fetchall())
                here = _machine(asking)
                for pid, session in known.items():
                    if session.machine == here:
                        self._judge(asking, pid, session, there.get(pid))
        except PgcopydbError as error:
            logger.debug("could not ask the %s for its sessions: %s", side, error)

    def _judge(self, asking: Connection, pid: int, session: _Session, name: str | None) -> None:
        """``name``: what the server calls the session, None when it has none."""
        side = self._endpoint.side
        if (connection := session.open_connection()) is not None:
            if name is None:
                logger.warning("The %s has no process %d any more for a connection that seems open: hung up", side, pid)
                hang_up(connection)
            return
        with self._lock:
            if self._sessions.get(pid) is not session:
                return
            if name is None:
                del self._sessions[pid]
                self._left.discard(pid)
                return
            seen, ours = pid in self._left, name.endswith(f" {self._endpoint.run_id}")
            self._left.add(pid)
        # A session that was closed just now is on its way out.
        if seen and ours:
            asking.execute("SELECT pg_catalog.pg_terminate_backend(%s)", (pid,))
            logger.warning("Ended process %d of the %s: it was kept for a connection that is lost", pid, side)


def _machine(connection: Connection) -> tuple[bytes, bytes]:
    return connection.pgconn.hostaddr, connection.pgconn.port


@contextmanager
def watched(endpoint: Endpoint) -> Iterator[Endpoint]:
    """The same endpoint; its sessions are looked after until the block is left."""
    watch = SessionWatch(endpoint)
    over = threading.Event()

    def run() -> None:
        while not over.wait(LOOK_SECONDS):
            watch.look()

    threading.Thread(target=run, name="sessions", daemon=True).start()
    try:
        yield replace(endpoint, sessions=watch)
    finally:
        over.set()
