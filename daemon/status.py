"""How a migration stands: collected from its work directory, and from its servers as far as they answer.

Reads the state files of the processes, their locks, ``stream.json``, the change files' sizes, the sentinel and the
slot; writes nothing. Works while the migration is down, and while a server is. What it looks like is the command's.
"""

from __future__ import annotations

import time
from contextlib import closing
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import msgspec

from pgcopydb.daemon.disk import DiskUse, disk_use
from pgcopydb.daemon.heartbeat import WORKING, Phase, StageState, clock, read_state
from pgcopydb.daemon.sentinel import SentinelRow
from pgcopydb.daemon.slot import sentinel_of
from pgcopydb.daemon.slot_health import SlotHealth, read_health, with_rate, worry_about
from pgcopydb.daemon.stream import Stream, find_stream, is_being_made, load_stream
from pgcopydb.daemon.waited import waited_for
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import PgcopydbError
from pgcopydb.runtime.workdir import WorkDir

STAGES: Final = ("receive", "transform", "apply")
_BETWEEN_LOOKS_SECONDS: Final = 1.0
_CAUGHT_UP_BYTES: Final = 1 << 20
"""An idle migration tells its positions only when they have moved so far."""
_LIVING: Final = frozenset({Phase.STARTING, Phase.RUNNING, Phase.WAITING, Phase.PAUSED, Phase.RETRYING})


@dataclass(frozen=True, slots=True)
class StageStatus:
    """``alive``: a process holds the lock of the stage. ``silent``: seconds since it said that it lives.

    ``state``: what it said last; the rates of one that is not alive are 0.
    """

    name: str
    alive: bool
    phase: str
    silent: float | None
    state: StageState | None

    @property
    def works(self) -> bool:
        """Whether what it says holds now: one that lost its server may have to go back."""
        return self.alive and self.state is not None and self.state.phase in WORKING


class StreamState(StrEnum):
    """How far the stream is made."""

    BEGINNING = "beginning"
    """A command is at work that has made nothing yet."""
    WAITING = "waiting for the slot"
    INTERRUPTED = "interrupted"
    """While its slot was made, by nobody who is still there."""
    MADE = "slot made"
    """The sentinel and the target's side are not."""
    READY = "ready"


def stream_state(workdir: WorkDir, stream: Stream | None) -> StreamState:
    """Raises ``StateError`` when there is no stream and nobody makes one."""
    making = is_being_made(workdir)
    if stream is None:
        if not making:
            load_stream(workdir)
        return StreamState.BEGINNING
    if stream.ready or stream.consistent_point:
        return StreamState.READY if stream.ready else StreamState.MADE
    return StreamState.WAITING if making else StreamState.INTERRUPTED


@dataclass(frozen=True, slots=True)
class Status:
    """What is known now. None stands for what could not be asked: ``problems`` says why.

    ``lag_bytes``: WAL of the source that the target does not have; ``lag_seconds``: since the last transaction that
    the target has was committed, 0 when it has everything. ``seconds_to_endpos`` is a guess from the rate of applying,
    None while nothing is applied.
    """

    stream: StreamState
    running: bool
    supervisor: StageStatus
    stages: list[StageStatus]
    disk: DiskUse
    slot_name: str
    sentinel: SentinelRow | None = None
    source_position: Lsn | None = None
    slot: SlotHealth | None = None
    lag_bytes: int | None = None
    lag_seconds: float | None = None
    seconds_to_endpos: float | None = None
    waits_for: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


def stage_status(workdir: WorkDir, name: str, lock: str | None = None) -> StageStatus:
    """``lock``: the service whose lock the process holds, if it has another name."""
    state = read_state(workdir, name)
    alive = workdir.is_locked(lock or name)
    if state is None:
        return StageStatus(name, alive, Phase.STARTING if alive else "not started", None, None)
    phase: str = state.phase
    if not alive:
        phase = "gone" if state.phase in _LIVING else phase
        state = msgspec.structs.replace(state, transaction_rate=0.0, byte_rate=0.0)
    return StageStatus(name, alive, phase, clock() - state.beat, state)


def lag_seconds(
    received: StageState | None, applied: StageState | None, here: Lsn | None, now: datetime
) -> float | None:
    """How old the last thing is that the target has, 0 when it has everything. Pure; ``now`` is the source's clock.

    None when that cannot be told: nothing was applied since the stages were started, and something waits.
    """
    if received is None or applied is None:
        return None
    position = Lsn.parse(received.position)
    behind_source = here.bytes_since(position) if here is not None else 0
    # Right after a keepalive receive is ahead, though nothing was committed since. A receive that was started again has
    # received no transaction yet, whatever waits: that says nothing.
    same = received.committed is not None and received.committed == applied.committed
    has_all = same or Lsn.parse(applied.position) >= position
    if has_all and behind_source <= _CAUGHT_UP_BYTES:
        return 0.0
    if applied.committed is None:
        return None
    try:
        return max(0.0, (now - datetime.fromisoformat(applied.committed)).total_seconds())
    except (ValueError, TypeError):
        return None


def collect(
    workdir: WorkDir,
    source: Endpoint | None,
    target: Endpoint | None,
    before: SlotHealth | None = None,
) -> Status:
    """Everything that answers: what fails is among the problems.

    Raises ``StateError`` when the work directory has no stream and nobody makes one, ``CorruptState`` when its file
    cannot be read.

    ``before``: an earlier look at the slot. Without one a slot that may be lost is looked at twice, for a rate.
    """
    problems: list[str] = []
    waits: list[str] = []
    stream = find_stream(workdir)
    made = stream_state(workdir, stream)
    supervisor = stage_status(workdir, "supervisor", "follow")
    stages = [stage_status(workdir, name) for name in STAGES]
    sentinel: SentinelRow | None = None
    health: SlotHealth | None = None
    if source is None:
        problems.append(f"neither --source nor {Side.SOURCE.variable} is given")
    else:
        try:
            with source.connect("status") as connection:
                if stream is not None and stream.consistent_point:
                    health = _look(connection, stream.slot, before)
                elif made is StreamState.WAITING:
                    waits = waited_for(connection)
            if stream is not None and stream.ready:
                with closing(sentinel_of(stream, source, target, "status")) as opened:
                    sentinel = opened.read()
        except PgcopydbError as error:
            problems.append(error.message)
    receiving, _, applying = stages
    position = health.position if health is not None else None
    now = datetime.now(UTC) + (health.ahead if health is not None else timedelta())
    worry = worry_about(health) if health is not None else None
    return Status(
        stream=made,
        running=any(stage.alive for stage in stages),
        supervisor=supervisor,
        stages=stages,
        disk=disk_use(workdir.changes),
        slot_name=stream.slot if stream is not None else "",
        sentinel=sentinel,
        source_position=position,
        slot=health,
        waits_for=waits,
        problems=list(dict.fromkeys(problems)),
        warnings=[worry.message] if worry is not None else [],
        lag_seconds=lag_seconds(receiving.state, applying.state, position, now),
        lag_bytes=lag_bytes(sentinel, position, _applied(sentinel, applying)) if sentinel else None,
        seconds_to_endpos=seconds_to_endpos(sentinel, applying, receiving) if sentinel else None,
    )


def _look(connection: Connection, slot: str, before: SlotHealth | None) -> SlotHealth:
    health = with_rate(read_health(connection, slot), before)
    if health.wal_rate is None and health.safe_bytes is not None and not health.lost:
        time.sleep(_BETWEEN_LOOKS_SECONDS)
        health = with_rate(read_health(connection, slot), health)
    return health


def _applied(sentinel: SentinelRow, applying: StageStatus) -> Lsn:
    """What is durable; what is applied, as long as that cannot have been lost: the sentinel is told now and then."""
    told = Lsn.parse(applying.state.position) if applying.works and applying.state is not None else Lsn()
    return max(sentinel.replay_lsn, told)


def lag_bytes(sentinel: SentinelRow, here: Lsn | None, applied: Lsn) -> int | None:
    """None before anything is applied. Pure."""
    return max(0, max(sentinel.write_lsn, here or Lsn()).bytes_since(applied)) if applied else None


def seconds_to_endpos(sentinel: SentinelRow, applying: StageStatus, receiving: StageStatus) -> float | None:
    """0 when the target has come to the end position; None when there is none, or nothing goes towards it. Pure."""
    if not sentinel.endpos:
        return None
    left = sentinel.endpos.bytes_since(_applied(sentinel, applying))
    if left <= 0:
        return 0.0
    is_coming = receiving.works or sentinel.write_lsn >= sentinel.endpos
    if applying.state is None or not applying.works or not is_coming or applying.state.byte_rate <= 1:
        return None
    return left / applying.state.byte_rate


def status_json(status: Status) -> dict[str, Any]:
    """As ``pgcopydb status --json`` prints it: positions as text, sizes in bytes, durations in seconds."""

    def stage(found: StageStatus) -> dict[str, Any]:
        told = msgspec.to_builtins(found.state) if found.state is not None else {}
        told.pop("beat", None)
        return {**told, "name": found.name, "alive": found.alive, "phase": found.phase, "silent_seconds": found.silent}

    row = status.sentinel
    health = status.slot
    return {
        "stream": status.stream,
        "waits_for": status.waits_for,
        "running": status.running,
        "supervisor": stage(status.supervisor),
        "stages": [stage(found) for found in status.stages],
        "sentinel": None
        if row is None
        else {name: value if isinstance(value, bool) else str(value) for name, value in row._asdict().items()},
        "source_position": str(status.source_position) if status.source_position else None,
        "lag_bytes": status.lag_bytes,
        "lag_seconds": status.lag_seconds,
        "seconds_to_endpos": status.seconds_to_endpos,
        "slot": None
        if health is None
        else {
            "name": status.slot_name,
            "exists": health.exists,
            "active": health.active,
            "restart_lsn": health.restart_lsn,
            "confirmed_flush_lsn": health.confirmed_lsn,
            "retained_bytes": health.retained_bytes,
            "wal_status": health.status or None,
            "safe_wal_size": health.safe_bytes,
            "seconds_until_lost": health.seconds_left,
            "invalidation_reason": health.reason or None,
        },
        "disk": {
            "json_bytes": status.disk.json,
            "sql_bytes": status.disk.sql,
            "free_bytes": status.disk.free,
            "total_bytes": status.disk.total,
        },
        "warnings": status.warnings,
        "problems": status.problems,
    }
