"""How far the target is, as the target itself knows it: committed together with the changes.

By a replication origin (PostgreSQL documentation, "Replication Progress Tracking") on servers before 16. Later ones
move an origin also when the transaction is aborted after its position was set, by a deferred constraint or a shutdown
for two: there the position is in a row of ``pgcopydb.progress``, and the origin marks the changes as ours. By the row
alone where the role may not use an origin, as on managed services. Origins belong to the whole cluster: the row, which
is there in any case, says that one is of a migration into this database. What is true of ``durable``: the position that
it returns survives a crash of the target.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import Final

import psycopg

from pgcopydb.postgres.classify import classify, server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import quote_literal
from pgcopydb.runtime.errors import Kind, StateError, TargetError

logger = logging.getLogger(__name__)

ORIGIN: Final = "origin"
TABLE: Final = "table"
BOTH: Final = "both"
"""An origin, whose position means nothing, and a row."""

_ORIGINS_MOVE_ON_ABORT: Final = 160000

_CREATE_TABLE: Final = """
CREATE SCHEMA IF NOT EXISTS pgcopydb;
CREATE TABLE IF NOT EXISTS pgcopydb.progress (
    origin text PRIMARY KEY, lsn pg_lsn NOT NULL, committed timestamptz);
"""
IN_USE: Final = "55006"
_REFUSED: Final = frozenset({"42501", "53400", "55000"})
"""No privilege; no free replication state slot; origins are switched off (max_replication_slots is 0)."""


@dataclass(frozen=True, slots=True)
class Progress:
    """One stream's progress on the target. ``tracking`` is ``origin``, ``table`` or ``both``."""

    origin: str
    tracking: str

    def begin_session(self, connection: Connection) -> None:
        """Make this session the one that advances the progress. ``Kind.RETRY`` while another one still does."""
        if self.tracking != TABLE:
            query, values = "SELECT pg_catalog.pg_replication_origin_session_setup(%s)", (self.origin,)
        else:
            query = "SELECT pg_catalog.pg_try_advisory_lock(pg_catalog.hashtext(%s))"
            values = (f"pgcopydb progress {self.origin}",)
        try:
            row = connection.execute(query, values).fetchone()
        except psycopg.Error as exc:
            if exc.sqlstate != IN_USE:
                raise classify(Side.TARGET, exc, f"using replication origin {self.origin}") from exc
            row = (False,)
        if row is not None and row[0] is False:
            raise TargetError(
                f"another session on the target is applying changes for {self.origin}",
                hint="If this lasts, look for its process in pg_stat_activity: application_name begins with pgcopydb.",
                kind=Kind.RETRY,
                sqlstate=IN_USE,
            )

    def statement(self, position: Lsn, committed: str | None) -> str:
        """What records within a transaction that it brings the target to ``position``."""
        timestamp = quote_literal(committed or "epoch")
        # A transaction that writes nothing has no commit to move the origin with; one with a number has.
        origin = (
            f"SELECT pg_catalog.pg_replication_origin_xact_setup('{position}', {timestamp}), pg_catalog.txid_current();"
        )
        row = (
            f"UPDATE pgcopydb.progress SET lsn = '{position}', committed = {timestamp}"  # noqa: S608  literals
            f" WHERE origin = {quote_literal(self.origin)};"
        )
        return {ORIGIN: origin, TABLE: row, BOTH: f"{row} {origin}"}[self.tracking]

    def durable(self, connection: Connection) -> Lsn:
        """How far the target is, flushed to its disk. Raises ``StateError`` when nothing is recorded."""
        with server_errors(Side.TARGET, "reading the progress of the target"):
            if self.tracking == ORIGIN:
                query, values = "SELECT pg_catalog.pg_replication_origin_progress(%s, true)", (self.origin,)
                row = connection.execute(query, values).fetchone()
                return Lsn.parse(str(row[0])) if row and row[0] else Lsn()
            with connection.transaction():
                # This commit waits for the disk, and whatever was committed before it is there then too.
                connection.execute("SET LOCAL synchronous_commit = 'local'")
                row = connection.execute(
                    "UPDATE pgcopydb.progress SET lsn = lsn WHERE origin = %s RETURNING lsn", (self.origin,)
                ).fetchone()
        if row is None:
            raise StateError(
                f"pgcopydb.progress on the target has no row for {self.origin}",
                hint="It was removed, and with it the knowledge of what was applied: begin again.",
            )
        return Lsn.parse(str(row[0]))


def check_origin(connection: Connection, origin: str, start: Lsn | None = None) -> None:
    """Raises ``StateError`` when the name is in use, unless by the progress that was begun at ``start``."""
    recorded = _recorded(connection, origin)
    if (recorded is not None and recorded != start) or (recorded is None and _is_there(connection, origin)):
        raise StateError(
            f"replication origin {origin} is on the target already",
            hint="Another migration uses it, or an earlier one was not cleaned up (`pgcopydb stream cleanup`); "
            "--origin gives this one another name.",
        )


def create_progress(connection: Connection, origin: str, start: Lsn) -> Progress:
    """Begin to keep progress at ``start``, also behind a call that was interrupted. Raises as ``check_origin``."""
    check_origin(connection, origin, start)
    with server_errors(Side.TARGET, "creating pgcopydb.progress"):
        connection.execute(_CREATE_TABLE)
        connection.execute(
            "INSERT INTO pgcopydb.progress (origin, lsn) VALUES (%s, %s) ON CONFLICT (origin) DO NOTHING",
            (origin, str(start)),
        )
    try:
        if not _is_there(connection, origin):
            connection.execute("SELECT pg_catalog.pg_replication_origin_create(%s)", (origin,))
        connection.execute("SELECT pg_catalog.pg_replication_origin_advance(%s, %s)", (origin, str(start)))
    except psycopg.Error as exc:
        if exc.sqlstate not in _REFUSED:
            raise classify(Side.TARGET, exc, f"creating replication origin {origin}") from exc
        logger.info(
            "The target refuses replication origins (%s): progress is kept in a table", exc.diag.message_primary
        )
        _drop_origin(connection, origin)
        return Progress(origin, TABLE)
    return Progress(origin, BOTH if connection.info.server_version >= _ORIGINS_MOVE_ON_ABORT else ORIGIN)


def drop_progress(connection: Connection, origin: str) -> str:
    """Remove the origin and its row; what that was, empty when there is none. Those of others are left."""
    if _recorded(connection, origin) is None:
        if _is_there(connection, origin):
            logger.warning(
                "replication origin %s is left on the target: no migration into this database made it", origin
            )
            logger.warning("hint: SELECT pg_replication_origin_drop(%s); if nobody uses it", quote_literal(origin))
        return ""
    with server_errors(Side.TARGET, f"dropping replication origin {origin}"):
        dropped = _drop_origin(connection, origin)
        connection.execute("DELETE FROM pgcopydb.progress WHERE origin = %s", (origin,))
    return f"replication origin {origin}" if dropped else f"progress {origin}"


def _recorded(connection: Connection, origin: str) -> Lsn | None:
    """The position in the row of this name."""
    with server_errors(Side.TARGET, "reading pgcopydb.progress"):
        if connection.execute("SELECT pg_catalog.to_regclass('pgcopydb.progress')").fetchone() == (None,):
            return None
        row = connection.execute("SELECT lsn FROM pgcopydb.progress WHERE origin = %s", (origin,)).fetchone()
    return Lsn.parse(str(row[0])) if row else None


def _is_there(connection: Connection, origin: str) -> bool:
    with server_errors(Side.TARGET, f"looking for replication origin {origin}"):
        row = connection.execute("SELECT FROM pg_catalog.pg_replication_origin WHERE roname = %s", (origin,)).fetchone()
    return row is not None


def _drop_origin(connection: Connection, origin: str) -> bool:
    if not _is_there(connection, origin):
        return False
    try:
        connection.execute("SELECT pg_catalog.pg_replication_origin_drop(%s)", (origin,))
    except psycopg.Error as exc:
        if exc.sqlstate != IN_USE:
            raise
        raise TargetError(
            f"replication origin {origin} is in use by a session on the target",
            hint="Stop the pgcopydb that applies changes, then clean up again.",
            sqlstate=exc.sqlstate,
        ) from exc
    return True
