"""How much of each sort of work goes on at once, in a whole run: in all databases that it copies side by side.

A worker takes a slot for each job and gives it back behind it, so that nobody who waits is passed by: slots are granted
in the order in which they were asked for. Who asks for several waits for all of them, and holds up those behind. The
decision is taken in ``ask`` and ``give_back``, which never wait; ``taken`` is what waits. A job never asks for a slot
while it has one of the same sort. A run of one database has as many slots as workers: it never waits.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from pgcopydb.bootstrap.options import Jobs
from pgcopydb.runtime.stop import Stop

_POLL_SECONDS: Final = 0.2


class Ticket:
    """What was asked for. ``granted`` from the moment on in which the slots are its holder's."""

    def __init__(self, count: int) -> None:
        self.count = count
        self._granted = threading.Event()

    @property
    def granted(self) -> bool:
        return self._granted.is_set()

    def grant(self) -> None:
        self._granted.set()

    def wait(self, seconds: float) -> bool:
        return self._granted.wait(seconds)


class Slots:
    """A number of slots, and those who wait for one, in their order."""

    def __init__(self, total: int) -> None:
        self.total = total
        self._lock = threading.Lock()
        self._free = total
        self._waiting: deque[Ticket] = deque()

    def ask(self, count: int = 1) -> Ticket:
        """Get in line. ``count``: at most all there are."""
        ticket = Ticket(min(count, self.total))
        with self._lock:
            self._waiting.append(ticket)
            self._grant()
        return ticket

    def give_back(self, ticket: Ticket) -> None:
        """What was granted, or the place in the line."""
        with self._lock:
            if ticket.granted:
                self._free += ticket.count
            else:
                self._waiting.remove(ticket)
            self._grant()

    def _grant(self) -> None:
        while self._waiting and self._waiting[0].count <= self._free:
            ticket = self._waiting.popleft()
            self._free -= ticket.count
            ticket.grant()

    @contextmanager
    def taken(self, stop: Stop, count: int = 1) -> Iterator[None]:
        """Have slots for the length of the block. Raises ``Stopped`` when a stop is requested before."""
        ticket = self.ask(count)
        try:
            # The time-out only bounds how long a stop goes unnoticed by one who waits.
            while not ticket.wait(_POLL_SECONDS):
                stop.check()
            stop.check()
            yield
        finally:
            self.give_back(ticket)


@dataclass(frozen=True, slots=True)
class Budget:
    """The slots of a run. ``restore`` are jobs of pg_restore in post-data and foreign keys that are validated."""

    tables: Slots
    indexes: Slots
    vacuum: Slots
    large_objects: Slots
    matviews: Slots
    restore: Slots

    @classmethod
    def of(cls, jobs: Jobs) -> Budget:
        return cls(
            tables=Slots(jobs.tables),
            indexes=Slots(jobs.indexes),
            vacuum=Slots(jobs.tables),
            large_objects=Slots(jobs.large_objects),
            matviews=Slots(jobs.tables),
            restore=Slots(jobs.restore),
        )
