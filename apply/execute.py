"""Run the lines of SQL files on the target, and hold what they did against what they should have done.

Lines go to the server in large pieces, as they stand. What is true when ``run`` returns: each statement touched as many
rows as on the source, or ``differs`` was told which did not. Transactions are the caller's.
"""

from __future__ import annotations

import select
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Final

import psycopg
from psycopg import pq

from pgcopydb.apply.sql_lines import MADE_AGAIN, expected_rows
from pgcopydb.daemon.heartbeat import BEAT_SECONDS
from pgcopydb.postgres.classify import classify, is_transient
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.runtime.errors import Kind, TargetError
from pgcopydb.runtime.watch import wait_for_any

_CHUNK_BYTES: Final = 1 << 18
_SHOWN: Final = 300
_GOOD: Final = frozenset({pq.ExecStatus.COMMAND_OK, pq.ExecStatus.TUPLES_OK})
_SYNTAX_ERROR: Final = "42601"
_INTEGRITY_CLASS: Final = "23"
"""Of the states that say that a constraint is violated."""
_SCHEMA_STATES: Final = frozenset({"42703", "42P01", "42804", "3F000"})


class StatementFailed(TargetError):
    """The target refused a statement."""


@dataclass(frozen=True, slots=True)
class Conflict:
    """A statement that touched another number of rows than on the source."""

    statement: str
    expected: int
    found: int

    def __str__(self) -> str:
        return f"{self.found} rows instead of {self.expected} by {self.statement}"


@dataclass(slots=True)
class Executor:
    """Runs lines in one session. ``rows``: how many rows were touched. ``differs`` may raise.

    ``beat`` is called every few seconds while the target works on something, with what that is.
    """

    connection: Connection
    differs: Callable[[Conflict], None]
    beat: Callable[[str], None] = lambda _: None
    rows: int = 0
    conflicts: int = 0

    def run(self, lines: Iterable[bytes]) -> None:
        """Raises ``StatementFailed``, with ``Kind.RETRY`` when the same may succeed later."""
        for chunk in _chunks(lines):
            self.beat("")
            self._run_chunk(chunk)

    def command(self, text: str) -> None:
        """One statement or several whose results mean nothing."""
        failed: StatementFailed | None = None
        try:
            self._send(text.encode())
            # To the end, or the session cannot be used any more.
            for result in self._results(lambda: text):
                if result.status not in _GOOD:
                    failed = self._refused(result, text)
        except psycopg.Error as exc:
            raise classify(Side.TARGET, exc, "applying changes") from exc
        if failed is not None:
            raise failed

    def _run_chunk(self, lines: list[bytes]) -> None:
        failed: StatementFailed | None = None
        conflicts: list[Conflict] = []
        number = 0
        try:
            self._send(lines[0] if len(lines) == 1 else b"".join(lines))
            for result in self._results(lambda: _shown(lines[0])):
                if result.status not in _GOOD:
                    failed = self._refused(result, _shown(lines[number]) if number < len(lines) else "")
                elif number < len(lines):
                    conflicts += self._check(lines[number], result)
                number += 1
        except psycopg.Error as exc:
            raise classify(Side.TARGET, exc, "applying changes") from exc
        if failed is not None:
            raise failed
        if number != len(lines):
            raise StatementFailed(f"the target answered {number} of {len(lines)} statements")
        for conflict in conflicts:
            self.conflicts += 1
            self.differs(conflict)

    def _check(self, line: bytes, result: pq.abc.PGresult) -> list[Conflict]:
        expected = expected_rows(line)
        if expected < 0:
            return []
        found = result.command_tuples or 0
        self.rows += found
        return [] if found == expected else [Conflict(_shown(line), expected, found)]

    def _send(self, text: bytes) -> None:
        pgconn = self.connection.pgconn
        pgconn.send_query(text)
        poll = select.poll()
        poll.register(pgconn.socket, select.POLLIN | select.POLLOUT)
        # More than the socket takes at once; and a server that answers meanwhile must be read, or both wait.
        while pgconn.flush():
            ready = poll.poll(BEAT_SECONDS * 1000)
            if not ready:
                self.beat("the target, which takes no more for now")
            for _, event in ready:
                if event & ~select.POLLOUT:
                    pgconn.consume_input()

    def _results(self, statement: Callable[[], str]) -> Iterator[pq.abc.PGresult]:
        """Waits outside of libpq: within it no signal is handled, and a statement may wait for a lock for long."""
        pgconn = self.connection.pgconn
        while True:
            while pgconn.is_busy():
                if not wait_for_any([pgconn.socket], BEAT_SECONDS):
                    self.beat(f"the target, which works on {statement()}")
                pgconn.consume_input()
            result = pgconn.get_result()
            if result is None:
                return
            yield result

    def _refused(self, result: pq.abc.PGresult, statement: str) -> StatementFailed:
        def part(name: pq.DiagnosticField) -> str:
            return (result.error_field(name) or b"").decode("utf-8", "replace")

        sqlstate = part(pq.DiagnosticField.SQLSTATE) or None
        lost = sqlstate is None
        said = part(pq.DiagnosticField.MESSAGE_PRIMARY) or self.connection.pgconn.error_message.decode(errors="replace")
        detail = part(pq.DiagnosticField.MESSAGE_DETAIL)
        hint = part(pq.DiagnosticField.MESSAGE_HINT) or None
        if sqlstate == _SYNTAX_ERROR:
            hint = MADE_AGAIN
        elif sqlstate in _SCHEMA_STATES:
            hint = "Bring the target's table to the form that it has on the source, then go on with --resume."
        elif sqlstate is not None and sqlstate.startswith(_INTEGRITY_CLASS):
            hint = (
                "The target's rows are not what the source's history makes of them: were they written to by others, or "
                "by triggers? Mend them and go on with --resume."
            )
        elif hint is None:
            hint = "Mend it on the target, then go on with --resume: this transaction is applied again as a whole."
        return StatementFailed(
            " ".join(f"{said}{f' ({detail})' if detail else ''}, by {statement}".split()),
            hint=hint,
            kind=Kind.RETRY if lost or is_transient(sqlstate) else Kind.OPERATOR,
            sqlstate=sqlstate,
        )


def _chunks(lines: Iterable[bytes]) -> Iterator[list[bytes]]:
    chunk: list[bytes] = []
    size = 0
    for line in lines:
        if chunk and size + len(line) > _CHUNK_BYTES:
            yield chunk
            chunk, size = [], 0
        chunk.append(line)
        size += len(line)
    if chunk:
        yield chunk


def _shown(line: bytes) -> str:
    text = line.decode("utf-8", "replace").rstrip()
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}…"
