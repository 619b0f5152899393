"""What each process of a migration says of itself: a small file that others read, also when it is gone.

Writes ``state/<name>.json`` of the work directory: replaced as a whole, at most once a second, never synced, for it is
worth nothing after a crash of the machine. Reads those of others. That a process lives is not said by the file but by
its lock; that it moves is said by ``beat``, the clock that all processes of a machine share and nobody sets.
"""

from __future__ import annotations

import contextlib
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from typing import Final

import msgspec

from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import Kind, PgcopydbError
from pgcopydb.runtime.workdir import WorkDir

_WRITE_SECONDS: Final = 1.0
BEAT_SECONDS: Final = 5.0
"""A loop that waits wakes at least so often to say that it lives."""
_RATE_SECONDS: Final = 10.0
"""Over how long rates are an average."""


class Phase(StrEnum):
    """What a process does, for a person who looks."""

    STARTING = "starting"
    RUNNING = "running"
    WAITING = "waiting"
    """For something that ``detail`` names."""
    PAUSED = "paused"
    """Waiting for room on a disk."""
    RETRYING = "retrying"
    """A connection was lost; ``error`` says how."""
    FINISHED = "finished"
    STOPPED = "stopped"
    FAILED = "failed"


WORKING: Final = frozenset({Phase.RUNNING, Phase.WAITING})


class StageState(msgspec.Struct):
    """``since``, ``updated`` and ``error_at`` are times of day (ISO 8601, UTC); ``beat`` is on ``clock``.

    ``committed``: when the last transaction was committed on the source. Rates are per second, 0 while nothing is done.
    """

    name: str
    pid: int
    phase: Phase
    since: str
    updated: str
    beat: float
    detail: str = ""
    position: str = "0/0"
    transactions: int = 0
    rows: int = 0
    committed: str | None = None
    transaction_rate: float = 0.0
    byte_rate: float = 0.0
    error: str | None = None
    error_at: str | None = None
    hint: str | None = None
    restarts: int = 0


def clock() -> float:
    """Seconds since the machine was started, which do not jump when somebody sets its clock."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def now_text() -> str:
    return datetime.now(UTC).isoformat(timespec="milliseconds")


@dataclass(slots=True)
class Heartbeat:
    """Says how one process is. Without a path it says nothing: a stage that a pipe feeds has no work directory."""

    path: Path | None
    name: str
    _state: StageState = field(init=False)
    _written: float = -math.inf
    _rated: tuple[float, int, int] | None = None

    def __post_init__(self) -> None:
        now = now_text()
        self._state = StageState(self.name, os.getpid(), Phase.STARTING, now, now, clock())

    @property
    def state(self) -> StageState:
        return self._state

    def at(self, position: Lsn, transactions: int, rows: int = 0, committed: str | None = None) -> None:
        """Where the work is. Said with the next ``beat``."""
        state = self._state
        state.position, state.transactions, state.rows = str(position), transactions, rows
        state.committed = committed or state.committed
        self._rate(position, transactions)

    def beat(self, phase: Phase = Phase.RUNNING, detail: str = "", restarts: int = 0) -> None:
        """It lives, and does this."""
        state, now = self._state, clock()
        news = (phase, detail) != (state.phase, state.detail)
        if phase is not state.phase:
            state.since = now_text()
        if phase not in WORKING:
            # Of what was done before nothing follows for what is done now.
            state.byte_rate = state.transaction_rate = 0.0
            self._rated = None
        state.phase, state.detail, state.beat, state.restarts = phase, detail, now, restarts
        if news or now - self._written >= _WRITE_SECONDS:
            self._write(now)

    def retrying(self, error: PgcopydbError) -> None:
        self._note(error)
        self.beat(Phase.RETRYING, error.message)

    def failed(self, error: PgcopydbError) -> None:
        self._note(error)
        self.beat(Phase.FAILED, error.message)

    def _note(self, error: PgcopydbError) -> None:
        state = self._state
        state.error, state.hint, state.error_at = error.message, error.hint, now_text()

    def _rate(self, position: Lsn, transactions: int) -> None:
        now = clock()
        if self._rated is None:
            self._rated = (now, position.value, transactions)
            return
        then, bytes_then, transactions_then = self._rated
        passed = now - then
        if passed < _WRITE_SECONDS:
            return
        self._rated = (now, position.value, transactions)
        weight = 1 - math.exp(-passed / _RATE_SECONDS)
        state = self._state
        state.byte_rate += weight * (max(0, position.value - bytes_then) / passed - state.byte_rate)
        state.transaction_rate += weight * ((transactions - transactions_then) / passed - state.transaction_rate)

    def _write(self, now: float) -> None:
        self._written = now
        if self.path is None:
            return
        self._state.updated = now_text()
        aside = self.path.with_name(f".{self.path.name}.{os.getpid()}")
        # A full disk, or a folder that is gone, is for the work itself to report.
        with contextlib.suppress(OSError):
            aside.write_bytes(msgspec.json.encode(self._state))
            aside.replace(self.path)


def read_state(workdir: WorkDir, name: str) -> StageState | None:
    """What a process has said last; None when it has said nothing that can be read."""
    with contextlib.suppress(OSError, msgspec.MsgspecError):
        return msgspec.json.decode(workdir.state(name).read_bytes(), type=StageState)
    return None


def heartbeat_of(workdir: WorkDir, name: str) -> Heartbeat:
    path = workdir.state(name)
    with contextlib.suppress(OSError):
        path.parent.mkdir(mode=0o700, exist_ok=True)
    return Heartbeat(path, name)


@contextmanager
def told_how_it_ends(heart: Heartbeat) -> Iterator[None]:
    """The last word of a process is how its block was left."""
    heart.beat(Phase.STARTING)
    try:
        yield
    except PgcopydbError as error:
        if error.kind is Kind.STOPPED:
            heart.beat(Phase.STOPPED)
        else:
            heart.failed(error)
        raise
    heart.beat(Phase.FINISHED)
