"""How a run begins: what an earlier process of it left running on a server is ended first."""

from __future__ import annotations

import psycopg
import pytest

from pgcopydb.bootstrap.run_state import end_leftovers
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.runtime.stop import Stop
from tests.fix_servers import Database


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
