"""What following changes needs of the two servers, found out before anything is made.

Reads only, but for what is tried in a transaction that is rolled back. Each problem comes with what mends it.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Final, NamedTuple

import psycopg

from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import quote_ident
from pgcopydb.postgres.replication import ReplicationSession
from pgcopydb.postgres.server import wal_position
from pgcopydb.runtime.errors import SourceError

logger = logging.getLogger(__name__)

_STANDBYS_DECODE: Final = 160000
_PARAMETERS_ARE_GRANTED: Final = 150000
_ENDS_WITHIN: Final = 5.0
"""Seconds that a server may need to notice that a session was closed."""


class Problem(NamedTuple):
    """``fix``: statements, or advice."""

    message: str
    fix: str


def source_problems(reader: Connection, slot: str) -> Iterator[Problem]:
    """What keeps this slot from being made."""
    with server_errors(Side.SOURCE, "checking what following changes needs"):
        row = reader.execute(
            "SELECT current_setting('wal_level'), pg_catalog.pg_is_in_recovery(),"
            " (SELECT count(*) FROM pg_catalog.pg_replication_slots) >= current_setting('max_replication_slots')::int,"
            " (SELECT count(*) FROM pg_catalog.pg_stat_replication) >= current_setting('max_wal_senders')::int,"
            " EXISTS (SELECT FROM pg_catalog.pg_replication_slots WHERE slot_name = %s),"
            " pg_catalog.has_database_privilege(current_database(), 'CREATE'), current_database(), current_user",
            (slot,),
        ).fetchone()
    assert row is not None  # noqa: S101  a query without FROM returns one row
    wal_level, standby, no_slot, no_sender, exists, may_create, database, user = row
    if wal_level != "logical":
        yield Problem(
            f"wal_level of the source is {wal_level}, following changes needs logical",
            "ALTER SYSTEM SET wal_level = 'logical'; then restart the source (on a standby: its primary).",
        )
    if standby and reader.info.server_version < _STANDBYS_DECODE:
        yield Problem(
            "the source is a standby older than PostgreSQL 16, which cannot decode changes", "Use its primary."
        )
    if exists:
        yield Problem(
            f"replication slot {slot} exists on the source already",
            "Another migration uses it (--slot-name gives this one another name), or an earlier one was not cleaned "
            "up: `pgcopydb stream cleanup`.",
        )
    if no_slot:
        yield Problem(
            "all replication slots of the source are in use",
            "Drop one that nobody needs (pg_replication_slots), or raise max_replication_slots and restart.",
        )
    if no_sender:
        yield Problem("all walsenders of the source are in use", "Raise max_wal_senders on the source and restart it.")
    if not standby and not may_create:
        yield Problem(
            "the role may not create the schema pgcopydb on the source, where the sentinel is kept",
            f"GRANT CREATE ON DATABASE {quote_ident(database)} TO {quote_ident(user)};",
        )


def login_problem(source: Endpoint, reader: Connection) -> Problem | None:
    """Whether the role may begin a replication session: tried, for services have ways of their own to allow it.

    The walsender of the attempt is over on return, so that it is not taken for one that somebody uses.
    """
    try:
        with ReplicationSession(source.info, source.title("preflight")) as session:
            session.identify()
            walsender = session.backend_pid()
    except SourceError as error:
        with server_errors(Side.SOURCE, "looking at the role"):
            row = reader.execute(
                "SELECT rolreplication OR rolsuper FROM pg_catalog.pg_roles WHERE rolname = current_user"
            ).fetchone()
        lacking = f"ALTER ROLE {quote_ident(reader.info.user)} REPLICATION;"
        return Problem(error.message, lacking if row == (False,) else error.hint or "")
    _await_end(reader, walsender)
    return None


def _await_end(reader: Connection, walsender: int) -> None:
    deadline = time.monotonic() + _ENDS_WITHIN
    with server_errors(Side.SOURCE, "waiting for a session to end"):
        while time.monotonic() < deadline:
            # A transaction sees the activity of the moment when it first asked.
            reader.execute("SELECT pg_catalog.pg_stat_clear_snapshot()")
            if not reader.execute("SELECT FROM pg_catalog.pg_stat_activity WHERE pid = %s", (walsender,)).fetchall():
                return
            time.sleep(0.01)


def target_problems(writer: Connection) -> Iterator[Problem]:
    """What keeps progress from being recorded."""
    with server_errors(Side.TARGET, "checking what following changes needs"):
        row = writer.execute(
            "SELECT pg_catalog.has_database_privilege(current_database(), 'CREATE'),"
            " pg_catalog.to_regnamespace('pgcopydb') IS NOT NULL, current_database(), current_user"
        ).fetchone()
    assert row is not None  # noqa: S101  a query without FROM returns one row
    may_create, there, database, user = row
    if not may_create and not there:
        yield Problem(
            "the role may not create the schema pgcopydb on the target, where progress is kept",
            f"GRANT CREATE ON DATABASE {quote_ident(database)} TO {quote_ident(user)};",
        )


def heed_past_endpos(reader: Connection, endpos: Lsn) -> None:
    """Warn when nothing would be followed: what was committed up to the slot's first position is copied."""
    here = wal_position(reader)
    if endpos and endpos < here:
        logger.warning(
            "--endpos %s is in the past, the source is at %s: the target will be as of when the copy begins, nothing "
            "is followed behind that; `pgcopydb stream sentinel set endpos --current` sets it when writing has stopped",
            endpos,
            here,
        )


def replica_role_problem(writer: Connection) -> Problem | None:
    """Whether the target's triggers and foreign keys act on what they have acted on already on the source."""
    if may_be_replica(writer):
        return None
    granted = writer.info.server_version >= _PARAMETERS_ARE_GRANTED
    user = quote_ident(writer.info.user)
    return Problem(
        "the role may not set session_replication_role on the target: while changes are applied, triggers fire once "
        "more and foreign keys are checked and cascade, so that what they did on the source is done twice",
        f"GRANT SET ON PARAMETER session_replication_role TO {user};"
        if granted
        else f"Apply as a superuser, or disable the triggers: ALTER TABLE … DISABLE TRIGGER USER as {user}.",
    )


def may_be_replica(connection: Connection) -> bool:
    """Whether this role may set ``session_replication_role``; nothing is changed."""
    with server_errors(Side.TARGET, "trying session_replication_role"):
        try:
            with connection.transaction(force_rollback=True):
                connection.execute("SET LOCAL session_replication_role = 'replica'")
        except psycopg.errors.InsufficientPrivilege:
            return False
    return True
