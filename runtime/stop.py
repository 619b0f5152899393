"""Signals become one object that loops ask and sleep on.

SIGTERM: finish the work in hand and stop. SIGINT: cancel the work in hand and stop; a second one exits at once.
SIGQUIT: exit immediately. SIGHUP is noted, and does not end a migration whose terminal is gone. Nothing here decides
what stopping means for a stage: a loop asks ``mode`` or waits, and whoever blocks in a system call registers a listener
that unblocks it.
"""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import IntEnum
from types import FrameType
from typing import Final

from pgcopydb.runtime.errors import ExitCode, Stopped

STOP_SIGNALS: Final = frozenset({signal.SIGTERM, signal.SIGINT, signal.SIGQUIT})


class StopMode(IntEnum):
    RUN = 0
    GRACEFUL = 1
    FAST = 2


class Stop:
    """A request to stop, shared by all threads of a process. It only ever becomes more urgent."""

    def __init__(self) -> None:
        # Re-entrant: a listener may make a request of its own.
        self._lock = threading.RLock()
        self._requested = threading.Event()
        self._mode = StopMode.RUN
        self._listeners: dict[int, Callable[[], None]] = {}
        self._next_listener = 0
        self._parts: list[Stop] = []
        self._descriptor = -1
        self._hung_up = False

    @property
    def mode(self) -> StopMode:
        return self._mode

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)

    def fileno(self) -> int:
        """Readable from the first request on: for loops that wait in ``poll``."""
        with self._lock:
            if self._descriptor < 0:
                self._descriptor = os.eventfd(int(self._mode is not StopMode.RUN), os.EFD_CLOEXEC)
            return self._descriptor

    def request(self, mode: StopMode) -> None:
        with self._lock:
            if mode <= self._mode:
                return
            self._mode = mode
            if self._descriptor >= 0:
                os.eventfd_write(self._descriptor, 1)
            listeners = list(self._listeners.values()) if mode is StopMode.FAST else []
            parts = list(self._parts)
        self._requested.set()
        for part in parts:
            part.request(mode)
        # Side by side: one that waits for a server that is gone must not hold up the others.
        for listener in listeners:
            threading.Thread(target=listener, daemon=True).start()

    def note_hangup(self) -> None:
        self._hung_up = True

    def take_hangup(self) -> bool:
        """Whether a SIGHUP has come since the last call."""
        hung_up, self._hung_up = self._hung_up, False
        return hung_up

    def wait(self, seconds: float) -> bool:
        """Sleep until a stop is requested or the time is over; true when a stop is requested."""
        return self._requested.wait(seconds)

    def check(self) -> None:
        """Raise ``Stopped`` when a stop is requested."""
        if self._mode is not StopMode.RUN:
            raise Stopped("stopped on request before the work was complete", hint="Continue with --resume.")

    @contextmanager
    def part(self) -> Iterator[Stop]:
        """A stop for a part of the work: it is requested with this one, and may be requested alone."""
        part = Stop()
        with self._lock:
            self._parts.append(part)
            mode = self._mode
        part.request(mode)
        try:
            yield part
        finally:
            with self._lock:
                self._parts.remove(part)

    @contextmanager
    def on_fast_stop(self, listener: Callable[[], None]) -> Iterator[None]:
        """Call ``listener`` (from any thread) if a fast stop is requested during the block, or already has been."""
        with self._lock:
            key = self._next_listener
            self._next_listener += 1
            self._listeners[key] = listener
            already = self._mode is StopMode.FAST
        try:
            if already:
                listener()
            yield
        finally:
            with self._lock:
                del self._listeners[key]


@contextmanager
def stop_on_signals() -> Iterator[Stop]:
    """Route TERM, INT, QUIT and HUP to a ``Stop`` for the length of the block. Main thread only.

    Python runs a handler in the main thread between two instructions; a signal that comes just before that thread
    blocks, or to another thread, would wait for as long as it is blocked. The number is written to a pipe at once
    (https://docs.python.org/3/library/signal.html#signal.set_wakeup_fd), which a thread reads.
    """
    stop = Stop()
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    listener = threading.Thread(target=_heed, args=(reading, stop), name="signals", daemon=True)
    listener.start()
    wakeup_before = signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    handlers_before = {signum: signal.signal(signum, _leave_to_listener) for signum in {*STOP_SIGNALS, signal.SIGHUP}}
    # A stage is started with these blocked.
    signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
    try:
        yield stop
    finally:
        for signum, handler in handlers_before.items():
            signal.signal(signum, handler)
        signal.set_wakeup_fd(wakeup_before)
        os.close(writing)
        listener.join()
        os.close(reading)


def _leave_to_listener(_signum: int, _frame: FrameType | None) -> None:
    pass


def _heed(descriptor: int, stop: Stop) -> None:
    """Each signal whose number comes through a pipe, until that is closed."""
    while number := os.read(descriptor, 1):
        match number[0]:
            case signal.SIGTERM:
                stop.request(StopMode.GRACEFUL)
            case signal.SIGINT if stop.mode is not StopMode.FAST:
                stop.request(StopMode.FAST)
            case signal.SIGHUP:
                stop.note_hangup()
            case _:
                os._exit(ExitCode.INTERNAL_ERROR)
