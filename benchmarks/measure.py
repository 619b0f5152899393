"""Runs programs and says what they cost: wall time, the CPU time of the whole process tree, and its peak memory.

Every program starts in its own session: some of the measured tools signal their process group when they fail. When
``measure`` returns or raises, and when a ``Running`` is left, every program that it started has ended.
CPU time is the kernel's account of a process and of all descendants that were waited for. Memory is sampled: a peak
shorter than ``SAMPLE_SECONDS`` can be missed.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Self

SAMPLE_SECONDS: Final = 0.05

_SERVER_TOOLS: Final = frozenset({b"pg_dump", b"pg_restore", b"psql", b"vacuumdb"})
"""PostgreSQL's own client programs: what they take is told apart from what the program that starts them takes."""

Command = Sequence[str]


class CommandFailed(Exception):
    """A measured program ended with an error; the message holds the end of what it said."""


class TookTooLong(CommandFailed):
    """It did not do in time what was waited for."""


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes. PSS counts a page that n processes share as 1/n for each: the sum over a tree is what the tree takes."""

    rss: int = 0
    pss: int = 0

    def __add__(self, other: Memory) -> Memory:
        return Memory(self.rss + other.rss, self.pss + other.pss)

    def peak(self, other: Memory) -> Memory:
        return Memory(max(self.rss, other.rss), max(self.pss, other.pss))


@dataclass(frozen=True, slots=True)
class Cost:
    """What one or several programs took. ``own`` leaves PostgreSQL's client programs out of the tree."""

    wall: float = 0.0
    cpu: float = 0.0
    own: Memory = field(default_factory=Memory)
    tree: Memory = field(default_factory=Memory)

    def then(self, other: Cost) -> Cost:
        """The cost of this and, after it, the other."""
        return Cost(self.wall + other.wall, self.cpu + other.cpu, self.own.peak(other.own), self.tree.peak(other.tree))


class Running:
    """Programs that were started at the same time, and are watched until the block is left: none of them is then left.

    What they print goes to ``log``.
    """

    def __init__(self, commands: Sequence[Command], log: Path, environment: Mapping[str, str]) -> None:
        self._log = log
        self._started = time.perf_counter()
        self._cpu = 0.0
        self._processes: dict[int, subprocess.Popen[bytes]] = {}
        try:
            with log.open("ab") as output:
                for command in commands:
                    process = subprocess.Popen(
                        command,
                        stdin=subprocess.DEVNULL,
                        stdout=output,
                        stderr=output,
                        env=environment,
                        start_new_session=True,
                    )
                    self._processes[process.pid] = process
            self._sampler = _Sampler(frozenset(self._processes))
        except BaseException:
            self._kill()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Kill what still runs."""
        self._kill()
        self._sampler.stop()

    def alive(self) -> bool:
        """False when all have ended. Raises ``CommandFailed`` when one ended with an error."""
        for process in list(self._processes.values()):
            self._reap(process, os.WNOHANG)
        return bool(self._processes)

    def tell(self, number: signal.Signals) -> None:
        """Send a signal to those that run."""
        for process in self._processes.values():
            process.send_signal(number)

    def wait(self) -> Cost:
        """Until all have ended. Raises ``CommandFailed`` when one ended with an error."""
        while self._processes:
            self._reap(next(iter(self._processes.values())), 0)
        wall = time.perf_counter() - self._started
        self._sampler.stop()
        return Cost(wall, self._cpu, self._sampler.own, self._sampler.tree)

    def said(self) -> str:
        """The last lines of the log."""
        return _last_lines(self._log)

    def _reap(self, process: subprocess.Popen[bytes], options: int) -> None:
        pid, status, usage = os.wait4(process.pid, options)
        if pid == 0:
            return
        del self._processes[pid]
        process.returncode = os.waitstatus_to_exitcode(status)
        self._cpu += usage.ru_utime + usage.ru_stime
        if process.returncode != 0:
            raise CommandFailed(_describe(process, self._log))

    def _kill(self) -> None:
        for process in self._processes.values():
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        self._processes.clear()


def measure(commands: Sequence[Command], log: Path, environment: Mapping[str, str]) -> Cost:
    """Run these commands at the same time and wait for all. What they print goes to ``log``."""
    with Running(commands, log, environment) as running:
        return running.wait()


@contextmanager
def scratch_folder() -> Iterator[Path]:
    """For the files of one run."""
    folder = Path(tempfile.mkdtemp(prefix="benchmark-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder)


def _describe(process: subprocess.Popen[bytes], log: Path) -> str:
    assert isinstance(process.args, Sequence)
    return f"{Path(str(process.args[0])).name} ended with exit code {process.returncode}:\n{_last_lines(log)}"


def _last_lines(log: Path) -> str:
    return "\n".join(log.read_text(encoding="utf-8", errors="replace").splitlines()[-15:])


class _Sampler:
    """Looks at the process trees below these pids until it is stopped; keeps the highest sums that it saw."""

    def __init__(self, roots: frozenset[int]) -> None:
        self.own = Memory()
        self.tree = Memory()
        self._members = set(roots)
        self._roots = roots
        self._others: set[int] = set()
        self._finished = threading.Event()
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="memory sampler")
        self._sampling = self._thread.submit(self._sample)

    def stop(self) -> None:
        self._finished.set()
        self._thread.shutdown()
        # Raises what ended the sampling: a peak of half the run would look like any other.
        self._sampling.result()

    def _sample(self) -> None:
        while not self._finished.wait(SAMPLE_SECONDS):
            own = tree = Memory()
            for pid in self._members:
                memory = _memory(pid)
                tree += memory
                own += Memory() if _read(f"/proc/{pid}/comm").strip() in _SERVER_TOOLS else memory
            self.own = self.own.peak(own)
            self.tree = self.tree.peak(tree)
            # For the next sample: until a child executes its program it shows its parent's memory as its own.
            self._find_members()

    def _find_members(self) -> None:
        """Only processes that were not there the last time are looked at: reading all of them takes a tenth of a core,
        and a process never joins another one's descendants."""
        present = {int(name) for name in os.listdir("/proc") if name.isdigit()}  # noqa: PTH208  as below
        self._members &= present
        self._others &= present
        for pid in sorted(present - self._members - self._others):
            # The name, in brackets, may hold anything; then come state, parent, group, session.
            fields = _read(f"/proc/{pid}/stat").rpartition(b")")[2].split(maxsplit=4)
            descends = len(fields) > 3 and (int(fields[1]) in self._members or int(fields[3]) in self._roots)
            (self._members if descends else self._others).add(pid)


def _memory(pid: int) -> Memory:
    """Zero for a process that has just ended."""
    lines = _read(f"/proc/{pid}/smaps_rollup").splitlines()
    sizes = {line.split()[0]: int(line.split()[1]) * 1024 for line in lines[1:5]}
    return Memory(sizes.get(b"Rss:", 0), sizes.get(b"Pss:", 0))


def _read(path: str) -> bytes:
    """What a file in /proc says; nothing once its process has ended."""
    try:
        with open(path, "rb", buffering=0) as file:  # noqa: PTH123  a Path costs more than the reading
            return file.read(4096)
    except (FileNotFoundError, ProcessLookupError):
        return b""
