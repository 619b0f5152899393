"""Sessions of which only one side knows that they are over.

TCP tells when a peer is gone, but not across something in the middle that answers in its place: a balancer, a NAT
gateway or a proxy that has lost its other half. Then the server is asked on a new connection. What is true when
``check`` returns: the session was heard of lately, or its server has it, or the server could not be asked. The other
way round a server keeps a slot or an origin for a client that has long opened another connection: ``end_lost`` is for
that.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final

from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint, hang_up
from pgcopydb.postgres.conninfo import Side
from pgcopydb.runtime.errors import Kind, PgcopydbError

logger = logging.getLogger(__name__)

ASK_SECONDS: Final = 20.0
"""After so much silence a walsender is asked for an answer, which it gives at once unless it decodes."""
SILENT_SECONDS: Final = 40.0
"""After so much silence its server is asked for the session."""

# Not by its name too: what is between may have taken that away.
_THERE: Final = "SELECT FROM pg_catalog.pg_stat_activity WHERE pid = %s"

_END: Final = (
    "SELECT pid, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
    " WHERE application_name LIKE 'pgcopydb[%%' AND application_name LIKE %s AND pid <> %s"
    " AND usename = current_user AND client_addr IS NOT DISTINCT FROM pg_catalog.inet_client_addr()"
)


def end_lost(endpoint: Endpoint, role: str, mine: int) -> None:
    """Terminate the sessions of earlier connections of this work directory in a role, but for process ``mine``.

    For who holds the lock of the role: no process of this machine has another one.
    """
    side = endpoint.side
    with endpoint.connect("liveness") as connection, server_errors(side, "ending lost sessions"):
        for pid, _ in connection.execute(_END, (f"% {role} {endpoint.run_id}", mine)).fetchall():
            logger.warning("Ended process %d of the %s: it was kept for a connection that is lost", pid, side)


def backend_pid(connection: Connection) -> int:
    """The server's process of a session, as it says itself; what it said at login may be a pooler's."""
    with server_errors(Side.TARGET, "asking for the session's process"):
        row = connection.execute("SELECT pg_catalog.pg_backend_pid()").fetchone()
    assert row is not None  # noqa: S101  one row
    return int(row[0])


@contextmanager
def with_patience(connection: Connection) -> Iterator[None]:
    """For what a server answers at once: after so much silence it is hung up on, which raises in the block.

    A connection that is lost somewhere in the middle would be waited for without an end.
    """
    patience = threading.Timer(SILENT_SECONDS, hang_up, [connection])
    patience.daemon = True
    patience.start()
    try:
        yield
    finally:
        patience.cancel()


@dataclass(slots=True)
class Liveness:
    """``pid``: the server's process of the session."""

    endpoint: Endpoint
    pid: int
    _asked: float = field(default_factory=time.monotonic)

    def check(self, silent_since: float) -> None:
        """``silent_since`` is of ``time.monotonic``. Raises ``Kind.RETRY`` when the server has no such session."""
        now = time.monotonic()
        if now - max(silent_since, self._asked) < SILENT_SECONDS:
            return
        self._asked = now
        side = self.endpoint.side
        try:
            with self.endpoint.connect("liveness") as connection, server_errors(side, "looking for a session"):
                there = connection.execute(_THERE, (self.pid,)).fetchone() is not None
        except PgcopydbError as error:
            # A server that cannot be asked may still be at work for the session; if it is gone, TCP notices.
            logger.debug("could not ask for process %d of the %s: %s", self.pid, side, error)
            return
        if not there:
            raise side.error(
                f"a connection to the {side} is broken in the middle: nothing came for {now - silent_since:.0f} s, and "
                f"the server has no process {self.pid} for it any more",
                hint="A balancer, gateway or proxy on the way has lost it. It is opened again.",
                kind=Kind.RETRY,
            )
