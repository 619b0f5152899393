"""The stages of following changes, as the commands of this program start them and put them together."""

from __future__ import annotations

import logging
import math
import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeoutError
from contextlib import closing, contextmanager, suppress
from dataclasses import dataclass, field
from typing import Final, TypeVar

import orjson

from pgcopydb.apply.conflicts import ConflictFile
from pgcopydb.apply.replay import ApplyMode, OnConflict
from pgcopydb.apply.transform_stage import resume_at
from pgcopydb.bootstrap.after_follow import (
    check_tables,
    finish_large_objects,
    finish_sequences,
    finish_views,
    warn_of_large_objects,
)
from pgcopydb.daemon.backlog import transactions_between
from pgcopydb.daemon.change_file import JSON, recover
from pgcopydb.daemon.plugins import Plugin
from pgcopydb.daemon.published import check_published, made_since
from pgcopydb.daemon.sentinel import Sentinel, SentinelRow
from pgcopydb.daemon.service import Service, Teller
from pgcopydb.daemon.slot import sentinel_of
from pgcopydb.daemon.stream import Stream
from pgcopydb.daemon.supervise import NAME as SUPERVISOR
from pgcopydb.daemon.supervise import StageFailed, Supervisor
from pgcopydb.daemon.tail import Tail
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.server import wal_position
from pgcopydb.runtime.errors import PgcopydbError, StateError, Stopped
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.logs import ABOUT_VARIABLE
from pgcopydb.runtime.retry import persist
from pgcopydb.runtime.sizes import pretty_seconds, pretty_size
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.watch import wait_for_any
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger("pgcopydb.cli")

T = TypeVar("T")

_LONGEST_WAIT: Final = 30.0
_PATIENCE_AFTER_A_STOP: Final = 3.0
"""Whoever has asked for a stop does not wait for a server that says nothing."""

RECEIVE = ("receive",)
RECEIVE_AND_TRANSFORM = ("receive", "transform")
TRANSFORM_AND_APPLY = ("transform", "apply")
ALL = ("receive", "transform", "apply")


@dataclass(frozen=True, slots=True)
class Following:
    """What a command that follows changes knows."""

    source: Endpoint
    target: Endpoint
    workdir: WorkDir
    stop: Stop
    flags: Sequence[str]
    """Of the stages' command lines: how they log."""
    stage_flags: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """More for the command line of each stage, by its name."""
    skip_large_objects: bool = False
    """At the end position."""
    database: str = ""
    """Where one process follows several: what the stages' log lines are about."""
    teller: Teller | None = None
    """What tells of all of them, where there are several."""
    began: float = field(default_factory=time.monotonic, init=False)

    @classmethod
    def between(
        cls,
        source: ConnInfo,
        target: ConnInfo,
        workdir: WorkDir,
        stop: Stop,
        flags: Sequence[str],
        stage_flags: Mapping[str, Sequence[str]],
        *,
        skip_large_objects: bool = False,
        database: str = "",
        teller: Teller | None = None,
    ) -> Following:
        # It waits for its servers for weeks, if need be.
        source_end, target_end = (
            Endpoint(info.noticing_loss(), workdir.mark, patience=math.inf) for info in (source, target)
        )
        return cls(source_end, target_end, workdir, stop, flags, stage_flags, skip_large_objects, database, teller)

    def sentinel(self, stream: Stream, role: str = "sentinel") -> Sentinel:
        return sentinel_of(stream, self.source, self.target, role)

    def supervisor(self, stream: Stream, stages: Sequence[str]) -> Supervisor:
        self.repair(stream)
        commands = {
            name: ["stream", name, "--dir", str(self.workdir.top), *self.flags, *self.stage_flags.get(name, ())]
            for name in stages
        }
        environment = {
            **os.environ,
            Side.SOURCE.variable: self.source.info.text(),
            Side.TARGET.variable: self.target.info.text(),
            ABOUT_VARIABLE: self.database,
        }
        return Supervisor(commands, environment, self.sentinel(stream, "supervisor"), self.stop, self.workdir)

    def repair(self, stream: Stream) -> None:
        """Cut what a power failure left of files, before those who read them meet it.

        What cannot be repaired, or has no room now, is for the stages to say; what somebody is still writing is left.
        """
        folder = self.workdir.changes
        with suppress(PgcopydbError):
            if not self.workdir.is_locked(RECEIVE[0]):
                recover(folder)
            if not self.workdir.is_locked("transform"):
                with closing(Tail(folder, JSON, stream.segment_size)) as tail:
                    resume_at(tail)

    @contextmanager
    def service(self, stages: Sequence[str] = ALL) -> Iterator[None]:
        """For the length of the command: its service manager is told how it is, and its slot is watched."""
        service = Service(self.source, self.workdir, (SUPERVISOR, *stages))
        with service.watched():
            if self.teller is not None:
                self.teller.migrations[self.database] = service
                yield
                return
            with Teller(self.stop, {self.database: service}).running():
                yield


def flags_of_stages(
    *,
    on_conflict: OnConflict = OnConflict.ERROR,
    apply_mode: ApplyMode = ApplyMode.SERIAL,
    keep_files: bool = False,
    replay_no_op_updates: bool = False,
    max_disk: int = 0,
    min_free: int | None = None,
) -> dict[str, list[str]]:
    """What the options of a command mean for the stages that it starts."""
    receive = ["--max-disk", str(max_disk)] if max_disk else []
    return {
        "receive": [*receive, *([] if min_free is None else ["--min-free", str(min_free)])],
        "transform": ["--replay-no-op-updates"] if replay_no_op_updates else [],
        "apply": ["--on-conflict", on_conflict, "--apply-mode", apply_mode, *(["--keep-files"] if keep_files else [])],
    }


def set_endpos(following: Following, stream: Stream, endpos: Lsn | None) -> None:
    """What ``--endpos`` of a command asks for."""
    if endpos is None:
        return
    with closing(following.sentinel(stream)) as sentinel:
        before = _persist(following.stop, sentinel.read).endpos
        if before and before != endpos:
            logger.warning("The sentinel's endpos was %s, it is %s now", before, endpos)
        _persist(following.stop, lambda: sentinel.set_endpos(endpos))


def allow_apply(following: Following, stream: Stream, *, apply: bool) -> None:
    """Waits for a server that restarts, as the stages do."""
    with closing(following.sentinel(stream)) as sentinel:
        _persist(following.stop, lambda: sentinel.set_apply(apply=apply))


def warn_of_unfollowed(following: Following, stream: Stream) -> None:
    """The sooner somebody knows, the less there is to copy again."""
    warn_of_large_objects(following.source, following.workdir, skip=following.skip_large_objects)
    if stream.plugin is not Plugin.PGOUTPUT:
        return
    with following.source.connect_patiently("published", following.stop) as source:
        for name in made_since(source, following.workdir, stream):
            logger.warning("table %s was made on the source since the publications: its changes do not come", name)


def apply_up_to(following: Following, stream: Stream, position: Lsn) -> None:
    """Let the stages apply until the target is there, and then no more. Raises ``StateError`` if they may not."""
    with closing(following.sentinel(stream)) as sentinel:
        _persist(following.stop, lambda: _apply_up_to(sentinel, following.stop, position))


def _apply_up_to(sentinel: Sentinel, stop: Stop, position: Lsn) -> None:
    sentinel.listen()
    sentinel.set_apply(apply=True)
    while (row := sentinel.read()).replay_lsn < position:
        if row.endpos and row.endpos < position:
            raise StateError(
                f"the end position {row.endpos} is before {position}, where some tables were read",
                hint="Set a later one: `pgcopydb stream sentinel set endpos --current`; then go on with --resume.",
            )
        wait_for_any([sentinel.fileno(), stop.fileno()], _LONGEST_WAIT)
        sentinel.was_announced()
        stop.check()
    sentinel.set_apply(apply=False)


def _persist(stop: Stop, act: Callable[[], T]) -> T:
    """Do something with the sentinel, however long its server is away. Raises ``Stopped`` when a stop came before."""
    results: list[T] = []
    persist(lambda: results.append(act()), what="using the sentinel", stop=stop)
    if not results:
        stop.check()
    return results[0]


def _within(seconds: float, act: Callable[[], T]) -> T | None:
    """The result of ``act``, or None when that takes longer; it is left to itself then."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(act())
        except PgcopydbError as error:
            future.set_exception(error)

    threading.Thread(target=run, name="last look", daemon=True).start()
    try:
        return future.result(seconds)
    except FutureTimeoutError:
        return None


def _row_at_the_end(following: Following, stream: Stream, supervisor: Supervisor) -> SentinelRow:
    """Waits for its server, unless a stop was requested."""
    with closing(following.sentinel(stream)) as sentinel:
        if supervisor.reached:
            return _persist(following.stop, sentinel.read)
        try:
            row = _within(_PATIENCE_AFTER_A_STOP, sentinel.read)
        except PgcopydbError as error:
            raise Stopped(
                f"stopped before the end position; how far it came cannot be read: {error}",
                hint="Continue with --resume.",
            ) from error
        if row is None:
            raise Stopped(
                f"stopped before the end position; the {sentinel.endpoint.side} does not say how far it came",
                hint="Continue with --resume.",
            )
        return row


def wait(following: Following, stream: Stream, supervisor: Supervisor) -> None:
    """Until the stages have ended. What one of them gave up with says how far the target is then."""
    try:
        supervisor.wait()
    except StageFailed as error:
        with suppress(PgcopydbError), closing(following.sentinel(stream)) as sentinel:
            row = sentinel.read()
            left = transactions_between(following.workdir.changes, stream.segment_size, row.replay_lsn, row.endpos)
            error.message += f"; applied up to {row.replay_lsn}, {left} received transactions remain"
        raise


def finish(following: Following, stream: Stream, supervisor: Supervisor, *, sequences: bool) -> None:
    """What follows when the stages have ended. Raises ``Stopped`` when that was not at the end position."""
    row = _row_at_the_end(following, stream, supervisor)
    # It may have been moved since the stages ended.
    if not supervisor.reached or row.replay_lsn < row.endpos:
        left = transactions_between(following.workdir.changes, stream.segment_size, row.replay_lsn, row.endpos)
        raise Stopped(
            f"stopped before the end position: applied up to {row.replay_lsn}, {left} received transactions remain",
            hint="Continue with --resume.",
        )
    if sequences:
        finish_sequences(following.source, following.target, following.workdir, following.stop)
        failpoint("follow.after_sequences")
        finish_views(following.source, following.target, following.workdir, following.stop)
        failpoint("follow.after_views")
        finish_large_objects(
            following.source,
            following.target,
            following.workdir,
            following.stop,
            endpos=row.endpos,
            skip=following.skip_large_objects,
        )
        failpoint("follow.after_large_objects")
    _say_result(following, row.endpos, row.replay_lsn)
    if stream.plugin is Plugin.PGOUTPUT:
        with following.source.connect_patiently("published", following.stop) as source:
            check_published(source, following.workdir, stream)
    if sequences:
        check_tables(following.source, following.target, following.workdir, following.stop)


def _say_result(following: Following, endpos: Lsn, replayed: Lsn) -> None:
    result = orjson.loads(following.workdir.apply_result.read_bytes())
    # Of all processes that applied, this run's or not.
    conflicts = ConflictFile(following.workdir.conflicts).count()
    with following.source.connect_patiently("lag", following.stop) as source:
        lag = wal_position(source).bytes_since(replayed)
    logger.info(
        "Reached %s: the target is at %s, %s behind the source's WAL; %d transactions with %d rows were applied in %s, "
        "the last one was committed on the source at %s; %d conflicts",
        endpos,
        replayed,
        pretty_size(max(0, lag)),
        result["transactions"],
        result["rows"],
        pretty_seconds(time.monotonic() - following.began),
        result["last_commit"] or "no time",
        conflicts,
    )
    if conflicts:
        raise PgcopydbError(
            f"{conflicts} changes did not find the rows on the target that they found on the source",
            hint=f"{following.workdir.conflicts} names them; compare both sides with `pgcopydb compare data`.",
        )
