"""Whether a target transaction committed whose answer was never heard.

A copy notes the transaction's id before it commits; after a crash or a lost connection the target itself is
asked (``pg_xact_status``: PostgreSQL documentation, "Transaction ID and Snapshot Information Functions"). An id that
was not on the disk when a server died is given to another transaction afterwards: so the note says in which life of
the server the id was given, and that another life knows of a commit proves nothing.
"""

from __future__ import annotations

import logging
from enum import StrEnum
from typing import Final

import psycopg

from pgcopydb.postgres.connect import Connection
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

_POLL_SECONDS: Final = 0.2


class Outcome(StrEnum):
    COMMITTED = "committed"
    ABORTED = "aborted"
    UNKNOWN = "unknown"
    """So long ago that the target has forgotten; or committed by somebody, before or after the target died."""


def _modern(connection: Connection) -> bool:
    return connection.info.server_version >= 130000


def current_xid_expression(connection: Connection) -> str:
    """SQL that assigns the transaction an id and returns it as text."""
    return "pg_catalog.pg_current_xact_id()::text" if _modern(connection) else "pg_catalog.txid_current()::text"


def server_life(connection: Connection) -> str:
    """Another one after each start of the server, and after each crash: when a single backend has crashed all others
    are ended too, under the same postmaster, and the statistics begin anew."""
    row = connection.execute(
        "SELECT pg_catalog.pg_postmaster_start_time()::text || '/'"
        " || coalesce(pg_catalog.pg_stat_get_bgwriter_stat_reset_time()::text, '')"
    ).fetchone()
    assert row is not None  # noqa: S101  one row
    return str(row[0])


def note(xid: str, life: str) -> str:
    """What is kept of a transaction. ``life``: of the server, in which its session began."""
    return f"{xid}@{life}"


def outcome(connection: Connection, noted: str, stop: Stop) -> Outcome:
    """What became of a transaction of an earlier session; waits while that session is still ending."""
    xid, _, life = noted.partition("@")
    # Another life may be no more than statistics that somebody has reset: what is in progress may be ours then too.
    while (status := _status(connection, xid)) == "in progress":
        logger.debug("target transaction %s is still in progress", xid)
        stop.wait(_POLL_SECONDS)
        stop.check()
    # A commit that was answered, or whose answer was lost, is on the disk and its id is given to nobody else: another
    # life says nothing against an abort.
    if status is None or (status == "committed" and life != server_life(connection)):
        return Outcome.UNKNOWN
    return Outcome(status)


def _status(connection: Connection, xid: str) -> str | None:
    """None: forgotten."""
    function = "pg_xact_status(%s::xid8)" if _modern(connection) else "txid_status(%s::bigint)"
    try:
        row = connection.execute(f"SELECT pg_catalog.{function}", (xid,)).fetchone()
    except psycopg.errors.InvalidParameterValue:
        # "in the future": given to nobody that the server remembers.
        return "aborted"
    return row[0] if row else None
