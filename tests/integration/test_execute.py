"""Lines of SQL files in a session: more than a socket takes at once, and what the server says about them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from pgcopydb.apply.execute import Conflict, Executor, StatementFailed
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from tests.fix_servers import Database

LARGE = 30 << 20


@pytest.fixture
def session(target_db: Database) -> Iterator[Connection]:
    target_db.execute("CREATE TABLE t (id int PRIMARY KEY, v text)")
    with Endpoint(ConnInfo.parse(Side.TARGET, target_db.dsn), "test").connect("apply") as connection:
        yield connection


def test_a_statement_larger_than_every_buffer(session: Connection) -> None:
    conflicts: list[Conflict] = []
    executor = Executor(session, conflicts.append)
    executor.run(
        [b"INSERT INTO public.t VALUES (1, '%b');\n" % (b"x" * LARGE), b"DELETE FROM public.t WHERE id = 2;\n"]
    )
    assert executor.rows == 1
    assert [(conflict.expected, conflict.found) for conflict in conflicts] == [(1, 0)]
    assert session.execute("SELECT length(v) FROM public.t").fetchall() == [(LARGE,)]


def test_a_server_that_answers_while_it_is_written_to(session: Connection) -> None:
    """Its notices fill the socket the other way round."""
    executor = Executor(session, print)
    noise = "DO $$ BEGIN FOR i IN 1..20000 LOOP RAISE NOTICE '%', repeat('n', 500); END LOOP; END $$;"
    executor.command(f"{noise} SELECT '{'x' * LARGE}';")
    assert session.execute("SELECT 1").fetchone() == (1,)


def test_the_session_goes_on_behind_a_refused_statement(session: Connection) -> None:
    executor = Executor(session, print)
    with pytest.raises(StatementFailed, match="duplicate key"):
        executor.run([b"INSERT INTO public.t VALUES (1, 'a');\n", b"INSERT INTO public.t VALUES (1, 'b');\n"])
    executor.run([b"INSERT INTO public.t VALUES (1, 'c');\n"])
    assert session.execute("SELECT v FROM public.t").fetchall() == [("c",)]
