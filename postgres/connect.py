"""Open connections with the session settings that every part of the program relies on.

What is true when ``Endpoint.connect`` returns: the session reads and writes values in one fixed text form, no
server-side timeout can end it, row-level security raises instead of hiding rows, and the server notices within seconds
when this process dies. Reconnecting, and what to do after it, is the caller's.
"""

from __future__ import annotations

import contextlib
import logging
import os
import socket
import threading
from collections.abc import Callable
from concurrent.futures import Future
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol, TypeVar

import psycopg
from psycopg import pq

from pgcopydb.postgres.classify import hint_for, server_errors
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.runtime.errors import ConfigError, Kind, PgcopydbError
from pgcopydb.runtime.logs import NOTICE, in_this_context
from pgcopydb.runtime.retry import RECONNECT_SECONDS, is_transient, retry
from pgcopydb.runtime.stop import Stop

logger = logging.getLogger(__name__)

Connection = psycopg.Connection[tuple[Any, ...]]

OLDEST_SOURCE: Final = 100000
"""Older servers lack pg_sequences, identity columns and txid_status, which resuming relies on."""

_COMMON: Final = {
    "extra_float_digits": "3",
    "statement_timeout": "0",
    "lock_timeout": "0",
    "idle_in_transaction_session_timeout": "0",
    "default_transaction_read_only": "off",
    "DateStyle": "ISO, YMD",
    "IntervalStyle": "postgres",
    "TimeZone": "UTC",
    "bytea_output": "hex",
    # Where a money's decimal point is; what of an XML value must be a document; whether NULL in an array is one.
    "lc_monetary": "C",
    "xmloption": "content",
    "array_nulls": "on",
    "quote_all_identifiers": "off",
    "search_path": "pg_catalog",
    "row_security": "off",
}
_BY_SIDE: Final = {
    Side.SOURCE: {
        # Two workers that share one scan of a split table would each start in the middle of it.
        "synchronize_seqscans": "off",
    },
    # "local": what is reported as done is on the target's disk, without waiting for its standbys.
    Side.TARGET: {"synchronous_commit": "local"},
}
_SINCE: Final = {
    "idle_session_timeout": (140000, "0"),
    # A backend in a long CREATE INDEX otherwise never notices that its client was killed.
    "client_connection_check_interval": (140000, "2s"),
    "transaction_timeout": (170000, "0"),
}

_PASSING: Final = (
    "too many clients",
    "too many connections",
    "remaining connection slots",
    "requested standby connections",
    # PgBouncer, of the server behind it.
    "server_login_retry",
    "server login has been failing",
    "query_wait_timeout",
)
"""What is said of a login that may succeed later, in English: no room for one more session, nobody behind a pooler."""


class Sessions(Protocol):
    def add(self, connection: Connection, pid: int) -> None:
        """``pid``: the server's process."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """One side as a run knows it: where it is, and the mark that this run's sessions carry on that server."""

    info: ConnInfo
    run_id: str
    patience: float = RECONNECT_SECONDS
    """How many seconds ``connect_patiently`` waits for a server that is away."""
    sessions: Sessions | None = field(default=None, repr=False, compare=False)
    """Who looks after the sessions."""

    @property
    def side(self) -> Side:
        return self.info.side

    def of_database(self, name: str) -> Endpoint:
        """The same server and the same mark, another database of it."""
        return replace(self, info=self.info.of_database(name))

    def title(self, role: str) -> str:
        """``application_name`` of a session: process, role and run, so that leftovers can be told from strangers."""
        return f"pgcopydb[{os.getpid()}] {role} {self.run_id}"

    def connect(self, role: str, *, settings: dict[str, str] | None = None) -> Connection:
        """One attempt. Raises ``SourceError`` or ``TargetError``, with ``Kind.RETRY`` when the server may come back."""
        connection = _login(self.info, self.title(role))
        try:
            pid = apply_settings(connection, self.side, settings or {})
        except BaseException:
            connection.close()
            raise
        if self.sessions is not None:
            self.sessions.add(connection, pid)
        return connection

    def connect_patiently(self, role: str, stop: Stop, *, settings: dict[str, str] | None = None) -> Connection:
        """As ``connect``, waiting for a server that restarts; a fast stop ends the wait with ``Stopped``."""
        return retry(
            lambda: unless_stopped(lambda: self.connect(role, settings=settings), stop),
            what=f"connecting to the {self.side}",
            seconds=self.patience,
            stop=stop,
        )


class Session(Protocol):
    def close(self) -> None: ...


S = TypeVar("S", bound=Session)


def unless_stopped(connect: Callable[[], S], stop: Stop) -> S:
    """What logs in, or ``Stopped``.

    A login cannot be interrupted: on a fast stop it is left to itself, and closed if it comes to an end.
    """
    future: Future[S] = Future()
    over = threading.Event()

    def run() -> None:
        try:
            future.set_result(connect())
        except BaseException as exc:  # noqa: BLE001  handed on to the thread that waits
            future.set_exception(exc)
        over.set()

    threading.Thread(target=in_this_context(run), name="login", daemon=True).start()
    with stop.on_fast_stop(over.set):
        over.wait()
    if not future.done():
        future.add_done_callback(_close_late)
        stop.check()
    return future.result()


def _close_late(future: Future[S]) -> None:
    if future.exception() is None:
        future.result().close()


def _login(info: ConnInfo, title: str) -> Connection:
    connection = log_in(info, title, prepare_threshold=None)
    connection.add_notice_handler(_log_notice)
    return connection


def log_in(info: ConnInfo, title: str, **options: Any) -> Connection:
    """A session as it comes; ``options`` are psycopg's. Raises ``SourceError`` (or ``TargetError``), with
    ``Kind.RETRY`` when the server may come back."""
    conninfo = info.libpq(title)
    try:
        return psycopg.connect(conninfo, autocommit=True, **options)
    except psycopg.Error as exc:
        error = _login_error(info, conninfo, exc)
        if is_transient(error):
            raise error from exc
    # What was refused by a server that was starting is not by one that has started.
    try:
        return psycopg.connect(conninfo, autocommit=True, **options)
    except psycopg.Error as exc:
        raise _login_error(info, conninfo, exc) from exc


def _login_error(info: ConnInfo, conninfo: str, exc: psycopg.Error) -> PgcopydbError:
    """libpq gives no SQLSTATE for a failed login; whether the server answers at all tells the cases apart."""
    message = f"cannot connect to the {info.side} ({info.display()}): {_said(exc)}"
    if any(words in str(exc) for words in _PASSING):
        return info.side.error(message, hint=hint_for("53300"), kind=Kind.RETRY)
    answer = pq.PGconn.ping(conninfo.encode())
    if answer == pq.Ping.OK:
        return info.side.error(message, hint="The server answers: check user, password, database and pg_hba.conf.")
    if answer == pq.Ping.NO_ATTEMPT:
        return ConfigError(message, hint=f"Check --{info.side} or {info.side.variable}.")
    return info.side.error(
        message,
        hint="Check host and port, that the server is up and that no firewall is in the way.",
        kind=Kind.RETRY,
    )


def _said(exc: psycopg.Error) -> str:
    """libpq's reasons, one for each address that it tried, without its questions."""
    lines = [line.strip() for line in str(exc).splitlines()]
    reasons = [line for line in lines if line and not line.startswith("Is the server running")]
    return "; ".join(dict.fromkeys(reasons)).removeprefix("connection failed: ") or type(exc).__name__


def apply_settings(connection: Connection, side: Side, extra: dict[str, str]) -> int:
    """Pin the session's settings; ``extra`` wins over the common ones. Its process on the server."""
    version = connection.info.server_version
    settings = {**_COMMON, **_BY_SIDE[side]}
    settings.update({name: value for name, (since, value) in _SINCE.items() if version >= since})
    settings.update(extra)
    with server_errors(side, f"setting up a session on the {side}"):
        connection.execute("SET client_encoding = 'UTF8'")
        # What the session says itself: what came with the login may be a pooler's.
        row = connection.execute(
            "SELECT pg_catalog.pg_backend_pid(), pg_catalog.set_config(name, value, false)"
            " FROM unnest(%s::text[], %s::text[]) AS s (name, value)",
            (list(settings), list(settings.values())),
        ).fetchone()
    assert row is not None  # noqa: S101  there are settings
    return int(row[0])


def hang_up(connection: Connection) -> None:
    """Wake whoever waits for the server on this connection, with an error; from any thread."""
    with contextlib.suppress(OSError, psycopg.Error), socket.socket(fileno=os.dup(connection.fileno())) as end:
        end.shutdown(socket.SHUT_RDWR)


def _log_notice(diagnostic: psycopg.errors.Diagnostic) -> None:
    level = logging.WARNING if diagnostic.severity_nonlocalized == "WARNING" else NOTICE
    logger.log(level, "%s", diagnostic.message_primary)
