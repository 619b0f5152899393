"""The random work is what it says: the same for the same seed, of every kind, and through a server's restart."""

from __future__ import annotations

from collections.abc import Iterator

import psycopg
import pytest

from demo.clusters import Cluster, StopMode
from tests.content import assert_same_content
from tests.fix_servers import Database, Servers, fresh_database
from tests.wait import wait_until
from tests.workload import SCHEMA, TRUNCATES, Counts, Step, Workload

FOR_SEVERAL_WRITERS = {Step.HELD}


@pytest.fixture(scope="module")
def cluster(servers: Servers) -> Cluster:
    cluster = servers.get(15, "workload")
    with psycopg.connect(cluster.dsn(), autocommit=True) as connection:
        connection.execute("ALTER SYSTEM SET max_prepared_transactions = 10")
    cluster.restart()
    return cluster


@pytest.fixture
def pair(cluster: Cluster) -> Iterator[tuple[Database, Database]]:
    with fresh_database(cluster, "workload") as one, fresh_database(cluster, "workload") as other:
        for database in (one, other):
            database.execute(SCHEMA)
        yield one, other


@pytest.fixture
def database(pair: tuple[Database, Database]) -> Database:
    return pair[0]


def left(database: Database) -> list[tuple[int]]:
    """Connections and prepared transactions of the workload."""
    return database.fetch(
        "SELECT count(*) FROM pg_stat_activity WHERE application_name ~ '^workload-' AND datname = current_database()"
        " UNION ALL SELECT count(*) FROM pg_prepared_xacts WHERE database = current_database()"
    )


def assert_nothing_left(database: Database) -> None:
    wait_until(lambda: left(database) == [(0,), (0,)], 20, "the connections to end, and nothing to be prepared")


def wait_for_work(workload: Workload) -> None:
    goal = workload.committed + 30
    wait_until(lambda: workload.committed >= goal, 30, "some work")


def test_one_writer_repeats_itself(pair: tuple[Database, Database]) -> None:
    one, other = pair
    counts = [Workload(one.dsn, 7, writers=1).run(400)]
    # In several pieces it is the same work.
    workload = Workload(other.dsn, 7, writers=1)
    pieces = Counts()
    for transactions in (150, 0, 250):
        pieces.add(workload.run(transactions))
    counts.append(pieces)
    assert counts[0] == counts[1]
    assert_same_content(one.dsn, other.dsn)
    assert counts[0].conflicts == 0
    assert set(Step) - set(counts[0].steps) <= FOR_SEVERAL_WRITERS
    filled = one.fetch(
        "SELECT c.oid::regclass::text FROM pg_class AS c WHERE c.relkind = 'r' AND relnamespace::regnamespace::text IN"
        " ('work', 'public') AND (xpath('//n/text()', query_to_xml(format('SELECT count(*) AS n FROM ONLY %s',"
        " c.oid::regclass), false, true, '')))[1]::text::int > 0"
    )
    assert len(filled) > 25, filled


def test_another_seed_is_other_work(pair: tuple[Database, Database]) -> None:
    for seed, database in enumerate(pair):
        Workload(database.dsn, seed, writers=1).run(100)
    with pytest.raises(AssertionError, match="differs"):
        # There the seed itself is written.
        assert_same_content(pair[0].dsn, pair[1].dsn, ignore_tables=[("work", "overtaking")])


def test_several_writers_do_everything(database: Database) -> None:
    counts = Workload(database.dsn, 11).run(1000)
    assert counts.transactions == 1000
    assert set(counts.steps) == set(Step), set(Step) - set(counts.steps)
    ends = (Step.COMMIT, Step.COMMIT_PREPARED, Step.ROLLBACK, Step.ROLLBACK_PREPARED, Step.EMPTY)
    assert sum(counts.steps[end] for end in ends) + counts.conflicts == 1000
    assert 0 < counts.conflicts < 300
    assert counts.reconnects == 0
    assert_nothing_left(database)


def test_steps_that_are_left_out(database: Database) -> None:
    counts = Workload(database.dsn, 3, writers=2, without=TRUNCATES).run(200)
    assert not TRUNCATES & set(counts.steps)
    assert Step.UPDATE in counts.steps


def test_it_survives_restarts_when_told_so(cluster: Cluster, database: Database) -> None:
    modes: tuple[StopMode, ...] = ("fast", "immediate")
    with Workload(database.dsn, 5, tolerate_disconnects=True) as workload:
        for mode in modes:
            wait_for_work(workload)
            cluster.restart(mode)
        wait_for_work(workload)
        counts = workload.stop()
    assert counts.reconnects >= 3
    assert_nothing_left(database)


def test_a_lost_connection_is_an_error_otherwise(cluster: Cluster, database: Database) -> None:
    workload = Workload(database.dsn, 5)
    workload.start()
    wait_for_work(workload)
    cluster.restart("immediate")
    with pytest.raises(psycopg.OperationalError):
        workload.stop()
    assert_nothing_left(database)


def test_what_nobody_expects_is_raised(database: Database) -> None:
    database.execute("DROP TABLE work.log")
    with pytest.raises(psycopg.errors.UndefinedTable):
        Workload(database.dsn, 1).run(500)
    assert_nothing_left(database)
