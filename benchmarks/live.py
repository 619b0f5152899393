"""How late a commit is on the target while the source is followed live: a row is updated there and looked for here."""

from __future__ import annotations

import subprocess
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Final

import psycopg

from benchmarks.followers import Connection, Follower
from benchmarks.measure import Cost
from benchmarks.results import Run
from benchmarks.servers import program_environment

_WARM_UP: Final = 20
_APART: Final = 0.05
_PATIENCE: Final = 1.0
_HEARTBEAT: Final = 0.1
_LOOK: Final = 0.005

_WRITE: Final = "UPDATE probe SET n = %s WHERE id = 1"
_READ: Final = "SELECT n FROM probe WHERE id = 1"


def measure_latency(follower: Follower, commits: int) -> Run:
    """One commit at a time; each is waited for on the target before the next one."""
    servers = follower.servers
    samples: list[tuple[float, float]] = []
    with (
        psycopg.connect(servers.source_dsn, autocommit=True) as source,
        psycopg.connect(servers.target_dsn, autocommit=True) as target,
    ):
        began = time.perf_counter()
        for number in range(1, _WARM_UP + commits + 1):
            source.execute(_WRITE, (number,))
            committed = time.perf_counter()
            _until_seen(follower, target, number)
            seen = time.perf_counter()
            if number > _WARM_UP:
                samples.append((committed - began, seen - committed))
            time.sleep(_APART)
        wall = time.perf_counter() - began
    return Run(follower.name, 0, Cost(wall), samples=samples)


def _until_seen(follower: Follower, target: Connection, number: int) -> None:
    """Without a pause for a second, and then with."""
    deadline = time.monotonic() + _PATIENCE
    while _read(target) < number:
        if time.monotonic() > deadline:
            follower.wait(lambda: _read(target) >= number, f"commit {number} to be on the target")
            return


def _read(target: Connection) -> int:
    row = target.execute(_READ).fetchone()
    assert row is not None
    return int(row[0])


def measure_lag(follower: Follower, rate: int, clients: int, seconds: int) -> Run:
    """pgbench at this rate, and beside it a heartbeat that is looked for on the target."""
    servers = follower.servers
    program = [str(servers.bin_dir / "pgbench"), "-n", "-c", str(clients), "-R", str(rate), "-T", str(seconds)]
    heart = _Heart(follower)
    began = time.perf_counter()
    beating = (thread := ThreadPoolExecutor(1, thread_name_prefix="heartbeat")).submit(heart.beat)
    try:
        done = subprocess.run(
            [*program, servers.source_dsn],
            check=True,
            capture_output=True,
            text=True,
            env=program_environment(servers.bin_dir),
        )
    finally:
        ended = time.perf_counter()
        heart.stop.set()
        thread.shutdown()
    beating.result()
    caught_up = heart.watch_the_rest()
    tps = float(done.stdout.rpartition("tps = ")[2].split()[0])
    figures = {"tps": tps, "caught up after": max(0.0, caught_up - ended)}
    samples = [(at - began, lag) for at, lag in heart.lags]
    return Run(follower.name, 0, Cost(ended - began), figures=figures, samples=samples)


@dataclass
class _Heart:
    """Commits a number on the source at each beat, and looks for it on the target between the beats."""

    follower: Follower
    stop: threading.Event = field(default_factory=threading.Event)
    lags: list[tuple[float, float]] = field(default_factory=list)
    """When each beat was committed, and how much later it was seen."""
    _waiting: list[tuple[int, float]] = field(default_factory=list)
    _last: float = 0.0

    def beat(self) -> None:
        servers = self.follower.servers
        with (
            psycopg.connect(servers.source_dsn, autocommit=True) as source,
            psycopg.connect(servers.target_dsn, autocommit=True) as target,
        ):
            number, due = 0, time.perf_counter()
            while not self.stop.is_set():
                if time.perf_counter() >= due:
                    number, due = number + 1, due + _HEARTBEAT
                    source.execute(_WRITE, (number,))
                    self._waiting.append((number, time.perf_counter()))
                self._look(target)
                time.sleep(_LOOK)

    def watch_the_rest(self) -> float:
        """When the last beat was seen."""
        with psycopg.connect(self.follower.servers.target_dsn, autocommit=True) as target:
            self.follower.wait(lambda: self._look(target), "the target to catch up after the load")
        return self._last

    def _look(self, target: Connection) -> bool:
        """Whether every beat has been seen."""
        if self._waiting:
            number = _read(target)
            self._last = now = time.perf_counter()
            while self._waiting and self._waiting[0][0] <= number:
                _, committed = self._waiting.pop(0)
                self.lags.append((committed, now - committed))
        return not self._waiting
