"""How a run begins: whose work directory it is; what an earlier process of it left running on a server is ended."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import psycopg
import pytest
from psycopg.conninfo import make_conninfo

from demo.clusters import Cluster
from pgcopydb.bootstrap.run_state import check_identity, end_leftovers, is_same_database
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.server import inspect_server
from pgcopydb.runtime.errors import StateError
from pgcopydb.runtime.stop import Stop
from tests.fix_servers import Database
from tests.wait import wait_until

HERE = {"host": "a", "port": "5432", "dbname": "shop", "user": "app", "system": "7711"}


@pytest.mark.parametrize(
    ("stored", "found", "same"),
    [
        ({}, {}, True),
        ({}, {"host": "b", "port": "6432"}, True),
        ({}, {"system": "7712"}, False),
        ({}, {"dbname": "other"}, False),
        ({}, {"user": "other"}, False),
        ({"system": ""}, {}, True),
        ({"system": ""}, {"host": "b"}, False),
        ({}, {"system": ""}, True),
        ({}, {"system": "", "port": "6432"}, False),
    ],
    ids=str,
)
def test_one_database_at_two_places(stored: dict[str, str], found: dict[str, str], same: bool) -> None:
    assert is_same_database({**HERE, **stored}, {**HERE, **found}) is same


def test_what_was_stored_before_the_system_was() -> None:
    earlier = {key: value for key, value in HERE.items() if key != "system"}
    assert is_same_database(earlier, HERE)
    assert not is_same_database(earlier, {**HERE, "host": "b"})


@pytest.fixture(scope="module")
def twins() -> Iterator[tuple[Cluster, Cluster]]:
    """Two servers of one cluster: the first, and its standby, which takes over."""
    with Cluster.of_major(15) as primary, Cluster.of_major(15, primary=primary) as standby:
        primary.create_database("shop")
        yield primary, standby


def connect_to(database: Database, side: Side, store: CatalogStore) -> None:
    endpoint = Endpoint(ConnInfo.parse(side, database.dsn), "0123abcd")
    with endpoint.connect("begin") as connection:
        check_identity(store, {side: inspect_server(connection, side)}, None)


def test_a_server_that_took_over(twins: tuple[Cluster, Cluster], target_db: Database, tmp_path: Path) -> None:
    """The source goes on where it was. A target may lack what was copied last, which nobody would copy again."""
    before, after = (Database(cluster, "shop") for cluster in twins)
    wait_until(lambda: Database(twins[1], "postgres").fetch("SELECT FROM pg_database WHERE datname = 'shop'"), 30, "it")
    with closing(CatalogStore.create(tmp_path / "store")) as store:
        for side in Side:
            connect_to(before, side, store)
        connect_to(after, Side.SOURCE, store)
        connect_to(before, Side.SOURCE, store)
        with pytest.raises(StateError, match="whether it has all that was copied before is not known"):
            connect_to(after, Side.TARGET, store)
        with store.step("summary"):
            pass
        connect_to(after, Side.TARGET, store)
        for side in Side:
            with pytest.raises(StateError, match="belongs to another"):
                connect_to(target_db, side, store)


def test_a_role_that_may_not_read_the_system(target_db: Database) -> None:
    function = "FUNCTION pg_control_system()"
    target_db.execute(f"CREATE ROLE plain LOGIN; REVOKE EXECUTE ON {function} FROM PUBLIC")
    try:
        dsn = make_conninfo(target_db.dsn, user="plain")
        with Endpoint(ConnInfo.parse(Side.TARGET, dsn), "0123abcd").connect("begin") as session:
            assert inspect_server(session, Side.TARGET).system == ""
    finally:
        target_db.execute(f"GRANT EXECUTE ON {function} TO PUBLIC; DROP ROLE plain")


@pytest.mark.parametrize("of_this_pid", [False, True], ids=["another", "the same"])
def test_leftovers_of_the_run_are_ended(of_this_pid: bool, target_db: Database) -> None:
    """In a container every process of the program may have pid 1."""
    endpoint = Endpoint(ConnInfo.parse(Side.TARGET, target_db.dsn), "0123abcd")
    title = endpoint.title("copy-1") if of_this_pid else "pgcopydb[999999] copy-1 0123abcd"
    stranger = target_db.connect(application_name="pgcopydb[999999] copy-1 4567cdef")
    leftover = target_db.connect(application_name=title)
    with endpoint.connect("begin") as connection:
        end_leftovers(connection, endpoint, Stop())
        assert connection.execute("SELECT 1").fetchone() == (1,)
    with pytest.raises(psycopg.OperationalError):
        leftover.execute("SELECT 1")
    assert stranger.execute("SELECT 1").fetchone() == (1,)
    stranger.close()
