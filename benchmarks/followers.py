"""What follows changes, and how each is steered: this program with each of its plugins, the servers' own logical
replication, and the C program.

``place`` makes a slot: what is written to the source from then on is what is followed. ``keep`` and ``rewind`` let
several runs begin at that one place. ``prepare`` does what comes before a run and is not measured, ``start`` begins it,
``finish`` ends it when all up to a position is there; after ``remove`` nothing of the run is left on the servers.
"""

from __future__ import annotations

import shutil
import signal
import subprocess
import sys
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psycopg

from benchmarks.measure import Command, CommandFailed, Cost, Running, TookTooLong
from benchmarks.servers import DATABASE, Servers, program_environment
from benchmarks.tools import OURS, PEER
from pgcopydb.daemon.plugins import Plugin

NATIVE: Final = "logical replication"
"""Of the servers themselves."""

LONGEST_WAIT: Final = 180.0
_PAUSE: Final = 0.02

_PROGRAM: Final = Path(sys.executable).parent / "pgcopydb"
_C_PROGRAM: Final = Path("/usr/bin/pgcopydb")
_PUBLICATION: Final = "bench_native"

Connection = psycopg.Connection[tuple[Any, ...]]


def wait_for(condition: Callable[[], bool], what: str, seconds: float = LONGEST_WAIT) -> None:
    """Raises ``TookTooLong`` when the time is over."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TookTooLong(f"{what}: not within {seconds:g} seconds")
        time.sleep(_PAUSE)


@dataclass
class Follower(ABC):
    """One of them. ``folder`` is its own for the whole suite; ``slot`` names its slot."""

    servers: Servers
    folder: Path
    name: str
    slot: str
    _running: Running | None = field(default=None, init=False)

    @abstractmethod
    def place(self) -> None:
        """Make the slot, and what belongs to it on the source."""

    @abstractmethod
    def prepare(self, scratch: Path, end: str | None) -> None:
        """What is needed before ``start``. ``scratch`` is for the run's own files; ``end`` is known for a backlog."""

    @abstractmethod
    def start(self) -> None:
        """Begin to follow."""

    @abstractmethod
    def finish(self, end: str) -> Cost:
        """End, when everything up to ``end`` is there. What the client has cost."""

    def durable(self, source: Connection, end: str) -> bool:
        """Whether everything up to ``end`` is on the target's disk."""
        return source.execute("SELECT replay_lsn >= %s::pg_lsn FROM pgcopydb.sentinel", (end,)).fetchall() == [(True,)]

    def keep(self) -> None:
        """Remember the place of the slot."""
        self._copy_slot(self.slot, self._kept)

    def rewind(self) -> None:
        """Go back to that place."""
        self._drop_slot(self.slot)
        self._copy_slot(self._kept, self.slot)

    def streaming(self, source: Connection) -> bool:
        """Whether the source sends."""
        rows = source.execute("SELECT active FROM pg_replication_slots WHERE slot_name = %s", (self.slot,)).fetchall()
        return rows == [(True,)]

    def wait(self, condition: Callable[[], bool], what: str) -> None:
        """Raises ``TookTooLong``, and ``CommandFailed`` when the client has ended with an error."""

        def checked() -> bool:
            self.check()
            return condition()

        try:
            wait_for(checked, what)
        except TookTooLong as exc:
            said = self._running.said() if self._running is not None else ""
            raise TookTooLong(f"{exc}\n{said}") from exc

    def check(self) -> None:
        """Raises ``CommandFailed`` when the client has ended with an error."""
        if self._running is not None:
            self._running.alive()

    def remove(self) -> None:
        """Whatever is left of a run, also of one that failed."""
        if self._running is not None:
            self._running.close()
            self._running = None
        self._drop_slot(self.slot)

    @property
    def _kept(self) -> str:
        return f"{self.slot}_kept"

    def _copy_slot(self, old: str, new: str) -> None:
        self._on_source("SELECT pg_copy_logical_replication_slot(%s, %s)", old, new)

    def _drop_slot(self, slot: str) -> None:
        self._on_source(
            "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots"
            " WHERE slot_name = %s AND active_pid IS NOT NULL",
            slot,
        )
        self._on_source(
            "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE slot_name = %s", slot
        )

    def _drop_origin(self) -> None:
        """Origins belong to the whole server: dropping the database leaves them."""
        with psycopg.connect(self.servers.target.dsn(), autocommit=True) as target:
            # The session of a client that was killed may still hold it.
            target.execute(
                "SELECT pg_terminate_backend(pid, 10000) FROM pg_stat_activity"
                " WHERE datname = %s AND backend_type = 'client backend'",
                (DATABASE,),
            )
            target.execute(
                "SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin WHERE roname = %s", (self.slot,)
            )

    def _on_source(self, query: str, *values: str) -> None:
        with psycopg.connect(self.servers.source_dsn, autocommit=True) as source:
            source.execute(query.encode(), values)

    def environment(self) -> dict[str, str]:
        """Of a measured program: where both databases are."""
        return {
            **program_environment(self.servers.bin_dir),
            "PGCOPYDB_SOURCE_PGURI": self.servers.source_dsn,
            "PGCOPYDB_TARGET_PGURI": self.servers.target_dsn,
        }

    def _run(self, command: Command) -> None:
        done = subprocess.run(command, check=False, capture_output=True, text=True, env=self.environment())
        if done.returncode != 0:
            raise CommandFailed(f"{' '.join(command[:4])} failed:\n{done.stderr}")

    def _launch(self, command: Command, log: Path) -> None:
        self._running = Running([command], log, self.environment())

    def _finished(self) -> Cost:
        """Of the command, which ends by itself."""
        assert self._running is not None
        cost = self._running.wait()
        self._running = None
        return cost


class Ours(Follower):
    """This program: ``snapshot --follow`` makes the slot, ``stream setup`` the rest, ``follow`` is what is measured."""

    def __init__(self, servers: Servers, folder: Path, plugin: Plugin) -> None:
        super().__init__(servers, folder, f"{OURS}, {plugin}", f"bench_{plugin}")
        self.plugin = plugin
        self._placed = folder / self.slot
        self.workdir = self._placed

    def place(self) -> None:
        shutil.rmtree(self._placed, ignore_errors=True)
        names = ("--plugin", str(self.plugin), "--slot-name", self.slot, "--origin", self.slot)
        command = (*self._command("snapshot", self._placed), "--follow", *names)
        with Running([command], self.folder / "snapshot.log", self.environment()) as holder:
            wait_for(lambda: not holder.alive() or (self._placed / "snapshot").exists(), "making a slot")
            holder.tell(signal.SIGTERM)
            holder.wait()

    def prepare(self, scratch: Path, end: str | None) -> None:
        self.workdir = scratch / "work"
        shutil.copytree(self._placed, self.workdir)
        names = ("--slot-name", self.slot, "--origin", self.slot)
        self._run([*self._command("stream", self.workdir, "setup"), *names, "--endpos", end or "0/0"])
        self._run(self._command("stream", self.workdir, "sentinel", "set", "apply"))

    def start(self) -> None:
        self._launch(self._command("follow", self.workdir), self.workdir.with_suffix(".log"))

    def receive(self, end: str) -> Command:
        """What receives only."""
        return [*self._command("stream", self.workdir, "receive"), "--endpos", end]

    def finish(self, end: str) -> Cost:
        self._run(self._command("stream", self.workdir, "sentinel", "set", "endpos", end))
        return self._finished()

    def remove(self) -> None:
        super().remove()
        self._drop_origin()

    def _command(self, first: str, workdir: Path, *more: str) -> list[str]:
        return [str(_PROGRAM), first, *more, "--dir", str(workdir)]


class Native(Follower):
    """A subscription on a slot and a publication that were made before, and no copying."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        super().__init__(servers, folder, NATIVE, "bench_native")

    def place(self) -> None:
        # Not of all tables: the sentinel of this program's runs is not on the target.
        self._on_source(f"CREATE PUBLICATION {_PUBLICATION} FOR TABLES IN SCHEMA public")
        self._on_source("SELECT pg_create_logical_replication_slot(%s, 'pgoutput')", self.slot)

    def prepare(self, scratch: Path, end: str | None) -> None:
        """Nothing: the subscription does it all."""

    def start(self) -> None:
        with psycopg.connect(self.servers.target_dsn, autocommit=True) as target:
            target.execute(
                f"CREATE SUBSCRIPTION {self.slot} CONNECTION '{self.servers.source_dsn}' PUBLICATION {_PUBLICATION}"
                f" WITH (copy_data = false, create_slot = false, slot_name = '{self.slot}')".encode()
            )

    def durable(self, source: Connection, end: str) -> bool:
        rows = source.execute(
            "SELECT confirmed_flush_lsn >= %s::pg_lsn FROM pg_replication_slots WHERE slot_name = %s", (end, self.slot)
        ).fetchall()
        return rows == [(True,)]

    def finish(self, end: str) -> Cost:
        with psycopg.connect(self.servers.source_dsn, autocommit=True) as source:
            self.wait(lambda: self.durable(source, end), "the end position")
        return Cost()

    def remove(self) -> None:
        with (
            psycopg.connect(self.servers.target_dsn, autocommit=True) as target,
            suppress(psycopg.errors.UndefinedObject),
        ):
            target.execute(f"ALTER SUBSCRIPTION {self.slot} DISABLE".encode())
            target.execute(f"ALTER SUBSCRIPTION {self.slot} SET (slot_name = NONE)".encode())
            target.execute(f"DROP SUBSCRIPTION {self.slot}".encode())
        super().remove()


class TheCProgram(Follower):
    """pgcopydb 0.10 follows with wal2json, and is started on a slot, an origin and a sentinel that are there."""

    def __init__(self, servers: Servers, folder: Path) -> None:
        super().__init__(servers, folder, PEER, "bench_c")
        self._scratch = folder
        self._end = ""

    def place(self) -> None:
        self._on_source("SELECT pg_create_logical_replication_slot(%s, 'wal2json')", self.slot)

    def prepare(self, scratch: Path, end: str | None) -> None:
        self._scratch, self._end = scratch, end or ""
        with psycopg.connect(self.servers.source_dsn, autocommit=True) as source:
            row = source.execute(
                "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = %s", (self.slot,)
            ).fetchone()
            assert row is not None
            source.execute("DROP SCHEMA IF EXISTS pgcopydb CASCADE")
            source.execute("CREATE SCHEMA pgcopydb")
            source.execute(
                "CREATE TABLE pgcopydb.sentinel (startpos pg_lsn, endpos pg_lsn, apply bool, write_lsn pg_lsn,"
                " flush_lsn pg_lsn, replay_lsn pg_lsn)"
            )
            source.execute("INSERT INTO pgcopydb.sentinel VALUES (%s, '0/0', true, '0/0', '0/0', '0/0')", row)
        with psycopg.connect(self.servers.target_dsn, autocommit=True) as target:
            target.execute("SELECT pg_replication_origin_create(%s)", (self.slot,))
            target.execute("SELECT pg_replication_origin_advance(%s, %s)", (self.slot, row[0]))

    def start(self) -> None:
        names = ("--slot-name", self.slot, "--origin", self.slot, "--endpos", self._end)
        where = ("--dir", str(self._scratch / "work"), "--resume", "--not-consistent")
        self._launch([str(_C_PROGRAM), "follow", *where, *names], self._scratch / "follow.log")

    def durable(self, source: Connection, end: str) -> bool:
        assert self._running is not None
        return not self._running.alive() or super().durable(source, end)

    def finish(self, end: str) -> Cost:
        assert end == self._end, "it was told where to end when it was started"
        return self._finished()

    def remove(self) -> None:
        super().remove()
        self._drop_origin()


def usable_plugins(servers: Servers) -> dict[Plugin, str | None]:
    """Every plugin, and why the source cannot use it."""
    return {plugin: _missing(servers, plugin) for plugin in Plugin}


def _missing(servers: Servers, plugin: Plugin) -> str | None:
    with psycopg.connect(servers.source.dsn(DATABASE), autocommit=True) as source:
        try:
            source.execute("SELECT pg_create_logical_replication_slot('bench_probe', %s, temporary => true)", (plugin,))
        except psycopg.Error as exc:
            return f"{exc.diag.message_primary}: scripts/install-servers installs it"
    return None
