"""Servers restart and connections break while changes are followed: the run ends well, and nothing is lost."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Literal

import pytest

from demo.clusters import StopMode
from pgcopydb.postgres.lsn import Lsn
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers
from tests.following import (
    OURS,
    Following,
    has_worked,
    is_applied,
    is_halted,
    pair_of,
    prepare,
    processes_of,
    stage,
)
from tests.lot import lot
from tests.proxy import Proxy
from tests.wait import wait_until
from tests.workload import Workload

Which = Literal["source", "target"]
SIDES: tuple[Which, Which] = ("source", "target")


@pytest.fixture(params=[15, 18], ids=lambda major: f"to {major}")
def any_pair(request: pytest.FixtureRequest, servers: Servers) -> Iterator[DbPair]:
    """Progress is an origin on the one target, and a row on the other."""
    with pair_of(servers, 15, request.param) as pair:
        yield pair


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 18) as pair:
        yield pair


def side_of(pair: DbPair, side: Which) -> Database:
    return pair.source if side == "source" else pair.target


def through(proxy: Proxy, side: Which) -> dict[str, str]:
    return {side: proxy.dsn}


def works(run: Following, workload: Workload, count: int = 40) -> None:
    """The source is written to while the run goes on."""
    run.wait(partial(has_worked, workload, workload.committed + count), "work on the source")


@pytest.mark.parametrize("mode", ["immediate", "fast"])
@pytest.mark.parametrize("side", SIDES)
def test_a_server_restarts(side: Which, mode: StopMode, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Twice, the second time while there is something to catch up with."""
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    with Workload(pair.source.dsn, seed=5, writers=2, tolerate_disconnects=True) as workload:
        for _ in range(2):
            works(run, workload)
            side_of(pair, side).cluster.restart(mode)
        works(run, workload)
        run.catches_up()
    run.set_end()
    run.ends()


def applied(target: Database) -> str:
    """What the target knows of its progress, be it on its disk or not."""
    if target.fetch("SELECT to_regclass('pgcopydb.progress')") == [(None,)]:
        return str(target.fetch("SELECT pg_replication_origin_progress('pgcopydb', false)")[0][0])
    return str(target.fetch("SELECT lsn FROM pgcopydb.progress")[0][0])


def halted_before_a_flush(workdir: Path, target: Database) -> bool:
    """Halt the stage that applies, if it has committed something that is only in memory."""
    process = stage(workdir, "apply")
    os.kill(process, signal.SIGSTOP)
    wait_until(lambda: is_halted(process), 10, "it to halt")
    open_now = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'pgcopydb%' AND state <> 'idle'"
    unflushed = "SELECT pg_wal_lsn_diff(pg_current_wal_insert_lsn(), pg_current_wal_flush_lsn())"
    if target.fetch(open_now) == [(0,)] and target.fetch(unflushed)[0][0] > 1000:
        return True
    os.kill(process, signal.SIGCONT)
    return False


@contextmanager
def lazy(target: Database) -> Iterator[None]:
    """WAL that nobody asks for stays in memory for long."""
    target.execute("ALTER SYSTEM SET wal_writer_delay = '10s'")
    target.execute("ALTER SYSTEM SET wal_writer_flush_after = '1GB'")
    target.cluster.restart()
    try:
        yield
    finally:
        target.cluster.start()
        target.execute("ALTER SYSTEM RESET ALL")
        target.cluster.restart()


def test_a_target_that_forgets_its_last_commits_gets_them_again(
    any_pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    """They were not flushed, for commits do not wait for the disk; a server that dies at once has lost them."""
    prepare(any_pair)
    target = any_pair.target
    forgotten = False
    with lazy(target):
        run = Following(pgcopydb, any_pair, workdir_path).start()
        with Workload(any_pair.source.dsn, seed=9, writers=2) as workload:
            for _ in range(6):
                run.wait(lambda: halted_before_a_flush(workdir_path, target), "commits that are not on the disk")
                before = applied(target)
                target.cluster.restart("immediate")
                forgotten = forgotten or Lsn.parse(applied(target)) < Lsn.parse(before)
                os.kill(stage(workdir_path, "apply"), signal.SIGCONT)
                works(run, workload)
                run.catches_up()
                if forgotten:
                    break
        run.set_end()
        run.ends()
    if not forgotten:
        pytest.skip("the target had all its commits on its disk each time: nothing was there to be forgotten")


@pytest.mark.parametrize("side", SIDES)
def test_all_sessions_are_terminated(side: Which, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    ours = f"SELECT count(pid) FROM pg_stat_activity WHERE {OURS}"
    with Workload(pair.source.dsn, seed=3, writers=2) as workload:
        for _ in range(5):
            works(run, workload, 20)
            run.wait(lambda: side_of(pair, side).fetch(ours)[0][0] > 1, "sessions")
            side_of(pair, side).execute(ours.replace("count(pid)", "pg_terminate_backend(pid)"))
        works(run, workload)
        run.catches_up()
    run.set_end()
    run.ends()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("seed", [1, 2])
def test_connections_are_cut(side: Which, seed: int, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Anywhere, also within a message; and the network is gone for a while."""
    prepare(pair)
    rng = lot(seed)
    with Proxy(side_of(pair, side).dsn) as proxy, Workload(pair.source.dsn, seed=seed, writers=2) as workload:
        run = Following(pgcopydb, pair, workdir_path, **through(proxy, side)).start()
        for number in range(12):
            proxy.cut_after(rng.randrange(1, 20_000), refuse=number % 5 == 4)
            works(run, workload, 15)
            proxy.accept_again()
        proxy.cut()
        works(run, workload)
        run.catches_up()
        workload.stop()
        run.set_end()
        run.ends()


@pytest.mark.parametrize("side", SIDES)
def test_a_network_that_says_nothing_for_a_while(
    side: Which, pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    prepare(pair)
    with Proxy(side_of(pair, side).dsn) as proxy, Workload(pair.source.dsn, seed=4, writers=2) as workload:
        run = Following(pgcopydb, pair, workdir_path, **through(proxy, side)).start()
        for _ in range(3):
            works(run, workload)
            proxy.stall()
            works(run, workload, 100)
            proxy.flow()
        run.catches_up()
        workload.stop()
        run.set_end()
        run.ends()


@pytest.mark.parametrize("side", SIDES)
def test_ctrl_c_while_a_server_says_nothing(side: Which, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Whoever waits for an answer has to hear of it too."""
    prepare(pair)
    with Proxy(side_of(pair, side).dsn) as proxy:
        run = Following(pgcopydb, pair, workdir_path, **through(proxy, side)).start()
        with Workload(pair.source.dsn, seed=4, writers=2) as workload:
            proxy.stall()
            works(run, workload, 100)
            run.process.send_signal(signal.SIGINT)
            assert run.process.wait(30) == 12, run.log
        wait_until(lambda: not processes_of(workdir_path), 5, "its children to end")
        proxy.flow()
        run.start()
        run.set_end()
        run.ends()


def test_the_end_position_is_set_while_the_target_is_down(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    Workload(pair.source.dsn, seed=6).run(50)
    pair.target.cluster.stop("immediate")
    Workload(pair.source.dsn, seed=7).run(50)
    run.set_end()
    run.wait(lambda: not stage(workdir_path, "receive"), "the end of receiving")
    pair.target.cluster.start()
    run.ends()


@pytest.mark.parametrize("side", SIDES)
@pytest.mark.parametrize("place", ["follow.after_copy", "follow.before_sequences"])
def test_a_server_is_away_between_two_steps(
    place: str, side: Which, pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    """Of the process that all others belong to: it waits as they do."""
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path)
    if place == "follow.before_sequences":
        run.start(failpoints=f"{place}=stop")
        run.set_end()
    else:
        run.begin(failpoints=f"{place}=stop")
    run.wait(lambda: is_halted(run.process.pid), "the process to come there", 60)
    cluster = side_of(pair, side).cluster
    cluster.stop("fast")
    run.process.send_signal(signal.SIGCONT)
    said = "trying again"
    run.wait(lambda: said in run.log, "it to miss the server")
    cluster.start()
    if place == "follow.after_copy":
        run.wait(lambda: is_applied(pair), "changes to be applied")
        run.set_end()
    run.ends()
