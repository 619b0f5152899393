"""Facts about a server that decide how it is talked to."""

from __future__ import annotations

from dataclasses import dataclass

import psycopg

from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.lsn import Lsn


@dataclass(frozen=True, slots=True)
class ServerFacts:
    """What a connection's server and database are. ``version`` is ``server_version_num``, e.g. 150018."""

    side: Side
    host: str
    port: int
    dbname: str
    user: str
    version: int
    version_text: str
    superuser: bool
    in_recovery: bool
    encoding: str
    block_size: int
    tls: bool
    """Whether this session is encrypted by TLS."""
    system: str = ""
    """The cluster's system identifier, which its standbys share; empty where the role may not read it."""

    @property
    def major(self) -> int:
        return self.version // 10000

    def identity(self) -> dict[str, str]:
        """What tells one database from another in the work directory; no secret in it."""
        place = {"host": self.host, "port": str(self.port), "dbname": self.dbname, "user": self.user}
        return {**place, "system": self.system}

    def __str__(self) -> str:
        return f"PostgreSQL {self.version_text}, database {self.dbname} at {self.host or 'local socket'}:{self.port}"


def inspect_server(connection: Connection, side: Side) -> ServerFacts:
    """Ask the server."""
    with server_errors(side, f"reading the settings of the {side}"):
        row = connection.execute(
            "SELECT current_database(), current_user, current_setting('server_version'),"
            " current_setting('is_superuser') = 'on', pg_catalog.pg_is_in_recovery(),"
            " pg_catalog.pg_encoding_to_char(encoding), current_setting('block_size')::int,"
            " pg_catalog.has_function_privilege('pg_catalog.pg_control_system()', 'EXECUTE')"
            " FROM pg_catalog.pg_database WHERE datname = current_database()"
        ).fetchone()
        assert row is not None  # noqa: S101  a session's own database has a row
        system = _system(connection) if row[7] else ""
    return ServerFacts(
        side=side,
        host=connection.info.host,
        port=connection.info.port,
        dbname=row[0],
        user=row[1],
        version=connection.info.server_version,
        version_text=str(row[2]).split(" ", 1)[0],
        superuser=row[3],
        in_recovery=row[4],
        encoding=row[5],
        block_size=row[6],
        tls=connection.pgconn.ssl_in_use,
        system=system,
    )


def _system(connection: Connection) -> str:
    """Empty where a service that calls itself Postgres has no answer."""
    try:
        with connection.transaction():
            row = connection.execute("SELECT system_identifier FROM pg_catalog.pg_control_system()").fetchone()
    except psycopg.Error as exc:
        if exc.sqlstate is None:
            raise
        return ""
    return str(row[0]) if row else ""


@dataclass(frozen=True, slots=True)
class Instance:
    """A running server and one database of it, told from all others. ``system``: none where this role may not ask."""

    system: str | None
    started: str
    """Of the postmaster, in microseconds: two that run side by side did not start in the same one."""
    in_recovery: bool
    database: int

    def serves_what(self, other: Instance) -> bool:
        """Whether what is written on one is seen on the other.

        Servers that were made from one base backup have one system identifier, and both are written to: those are
        not the same. A standby has that of its primary, and that it stands behind another one cannot be told.
        """
        if self.system is None or other.system is None:
            return self.started == other.started
        same_files = self.started == other.started or self.in_recovery or other.in_recovery
        return self.system == other.system and same_files

    def is_database_of(self, other: Instance) -> bool:
        """Whether both are one database."""
        return self.serves_what(other) and self.database == other.database


def read_instance(connection: Connection, side: Side) -> Instance:
    """Ask the server which one it is."""
    with server_errors(side, f"asking the {side} which server it is"):
        row = connection.execute(
            "SELECT pg_catalog.pg_postmaster_start_time()::text, pg_catalog.pg_is_in_recovery(), oid::bigint"
            " FROM pg_catalog.pg_database WHERE datname = current_database()"
        ).fetchone()
        assert row is not None  # noqa: S101  a session's own database has a row
        system = _system(connection) or None
    return Instance(system, row[0], row[1], row[2])


def wal_position(source: Connection, *, with_all_commits: bool = False) -> Lsn:
    """How far the WAL is on the disk, on a standby how far it is replayed.

    ``with_all_commits``: not before any commit that was visible when this was called. One that did not wait for the
    disk (``synchronous_commit``) is written there first.
    """
    with server_errors(Side.SOURCE, "asking where its WAL is"):
        if with_all_commits and source.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone() == (False,):
            with source.transaction():
                source.execute("SET LOCAL synchronous_commit = 'local'")
                source.execute("SELECT pg_catalog.pg_logical_emit_message(true, 'pgcopydb', '')")
        row = source.execute(
            "SELECT CASE WHEN pg_catalog.pg_is_in_recovery() THEN pg_catalog.pg_last_wal_replay_lsn()"
            " ELSE pg_catalog.pg_current_wal_flush_lsn() END"
        ).fetchone()
    assert row is not None  # noqa: S101  a query without FROM returns one row
    return Lsn.parse(str(row[0]))
