"""The stage that applies: waits until it may, then brings the target to where the source is, and keeps it there.

Reads the SQL files and the sentinel; writes the target, the sentinel's ``replay_lsn`` and ``apply.json``. What is true
when ``run_apply`` returns: everything up to the end position is on the target, durable.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from typing import Final

import orjson

from pgcopydb.apply.already_copied import AlreadyCopied
from pgcopydb.apply.conflicts import ConflictFile
from pgcopydb.apply.prune import check_not_behind, prune
from pgcopydb.apply.replay import ApplyMode, Counts, OnConflict, Replay
from pgcopydb.apply.sql_reader import SqlReader
from pgcopydb.daemon.control import REPORT_SECONDS, Reports, check_reached
from pgcopydb.daemon.heartbeat import BEAT_SECONDS, Heartbeat, Phase, heartbeat_of, told_how_it_ends
from pgcopydb.daemon.progress import IN_USE, Progress
from pgcopydb.daemon.read_at import load_read_at
from pgcopydb.daemon.requirements import may_be_replica
from pgcopydb.daemon.sentinel import Sentinel, SentinelRow
from pgcopydb.daemon.stream import Stream
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint, hang_up, unless_stopped
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.liveness import Liveness, backend_pid, end_lost
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.durable import write_atomic
from pgcopydb.runtime.errors import Kind, PgcopydbError, TargetError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.retry import persist
from pgcopydb.runtime.stop import Stop, StopMode
from pgcopydb.runtime.watch import FolderWatch, wait_for_any
from pgcopydb.runtime.workdir import InUse, WorkDir

logger = logging.getLogger(__name__)

SERVICE: Final = "apply"
_SETTINGS: Final = {"synchronous_commit": "off", "standard_conforming_strings": "on"}
REPLICA: Final = {"session_replication_role": "replica"}


@dataclass(slots=True)
class Stage:
    """One process's work. ``reached``: the end position is applied and durable."""

    target: Endpoint
    sentinel: Sentinel
    workdir: WorkDir
    stream: Stream
    stop: Stop
    on_conflict: OnConflict = OnConflict.ERROR
    mode: ApplyMode = ApplyMode.SERIAL
    keep_files: bool = False
    reached: bool = False
    endpos: Lsn = field(default_factory=Lsn)
    replayed: Lsn = field(default_factory=Lsn)
    counts: Counts = field(default_factory=Counts)
    heart: Heartbeat = field(init=False)
    _reports: Reports = field(default_factory=Reports)
    _pruned: int = -1

    def __post_init__(self) -> None:
        self.heart = heartbeat_of(self.workdir, SERVICE)

    def run(self) -> None:
        """Until the end position or a stop. Raises ``Kind.RETRY`` for a lost connection."""
        self.sentinel.listen()
        while not self.reached and self._may_begin():
            self._apply()

    def _apply(self) -> None:
        """Until that, or until applying is switched off: then no session is left that holds the target's progress."""
        copied = AlreadyCopied(load_read_at(self.workdir))
        reader = SqlReader(self.workdir.changes, self.stream.segment_size)
        try:
            with (
                FolderWatch(self.workdir.changes) as watch,
                unless_stopped(lambda: connect_for_apply(self.target), self.stop) as connection,
                self.stop.on_fast_stop(lambda: hang_up(connection)),
            ):
                progress = Progress(self.stream.origin, self.stream.tracking)
                replay = Replay(connection, progress, reader, self.on_conflict, self.mode, self.counts, copied)
                replay.keep_conflicts = ConflictFile(self.workdir.conflicts).add
                liveness = Liveness(self.target, backend_pid(connection))
                replay.beat = beat = self._beat_of(replay, liveness)
                reader.go_on = lambda: self._reads_on(beat)
                self._begin(replay, liveness)
                failpoint("replay.after_session")
                check_not_behind(self.workdir.changes, replay.position)
                logger.info("Applying changes from %s on", replay.position)
                self._loop(replay, watch)
        finally:
            reader.close()

    def _begin(self, replay: Replay, liveness: Liveness) -> None:
        try:
            replay.begin()
        except TargetError as error:
            if error.sqlstate == IN_USE:
                end_lost(self.target, SERVICE, liveness.pid)
            raise

    def _may_begin(self) -> bool:
        while not self.stop.mode:
            row = self._steered()
            if row.apply:
                return True
            self.heart.beat(Phase.WAITING, "the copy")
            wait_for_any([self.sentinel.fileno(), self.stop.fileno()], BEAT_SECONDS)
            self.sentinel.was_announced()
        return False

    def _beat_of(self, replay: Replay, liveness: Liveness) -> Callable[[str], None]:
        heard = time.monotonic()

        def beat(detail: str) -> None:
            nonlocal heard
            if detail:
                liveness.check(heard)
            else:
                heard = time.monotonic()
            self.heart.at(replay.position, replay.counts.transactions, replay.counts.rows, replay.committed)
            self.heart.beat(Phase.WAITING if detail else Phase.RUNNING, detail)

        return beat

    def _reads_on(self, beat: Callable[[str], None]) -> bool:
        """Asked between two blocks of a transaction, be it read for its end or to apply it."""
        beat("")
        if self.stop.mode is StopMode.FAST:
            self.stop.check()
        return not self.stop.mode

    def _loop(self, replay: Replay, watch: FolderWatch) -> None:
        while not self.stop.mode:
            watch.drain()
            if self.sentinel.was_announced() and not self._steered().apply:
                logger.info("Applying is switched off")
                break
            busy = self._step(replay)
            replay.beat("")
            if replay.reached:
                failpoint("replay.at_endpos")
                break
            # Whoever waits until all tables show one moment must hear of it, be it reached with a transaction or not.
            self._report(replay, urgent=self.replayed < replay.copied.latest <= replay.position)
            if not busy:
                self._wait(replay, watch)
        self._report(replay, urgent=True)
        self.reached = replay.reached
        self._write_result(replay)

    def _step(self, replay: Replay) -> bool:
        try:
            return replay.step(self.endpos)
        except PgcopydbError as error:
            if error.kind is not Kind.RETRY and replay.is_idle():
                # How far the target is, for whoever reads why it stopped there.
                with suppress(PgcopydbError):
                    self._report(replay, urgent=True)
            raise

    def _wait(self, replay: Replay, watch: FolderWatch) -> None:
        """For new lines, a change of the sentinel, a stop, the end of the target; or to report what was applied."""
        unreported = self._reports.transactions != replay.counts.transactions
        target = replay.connection.fileno()
        descriptors = [watch.fileno(), self.sentinel.fileno(), self.stop.fileno(), target]
        if target in wait_for_any(descriptors, REPORT_SECONDS if unreported else BEAT_SECONDS):
            # Taken away, or it would be readable for ever; it raises when the session is lost.
            with server_errors(Side.TARGET, "waiting for changes"):
                replay.connection.pgconn.consume_input()

    def _steered(self) -> SentinelRow:
        row = self.sentinel.read()
        self.endpos = row.endpos
        return row

    def _report(self, replay: Replay, *, urgent: bool) -> None:
        """What is durable, to whoever acknowledges it to the source."""
        now = time.monotonic()
        if not self._reports.due(now, replay.counts.transactions, replay.position, urgent=urgent):
            return
        self.replayed = replay.flush()
        self.sentinel.report_replayed(self.replayed)
        failpoint("replay.after_report")
        self._reports.told(now, replay.counts.transactions, replay.position)
        self._prune()

    def _prune(self) -> None:
        """When the target has come to another file."""
        if self.keep_files or self.replayed.value // self.stream.segment_size == self._pruned:
            return
        try:
            removed = prune(self.workdir, self.stream.segment_size, self.replayed, self.heart.beat)
        except InUse as error:
            logger.debug("Files are removed later: %s", error)
            return
        self._pruned = self.replayed.value // self.stream.segment_size
        if removed:
            logger.debug("Removed %d files of changes, the last one %s", len(removed), removed[-1].name)

    def _write_result(self, replay: Replay) -> None:
        result = {
            "reached": self.reached,
            "endpos": str(self.endpos),
            "replay_lsn": str(self.replayed),
            "last_commit": replay.committed,
            "finished": datetime.now(UTC).isoformat(),
            **asdict(self.counts),
        }
        write_atomic(self.workdir.apply_result, orjson.dumps(result) + b"\n")


def connect_for_apply(target: Endpoint) -> Connection:
    """A session whose triggers and foreign keys do not fire, where the role may have that."""
    connection = target.connect(SERVICE, settings=_SETTINGS)
    if may_be_replica(connection):
        with server_errors(Side.TARGET, "setting session_replication_role"):
            connection.execute("SET session_replication_role = 'replica'")
    return connection


def run_apply(stage: Stage) -> None:
    """Apply until the end position. Raises ``Stopped`` when a stop came before."""
    with (
        stage.workdir.lock(SERVICE),
        told_how_it_ends(stage.heart),
        stage.stop.on_fast_stop(stage.sentinel.hang_up),
    ):
        persist(stage.run, what="applying changes", stop=stage.stop, on_retry=stage.heart.retrying)
        check_reached(stage.reached)
    logger.info(
        "Everything up to %s is on the target: %d transactions, %d rows",
        stage.endpos,
        stage.counts.transactions,
        stage.counts.rows,
    )
