"""What became of a transaction, asked of a server that has died in between."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from demo.clusters import Cluster
from pgcopydb.bootstrap.transactions import Outcome, current_xid_expression, note, outcome, server_life
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.runtime.errors import PgcopydbError
from pgcopydb.runtime.stop import Stop
from tests.fix_servers import Database, fresh_database
from tests.wait import wait_until


@pytest.fixture(params=[15, 18])
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    # Nothing else takes an id, or brings one to the disk.
    settings = {"autovacuum": "off", "wal_writer_delay": "10s", "checkpoint_timeout": "1h"}
    with Cluster.of_major(request.param, settings=settings) as cluster, fresh_database(cluster, "target") as database:
        yield database


def connect(database: Database) -> Connection:
    return Endpoint(ConnInfo.parse(Side.TARGET, database.dsn), "test").connect("test")


def begun(connection: Connection) -> str:
    """The note of a transaction that is open now."""
    life = server_life(connection)
    row = connection.execute(f"BEGIN; SELECT {current_xid_expression(connection)}")
    row.nextset()
    found = row.fetchone()
    assert found is not None
    return note(found[0], life)


def test_in_one_life(database: Database) -> None:
    with connect(database) as one, connect(database) as asking:
        noted = begun(one)
        one.execute("COMMIT")
        assert outcome(asking, noted, Stop()) is Outcome.COMMITTED
        noted = begun(one)
        one.execute("ROLLBACK")
        assert outcome(asking, noted, Stop()) is Outcome.ABORTED


def test_an_id_that_was_given_twice(database: Database) -> None:
    """The server has not heard of the first one after it died, and then somebody else commits under that id."""
    lost = connect(database)
    noted = begun(lost)
    database.cluster.restart("immediate")
    lost.close()
    with connect(database) as asking:
        assert outcome(asking, noted, Stop()) is Outcome.ABORTED
        again = begun(asking)
        assert again.partition("@")[0] == noted.partition("@")[0], "the id was not given again: nothing is shown"
        asking.execute("COMMIT")
        assert outcome(asking, again, Stop()) is Outcome.COMMITTED
        assert outcome(asking, noted, Stop()) is Outcome.UNKNOWN


def test_statistics_that_are_reset_are_no_death(database: Database) -> None:
    """Nothing has ended by that: what is in progress may still commit."""
    with connect(database) as one, connect(database) as asking, ThreadPoolExecutor(1) as pool:
        noted = begun(one)
        database.execute("SELECT pg_stat_reset_shared('bgwriter')")
        asked = f"SELECT FROM pg_stat_activity WHERE pid = {asking.info.backend_pid} AND query ~ '_status\\('"
        found = pool.submit(outcome, asking, noted, Stop())
        wait_until(lambda: database.fetch(asked), 30, "the question")
        one.execute("COMMIT")
        assert found.result(30) is Outcome.UNKNOWN


def test_a_crash_of_one_process_is_another_life(database: Database) -> None:
    with connect(database) as one:
        before = server_life(one)
        pid = one.execute("SELECT pg_backend_pid()").fetchone()
        assert pid is not None
        os.kill(pid[0], signal.SIGKILL)
        with pytest.raises(psycopg.OperationalError):
            one.execute("SELECT pg_sleep(60)")

    def life() -> str:
        try:
            with connect(database) as again:
                return server_life(again)
        except PgcopydbError:
            return ""

    assert wait_until(life, 30, "the server to recover") != before
