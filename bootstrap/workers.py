"""Worker threads fed from a queue, largest job first.

A worker opens its session (its connections) when the first job comes and keeps it. A job whose connection died goes
back to the queue; any other error is recorded and the next job is taken, unless the run is to fail fast. After either
the session is opened anew. What a job means, and what is marked done of it, is the business of the ``work`` function.
"""

from __future__ import annotations

import heapq
import logging
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass, field
from typing import Final, Generic, Protocol, TypeVar

from pgcopydb.bootstrap.budget import Slots
from pgcopydb.runtime.errors import Kind, PgcopydbError
from pgcopydb.runtime.logs import in_this_context
from pgcopydb.runtime.stop import Stop, StopMode

logger = logging.getLogger(__name__)

MAX_ATTEMPTS: Final = 5
"""How often one job may lose its connection: a job that kills its backend each time must not be tried for ever."""


class Session(Protocol):
    """What a worker keeps open between jobs."""

    def cancel(self) -> None:
        """Unblock whatever the session waits for; called from another thread."""

    def close(self) -> None:
        """Give the connections back."""


S = TypeVar("S", bound=Session)
J = TypeVar("J")


@dataclass(frozen=True, slots=True)
class Failure:
    """One object that could not be done."""

    what: str
    error: PgcopydbError


class Failures:
    """Errors of all workers of a run, in the order in which they came. ``level``: how loudly they are reported."""

    def __init__(self, stop: Stop, *, fail_fast: bool, level: int = logging.ERROR) -> None:
        self._stop = stop
        self._fail_fast = fail_fast
        self._level = level
        self._lock = threading.Lock()
        self._list: list[Failure] = []
        self._ended_by: Failure | None = None

    def add(self, what: str, error: PgcopydbError) -> None:
        """Record and report; ends the run when it is to fail fast."""
        if self._fail_fast:
            self.abort(what, error)
        else:
            self._record(what, error)

    def abort(self, what: str, error: PgcopydbError) -> None:
        """Record an error that makes going on pointless, and stop every worker."""
        failure = self._record(what, error)
        with self._lock:
            self._ended_by = self._ended_by or failure
        self._stop.request(StopMode.FAST)

    def _record(self, what: str, error: PgcopydbError) -> Failure:
        logger.log(self._level, "%s: %s", what, error)
        if error.hint:
            logger.log(self._level, "hint: %s", error.hint)
        with self._lock:
            self._list.append(Failure(what, error))
            return self._list[-1]

    @property
    def ended_by(self) -> Failure | None:
        """What made the run end before it was complete."""
        return self._ended_by

    @property
    def all(self) -> list[Failure]:
        with self._lock:
            return list(self._list)


@dataclass(order=True, slots=True)
class _Entry(Generic[J]):
    rank: tuple[int, int]
    job: J = field(compare=False)
    attempts: int = field(compare=False, default=0)


class WorkerPool(Generic[S, J]):
    """``size`` threads that run ``work(session, job)``. ``submit`` may be called by other pools' workers.

    ``slots``: those of all pools that do the same sort of work; each job takes one.
    """

    def __init__(
        self,
        name: str,
        size: int,
        *,
        open_session: Callable[[str], S],
        work: Callable[[S, J], None],
        describe: Callable[[J], str],
        failures: Failures,
        stop: Stop,
        slots: Slots | None = None,
    ) -> None:
        self._slots = slots or Slots(size)
        self._open_session = open_session
        self._work = work
        self._describe = describe
        self._failures = failures
        self._stop = stop
        self._wakeup = threading.Condition()
        self._heap: list[_Entry[J]] = []
        self._sequence = 0
        self._running = 0
        self._closed = False
        self._executor = ThreadPoolExecutor(max_workers=size, thread_name_prefix=name)
        self._futures: list[Future[None]] = []
        for number in range(1, size + 1):
            future = self._executor.submit(in_this_context(self._serve), f"{name}-{number}")
            future.add_done_callback(self._on_worker_end)
            self._futures.append(future)

    def submit(self, job: J, *, cost: int = 0) -> None:
        """Queue a job; the one with the highest cost is taken first."""
        with self._wakeup:
            self._sequence += 1
            heapq.heappush(self._heap, _Entry((-cost, self._sequence), job))
            self._wakeup.notify()

    def drain(self) -> None:
        """Say that no job will come any more, and wait until all are done or a stop is requested.

        An error of a worker that is not a ``PgcopydbError`` is a defect and is raised here.
        """
        with self._wakeup:
            self._closed = True
            self._wakeup.notify_all()
        with self._stop.on_fast_stop(self._wake):
            for future in self._futures:
                future.result()
        self._executor.shutdown()

    def _wake(self) -> None:
        with self._wakeup:
            self._wakeup.notify_all()

    def _on_worker_end(self, future: Future[None]) -> None:
        if future.exception() is not None:
            self._stop.request(StopMode.FAST)

    def _next(self) -> _Entry[J] | None:
        with self._wakeup:
            while True:
                if self._stop.mode is not StopMode.RUN:
                    return None
                if self._heap:
                    self._running += 1
                    return heapq.heappop(self._heap)
                if self._closed and self._running == 0:
                    self._wakeup.notify_all()
                    return None
                # The time-out only bounds how long a graceful stop goes unnoticed by an idle worker.
                self._wakeup.wait(0.5)

    def _finished(self, again: _Entry[J] | None = None) -> None:
        with self._wakeup:
            self._running -= 1
            if again is not None:
                heapq.heappush(self._heap, again)
            self._wakeup.notify_all()

    def _serve(self, worker: str) -> None:
        threading.current_thread().name = worker
        entry = self._next()
        while entry is not None:
            entry = self._serve_session(worker, entry)

    def _serve_session(self, worker: str, entry: _Entry[J]) -> _Entry[J] | None:
        """Run jobs on one session until it dies or nothing is left; the next job for a new session."""
        try:
            session = self._open_session(worker)
        except PgcopydbError as error:
            self._finished()
            if error.kind is not Kind.STOPPED and self._stop.mode is not StopMode.FAST:
                self._failures.abort(f"{worker}: {self._describe(entry.job)}", error)
            return None
        with closing(session), self._stop.on_fast_stop(session.cancel):
            current: _Entry[J] | None = entry
            done = True
            while current is not None and done:
                done = self._run(session, current)
                current = self._next() if done else None
        return None if done else self._next()

    def _run(self, session: S, entry: _Entry[J]) -> bool:
        """False when the job failed: what it left of the session is not worth finding out."""
        again: _Entry[J] | None = None
        try:
            with self._slots.taken(self._stop):
                self._work(session, entry.job)
        except PgcopydbError as error:
            again = self._judge(entry, error)
            return False
        finally:
            self._finished(again)
        return True

    def _judge(self, entry: _Entry[J], error: PgcopydbError) -> _Entry[J] | None:
        """The same entry when it has to be done again; otherwise its error is recorded."""
        if error.kind is Kind.STOPPED or self._stop.mode is StopMode.FAST:
            return None
        entry.attempts += 1
        what = self._describe(entry.job)
        if error.kind is Kind.RETRY and entry.attempts < MAX_ATTEMPTS:
            logger.warning("%s: attempt %d failed, back to the queue: %s", what, entry.attempts, error)
            return entry
        # A server that does not stay up for one job will not stay up for the others.
        (self._failures.abort if error.kind is Kind.RETRY else self._failures.add)(what, error)
        return None
