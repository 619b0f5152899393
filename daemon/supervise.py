"""Run the stages of a migration side by side, each as a command that a person could type too.

Starts receive, transform and apply, and starts one again that was killed or stopped by somebody else, or that does not
move any more and is killed for it; what else is done about what is in ``runtime.policy``. A stage that has come to the
end position is started again when that is moved on. What is true when ``wait`` returns: no stage is
running, and either the sentinel says that the end position is received, and durable on the target if that is applied
to; or a stop was requested. A stage that gave up ends the others, and is an error.
"""

from __future__ import annotations

import logging
import os
import signal
import subprocess
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from pgcopydb.daemon.heartbeat import BEAT_SECONDS, Heartbeat, clock, heartbeat_of, read_state, told_how_it_ends
from pgcopydb.daemon.sentinel import Sentinel, SentinelRow
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.child import start_stage
from pgcopydb.runtime.errors import ExitCode, Kind, PgcopydbError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.logs import in_this_context
from pgcopydb.runtime.policy import POLICY, trouble_of_exit
from pgcopydb.runtime.stop import Stop, StopMode
from pgcopydb.runtime.watch import wait_for_any
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

NAME: Final = "supervisor"
"""Of its state in the work directory."""
_CRASHES: Final = 5
"""A stage that is killed so often is not started again, unless it lived for this long in between."""
_WENT_WELL_SECONDS: Final = 60.0
STUCK_SECONDS: Final = 120.0
"""A stage that has not said for so long that it lives, which it does every few seconds, hangs."""

LAST_TRANSACTION_SECONDS: Final = 600.0
"""A stop waits for the transaction in hand no longer than this."""


class StageFailed(PgcopydbError):
    """A stage gave up; it has said why in the log."""

    def __init__(self, name: str, code: int) -> None:
        super().__init__(
            f"stage {name} ended with exit code {code}"
            if code >= 0
            else f"stage {name} was killed {_CRASHES} times, the last time by signal {-code}",
            hint="The lines above say why. Continue with --resume when that is mended.",
        )
        self.exit_code = ExitCode(code) if code in set(ExitCode) else ExitCode.FATAL


@dataclass(slots=True)
class _Stage:
    name: str
    arguments: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    descriptor: int = -1
    finished_at: Lsn | None = None
    started: float = 0.0
    killed: bool = False
    due: float = 0.0
    crashes: int = 0
    restarts: int = 0


@dataclass(slots=True)
class Supervisor:
    """``stages``: arguments of each command by the name of the stage. Runs in a thread of its own from ``start`` on."""

    stages: Mapping[str, Sequence[str]]
    environment: Mapping[str, str]
    sentinel: Sentinel
    stop: Stop
    workdir: WorkDir
    reached: bool = False
    heart: Heartbeat = field(init=False)
    _running: list[_Stage] = field(default_factory=list)
    _thread: threading.Thread | None = None
    _error: BaseException | None = None

    def __post_init__(self) -> None:
        self.heart = heartbeat_of(self.workdir, NAME)

    def start(self) -> None:
        self._running = [_Stage(name, arguments) for name, arguments in self.stages.items()]
        self._thread = threading.Thread(target=in_this_context(self._supervise), name="supervisor", daemon=True)
        self._thread.start()

    def join(self) -> None:
        """Return when no stage is running any more."""
        assert self._thread is not None  # noqa: S101  start() comes first
        self._thread.join()

    def wait(self) -> None:
        """As ``join``; raises what ended the stages before the end position, unless that was a stop."""
        self.join()
        if self._error is not None:
            raise self._error

    def _supervise(self) -> None:
        try:
            with told_how_it_ends(self.heart), self.stop.on_fast_stop(self.sentinel.hang_up):
                self._run()
            self.reached = not self.stop.mode
        except BaseException as error:  # noqa: BLE001  handed on to the thread that waits
            self._error = error
            self.stop.request(StopMode.GRACEFUL)
        finally:
            self._end_all()
            failpoint("supervise.all_ended")
            self.sentinel.close()

    def _run(self) -> None:
        """Until all have finished, or a stop is requested."""
        try:
            self.sentinel.listen()
        except PgcopydbError as error:
            self._wait_for_sentinel(error)
        while not self.stop.mode and not self._all_finished():
            for stage in self._running:
                if stage.process is None and stage.finished_at is None and stage.due <= clock():
                    self._launch(stage)
            self._kill_what_is_stuck()
            self.heart.beat(restarts=sum(stage.restarts for stage in self._running))
            self._look()
            self._start_again_what_is_behind()

    def _all_finished(self) -> bool:
        return all(stage.finished_at is not None for stage in self._running)

    def _launch(self, stage: _Stage) -> None:
        failpoint("supervise.before_launch")
        stage.process = start_stage(stage.arguments, self.environment)
        stage.descriptor = os.pidfd_open(stage.process.pid)
        stage.started, stage.killed = clock(), False
        failpoint("supervise.after_launch")
        logger.debug("Started %s as process %d", stage.name, stage.process.pid)

    def _kill_what_is_stuck(self) -> None:
        for stage in self._running:
            if stage.process is None or stage.killed:
                continue
            if clock() - self._last_beat(stage, stage.process.pid) > STUCK_SECONDS:
                logger.warning("Stage %s has not moved for %.0f s: it is killed", stage.name, STUCK_SECONDS)
                stage.process.kill()
                stage.killed = True

    def _last_beat(self, stage: _Stage, pid: int) -> float:
        state = read_state(self.workdir, stage.name)
        return max(stage.started, state.beat) if state is not None and state.pid == pid else stage.started

    def _look(self) -> None:
        """Wait until something happens, and take note of it."""
        living = {stage.descriptor: stage for stage in self._running if stage.process is not None}
        watched = [*living, self.stop.fileno()]
        sentinel = self._sentinel_descriptor()
        dues = [stage.due - clock() for stage in self._running if stage.process is None and stage.finished_at is None]
        ready = wait_for_any([*watched, *sentinel], max(0.0, min([BEAT_SECONDS, *dues])))
        for descriptor in ready & set(living):
            self._ended(living[descriptor])
        if sentinel:
            self._heed_announcements()

    def _sentinel_descriptor(self) -> list[int]:
        """None while its server cannot be reached: the stages themselves wait for that."""
        try:
            return [self.sentinel.fileno()]
        except PgcopydbError as error:
            logger.debug("no sentinel: %s", error)
            return []

    def _heed_announcements(self) -> None:
        """A stage that has finished goes on when the end position was moved."""
        try:
            if not self.sentinel.was_announced():
                return
            endpos = self.sentinel.read().endpos
        except PgcopydbError as error:
            self._wait_for_sentinel(error)
            return
        for stage in self._running:
            if stage.finished_at is not None and stage.finished_at != endpos:
                stage.finished_at = None

    def _start_again_what_is_behind(self) -> None:
        """Only the sentinel's positions tell which end position a stage has come to: it may have been moved since."""
        if not self._all_finished():
            return
        row = self._read()
        if row is not None and row.endpos:
            position = row.replay_lsn if "apply" in self.stages else row.write_lsn
            if position >= row.endpos and all(stage.finished_at == row.endpos for stage in self._running):
                return
        for stage in self._running:
            stage.finished_at = None

    def _read(self) -> SentinelRow | None:
        """None while its server cannot be reached."""
        try:
            return self.sentinel.read()
        except PgcopydbError as error:
            self._wait_for_sentinel(error)
            return None

    def _wait_for_sentinel(self, error: PgcopydbError) -> None:
        if error.kind is not Kind.RETRY:
            raise error
        logger.debug("lost the sentinel: %s", error)
        self.sentinel.close()

    def _ended(self, stage: _Stage) -> None:
        assert stage.process is not None  # noqa: S101  it was running
        code = stage.process.wait()
        failpoint("supervise.after_end")
        self._forget(stage)
        if self.stop.mode:
            return
        trouble = trouble_of_exit(code)
        if trouble is None:
            row = self._read()
            # Without an end position, or while it cannot be read, the stage finds out itself.
            stage.finished_at = (row.endpos or None) if row else None
            logger.debug("Stage %s has come to %s", stage.name, stage.finished_at)
            return
        again = POLICY[trouble]
        stage.crashes = 1 if clock() - stage.started > _WENT_WELL_SECONDS else stage.crashes + 1
        if again is None or stage.crashes >= _CRASHES:
            raise StageFailed(stage.name, code)
        how = f"was killed by signal {-code}" if code < 0 else "was stopped by somebody else"
        pause = again.pause(stage.crashes - 1)
        stage.due, stage.restarts = clock() + pause, stage.restarts + 1
        logger.warning("Stage %s %s, it is started again in %.1f s", stage.name, how, pause)

    def _forget(self, stage: _Stage) -> None:
        os.close(stage.descriptor)
        stage.process, stage.descriptor = None, -1

    def _end_all(self) -> None:
        """Each after the transaction in hand; at once on a fast stop, and when that takes too long."""
        told, began = StopMode.RUN, clock()
        while living := {stage.descriptor: stage for stage in self._running if stage.process is not None}:
            mode = max(self.stop.mode, StopMode.GRACEFUL)
            if clock() - began > LAST_TRANSACTION_SECONDS and mode is StopMode.GRACEFUL:
                if told is StopMode.GRACEFUL:
                    logger.warning(
                        "The transaction in hand takes more than %.0f s: broken off, it comes again with --resume",
                        LAST_TRANSACTION_SECONDS,
                    )
                mode = StopMode.FAST
            if mode > told:
                for stage in living.values():
                    assert stage.process is not None  # noqa: S101  they are the ones that run
                    stage.process.send_signal(signal.SIGTERM if mode is StopMode.GRACEFUL else signal.SIGINT)
                told = mode
            self._kill_what_is_stuck()
            for descriptor in wait_for_any(list(living), 0.2):
                stage = living[descriptor]
                if stage.process is not None:
                    stage.process.wait()
                    self._forget(stage)
