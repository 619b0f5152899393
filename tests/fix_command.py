"""Fixtures: the installed ``pgcopydb`` command as a child process, and a work directory for it."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.wait import PATIENCE

PROGRAM = Path(sys.executable).parent / "pgcopydb"


@dataclass
class Command:
    """Runs ``pgcopydb`` without the PGCOPYDB_* and PG* variables of whoever runs the tests."""

    folder: Path
    _started: dict[int, tuple[subprocess.Popen[bytes], Path]] = field(default_factory=dict)

    def run(
        self,
        *args: str | os.PathLike[str],
        env: Mapping[str, str] | None = None,
        timeout: float = 120,
        check: bool = True,
    ) -> subprocess.CompletedProcess[str]:
        """Run to the end. ``check`` fails the test, with all that the command wrote, unless it exits with 0."""
        try:
            done = subprocess.run(
                [PROGRAM, *args],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                text=True,
                env=_environment(env),
                timeout=timeout * PATIENCE,
            )
        except subprocess.TimeoutExpired as exc:
            stderr = exc.stderr.decode(errors="replace") if isinstance(exc.stderr, bytes) else exc.stderr
            pytest.fail(f"{_shown(args)} did not end within {timeout * PATIENCE:g} seconds:\n{stderr}")
        if check and done.returncode != 0:
            pytest.fail(f"{_shown(args)} exited with {done.returncode}:\n{done.stdout}{done.stderr}")
        return done

    def start(self, *args: str | os.PathLike[str], env: Mapping[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own, its output in a file; killed when the test ends."""
        log = self.folder / f"pgcopydb-{len(self._started) + 1}.log"
        with log.open("wb") as output:
            process = subprocess.Popen(
                [PROGRAM, *args],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env=_environment(env),
                start_new_session=True,
            )
        self._started[process.pid] = (process, log)
        return process

    def log_of(self, process: subprocess.Popen[bytes]) -> str:
        """What a started command has written so far."""
        return self._started[process.pid][1].read_text(encoding="utf-8", errors="replace")

    def close(self) -> None:
        for process, _ in self._started.values():
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()


@pytest.fixture
def pgcopydb(tmp_path: Path) -> Iterator[Command]:
    command = Command(tmp_path)
    yield command
    command.close()


@pytest.fixture
def workdir_path(tmp_path: Path) -> Path:
    """Where a command may make its work directory; it is not there yet."""
    return tmp_path / "work"


def without_own_variables() -> dict[str, str]:
    """The environment of whoever runs the tests, without what would speak to the program."""
    return {name: value for name, value in os.environ.items() if not name.startswith(("PGCOPYDB_", "PG"))}


def _environment(extra: Mapping[str, str] | None) -> dict[str, str]:
    return {**without_own_variables(), **(extra or {})}


def _shown(args: tuple[str | os.PathLike[str], ...]) -> str:
    return " ".join(["pgcopydb", *(os.fspath(arg) for arg in args)])
