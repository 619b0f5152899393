"""Run a client program to its end, as a child that never outlives this process.

Reads the child's stderr line by line into the log (or into ``on_line``) and keeps the last error lines; its stdout is
discarded and its stdin is empty. When ``run_child`` returns the child has ended. A fast stop terminates it, and the
kernel does when this process is killed. Secrets go through ``environment`` alone: the argument list is visible to
every user of the machine. What an exit code means is left to the caller.
"""

from __future__ import annotations

import logging
import os
import re
import signal
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import IO, Final

from pgcopydb.runtime.errors import BinaryError
from pgcopydb.runtime.logs import NOTICE, STAGE_VARIABLE
from pgcopydb.runtime.stop import STOP_SIGNALS, Stop, StopMode

logger = logging.getLogger(__name__)

KEPT_LINES: Final = 100
"""Error lines that are kept: the first cause is among the last ones of a program that gives up."""

_KILL_AFTER_SECONDS: Final = 5.0
_LONGEST_LINE: Final = 1 << 16

_MANAGER: Final = ("NOTIFY_SOCKET", "WATCHDOG_")
"""What a service manager gives to the main process alone."""
_OURS: Final = ("PGCOPYDB_",)
"""What no other program has a use for, connection strings with passwords among it."""

# Programs of their own ask for the parent-death signal, because no Python may run between fork and exec in a process
# with threads. Not SIGKILL, so that what the server still does for them is cancelled: by pg_dump and pg_restore on
# SIGTERM, by a stage on SIGINT, which it obeys at once, where SIGTERM lets the transaction in hand end.
# A parent that died before the request is noticed by its pid.
_SETPRIV: Final = ("setpriv", "--pdeathsig")
_SHELL: Final = ("/bin/sh", "-c", '[ "$PPID" = "$0" ] && exec "$@"')

# Where there is no setpriv of util-linux. PR_SET_PDEATHSIG is 1. Python ignores SIGPIPE, and exec would hand that on.
_PYTHON: Final = """\
import ctypes, os, signal, sys
ctypes.CDLL(None).prctl(1, getattr(signal, "SIG" + sys.argv[1]))
if os.getppid() == int(sys.argv[2]):
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    os.execv(sys.argv[3], sys.argv[3:])
"""

_LEVEL: Final = re.compile(
    r"(?P<more>^\S+: (?:detail|hint):)|(?P<error>\b(?:error|fatal|panic):)|(?P<warning>\bwarning:)"
    r"|(?P<notice>\b(?:notice|info):)",
    re.IGNORECASE,
)
_PROGRAM: Final = re.compile(r"[\w.-]+: ")


@dataclass(frozen=True, slots=True)
class ChildResult:
    """How a child ended: its exit code (negative: the signal that ended it) and its last error lines."""

    returncode: int
    errors: list[str]


def run_child(
    argv: Sequence[str],
    *,
    environment: Mapping[str, str],
    stop: Stop,
    what: str,
    on_line: Callable[[str], None] | None = None,
) -> ChildResult:
    """Run ``argv`` (its first item is a path) and wait for its end.

    ``what`` says in an error what the program was for. ``on_line`` gets every line of stderr in place of the log.
    Raises ``Stopped`` when a fast stop ended the child, and ``BinaryError`` when there is no such program.
    """
    stop.check()
    if not os.access(argv[0], os.X_OK):
        raise BinaryError(f"{what}: {argv[0]} is not a program that this user can run")
    reader = _Reader(on_line)
    with _start(argv, environment) as process:
        assert process.stderr is not None  # noqa: S101  it is a pipe
        try:
            with stop.on_fast_stop(lambda: _terminate(process)):
                reader.read(process.stderr)
                returncode = process.wait()
        except BaseException:
            process.kill()
            raise
    if stop.mode is StopMode.FAST:
        stop.check()
    logger.debug("%s: %s ended with exit code %d", what, Path(argv[0]).name, returncode)
    return ChildResult(returncode, list(reader.errors))


def start_stage(arguments: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start this program again with other arguments, as a child that logs where this process does.

    The thread that calls has to live as long as the child: the kernel ends the child with it.
    """
    command = (sys.executable, "-m", "pgcopydb.cli", *arguments)
    # The child inherits the mask: what is sent while it is loading waits until it has handlers (``stop_on_signals``).
    before = signal.pthread_sigmask(signal.SIG_BLOCK, STOP_SIGNALS)
    try:
        return subprocess.Popen(
            [*_launcher("INT"), str(os.getpid()), *command],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            env={**_without(environment, _MANAGER), STAGE_VARIABLE: "1"},
            process_group=0,
        )
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _start(argv: Sequence[str], environment: Mapping[str, str]) -> subprocess.Popen[bytes]:
    english = {**_without(environment, (*_MANAGER, *_OURS)), "LC_ALL": "C", "LANGUAGE": ""}
    return subprocess.Popen(
        [*_launcher("TERM"), str(os.getpid()), *argv],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env=english,
        # Ctrl-C in a terminal reaches this process alone, which then decides.
        process_group=0,
    )


def _without(environment: Mapping[str, str], prefixes: tuple[str, ...]) -> dict[str, str]:
    return {name: value for name, value in environment.items() if not name.startswith(prefixes)}


@cache
def _launcher(death: str) -> tuple[str, ...]:
    """What goes before this process's pid and a command line. ``death``: the signal when this process dies."""
    try:
        subprocess.run([*_SETPRIV, death, "/bin/true"], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        return (sys.executable, "-I", "-S", "-c", _PYTHON, death)
    return (*_SETPRIV, death, *_SHELL)


def _terminate(process: subprocess.Popen[bytes]) -> None:
    process.terminate()
    timer = threading.Timer(_KILL_AFTER_SECONDS, process.kill)
    timer.daemon = True
    timer.start()


class _Reader:
    """Lines of stderr into the log, at the level that the program gave them."""

    def __init__(self, on_line: Callable[[str], None] | None) -> None:
        self.errors: deque[str] = deque(maxlen=KEPT_LINES)
        self._on_line = on_line
        self._level = logging.DEBUG

    def read(self, stream: IO[bytes]) -> None:
        while raw := stream.readline(_LONGEST_LINE):
            line = raw.decode("utf-8", "replace").rstrip("\r\n")
            self._level = level_of_line(line, self._level)
            if self._level == logging.ERROR:
                self.errors.append(line)
            if self._on_line is not None:
                self._on_line(line)
            elif line:
                logger.log(self._level, "%s", line)


def level_of_line(line: str, before: int) -> int:
    """The severity of a line of a client program; a line that continues a message has that of the line ``before``."""
    match = _LEVEL.search(line)
    if match is None:
        return logging.DEBUG if _PROGRAM.match(line) else before
    if match["more"]:
        return before
    if match["error"]:
        return logging.ERROR
    return logging.WARNING if match["warning"] else NOTICE
