"""The walsender session: slots, snapshots, changes, acknowledgement, and how a stream ends."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.replication import Change, Keepalive, ReplicationSession
from pgcopydb.postgres.server import wal_position
from pgcopydb.runtime.errors import Kind, SourceError
from pgcopydb.runtime.stop import Stop
from tests.fix_servers import Database, Servers, fresh_database
from tests.wait import wait_until

HOSTILE_SETTINGS = {
    "DateStyle": "German",
    "extra_float_digits": "0",
    "bytea_output": "escape",
    "TimeZone": "Asia/Tokyo",
    "IntervalStyle": "iso_8601",
    "statement_timeout": "1s",
}
OPTIONS = {"include-xids": "true"}


@pytest.fixture(params=[15, 17, 18])
def database(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Database]:
    with fresh_database(servers.get(request.param), "replication") as database:
        yield database
        database.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE database = current_database()"
        )
        wait_until(
            lambda: (
                database.fetch(
                    "SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots"
                    " WHERE database = current_database() AND NOT active"
                )
                or not slots(database)
            ),
            20,
            "the slots to be dropped",
        )


def session(database: Database) -> ReplicationSession:
    return ReplicationSession(ConnInfo.parse(Side.SOURCE, database.dsn), "pgcopydb[0] receive test")


def slots(database: Database) -> list[tuple[str]]:
    return database.fetch("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()")


def changes(stream: ReplicationSession, count: int) -> list[Change]:
    """The next ``count`` messages of the plugin."""
    found: list[Change] = []
    deadline = time.monotonic() + 20
    while len(found) < count:
        assert time.monotonic() < deadline, found
        stream.wait(1.0)
        found += [message for message in stream.read() if isinstance(message, Change)]
    return found


def test_the_snapshot_and_the_stream_meet_exactly(database: Database) -> None:
    database.execute("CREATE TABLE t (i int); INSERT INTO t VALUES (1)")
    with session(database) as stream, database.connect() as reader:
        slot = stream.create_slot("meets", "test_decoding", Stop())
        database.execute("INSERT INTO t VALUES (2)")
        reader.execute("BEGIN ISOLATION LEVEL REPEATABLE READ")
        reader.execute(f"SET TRANSACTION SNAPSHOT '{slot.snapshot}'")
        assert reader.execute("SELECT i FROM t").fetchall() == [(1,)]
        stream.start(slot.name, slot.consistent_point, OPTIONS)
        begin, insert, commit = changes(stream, 3)
        stream.finish()
    assert begin.payload.startswith(b"BEGIN ")
    assert insert.payload == b"table public.t: INSERT: i[integer]:2"
    assert commit.payload.startswith(b"COMMIT ")
    assert slot.consistent_point.value <= begin.lsn <= insert.lsn < commit.lsn


def test_only_what_was_acknowledged_is_forgotten(database: Database) -> None:
    database.execute("CREATE TABLE t (i int)")
    with session(database) as stream:
        slot = stream.create_slot("forgets", "test_decoding", Stop())
        for number in range(3):
            database.execute(f"INSERT INTO t VALUES ({number})")
        stream.start(slot.name, slot.consistent_point, OPTIONS)
        received = changes(stream, 9)
        # The position behind the first transaction's commit: where the second begins.
        first = Lsn(received[3].lsn)
        stream.feedback(written=Lsn(received[-1].lsn), flushed=first, applied=first)
        stream.finish()
    with session(database) as stream:
        stream.start("forgets", Lsn(0), OPTIONS)
        again = changes(stream, 6)
        assert [change.payload for change in again] == [change.payload for change in received[3:]]
        stream.finish()


def test_a_keepalive_that_was_asked_for_comes(database: Database) -> None:
    with session(database) as stream:
        slot = stream.create_slot("answers", "test_decoding", Stop(), temporary=True)
        stream.start(slot.name, slot.consistent_point, OPTIONS)
        here = Lsn.parse(str(database.fetch("SELECT pg_current_wal_flush_lsn()")[0][0]))
        stream.feedback(written=Lsn(0), flushed=Lsn(0), applied=Lsn(0), ask=True)

        def caught_up() -> bool:
            stream.wait(0.1)
            positions = [message.lsn for message in stream.read() if isinstance(message, Keepalive)]
            return any(lsn >= slot.consistent_point.value for lsn in positions)

        wait_until(caught_up, 20, "a keepalive")
        assert here >= slot.consistent_point
        stream.finish()


def test_values_have_one_form_whatever_the_database_says(database: Database) -> None:
    for name, value in HOSTILE_SETTINGS.items():
        database.execute(f"ALTER DATABASE {database.name} SET {name} = '{value}'")
    with session(database) as stream, database.connect() as writer:
        writer.execute("CREATE TABLE t (d timestamptz, f float8, b bytea, i interval)")
        slot = stream.create_slot("pinned", "test_decoding", Stop(), temporary=True)
        writer.execute("INSERT INTO t VALUES ('2026-02-01 00:00:00+00', 0.1::float8 + 0.2, '\\x00ff', '1 day 2 hours')")
        stream.start(slot.name, slot.consistent_point, OPTIONS)
        payload = changes(stream, 3)[1].payload.decode()
        stream.finish()
    assert "d[timestamp with time zone]:'2026-02-01 00:00:00+00'" in payload
    assert "f[double precision]:0.30000000000000004" in payload
    assert "b[bytea]:'\\x00ff'" in payload
    assert "i[interval]:'1 day 02:00:00'" in payload


def test_what_goes_wrong_is_said_in_the_servers_words(database: Database) -> None:
    with session(database) as stream:
        with pytest.raises(SourceError, match='replication slot "nothing" does not exist') as caught:
            stream.start("nothing", Lsn(0), {})
        assert caught.value.sqlstate == "42704"
        with pytest.raises(SourceError, match=r'"\S*no_such_plugin"'):
            stream.create_slot("broken", "no_such_plugin", Stop())
    with session(database) as one, session(database) as other:
        slot = one.create_slot("taken", "test_decoding", Stop())
        one.start(slot.name, slot.consistent_point, OPTIONS)
        with pytest.raises(SourceError, match='replication slot "taken" is active for PID') as caught:
            other.start("taken", Lsn(0), OPTIONS)
        assert caught.value.sqlstate == "55006"
        one.finish()


def test_a_stream_that_the_server_breaks_off_is_worth_another_try(database: Database) -> None:
    with session(database) as stream:
        slot = stream.create_slot("broken_off", "test_decoding", Stop())
        stream.start(slot.name, slot.consistent_point, OPTIONS)
        database.execute(
            "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = 'broken_off'"
        )

        def read_on() -> bool:
            stream.wait(0.1)
            list(stream.read())
            return False

        with pytest.raises(SourceError) as caught:
            wait_until(read_on, 20, "the end of the stream")
        assert caught.value.kind is Kind.RETRY


def test_dropping_a_slot_and_naming_the_system(database: Database) -> None:
    with session(database) as stream:
        stream.create_slot("dropped", "test_decoding", Stop())
        stream.drop_slot("dropped")
        assert slots(database) == []
        identity = stream.identify()
        assert identity.system == str(database.fetch("SELECT system_identifier FROM pg_control_system()")[0][0])
        assert identity.timeline == 1
        assert identity.flushed


def test_a_position_behind_every_visible_commit(database: Database) -> None:
    """Also behind those that did not wait for the disk, and are seen before their WAL is there."""
    database.execute("CREATE TABLE seen (id int)")
    endpoint = Endpoint(ConnInfo.parse(Side.SOURCE, database.dsn), "test")
    with database.connect() as writer, endpoint.connect("test") as asking:
        writer.autocommit = True
        writer.execute("SET synchronous_commit = off")
        not_flushed = 0
        for number in range(50):
            writer.execute("INSERT INTO seen VALUES (%s)", (number,))
            written = asking.execute("SELECT pg_current_wal_insert_lsn()::text").fetchall()[0][0]
            not_flushed += wal_position(asking) < Lsn.parse(written)
            assert wal_position(asking, with_all_commits=True) >= Lsn.parse(written)
        assert not_flushed


def test_a_server_without_a_free_walsender(database: Database) -> None:
    """It may not have noticed yet that an earlier session of ours is gone."""
    with ExitStack() as stack:
        for _ in range(int(database.fetch("SHOW max_wal_senders")[0][0])):
            stack.enter_context(session(database))
        with pytest.raises(SourceError, match="standby connections") as refused:
            session(database)
    assert refused.value.kind is Kind.RETRY
