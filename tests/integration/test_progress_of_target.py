"""The target's progress is that of its commits, whatever became of the transactions that did not commit."""

from __future__ import annotations

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest

from pgcopydb.apply.execute import StatementFailed
from pgcopydb.apply.pipe import PipeReader
from pgcopydb.apply.replay import OnConflict, Replay
from pgcopydb.daemon.progress import Progress, create_progress, drop_progress
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import Kind, TargetError
from tests.fix_servers import Database, Servers, fresh_database
from tests.wait import wait_until

TABLES = """
CREATE TABLE parent (id int PRIMARY KEY);
CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES parent DEFERRABLE INITIALLY DEFERRED);
"""
LINES = b"""\
BEGIN; -- {"xid":1,"lsn":"0/1000010"}
INSERT INTO "public"."parent" ("id") VALUES ('1');
COMMIT; -- {"xid":1,"lsn":"0/1000020","timestamp":"2026-01-10 15:00:00+00"}
BEGIN; -- {"xid":2,"lsn":"0/1000030"}
INSERT INTO "public"."child" ("id", "parent") VALUES ('1', '99');
COMMIT; -- {"xid":2,"lsn":"0/1000040","timestamp":"2026-01-10 15:00:01+00"}
"""
SHIFTED = b"""\
BEGIN; -- {"xid":3,"lsn":"0/1000050"}
UPDATE ONLY "public"."list" SET "place" = '2' WHERE "id" = '1';
UPDATE ONLY "public"."list" SET "place" = '3' WHERE "id" = '2';
COMMIT; -- {"xid":3,"lsn":"0/1000060","timestamp":"2026-01-10 15:00:02+00"}
"""
START = Lsn.parse("0/1000000")


@pytest.fixture(params=[15, 17, 18])
def target(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Database]:
    with fresh_database(servers.get(request.param, "target"), "progress") as database:
        database.execute(TABLES)
        yield database
        with database.connect() as connection:
            drop_progress(connection, database.name)


def endpoint(target: Database) -> Endpoint:
    return Endpoint(ConnInfo.parse(Side.TARGET, target.dsn), "progress")


def replay_lines(target: Database, progress: Progress, lines: bytes = LINES) -> None:
    """Foreign keys fire, as for a role that may not switch them off."""
    reading, writing = os.pipe()
    with os.fdopen(reading, "rb"), endpoint(target).connect("apply") as connection:
        os.write(writing, lines)
        os.close(writing)
        replay = Replay(connection, progress, PipeReader(reading), OnConflict.ERROR)
        replay.begin()
        while replay.step(Lsn()):
            pass


def test_a_commit_that_fails_does_not_move_it(target: Database) -> None:
    with endpoint(target).connect("setup") as connection:
        progress = create_progress(connection, target.name, START)
        assert progress.durable(connection) == START
    with pytest.raises(StatementFailed, match="foreign key"):
        replay_lines(target, progress)
    with endpoint(target).connect("look") as connection:
        assert progress.durable(connection) == Lsn.parse("0/1000020"), "of the transaction that was committed"
    target.cluster.restart("immediate")
    target.execute("INSERT INTO parent VALUES (99)")
    replay_lines(target, progress)
    assert target.fetch("SELECT * FROM child") == [(1, 99)]
    with endpoint(target).connect("look") as connection:
        assert progress.durable(connection) == Lsn.parse("0/1000040")


def test_a_transaction_without_a_statement_moves_it(target: Database) -> None:
    with endpoint(target).connect("setup") as connection:
        progress = create_progress(connection, target.name, START)
    empty = b"".join(line for line in LINES.splitlines(keepends=True) if b"INSERT" not in line)
    replay_lines(target, progress, empty)
    with endpoint(target).connect("look") as connection:
        assert progress.durable(connection) == Lsn.parse("0/1000040")


def test_rows_that_are_unique_again_at_the_end(target: Database) -> None:
    """The source's UPDATE was one statement, at whose end a deferrable constraint is looked at."""
    target.execute("CREATE TABLE list (id int PRIMARY KEY, place int UNIQUE DEFERRABLE)")
    target.execute("INSERT INTO list VALUES (1, 1), (2, 2)")
    with endpoint(target).connect("setup") as connection:
        progress = create_progress(connection, target.name, START)
    replay_lines(target, progress, SHIFTED)
    assert target.fetch("SELECT id, place FROM list ORDER BY id") == [(1, 2), (2, 3)]


def test_only_one_session_moves_it(target: Database) -> None:
    with endpoint(target).connect("setup") as connection, endpoint(target).connect("other") as other:
        progress = create_progress(connection, target.name, START)
        progress.begin_session(connection)
        with pytest.raises(Exception, match="another session on the target"):
            progress.begin_session(other)


def test_a_role_that_may_not_use_origins(target: Database) -> None:
    role = f"plain_{target.name}"
    target.execute(f"CREATE ROLE {role} LOGIN; GRANT CREATE ON DATABASE {target.name} TO {role}")
    info = ConnInfo.parse(Side.TARGET, target.cluster.dsn(target.name, user=role))
    with Endpoint(info, "progress").connect("setup") as connection:
        progress = create_progress(connection, target.name, START)
        assert progress.tracking == "table"
        with psycopg.connect(target.dsn) as owner:
            owner.execute(f"{progress.statement(Lsn.parse('0/1000020'), None)} ROLLBACK")
        assert progress.durable(connection) == START
    target.execute(f"DROP OWNED BY {role}; DROP ROLE {role}")


def test_a_session_that_is_terminated_is_worth_another_try(target: Database) -> None:
    with endpoint(target).connect("setup") as connection:
        progress = create_progress(connection, target.name, START)
    waiting = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'"
    with ThreadPoolExecutor() as pool, target.connect(autocommit=False) as blocker:
        blocker.execute("LOCK TABLE parent")
        replaying = pool.submit(replay_lines, target, progress)
        pid = wait_until(lambda: target.fetch(waiting), 20, "the statement to wait")[0][0]
        target.execute(f"SELECT pg_terminate_backend({pid})")
        with pytest.raises(TargetError) as raised:
            replaying.result(20)
        assert raised.value.kind is Kind.RETRY
