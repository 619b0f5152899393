"""``clone --follow``: the copy and the stream of changes as one run."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field

from pgcopydb.bootstrap.beside import PositionedSnapshot
from pgcopydb.bootstrap.foreign_keys import validated_beside
from pgcopydb.bootstrap.snapshot import offered_snapshot
from pgcopydb.cli import stages
from pgcopydb.daemon.progress import Progress
from pgcopydb.daemon.read_at import save_read_at
from pgcopydb.daemon.slot import StreamOptions, all_or_nothing, clean_up, make_ready, make_slot, temporary_slot
from pgcopydb.daemon.stream import Stream, find_stream
from pgcopydb.daemon.supervise import Supervisor
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import Name
from pgcopydb.postgres.replication import ReplicationSession
from pgcopydb.runtime.errors import PgcopydbError, StateError, Stopped
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.retry import persist
from pgcopydb.runtime.stop import StopMode

logger = logging.getLogger("pgcopydb.cli")


@dataclass(slots=True)
class Migration:
    """One run: ``begin`` before rows are read, ``finish`` when they are in."""

    following: stages.Following
    options: StreamOptions
    endpos: Lsn | None
    restore_jobs: int
    _stream: Stream | None = None
    _supervisor: Supervisor | None = None
    _session: ReplicationSession | None = field(default=None, repr=False)

    @contextmanager
    def running(self, *, restart: bool = False) -> Iterator[None]:
        """Hold the work directory; when the block is left no stage is running."""
        workdir = self.following.workdir
        workdir.create()
        with workdir.lock("follow"), self.following.service():
            if restart and find_stream(workdir) is not None:
                self._clean_up()
            try:
                yield
            except BaseException as error:
                self.following.stop.request(StopMode.GRACEFUL)
                self._close()
                if isinstance(error, Stopped) and self._supervisor is not None:
                    # A stage that gave up is why the copy was stopped.
                    self._supervisor.wait()
                raise
            finally:
                self._close()

    def begin(self) -> str | None:
        """Make the slot unless it is there, and begin to receive; the slot's snapshot when it is new."""
        following = self.following
        stream = find_stream(following.workdir)
        offered = offered_snapshot(following.workdir)
        copying = following.workdir.copy_began()
        if stream is not None and not copying and offered is None:
            logger.info("An earlier run made slot %s and copied nothing: beginning again", stream.slot)
            self._clean_up()
            stream = None
        if stream is None and copying:
            raise StateError(
                f"{following.workdir.top} has a copy but no slot: what has changed since that was made is not known",
                hint="After `stream cleanup` a migration is over, and nothing is left to do. To begin another one:"
                " --restart --drop-if-exists, or a --dir of its own.",
            )
        self._stream = stream = self._make() if stream is None else self._ready(stream)
        stages.set_endpos(following, self._stream, self.endpos)
        # An earlier run may have been interrupted while it caught up.
        stages.allow_apply(following, self._stream, apply=False)
        self._start()
        return None if self._session is None else stream.snapshot

    def snapshot_taken(self) -> None:
        """As long as the slot's session keeps its snapshot, the source cannot vacuum what that sees."""
        if self._session is not None:
            self._session.close()
            self._session = None

    @contextmanager
    def another_snapshot(self) -> Iterator[PositionedSnapshot]:
        """Of a temporary slot, which is gone when the block is left."""
        assert self._stream is not None  # noqa: S101  begin() sets it
        with temporary_slot(self.following.source, self._stream.plugin, self.following.stop) as slot:
            yield PositionedSnapshot(slot.snapshot, slot.consistent_point)

    @contextmanager
    def caught_up(self, read_at: Mapping[Name, Lsn]) -> Iterator[None]:
        """Apply up to the last of these positions; then hold what is needed to apply, so that nobody else can."""
        following, stream = self.following, self._stream
        assert stream is not None  # noqa: S101  begin() sets it
        position = max(read_at.values())
        save_read_at(following.workdir, read_at)
        failpoint("catch_up.after_note")
        logger.info(
            "%d tables were read later than the others: applying changes up to %s before foreign keys are made",
            len(read_at),
            position,
        )
        stages.apply_up_to(following, stream, position)
        failpoint("catch_up.after_apply")
        progress = Progress(stream.origin, stream.tracking)
        with ExitStack() as stack:

            def hold() -> None:
                connection = following.target.connect("constraints")
                try:
                    progress.begin_session(connection)
                except PgcopydbError:
                    connection.close()
                    raise
                stack.enter_context(connection)

            persist(hold, what="waiting until nothing is applied", stop=following.stop)
            following.stop.check()
            failpoint("catch_up.after_hold")
            yield

    def finish(self) -> None:
        """The copy is complete: apply what has happened since, and go on until the end position."""
        following = self.following
        if self._stream is None:
            self.begin()
        assert self._stream is not None  # noqa: S101  begin() sets both
        assert self._supervisor is not None  # noqa: S101
        failpoint("follow.after_copy")
        stages.allow_apply(following, self._stream, apply=True)
        logger.info("The copy is complete: applying changes")
        stages.warn_of_unfollowed(following, self._stream)
        with validated_beside(following.workdir, following.target, self.restore_jobs, following.stop):
            stages.wait(following, self._stream, self._supervisor)
            stages.finish(following, self._stream, self._supervisor, sequences=True)

    def _make(self) -> Stream:
        following = self.following
        source, target, workdir = following.source, following.target, following.workdir
        with all_or_nothing(source, target, workdir, self.options, self.endpos or Lsn()):
            stream, self._session = make_slot(source, workdir, self.options, following.stop)
            return self._ready(stream)

    def _ready(self, stream: Stream) -> Stream:
        following = self.following
        return make_ready(stream, following.source, following.target, following.workdir, self.endpos or Lsn())

    def _start(self) -> None:
        assert self._stream is not None  # noqa: S101  begin() sets it
        self._supervisor = self.following.supervisor(self._stream, stages.ALL)
        self._supervisor.start()

    def _clean_up(self) -> None:
        following = self.following
        clean_up(following.source, following.target, following.workdir, self.options.slot, self.options.origin)

    def _close(self) -> None:
        self.snapshot_taken()
        if self._supervisor is not None:
            self._supervisor.join()
