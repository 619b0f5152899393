"""Apply transactions to the target, exactly once each, and know how far it is.

Reads transactions through a ``Reader``; writes the target. Transactions that are waiting are joined into one of the
target, which commits together with the position of the last of them; if anything in it is refused they are done again
one by one, and what is refused then is the true error. Changes that are joined may be reduced to what they come to
(``net_effect``). What is true of ``durable``: the target has everything that was committed up to there, on its disk.
The target passes through a subset of the source's states, never through any other.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from itertools import chain
from typing import Final, Protocol

from psycopg import pq

from pgcopydb.apply.already_copied import AlreadyCopied
from pgcopydb.apply.execute import Conflict, Executor, StatementFailed
from pgcopydb.apply.net_effect import NetEffect, reduced
from pgcopydb.apply.sql_reader import Position, Transaction
from pgcopydb.apply.statements import table_sql
from pgcopydb.daemon.progress import Progress
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import CorruptState, Kind, TargetError
from pgcopydb.runtime.failpoint import failpoint

logger = logging.getLogger(__name__)

GROUP_BYTES: Final = 1 << 20
GROUP_TRANSACTIONS: Final = 1000
_KEPT_CONFLICTS: Final = 1000
"""Of one transaction, which may have any number of them."""
_WORTH_REDUCING_BYTES: Final = 1 << 14
_LONGEST_PAUSE: Final = 64
"""Groups that are not reduced after reducing failed again and again."""
_BY_KEY: Final = ("enable_seqscan", "enable_hashjoin", "enable_mergejoin")
"""Off, rows are found by their key, whatever the statistics say of a table that is being filled."""
_JIT_SINCE: Final = 110000
"""What is off counts as very expensive, and what is expensive is compiled."""


class OnConflict(StrEnum):
    """What to do about a statement that finds another number of rows than on the source."""

    ERROR = "error"
    WARN = "warn"


class ApplyMode(StrEnum):
    """How transactions that are waiting are joined into one of the target."""

    AUTO = "auto"
    """Reduced to what they come to when there are several of them, or a large one."""
    GROUPED = "grouped"
    """Always reduced."""
    SERIAL = "serial"
    """Each change as it was made on the source."""


class ConflictError(TargetError):
    """The target differs from what the source's history makes of it."""


@dataclass(slots=True)
class Counts:
    """What was applied since this process began."""

    transactions: int = 0
    rows: int = 0
    conflicts: int = 0


class Reader(Protocol):
    """Where transactions come from."""

    def go_to(self, position: Lsn) -> None:
        """Before the first transaction that was committed after ``position``."""

    def next(self) -> Transaction | Position | None:
        """None when no more is there yet."""

    def statements(self, transaction: Transaction) -> Iterator[bytes]:
        """The lines of its statements."""


@dataclass(slots=True)
class Replay:
    """One session's work. ``position``: everything up to there is applied; ``reached``: so is the end position."""

    connection: Connection
    progress: Progress
    reader: Reader
    on_conflict: OnConflict
    mode: ApplyMode = ApplyMode.SERIAL
    counts: Counts = field(default_factory=Counts)
    copied: AlreadyCopied = field(default_factory=lambda: AlreadyCopied({}))
    keep_conflicts: Callable[[Transaction, Sequence[Conflict]], None] = lambda _transaction, _conflicts: None
    position: Lsn = field(default_factory=Lsn)
    durable: Lsn = field(default_factory=Lsn)
    committed: str | None = None
    reached: bool = False
    beat: Callable[[str], None] = lambda _: None
    """Called at least every few seconds while something is waited for, with what that is."""
    _opening: str = "BEGIN"
    _by_key: str = ""
    _net: NetEffect | None = None
    """None where nothing may be reduced."""
    _reductions_failed: int = 0
    _groups_to_leave: int = 0
    _held: Transaction | Position | None = None
    _damage: CorruptState | None = None

    def begin(self) -> None:
        """Take the target's own word for how far it is."""
        self.progress.begin_session(self.connection)
        self.position = self.durable = self.progress.durable(self.connection)
        with server_errors(Side.TARGET, "asking for the role of the session"):
            role = self.connection.execute("SHOW session_replication_role").fetchone()
        if role != ("replica",):
            # One statement of the source comes as one for each row, between which these may not hold.
            self._opening = "BEGIN; SET CONSTRAINTS ALL DEFERRED"
        elif self.mode is not ApplyMode.SERIAL:
            self._net = NetEffect(tables_that_look_on(self.connection))
            off = (*_BY_KEY, "jit") if self.connection.info.server_version >= _JIT_SINCE else _BY_KEY
            self._by_key = "".join(f"; SET LOCAL {setting} = off" for setting in off)
        self.reader.go_to(self.position)

    def step(self, endpos: Lsn) -> bool:
        """Apply what is waiting, up to a group; false when nothing was. ``endpos`` 0/0 is never reached."""
        if endpos and self.position >= endpos:
            self.reached = True
            return False
        group = self._gather(endpos)
        if group:
            self._apply(group, self._net_for(group))
        if endpos and self.position >= endpos:
            self.reached = True
        return bool(group)

    def is_idle(self) -> bool:
        """Whether no transaction is open on the target."""
        return self.connection.pgconn.transaction_status == pq.TransactionStatus.IDLE

    def flush(self) -> Lsn:
        """Make durable what is applied; where that is."""
        if self.durable < self.position:
            committed = self.progress.durable(self.connection)
            failpoint("replay.after_flush")
            # Nothing was committed on the source between the last transaction and the position.
            self.durable = max(committed, self.position)
        return self.durable

    def _gather(self, endpos: Lsn) -> list[Transaction]:
        """Transactions to apply together. Moves the position when there are none before it."""
        group: list[Transaction] = []
        size = 0
        while size < GROUP_BYTES and len(group) < GROUP_TRANSACTIONS:
            unit = self._held or self._next(pending=bool(group))
            self._held = None
            if unit is None:
                break
            if isinstance(unit, Position):
                if group:
                    self._held = unit
                    break
                # Where receiving ended it ended because nothing more belongs to what is before that position.
                self.position = max(self.position, unit.lsn)
                if endpos and self.position >= endpos:
                    break
                continue
            if unit.commit <= self.position:
                continue
            if endpos and unit.begin >= endpos:
                self._held = unit
                if not group:
                    # Commits come in order: what begins behind the end position is committed behind it.
                    self.position = endpos
                break
            if group and size + unit.size > GROUP_BYTES:
                self._held = unit
                break
            group.append(unit)
            size += unit.size
        return group

    def _next(self, *, pending: bool) -> Transaction | Position | None:
        """None when no more is there yet; or before damage, when there is something to be applied first."""
        if self._damage is not None:
            raise self._damage
        try:
            return self.reader.next()
        except CorruptState as error:
            if not pending:
                raise
            self._damage = error
            return None

    def _apply(self, group: Sequence[Transaction], net: NetEffect | None) -> None:
        try:
            self._run(group, net)
        except (StatementFailed, ConflictError) as error:
            if error.kind is Kind.RETRY:
                raise
            with server_errors(Side.TARGET, "rolling back"):
                self.connection.rollback()
            if len(group) == 1 and net is None:
                if isinstance(error, StatementFailed):
                    error.message = f"transaction {group[0].xid} at {group[0].commit}: {error.message}"
                raise
            logger.debug("one by one, because of: %s", error)
            if net is not None:
                self._net = NetEffect(net.apart)
                self._reductions_failed += 1
                self._groups_to_leave = min(1 << self._reductions_failed, _LONGEST_PAUSE)
            for transaction in group:
                self._apply([transaction], None)
        else:
            if net is not None:
                self._reductions_failed = 0

    def _net_for(self, group: Sequence[Transaction]) -> NetEffect | None:
        """Where to reduce these; None when they are better left as they are."""
        if self._net is None:
            return None
        if self._groups_to_leave:
            self._groups_to_leave -= 1
            return None
        is_worth_it = len(group) > 1 or group[0].size > _WORTH_REDUCING_BYTES
        return self._net if is_worth_it or self.mode is ApplyMode.GROUPED else None

    def _run(self, group: Sequence[Transaction], net: NetEffect | None) -> None:
        last = group[-1]
        kept: list[Conflict] = []
        is_joined = len(group) > 1 or net is not None
        executor = Executor(self.connection, lambda conflict: self._differs(conflict, last, kept, is_joined), self.beat)
        executor.command(self._opening if net is None else f"{self._opening}{self._by_key}")
        lines = chain.from_iterable(self.copied.left(self.reader.statements(each), each.commit) for each in group)
        changes = net.changes if net is not None else 0
        executor.run(lines if net is None else reduced(lines, net))
        if kept:
            self._report(last, kept, executor.conflicts - len(kept))
        failpoint("replay.before_commit")
        executor.command(f"{self.progress.statement(last.commit, last.timestamp)} COMMIT")
        failpoint("replay.after_commit")
        self.position = last.commit
        self.committed = last.timestamp
        self.counts.transactions += len(group)
        self.counts.conflicts += executor.conflicts
        if net is None:
            self.counts.rows += executor.rows
        else:
            self.counts.rows += net.changes - changes
            logger.debug("%d transactions, %d changes as %d", len(group), net.changes - changes, executor.rows)

    def _differs(self, conflict: Conflict, last: Transaction, kept: list[Conflict], is_joined: bool) -> None:
        """What is behind a conflict is not even sent, unless it is accepted: of one transaction as it was."""
        if self.on_conflict is OnConflict.ERROR or is_joined:
            raise ConflictError(
                f"transaction {last.xid} at {last.commit}: {conflict}",
                hint="The target's row is not what the source's history makes of it: was it written to by others? Mend "
                "it and go on with --resume, or let such rows be with --on-conflict warn.",
            )
        if len(kept) < _KEPT_CONFLICTS:
            kept.append(conflict)

    def _report(self, transaction: Transaction, conflicts: Sequence[Conflict], more: int) -> None:
        for conflict in conflicts:
            logger.warning("conflict in transaction %s at %s: %s", transaction.xid, transaction.commit, conflict)
        if more:
            logger.warning("%d more conflicts in transaction %s at %s", more, transaction.xid, transaction.commit)
        self.keep_conflicts(transaction, conflicts)


def tables_that_look_on(connection: Connection) -> frozenset[bytes]:
    """Those whose triggers or rules fire in a session of a replica too, and may look at any other table.

    https://www.postgresql.org/docs/current/sql-altertable.html (``ENABLE REPLICA`` and ``ENABLE ALWAYS``).
    """
    with server_errors(Side.TARGET, "looking for triggers that fire always"):
        rows = connection.execute(
            "SELECT nspname, relname FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = relnamespace"
            " WHERE c.oid IN (SELECT tgrelid FROM pg_catalog.pg_trigger WHERE tgenabled IN ('A', 'R')"
            " UNION ALL SELECT ev_class FROM pg_catalog.pg_rewrite WHERE ev_enabled IN ('A', 'R'))"
        ).fetchall()
    return frozenset(table_sql(Name(schema, name)).encode() for schema, name in rows)
