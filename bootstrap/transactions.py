"""Whether a target transaction committed whose answer was never heard.

A copy notes the transaction's id before it commits; after a crash or a lost connection the target itself is
asked (``pg_xact_status``: PostgreSQL documentation, "Transaction ID and Snapshot Information Functions").
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Final

from pgcopydb.postgres.connect import Connection
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.2


class Outcome(StrEnum):
    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"
    """So long ago that the target has forgotten."""


def _modern(connection: Connection) -> bool:
    return connection.info.server_version >= 130000


def current_xid_expression(connection: Connection) -> str:
    """SQL that assigns the transaction an id and returns it as text."""
    return "pg_catalog.pg_current_xact_id()::text" if _modern(connection) else "pg_catalog.txid_current()::text"


def outcome(connection: Connection, xid: str, stop: Stop) -> Outcome:
    """What became of a transaction of an earlier session; waits while that session is still ending."""
    function = "pg_xact_status(%s::xid8)" if _modern(connection) else "txid_status(%s::bigint)"
    while True:
        row = connection.execute(f"SELECT pg_catalog.{function}", (xid,)).fetchone()
        status = row[0] if row else None
        if status != "in progress":
            return Outcome(status) if status else Outcome.UNKNOWN
        logger.debug("target transaction %s is still in progress", xid)
        stop.wait(_POLL_SECONDS)
        stop.check()
