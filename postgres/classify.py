"""psycopg's errors become ours, by SQLSTATE (PostgreSQL documentation, Appendix A)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import psycopg

from pgcopydb.postgres.conninfo import Side
from pgcopydb.runtime.errors import Kind, SourceError, TargetError

# Connection exceptions; admin/crash shutdown and "cannot connect now"; too many connections; serialization
# failure, deadlock; timeouts of sessions; a statement that somebody cancelled; a standby where the primary was, as
# during a fail-over.
_TRANSIENT: Final = frozenset(
    {"57P01", "57P02", "57P03", "53300", "40001", "40P01", "25P03", "57P05", "57014", "25006"}
)

_HINTS: Final = {
    "42501": "Grant the privilege to this role, or use one that has it; `pgcopydb check` lists all that is missing.",
    "22021": "A name or a text in the catalogs is not UTF-8 (the database is SQL_ASCII): rename or rewrite it there.",
    "53100": "The server's disk is full. Free some room there, then continue with --resume.",
    "53200": "Raise max_locks_per_transaction on this server when the message speaks of locks; then --resume.",
    "53300": "Lower --table-jobs and --index-jobs, or raise max_connections on this server.",
    "22023": "A snapshot lives as long as the session that exported it: keep `pgcopydb snapshot` running.",
}


def is_transient(sqlstate: str | None) -> bool:
    """Whether the same act may succeed on a new connection."""
    return sqlstate is not None and (sqlstate.startswith("08") or sqlstate in _TRANSIENT)


def hint_for(sqlstate: str | None) -> str | None:
    """What an operator can do about a SQLSTATE, where there is something general to say."""
    return _HINTS.get(sqlstate or "")


def classify(side: Side, exc: psycopg.Error, doing: str) -> SourceError | TargetError:
    """The error to raise ``from exc``. A lost connection has no SQLSTATE: libpq itself reports it."""
    sqlstate = exc.sqlstate
    lost = sqlstate is None and isinstance(exc, psycopg.OperationalError | psycopg.InterfaceError)
    kind = Kind.RETRY if lost or is_transient(sqlstate) else Kind.OPERATOR
    said = exc.diag.message_primary or str(exc).strip() or type(exc).__name__
    detail = f" ({exc.diag.message_detail})" if exc.diag.message_detail else ""
    message = f"{doing}: {said}{detail}".replace("\n", " ")
    hint = hint_for(sqlstate) or exc.diag.message_hint
    return side.error(message, hint=hint, kind=kind, sqlstate=sqlstate)


@contextmanager
def server_errors(side: Side, doing: str) -> Iterator[None]:
    """Turn every ``psycopg.Error`` of the block into a ``SourceError`` or ``TargetError``."""
    try:
        yield
    except psycopg.Error as exc:
        raise classify(side, exc, doing) from exc
