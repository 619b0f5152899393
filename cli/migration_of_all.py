"""``clone --all-databases --follow``: a stream for each database, told of as one service."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from pgcopydb.cli.migration import Migration
from pgcopydb.cli.stages import Following
from pgcopydb.daemon.service import Teller
from pgcopydb.daemon.slot import StreamOptions, clean_up
from pgcopydb.daemon.stream import find_stream
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import PgcopydbError
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger("pgcopydb.cli")


@dataclass(slots=True)
class MigrationOfAll:
    """``following``: what a stream's parts are made of, by the database and its stop."""

    workdir: WorkDir
    options: StreamOptions
    endpos: Lsn | None
    restore_jobs: int
    following: Callable[[str, Stop, Teller], Following]
    stop: Stop
    teller: Teller = field(init=False)

    def __post_init__(self) -> None:
        self.teller = Teller(self.stop, expected=None)

    @contextmanager
    def running(self, source: ConnInfo, target: ConnInfo, *, restart: bool) -> Iterator[None]:
        """Hold the work directory, and tell the service manager how all are."""
        self.workdir.create()
        with self.workdir.lock("follow"), self.teller.running():
            if restart:
                self._discard(source, target)
            yield

    def expect(self, databases: Sequence[str]) -> None:
        """Of the run that has begun: the service is ready when changes of all of them come."""
        self.teller.expected = len(databases)

    def of(self, database: str, stop: Stop) -> Migration:
        """The stream of one database."""
        following = self.following(database, stop, self.teller)
        return Migration(following, self.options.of_database(database), self.endpos, self.restore_jobs)

    def _discard(self, source: ConnInfo, target: ConnInfo) -> None:
        """What an earlier run has left on the servers, also for databases that this one does not copy."""
        for database, workdir in self.workdir.databases():
            stream = find_stream(workdir)
            if stream is None:
                continue
            one, other = (Endpoint(info.of_database(database), workdir.mark) for info in (source, target))
            try:
                clean_up(one, other, workdir, stream.slot, stream.origin)
            except PgcopydbError as error:
                logger.warning("%s: what an earlier run left cannot be removed: %s", database, error)
