"""What steers the receiver: the sentinel, read when it is announced that it changed, written when there is news.

An idle migration writes next to nothing: positions that moved without a transaction are told only when they moved far,
for each report is itself a transaction on the server that has the sentinel.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Final

from pgcopydb.daemon.receive import Receiver
from pgcopydb.daemon.sentinel import Sentinel
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import Stopped

REPORT_SECONDS: Final = 1.0
"""Least time between two reports of transactions."""
QUIET_BYTES: Final = 1 << 20
"""How far a position moves without a transaction before it is worth a report."""


def check_reached(reached: bool) -> None:
    """Whoever starts a stage must be able to tell its end from a stop."""
    if not reached:
        raise Stopped("stopped before the end position", hint="Continue with the same command.")


@dataclass(slots=True)
class Reports:
    """When a position is worth telling. Pure, but for the clock it is given."""

    at: float = float("-inf")
    transactions: int = 0
    position: Lsn = field(default_factory=Lsn)

    def due(self, now: float, transactions: int, position: Lsn, *, urgent: bool) -> bool:
        if position == self.position and transactions == self.transactions:
            return False
        if urgent:
            return True
        if transactions != self.transactions:
            return now - self.at >= REPORT_SECONDS
        return position.bytes_since(self.position) >= QUIET_BYTES

    def told(self, now: float, transactions: int, position: Lsn) -> None:
        self.at, self.transactions, self.position = now, transactions, position


@dataclass(slots=True)
class SentinelControl:
    """The control of a receiver that is steered by the sentinel."""

    sentinel: Sentinel
    endpos: Lsn = field(default_factory=Lsn)
    replayed: Lsn = field(default_factory=Lsn)
    _reports: Reports = field(default_factory=Reports)

    def open(self) -> None:
        """Raises when there is no sentinel."""
        self.sentinel.listen()
        self._take()

    def descriptors(self) -> list[int]:
        return [self.sentinel.fileno()]

    def refresh(self, receiver: Receiver) -> None:
        now = time.monotonic()
        if self.sentinel.was_announced():
            self._take()
        if self._reports.due(now, receiver.transactions, receiver.durable, urgent=receiver.reached):
            self.sentinel.report_received(receiver.durable, receiver.acknowledged)
            self._reports.told(now, receiver.transactions, receiver.durable)

    def _take(self) -> None:
        row = self.sentinel.read()
        self.endpos, self.replayed = row.endpos, row.replay_lsn
