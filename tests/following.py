"""One run of ``clone --follow`` under a workload, as the fault tests disturb it."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any, Self

import psycopg

from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.daemon.heartbeat import read_state
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.workdir import WorkDir
from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers, fresh_database
from tests.recovery import measured
from tests.wait import wait_until
from tests.workload import SCHEMA, Workload

OURS = "application_name LIKE 'pgcopydb%' AND (datname IS NULL OR datname = current_database())"
"""Our sessions of one database; a walsender has its database too."""

APPLY_MODE = "PGCOPYDB_TEST_APPLY_MODE"
"""A variable: how the program applies changes in the tests."""

_AHEAD = 1_000_000
"""Bytes of WAL."""


def uris(pair: DbPair, failpoints: str = "") -> dict[str, str]:
    """The environment of a program that copies the one to the other."""
    found = {"PGCOPYDB_SOURCE_PGURI": pair.source.dsn, "PGCOPYDB_TARGET_PGURI": pair.target.dsn}
    if APPLY_MODE in os.environ:
        found["PGCOPYDB_APPLY_MODE"] = os.environ[APPLY_MODE]
    return found | ({"PGCOPYDB_FAILPOINTS": failpoints} if failpoints else {})


@dataclass
class Following:
    """``source`` and ``target`` are how the program reaches the pair: perhaps through a proxy."""

    pgcopydb: Command
    pair: DbPair
    workdir: Path
    source: str = ""
    target: str = ""
    process: subprocess.Popen[bytes] = field(init=False)

    def start(self, *more: str, failpoints: str = "") -> Self:
        """Begin, or go on, and wait until the copy is complete and changes are applied."""
        self.begin(*more, failpoints=failpoints)
        self.wait(lambda: is_applied(self.pair) and is_copied(self.workdir), "changes to be applied")
        return self

    def begin(self, *more: str, failpoints: str = "") -> None:
        self.process = self.pgcopydb.start(
            "clone", "--follow", "--resume", "--dir", self.workdir, *more, env=self.env(failpoints)
        )

    def env(self, failpoints: str = "") -> dict[str, str]:
        found = uris(self.pair, failpoints)
        found["PGCOPYDB_SOURCE_PGURI"] = self.source or found["PGCOPYDB_SOURCE_PGURI"]
        found["PGCOPYDB_TARGET_PGURI"] = self.target or found["PGCOPYDB_TARGET_PGURI"]
        return found

    @property
    def log(self) -> str:
        return self.pgcopydb.log_of(self.process)

    def wait(self, condition: Callable[[], bool], what: str, seconds: float = 60) -> None:
        """For what comes while the run goes on."""
        wait_until(lambda: self.process.poll() is not None or condition(), seconds, what)
        assert self.process.poll() is None, self.log

    def catches_up(self, seconds: float = 60) -> None:
        """Whatever is committed on the source now gets to the target."""
        here = position(self.pair)
        with measured():
            self.wait(partial(is_replayed, self.pair, here), f"the target to come to {here}", seconds)

    def catches_up_idle(self, seconds: float = 60) -> None:
        """As ``catches_up``, where nobody else writes: positions behind the last transaction are not told."""
        received = StageFile(self.workdir, "receive")
        applied = StageFile(self.workdir, "apply")
        here = Lsn.parse(position(self.pair))
        self.wait(
            lambda: received.position >= here and applied.position >= received.position,
            f"the target to come to {here}",
            seconds,
        )

    def set_end(self) -> None:
        env = {**self.env(), "PGCOPYDB_SOURCE_PGURI": self.pair.source.dsn}
        self.pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", self.workdir, env=env)

    def ends(self) -> None:
        """With 0, equal content and nothing left behind."""
        wait_until(lambda: self.process.poll() is not None, 90, "the end position to be reached")
        assert self.process.returncode == 0, self.log
        assert_same_content(self.pair.source.dsn, self.pair.target.dsn)
        self.leaves_nothing()

    def leaves_nothing(self, seconds: float = 20) -> None:
        """No process, and no session on either server."""
        wait_until(lambda: not processes_of(self.workdir), seconds, "all processes to end")
        for database in (self.pair.source, self.pair.target):
            wait_until(partial(is_left_alone, database), seconds, f"all sessions on {database.name} to end")


@dataclass(frozen=True)
class StageFile:
    """What a stage says of itself."""

    workdir: Path
    name: str

    @property
    def position(self) -> Lsn:
        state = read_state(WorkDir(self.workdir), self.name)
        return Lsn.parse(state.position) if state is not None else Lsn()


@contextmanager
def pair_of(servers: Servers, source_major: int, target_major: int) -> Iterator[DbPair]:
    """Two databases, whose servers a test may stop; slot and origin, which belong to a whole server, go with them."""
    with (
        fresh_database(servers.get(source_major), "source") as source,
        fresh_database(servers.get(target_major, "target"), "target") as target,
    ):
        try:
            yield DbPair(source, target)
        finally:
            for database in (source, target):
                database.cluster.start()
            drop_progress(target)
            source.execute(
                "SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots WHERE active;"
                "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                " WHERE database = current_database()"
            )


def drop_progress(target: Database) -> None:
    """Origins belong to the whole cluster, and cannot be dropped while a session of a failed test uses them."""
    target.execute(
        "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity"
        " WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    target.execute("SELECT pg_replication_origin_drop(roname) FROM pg_replication_origin")


def prepare(pair: DbPair, seed: int = 1) -> None:
    """Tables with some rows."""
    pair.source.execute(SCHEMA)
    Workload(pair.source.dsn, seed=seed).run(30)


def position(pair: DbPair) -> str:
    return str(pair.source.fetch("SELECT pg_current_wal_insert_lsn()")[0][0])


def end_ahead(pair: DbPair) -> str:
    """An end position that is not reached before ``go_beyond``, unless that much is written."""
    return str(pair.source.fetch(f"SELECT pg_current_wal_flush_lsn() + {_AHEAD}")[0][0])


def go_beyond(pair: DbPair) -> None:
    """A switch alone may be to a segment that begins before the end position."""
    message = f"SELECT pg_logical_emit_message(false, 'x', repeat('x', {_AHEAD}))"
    pair.source.execute(f"{message}; SELECT pg_switch_wal()")


def sentinel_row(source: Database) -> dict[str, Any]:
    """Empty when there is none: it may be removed and made again at any time."""
    try:
        rows = source.fetch("SELECT to_jsonb(s) FROM pgcopydb.sentinel s")
    except (psycopg.errors.UndefinedTable, psycopg.errors.InvalidSchemaName):
        return {}
    return dict(rows[0][0]) if rows else {}


def is_applied(pair: DbPair) -> bool:
    """Whether the target follows: at last, or for as long as tables catch up that were read later than others."""
    row = sentinel_row(pair.source)
    return bool(row) and row["apply"] and row["replay_lsn"] != "0/0"


def is_copied(workdir: Path) -> bool:
    with closing(CatalogStore.read(WorkDir(workdir).catalog)) as store:
        return store.step_done("summary")


def is_replayed(pair: DbPair, here: str) -> bool:
    row = sentinel_row(pair.source)
    return bool(row) and Lsn.parse(row["replay_lsn"]) >= Lsn.parse(here)


def is_left_alone(database: Database) -> bool:
    return not database.fetch(f"SELECT FROM pg_stat_activity WHERE {OURS}")


def has_worked(workload: Workload, count: int) -> bool:
    return workload.committed >= count


def processes_of(workdir: Path) -> dict[int, list[str]]:
    """Command lines that name the work directory, by process."""
    found: dict[int, list[str]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            arguments = (folder / "cmdline").read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if str(workdir) in arguments and int(folder.name) != os.getpid():
            found[int(folder.name)] = arguments
    return found


def stage(workdir: Path, name: str) -> int:
    """The process of a stage, 0 when there is none."""
    return next((pid for pid, arguments in processes_of(workdir).items() if ["stream", name] == arguments[3:5]), 0)


def is_halted(pid: int) -> bool:
    return Path(f"/proc/{pid}/stat").read_text().rpartition(") ")[2].startswith("T")
