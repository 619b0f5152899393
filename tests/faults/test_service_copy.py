"""A service is left alone during the copy too: whatever happens, it waits or ends with what its manager starts it
again for, and in the end nothing is lost."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import Following, has_worked, is_applied, pair_of, prepare, processes_of
from tests.lot import lot
from tests.proxy import Proxy
from tests.wait import wait_until
from tests.workload import Workload

slow = pytest.mark.slow

ROWS = """
CREATE TABLE wide (id bigint PRIMARY KEY, filler text NOT NULL);
INSERT INTO wide SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 40000) i;
CREATE TABLE wider (id bigint PRIMARY KEY, filler text NOT NULL);
INSERT INTO wider SELECT i, repeat(md5(i::text), 20) FROM generate_series(1, 40000) i;
"""
SIZE = 50_000_000
"""About what these rows are on their way."""
ROWS_FLOW = 1_000_000
"""Behind so many bytes the schema is there, and rows are on their way."""
SCHEMA_SHARE = 3
"""One in so many faults comes before that."""


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 17) as pair:
        yield pair


class Ways:
    """Through which both servers are reached, and what may happen on them."""

    def __init__(self, pair: DbPair, source: Proxy, target: Proxy, workload: Workload) -> None:
        self.pair = pair
        self.both = (source, target)
        self.workload = workload

    def cut(self, number: int) -> None:
        self.both[number % 2].cut()

    def silent(self, number: int) -> None:
        proxy = self.both[number % 2]
        proxy.stall()
        wait_until(partial(has_worked, self.workload, self.workload.committed + 60), 60, "work on the source")
        proxy.flow()

    def lost_by_us(self, number: int) -> None:
        self.both[number % 2].lose("server")

    def lost_by_the_server(self, number: int) -> None:
        self.both[number % 2].lose("client")

    def died(self, number: int) -> None:
        (self.pair.source, self.pair.target)[number % 2].cluster.restart("immediate")


FAULTS: dict[str, Callable[[Ways, int], None]] = {
    "cut": Ways.cut,
    "silent": Ways.silent,
    "lost by us": Ways.lost_by_us,
    "lost by the server": Ways.lost_by_the_server,
    "died": Ways.died,
}


@pytest.mark.parametrize("fault", [pytest.param(name, marks=[] if name == "died" else slow) for name in FAULTS])
def test_whatever_happens_while_a_service_copies(
    fault: str, pair: DbPair, pgcopydb: Command, workdir_path: Path, tmp_path: Path
) -> None:
    prepare(pair)
    pair.source.execute(ROWS)
    rng = lot(31)
    with Proxy(pair.source.dsn) as source, Proxy(pair.target.dsn) as target:
        run = Following(pgcopydb, pair, workdir_path, source=source.dsn, target=target.dsn)
        env = {**run.env(), "NOTIFY_SOCKET": str(tmp_path / "notify")}

        def begin() -> None:
            run.process = pgcopydb.start("clone", "--follow", "--resume", "--dir", workdir_path, env=env)

        def goes_on() -> bool:
            """As the service manager sees to it. Whether the copy is complete."""
            if run.process.poll() is not None:
                assert run.process.returncode == 75, run.log
                wait_until(lambda: not processes_of(workdir_path), 30, "its children to end")
                begin()
            return is_applied(pair)

        begin()
        with Workload(pair.source.dsn, seed=31, writers=1, tolerate_disconnects=True) as workload:
            ways = Ways(pair, source, target, workload)
            for number in range(6):
                # pg_dump and pg_restore have sessions that nobody but they themselves can look after.
                early = fault != "lost by us" and number % SCHEMA_SHARE == 0
                place = target.passed + (rng.randrange(ROWS_FLOW) if early else ROWS_FLOW + rng.randrange(SIZE // 6))
                wait_until(lambda: goes_on() or target.passed > place, 120, "the place to come")  # noqa: B023
                FAULTS[fault](ways, number)
            wait_until(goes_on, 180, "the copy to be complete")
            workload.stop()
        run.process.send_signal(signal.SIGTERM)
        run.process.wait(60)
        run.start()
        run.set_end()
        wait_until(lambda: run.process.poll() is not None, 90, "the end position to be reached")
    run.ends()
