"""A network that is slow, that loses half of a connection, or that swallows the answer to a COMMIT; servers that die at
any time; and a clock that jumps: changes are followed all the same, and nothing is lost or made twice."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers
from tests.following import Following, has_worked, is_applied, pair_of, prepare, processes_of
from tests.lot import lot
from tests.proxy import Half, Proxy
from tests.wait import wait_until
from tests.workload import Workload

COMMITTED = b"C\0\0\0\x0bCOMMIT\0"
"""CommandComplete (PostgreSQL documentation, "Message Formats")."""
SLOW = 100_000.0

slow = pytest.mark.slow


@pytest.fixture(params=[15, 18], ids=lambda major: f"to {major}")
def any_pair(request: pytest.FixtureRequest, servers: Servers) -> Iterator[DbPair]:
    """Progress is an origin on the one target, and a row on the other."""
    with pair_of(servers, 15, request.param) as pair:
        yield pair


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 18) as pair:
        yield pair


def side_of(pair: DbPair, side: str) -> Database:
    return pair.source if side == "source" else pair.target


def works(run: Following, workload: Workload, count: int = 40) -> None:
    run.wait(partial(has_worked, workload, workload.committed + count), "work on the source")


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_slow_network(side: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """From the first byte of the copy on; when it is fast again the target catches up."""
    prepare(pair)
    with Proxy(side_of(pair, side).dsn) as proxy, Workload(pair.source.dsn, seed=21, writers=2) as workload:
        proxy.throttle(SLOW)
        run = Following(pgcopydb, pair, workdir_path, **{side: proxy.dsn})
        run.begin()
        run.wait(partial(is_applied, pair), "changes to be applied", 120)
        works(run, workload, 200)
        proxy.throttle(0)
        works(run, workload)
        run.catches_up()
        workload.stop()
        run.set_end()
        run.ends()


def is_told(proxy: Proxy, times: int) -> bool:
    return proxy.told > times


def impatient(database: Database, seconds: int) -> None:
    database.execute(f"ALTER SYSTEM SET wal_sender_timeout = '{seconds}s'")
    database.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize(
    ("side", "half"),
    [
        ("source", "client"),
        pytest.param("target", "client", marks=slow),
        pytest.param("source", "server", marks=slow),
        pytest.param("target", "server", marks=slow),
    ],
)
def test_half_of_each_connection_is_lost(
    side: str, half: Half, pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    """``client``: we know, and the server believes that we are there, and keeps the slot or the origin for us.
    ``server``: it knows, and we hear nothing."""
    prepare(pair)
    impatient(pair.source, 5)
    try:
        with Proxy(side_of(pair, side).dsn) as proxy, Workload(pair.source.dsn, seed=22, writers=2) as workload:
            run = Following(pgcopydb, pair, workdir_path, **{side: proxy.dsn}).start()
            for _ in range(2):
                works(run, workload)
                proxy.lose(half)
                works(run, workload)
                run.catches_up(180)
            workload.stop()
            run.catches_up_idle()
            # Nobody has anything to say any more, and they hear of the end position all the same.
            proxy.lose(half)
            run.set_end()
            wait_until(lambda: run.process.poll() is not None, 120, "the end position to be reached")
        # Other sessions than those that hold something are only missed by the server when the proxy is gone.
        run.ends()
    finally:
        pair.source.execute("ALTER SYSTEM RESET wal_sender_timeout")
        pair.source.execute("SELECT pg_reload_conf()")


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_process_dies_with_its_connections_lost(
    side: str, pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    """As with a machine that loses its power: the server keeps the slot, or the origin, for sessions of nobody."""
    prepare(pair)
    with Proxy(side_of(pair, side).dsn) as proxy, Workload(pair.source.dsn, seed=24, writers=2) as workload:
        run = Following(pgcopydb, pair, workdir_path, **{side: proxy.dsn}).start()
        works(run, workload)
        for pid in processes_of(workdir_path):
            os.kill(pid, signal.SIGSTOP)
        proxy.lose("client")
        for pid in processes_of(workdir_path):
            os.kill(pid, signal.SIGKILL)
        run.process.wait(30)
        run.start()
        run.catches_up(30)
        workload.stop()
        run.set_end()
        wait_until(lambda: run.process.poll() is not None, 90, "the end position to be reached")
    run.ends()


def test_the_answer_to_a_commit_is_lost(any_pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """It is committed, and whoever asked for that does not know: before the answer, within it, behind it."""
    prepare(any_pair)
    rng = lot(23)
    with Proxy(any_pair.target.dsn) as proxy, Workload(any_pair.source.dsn, seed=23, writers=2) as workload:
        run = Following(pgcopydb, any_pair, workdir_path, target=proxy.dsn)
        for number in range(8):
            # Of the schema, of rows, of what comes behind them; each attempt finds what the one before has made.
            proxy.cut_in_answer(COMMITTED, 3, skips=number * 3)
            run.begin()
            wait_until(lambda: run.process.poll() is not None or is_applied(any_pair), 60, "changes to be applied")
            if run.process.poll() is None:
                break
            assert run.process.returncode == 7, run.log
        proxy.cut_in_answer(b"", 0)
        if run.process.poll() is not None:
            run.start()
        for _ in range(10):
            times = proxy.told
            proxy.cut_in_answer(COMMITTED, rng.choice([0, 1, 5, len(COMMITTED)]), skips=rng.randrange(5))
            run.wait(partial(is_told, proxy, times), "an answer to be cut")
            works(run, workload, 10)
        run.catches_up()
        workload.stop()
        run.set_end()
        run.ends()


@pytest.mark.parametrize("seed", [1, *(pytest.param(seed, marks=slow) for seed in range(2, 5))])
def test_servers_die_at_any_time(seed: int, any_pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Both, by lot, from the first second of the copy on; what was in their memory only is gone."""
    rng = lot(seed)
    prepare(any_pair)
    run = Following(pgcopydb, any_pair, workdir_path)
    with Workload(any_pair.source.dsn, seed=seed, writers=2, tolerate_disconnects=True) as workload:
        run.begin()
        run.wait(partial(is_applied, any_pair), "changes to be applied", 120)
        for _ in range(5):
            side = rng.choice(["source", "target"])
            side_of(any_pair, side).cluster.stop("immediate")
            if side == "target":
                works(run, workload, rng.randint(1, 60))
            side_of(any_pair, side).cluster.start()
            works(run, workload, rng.randint(1, 60))
            if rng.random() < 0.5:
                run.catches_up()
        run.catches_up()
    run.set_end()
    run.ends()


JUMPS = """
import itertools, time
_true, _number = time.time, itertools.count()
time.time = lambda: _true() + (-86400.0 if next(_number) % 3 == 0 else 3600.0 * (next(_number) % 5))
"""


def test_the_time_of_day_jumps(
    pair: DbPair, pgcopydb: Command, workdir_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Hours forward and a day back, with each look at the clock."""
    (tmp_path / "clock").mkdir()
    (tmp_path / "clock" / "sitecustomize.py").write_text(JUMPS)
    monkeypatch.setenv("PYTHONPATH", os.fspath(tmp_path / "clock"))
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    with Workload(pair.source.dsn, seed=24, writers=2) as workload:
        for _ in range(3):
            works(run, workload)
            run.process.kill()
            run.process.wait(30)
            run.start()
        run.catches_up()
    run.set_end()
    run.ends()
    assert_same_content(pair.source.dsn, pair.target.dsn)
