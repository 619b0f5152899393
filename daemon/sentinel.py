"""The sentinel: one row that an operator steers a running migration by, and reads its positions from.

``pgcopydb.sentinel`` on the source, or on the target where the source is read-only; the columns are those of the C
program. Every change of what an operator sets is announced (``NOTIFY``), so that stages need not ask again and again.
Positions are reported by those who own them: ``write_lsn`` and ``flush_lsn`` by receive, ``replay_lsn`` by apply.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass
from typing import Final, NamedTuple

import psycopg

from pgcopydb.postgres.classify import classify, server_errors
from pgcopydb.postgres.connect import Connection, Endpoint, hang_up
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.liveness import with_patience
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import quote_literal
from pgcopydb.runtime.errors import StateError
from pgcopydb.runtime.failpoint import failpoint

logger = logging.getLogger(__name__)

_CREATE: Final = """
CREATE SCHEMA IF NOT EXISTS pgcopydb;
CREATE TABLE IF NOT EXISTS pgcopydb.sentinel (
    startpos pg_lsn NOT NULL, endpos pg_lsn NOT NULL, apply boolean NOT NULL,
    write_lsn pg_lsn NOT NULL, flush_lsn pg_lsn NOT NULL, replay_lsn pg_lsn NOT NULL);
CREATE UNIQUE INDEX IF NOT EXISTS sentinel_single_row ON pgcopydb.sentinel ((1));
"""
_COLUMNS: Final = "startpos, endpos, apply, write_lsn, flush_lsn, replay_lsn"
_CHANNEL: Final = "pgcopydb_sentinel"
_ZERO: Final = "0/0"
_READ_SECONDS: Final = 30.0
"""A connection that is lost in the middle brings no announcements, and nothing else tells that it is."""
_MISSING: Final = frozenset({"42P01", "3F000"})


class SentinelRow(NamedTuple):
    """0/0 stands for not set. ``apply``: the copy is complete and changes may be applied."""

    startpos: Lsn
    endpos: Lsn
    apply: bool
    write_lsn: Lsn
    flush_lsn: Lsn
    replay_lsn: Lsn


@dataclass(slots=True)
class Sentinel:
    """One session with the sentinel, opened when it is first used; every act is a transaction of its own."""

    endpoint: Endpoint
    role: str = "sentinel"
    _connection: Connection | None = None
    _announced: bool = False
    _listening: bool = False
    _read_at: float = float("-inf")

    def close(self) -> None:
        if self._connection is not None:
            self._connection.close()
            self._connection = None

    def hang_up(self) -> None:
        """Wake whoever waits for the server, with an error; from any thread."""
        if self._connection is not None:
            hang_up(self._connection)

    def create(self, startpos: Lsn, endpos: Lsn, owner: str = "") -> None:
        """Make it, with these values; one that is there already is overwritten. ``owner``: see ``owner_of``."""
        comment = f"COMMENT ON TABLE pgcopydb.sentinel IS {quote_literal(owner)};" if owner else ""
        # One transaction: nobody sees, and no crash leaves, a sentinel without its row.
        self._run(
            f"{_CREATE}{comment} DELETE FROM pgcopydb.sentinel;"  # noqa: S608  constants
            f" INSERT INTO pgcopydb.sentinel ({_COLUMNS})"
            f" VALUES ('{startpos}', '{endpos}', false, '{_ZERO}', '{_ZERO}', '{_ZERO}')"
        )

    def read(self) -> SentinelRow:
        """Raises ``StateError`` when there is none."""
        rows = self._run(f"SELECT {_COLUMNS} FROM pgcopydb.sentinel")  # noqa: S608  constants
        self._read_at = time.monotonic()
        if not rows:
            raise self._missing()
        startpos, endpos, apply, *positions = rows[0]
        write_lsn, flush_lsn, replay_lsn = (Lsn.parse(str(position)) for position in positions)
        return SentinelRow(
            Lsn.parse(str(startpos)), Lsn.parse(str(endpos)), bool(apply), write_lsn, flush_lsn, replay_lsn
        )

    def set_startpos(self, position: Lsn) -> None:
        self._steer("startpos", str(position))

    def set_endpos(self, position: Lsn) -> None:
        self._steer("endpos", str(position))

    def set_apply(self, *, apply: bool) -> None:
        self._steer("apply", apply)

    def report_received(self, write_lsn: Lsn, flush_lsn: Lsn) -> None:
        """What has been written to files, and what has been acknowledged."""
        self._update("write_lsn = %s, flush_lsn = %s", str(write_lsn), str(flush_lsn))

    def report_replayed(self, replay_lsn: Lsn) -> None:
        """What is durable on the target. Announced, for receive acknowledges no further."""
        failpoint("sentinel.before_report")
        self._update("replay_lsn = %s", str(replay_lsn), announced=True)

    def listen(self) -> None:
        """From now on ``fileno`` becomes readable when something is announced, or the session is lost."""
        self._listening = True
        self.close()
        self._connected()

    def fileno(self) -> int:
        return self._connected().fileno()

    def was_announced(self) -> bool:
        """Whether anything was announced since the last call, or it is time to look anyway. Raises when the session is
        lost."""
        connection = self._connected()
        try:
            connection.pgconn.consume_input()
            while connection.pgconn.notifies() is not None:
                self._announced = True
        except psycopg.Error as exc:
            raise self._failed(exc) from exc
        announced, self._announced = self._announced, False
        return announced or time.monotonic() - self._read_at > _READ_SECONDS

    def _steer(self, column: str, value: object) -> None:
        failpoint("sentinel.before_steer")
        self._update(f"{column} = %s", value, announced=True)
        failpoint("sentinel.after_steer")

    def _update(self, assignments: str, *values: object, announced: bool = False) -> None:
        """Announced in the same transaction: a change that nobody hears of would wait for the next one."""
        result = f"pg_catalog.pg_notify('{_CHANNEL}', '')" if announced else "1"
        update = f"UPDATE pgcopydb.sentinel SET {assignments} RETURNING 1"  # noqa: S608  constants
        if not self._run(f"WITH changed AS ({update}) SELECT {result} FROM changed", *values):  # noqa: S608
            raise self._missing()

    def _run(self, statement: str, *values: object) -> list[tuple[object, ...]]:
        connection = self._connected()
        try:
            with with_patience(connection):
                cursor = connection.execute(statement.encode(), values or None)
                return cursor.fetchall() if cursor.description is not None else []
        except psycopg.Error as exc:
            raise self._failed(exc) from exc

    def _connected(self) -> Connection:
        if self._connection is None:
            self._connection = self.endpoint.connect(self.role)
            self._connection.add_notify_handler(self._noted)
            if self._listening:
                self._run(f"LISTEN {_CHANNEL}")
                # What was announced before is not known.
                self._announced = True
        return self._connection

    def _noted(self, _notify: psycopg.Notify) -> None:
        self._announced = True

    def _failed(self, exc: psycopg.Error) -> Exception:
        if exc.sqlstate in _MISSING:
            return self._missing()
        error = classify(self.endpoint.side, exc, "using the sentinel")
        if exc.sqlstate is None:
            self.close()
        return error

    def _missing(self) -> StateError:
        return StateError(
            f"there is no sentinel on the {self.endpoint.side}: table pgcopydb.sentinel has no row",
            hint="`pgcopydb clone --follow` and `pgcopydb stream setup` make it.",
        )


def owner_of(slot: str, system: str) -> str:
    """What the comment on a sentinel says: whose changes it steers."""
    return f"slot {slot} of system {system}"


def owning_slot(connection: Connection, side: Side) -> str:
    """The slot whose sentinel this server has; empty when there is none, or nothing is known of it."""
    with server_errors(side, "looking for a sentinel"):
        row = connection.execute(
            "SELECT pg_catalog.obj_description(pg_catalog.to_regclass('pgcopydb.sentinel'), 'pg_class')"
        ).fetchone()
    words = str(row[0] or "").split() if row else []
    return words[1] if words[:1] == ["slot"] and len(words) > 1 else ""


def drop_own_schema(connection: Connection, side: Side, others: str) -> bool:
    """Remove sentinel and progress from a server; whether there was anything.

    ``others``: whose sentinel this is, when another migration's: then it is left, as is another's progress.
    """
    with server_errors(side, f"dropping schema pgcopydb on the {side}"):
        there = connection.execute(
            "SELECT pg_catalog.to_regnamespace('pgcopydb') IS NOT NULL,"
            " pg_catalog.to_regclass('pgcopydb.progress') IS NOT NULL"
        ).fetchone()
        if there is None or not there[0]:
            return False
        if there[1]:
            rows = connection.execute("SELECT origin FROM pgcopydb.progress").fetchall()
            others = others or ", ".join(row[0] for row in rows)
        if others:
            logger.warning("schema pgcopydb is left on the %s: it is of another migration, %s", side, others)
            return False
        connection.execute("DROP SCHEMA pgcopydb CASCADE")
    return True
