"""Which transactions a new slot waits for, in words: every one of the source that has written when it is asked for.

Reads ``pg_stat_activity`` and ``pg_prepared_xacts`` of the source, of all its databases. Says in the log what it finds,
at once and again as long as it is waited for.
"""

from __future__ import annotations

import logging
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.liveness import with_patience
from pgcopydb.runtime.errors import PgcopydbError
from pgcopydb.runtime.sizes import pretty_seconds

logger = logging.getLogger(__name__)

REPEAT_SECONDS: Final = 60.0
_JOIN_SECONDS: Final = 2.0
_SHOWN: Final = 5
_QUERY_CHARACTERS: Final = 60
_SECRET: Final = re.compile(r"(?i)\bpassword\b")

# Who may not look at a session sees its process, its role and its transaction, but not when that began. A transaction
# that is over in a moment is nothing to tell of.
_WAITED: Final = """
SELECT pid, usename, extract(epoch FROM pg_catalog.clock_timestamp() - xact_start)::float8, state, query, NULL::text
  FROM pg_catalog.pg_stat_activity
 WHERE backend_xid IS NOT NULL AND pid <> pg_catalog.pg_backend_pid()
   AND (xact_start IS NULL OR xact_start < pg_catalog.clock_timestamp() - interval '2 s')
 UNION ALL
SELECT NULL, owner, extract(epoch FROM pg_catalog.clock_timestamp() - prepared)::float8, NULL, NULL, gid
  FROM pg_catalog.pg_prepared_xacts
 ORDER BY 3 DESC NULLS LAST, 1
"""
_STANDBY: Final = (
    "A standby makes a slot when its primary says which transactions run: within 15 seconds while somebody writes"
    " there, or at once after this on the primary: SELECT pg_log_standby_snapshot();"
)


def waited_for(reader: Connection) -> list[str]:
    """A line each, the oldest first, and one more when there are many or when the role may not see enough of them."""
    with server_errors(Side.SOURCE, "looking for open transactions"), with_patience(reader):
        if reader.execute("SELECT pg_catalog.pg_is_in_recovery()").fetchone() == (True,):
            return [_STANDBY]
        found = reader.execute(_WAITED).fetchall()
    lines = [describe_waited(*row) for row in found[:_SHOWN]]
    if len(found) > _SHOWN:
        lines.append(f"and {len(found) - _SHOWN} more")
    if any(age is None for _, _, age, *_ in found):
        lines.append(f"more of them can be seen after GRANT pg_read_all_stats TO {reader.info.user}")
    return lines


def describe_waited(
    pid: int | None, user: str | None, age: float | None, state: str | None, query: str | None, gid: str | None
) -> str:
    """One transaction: of a session, or a prepared one (``gid``), which only COMMIT PREPARED ends. Pure."""
    if gid is not None:
        return f"prepared transaction '{gid}' of {user}, prepared {pretty_seconds(age or 0)} ago"
    who = f"process {pid} of {user or 'the server'}"
    if age is None:
        return f"{who}, which this role may not look at"
    text = " ".join((query or "").split())
    secret = _SECRET.search(text)
    text = f"{text[: secret.end()]} …" if secret else text
    shown = text if len(text) <= _QUERY_CHARACTERS else f"{text[:_QUERY_CHARACTERS]}…"
    return f"{who}, open for {pretty_seconds(age)}, {state or 'unknown state'}: {shown}"


@contextmanager
def telling_what_is_waited_for(reader: Connection) -> Iterator[None]:
    """For the length of a block that makes a slot. Nobody else uses the session meanwhile."""
    _tell(reader)
    over = threading.Event()

    def repeat() -> None:
        try:
            while not over.wait(REPEAT_SECONDS):
                _tell(reader)
        except PgcopydbError as error:
            logger.debug("%s", error)

    thread = threading.Thread(target=repeat, name="waited", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(_JOIN_SECONDS)


def _tell(reader: Connection) -> None:
    lines = waited_for(reader)
    if lines == [_STANDBY]:
        logger.info("%s", _STANDBY)
    elif lines:
        logger.info("The slot waits for transactions that have written already:")
        for line in lines:
            logger.info("  %s", line)
