"""What a service manager, and the log, are told of a migration that runs: the service side of the supervisor.

Reads the state files of the processes and, in a session of its own, the slot. Tells systemd (sd_notify(3)) when changes
stream, how far they are, that the stages move, and that a stop takes its time; without ``NOTIFY_SOCKET`` that goes
nowhere. Warns of a slot that is in danger. Ends nothing and starts nothing: that is the supervisor's.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import sdnotify

from pgcopydb.daemon.heartbeat import Phase, StageState, clock, read_state
from pgcopydb.daemon.slot_health import SlotHealth, Worry, read_health, with_rate, worry_about
from pgcopydb.daemon.status import lag_seconds
from pgcopydb.daemon.stream import find_stream
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import PgcopydbError
from pgcopydb.runtime.logs import in_this_context
from pgcopydb.runtime.sizes import pretty_seconds, pretty_size
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

_TICK_SECONDS: Final = 1.0
_SLOT_SECONDS: Final = 10.0
_REPEAT_SECONDS: Final = 600.0
"""A worry that stays is said again so often."""
_EXTEND_MICROSECONDS: Final = 30_000_000
_TELL_SECONDS: Final = 5.0
_LONGEST_STATUS: Final = 2000
"""A service manager takes messages of 4096 bytes."""
MOVING_SECONDS: Final = 60.0
"""A process that has not said for so long that it lives is not reported as alive."""


@dataclass(slots=True)
class Service:
    """One migration, for as long as a command runs, also before that made anything. ``names``: of the processes whose
    states count."""

    source: Endpoint
    workdir: WorkDir
    names: Sequence[str]
    health: SlotHealth | None = None
    _over: threading.Event = field(default_factory=threading.Event)
    _began: float = field(default_factory=clock)

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Warn of a slot that is in danger, until the block is left."""
        threading.Thread(target=in_this_context(self._watch_slot), name="slot", daemon=True).start()
        try:
            yield
        finally:
            self._over.set()

    def states(self) -> dict[str, StageState]:
        """What the processes of this run say, not what an earlier one left."""
        states = {name: read_state(self.workdir, name) for name in self.names}
        return {name: state for name, state in states.items() if state is not None and state.beat >= self._began}

    def _watch_slot(self) -> None:
        connection: Connection | None = None
        worried: Worry | None = None
        repeated = 0.0
        while not self._over.wait(_SLOT_SECONDS if self.health is not None else _TICK_SECONDS):
            try:
                stream = find_stream(self.workdir)
                if stream is None or not stream.consistent_point:
                    continue
                if connection is None:
                    connection = self.source.connect("slot")
                self.health = with_rate(read_health(connection, stream.slot), self.health)
            except PgcopydbError as error:
                # Whoever needs the source for more than a look says that it is away.
                logger.debug("%s", error)
                if connection is not None:
                    connection.close()
                    connection = None
                if self._over.wait(_SLOT_SECONDS):
                    return
                continue
            worry = worry_about(self.health)
            if worry is not None and (
                worried is None or worry.level > worried.level or clock() - repeated > _REPEAT_SECONDS
            ):
                repeated = clock()
                logger.warning("%s", worry.message)
                logger.warning("hint: %s", worry.hint)
            worried = worry
        if connection is not None:
            connection.close()


@dataclass(slots=True)
class Teller:
    """What the service manager is told of the ``migrations`` of this process, by what each is of.

    ``expected``: how many there will be, each of which has to stream before the service is ready; none as long as that
    is not known.
    """

    stop: Stop
    migrations: dict[str, Service] = field(default_factory=dict)
    expected: int | None = 1
    _over: threading.Event = field(default_factory=threading.Event)
    _notifier: sdnotify.SystemdNotifier | None = None
    _ready: bool = False
    _said: str = ""

    @contextmanager
    def running(self) -> Iterator[None]:
        """Until the block is left, with which the process ends too."""
        teller = threading.Thread(target=self._tell, name="service", daemon=True)
        if under_systemd():
            self._notifier = sdnotify.SystemdNotifier()
            # A manager that does not read holds up nothing, the end least of all.
            if self._notifier.socket is not None:
                self._notifier.socket.settimeout(_TELL_SECONDS)
            teller.start()
        done = False
        try:
            yield
            done = True
        finally:
            self._over.set()
            if self._notifier is not None:
                teller.join()
                if done and not self._ready:
                    # At its end position already it may be over before it was seen to receive: that is no failed start.
                    self._send(["READY=1"])
                self._send(["STOPPING=1"])
                if self._notifier.socket is not None:
                    self._notifier.socket.close()

    def _tell(self) -> None:
        while not self._over.wait(_TICK_SECONDS):
            migrations = dict(self.migrations)
            states = {about: service.states() for about, service in migrations.items()}
            now = datetime.now(UTC)
            said = {about: describe(found, migrations[about].health, now) for about, found in states.items()}
            self._notify([*states.values()], described(said, self.expected))

    def _notify(self, states: Sequence[Mapping[str, StageState]], said: str) -> None:
        lines = []
        if said != self._said:
            lines.append(f"STATUS={said}")
            self._said = said
        moving = all(all_move(each, clock()) for each in states)
        if self.stop.mode:
            lines.append("STOPPING=1")
            lines += [f"EXTEND_TIMEOUT_USEC={_EXTEND_MICROSECONDS}"] if moving else []
        elif not self._ready:
            if self.expected is not None and sum(map(streams, states)) >= self.expected:
                self._ready = True
                lines.append("READY=1")
            else:
                lines.append(f"EXTEND_TIMEOUT_USEC={_EXTEND_MICROSECONDS}")
        lines += ["WATCHDOG=1"] if moving else []
        self._send(lines)
        if self.stop.take_hangup() and self._ready and not self.stop.mode:
            self._send(["RELOADING=1", f"MONOTONIC_USEC={time.monotonic_ns() // 1000}"])
            self._send(["READY=1"])

    def _send(self, lines: Sequence[str]) -> None:
        """No two states of the service at once: of those in one message only the last one counts."""
        if lines and self._notifier is not None:
            self._notifier.notify("\n".join(lines))


def streams(states: Mapping[str, StageState]) -> bool:
    """Whether changes of a migration come. Pure."""
    receive = states.get("receive")
    return receive is not None and receive.phase in {Phase.RUNNING, Phase.PAUSED, Phase.FINISHED}


def described(said: Mapping[str, str], expected: int | None) -> str:
    """One line of one migration, or of several with what each is of. Pure."""
    if expected is None or not said:
        return "starting"
    if set(said) == {""}:
        return said[""]
    text = " | ".join([f"{len(said)} of {expected} databases", *(f"{about}: {each}" for about, each in said.items())])
    return text if len(text) <= _LONGEST_STATUS else f"{text[:_LONGEST_STATUS]}…"


def all_move(states: Mapping[str, StageState], now: float) -> bool:
    """Whether every process that has not ended has said lately that it lives. Pure."""
    ended = {Phase.FINISHED, Phase.STOPPED, Phase.FAILED}
    return all(state.phase in ended or now - state.beat < MOVING_SECONDS for state in states.values())


def describe(states: Mapping[str, StageState], health: SlotHealth | None, now: datetime) -> str:
    """One line for ``systemctl status``: first what is wrong. Pure.

    ``now`` is our clock; where the source's clock and WAL were is known since the last look at the slot.
    """
    receive, apply = states.get("receive"), states.get("apply")
    worry = worry_about(health) if health is not None else None
    parts = [worry.message] if worry is not None else []
    here = health.position if health is not None else Lsn()
    for name in ("receive", "transform", "apply"):
        state = states.get(name)
        if state is not None and state.phase in {Phase.RETRYING, Phase.PAUSED, Phase.FAILED, Phase.WAITING}:
            parts.append(f"{name} {state.phase}: {state.detail}" if state.detail else f"{name} {state.phase}")
    applied = Lsn.parse(apply.position) if apply is not None else Lsn()
    if receive is not None and apply is not None and applied:
        received = Lsn.parse(receive.position)
        behind = f"{pretty_size(max(0, max(received, here).bytes_since(applied)))}"
        seconds = lag_seconds(receive, apply, here or None, now + (health.ahead if health is not None else timedelta()))
        parts.append(
            f"received {received}, applied {applied}, {behind}"
            f"{'' if seconds is None else f' and {pretty_seconds(seconds)}'} behind,"
            f" {apply.transaction_rate:.0f} transactions/s"
        )
    elif receive is not None and Lsn.parse(receive.position):
        parts.append(f"received {receive.position}, nothing applied yet")
    if worry is None and health is not None and health.status not in {"", "reserved"}:
        parts.append(f"slot {health.status}")
    return "; ".join(parts) or "starting"


def under_systemd() -> bool:
    """Whether a service manager waits for what is told here."""
    return "NOTIFY_SOCKET" in os.environ
