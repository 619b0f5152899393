"""The receiver keeps every change exactly once, through broken connections and crashes at any moment."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson
import psycopg
import pytest

from pgcopydb.daemon.change_file import ChangeFile, change_line
from pgcopydb.daemon.disk import Limits, Room
from pgcopydb.daemon.heartbeat import Phase
from pgcopydb.daemon.plugins import TEST_DECODING_OPTIONS, read_test_decoding
from pgcopydb.daemon.receive import Receiver
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.replication import ReplicationSession
from pgcopydb.runtime.errors import SourceError, StateError
from pgcopydb.runtime.stop import Stop, StopMode
from tests.fix_servers import Database, Servers, fresh_database
from tests.wait import wait_until

SCHEMA = """
CREATE TABLE t (id int PRIMARY KEY, filler text);
CREATE TABLE "odd "": INSERT: name" (i int);
CREATE PROCEDURE work(seed int) LANGUAGE plpgsql AS $$
BEGIN
    FOR i IN 1..40 LOOP
        INSERT INTO t SELECT seed * 100000 + i * 100 + j, repeat(md5(i::text), j % 200) FROM generate_series(1, 50) j;
        UPDATE t SET filler = 'changed' WHERE id = seed * 100000 + i * 100 + 7;
        DELETE FROM t WHERE id = seed * 100000 + i * 100 + 9;
        INSERT INTO "odd "": INSERT: name" VALUES (i);
        IF i % 10 = 0 THEN ROLLBACK; ELSE COMMIT; END IF;
        IF i % 13 = 0 THEN TRUNCATE t; COMMIT; END IF;
        PERFORM pg_logical_emit_message(true, 'test', 'no row'); COMMIT;
    END LOOP;
END $$;
"""
SIZE = 1 << 20
"""Smaller than the server's segments, so that there are many files."""


@pytest.fixture(params=[15, 17, 18])
def database(request: pytest.FixtureRequest, servers: Servers) -> Iterator[Database]:
    with fresh_database(servers.get(request.param), "receive") as database:
        database.execute(SCHEMA)
        for name in ("received", "reference"):
            database.execute(f"SELECT pg_create_logical_replication_slot('{name}_{database.name}', 'test_decoding')")
        yield database
        gone = f"SELECT count(*) FROM pg_replication_slots WHERE database = '{database.name}' AND active"
        wait_until(lambda: database.fetch(gone) == [(0,)], 20, "the walsender to end")
        database.execute(
            f"SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots WHERE database = '{database.name}'"
        )


@dataclass
class Fixed:
    """A control that never changes."""

    endpos: Lsn
    replayed: Lsn = Lsn()  # noqa: RUF009  immutable

    def descriptors(self) -> list[int]:
        return []

    def refresh(self, receiver: Receiver) -> None:
        pass


@dataclass
class UntilPaused(Fixed):
    """Stops a receiver that waits."""

    stop: Stop = field(default_factory=Stop)

    def refresh(self, receiver: Receiver) -> None:
        if receiver.heart.state.phase is Phase.PAUSED:
            self.stop.request(StopMode.GRACEFUL)


def receiver(folder: Path, start: Lsn) -> Receiver:
    folder.mkdir(exist_ok=True)
    return Receiver(folder, 1, SIZE, start)


def start_of(database: Database) -> Lsn:
    """Where the slot begins; asked before anything was received."""
    query = f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'reference_{database.name}'"
    return Lsn.parse(str(database.fetch(query)[0][0]))


def receive(
    database: Database, writer: Receiver, stop: Stop, endpos: Lsn | None = None, replayed: Lsn | None = None
) -> None:
    receive_as(database, writer, stop, Fixed(endpos or Lsn(), replayed or Lsn()))


def receive_as(database: Database, writer: Receiver, stop: Stop, control: Fixed) -> None:
    with ReplicationSession(ConnInfo.parse(Side.SOURCE, database.dsn), "pgcopydb[0] receive test") as session:
        slot = f"received_{database.name}"
        writer.repair(stop)
        writer.run(session, slot, TEST_DECODING_OPTIONS, read_test_decoding, stop, control)


def current(database: Database) -> Lsn:
    return Lsn.parse(str(database.fetch("SELECT pg_current_wal_insert_lsn()")[0][0]))


def reference(database: Database) -> list[list[str]]:
    """What the server says by itself: the payloads of each transaction that changes a row."""
    rows = database.fetch(
        f"SELECT data FROM pg_logical_slot_get_changes('reference_{database.name}', NULL, NULL,"
        " 'include-xids', 'true', 'include-timestamp', 'true', 'skip-empty-xacts', 'true')"
    )
    found: list[list[str]] = []
    for (data,) in rows:
        if data.startswith("BEGIN "):
            found.append([])
        if not data.startswith("message: "):
            found[-1].append(data)
    return [transaction for transaction in found if len(transaction) > 2]


def kept(folder: Path) -> list[list[str]]:
    """The complete transactions of the files, in their order."""
    lines: list[dict[str, Any]] = []
    for path in sorted(folder.glob("*.json*")):
        content = path.read_bytes()
        assert content.endswith(b"\n") or not content
        lines += [orjson.loads(line) for line in content.splitlines()]
    found: list[list[str]] = []
    open_transaction: list[str] | None = None
    for line in lines:
        if line["action"] == "B":
            assert open_transaction is None, "a transaction within another"
            open_transaction = [f"BEGIN {line['xid']}"]
        if line["action"] == "R":
            open_transaction = None
        if "message" in line:
            assert open_transaction is not None
            open_transaction.append(line["message"])
        if line["action"] == "C":
            assert open_transaction is not None
            found.append([*open_transaction, f"COMMIT {line['xid']} (at {line['timestamp']})"])
            open_transaction = None
    return found


def test_every_change_is_kept_once_and_in_order(database: Database, tmp_path: Path) -> None:
    writers = [threading.Thread(target=database.execute, args=(f"CALL work({seed})",)) for seed in (1, 2)]
    for thread in writers:
        thread.start()
    for thread in writers:
        thread.join()
    writer = receiver(tmp_path / "cdc", start_of(database))
    receive(database, writer, Stop(), current(database))
    expected = reference(database)
    assert len(expected) > 50
    assert kept(tmp_path / "cdc") == expected
    assert writer.transactions == len(expected)
    assert len(list((tmp_path / "cdc").glob("*.json"))) > 1, "there is more than one file"


def test_broken_connections_and_lost_buffers(
    database: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The walsender is killed again and again; each time all that was not on disk is lost as in a crash."""
    folder = tmp_path / "cdc"
    start = start_of(database)

    def crash(self: ChangeFile) -> None:
        # Half of what was on its way arrives, cut anywhere.
        del self._pending[len(self._pending) // 2 :]
        self.flush()
        real_close(self)

    real_close = ChangeFile.close
    kill = (
        "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots"
        f" WHERE slot_name = 'received_{database.name}' AND active"
    )
    done = threading.Event()

    def keep_killing() -> None:
        with psycopg.connect(database.dsn, autocommit=True) as connection:
            while not done.wait(0.05):
                connection.execute(kill.encode())

    def write() -> None:
        for seed in range(1, 25):
            database.execute(f"CALL work({seed})")

    writing = threading.Thread(target=write)
    killing = threading.Thread(target=keep_killing)
    writing.start()
    killing.start()
    broken = 0
    monkeypatch.setattr(ChangeFile, "close", crash)
    stop = Stop()
    while writing.is_alive():
        try:
            receive(database, receiver(folder, start), stop, None)
        except SourceError:
            broken += 1
    done.set()
    killing.join()
    receive(database, receiver(folder, start), Stop(), current(database))
    assert broken >= 2
    assert kept(folder) == reference(database)


def test_nothing_is_acknowledged_that_is_not_on_disk(database: Database, tmp_path: Path) -> None:
    database.execute("CALL work(1)")
    writer = receiver(tmp_path / "cdc", start_of(database))
    receive(database, writer, Stop(), current(database))
    confirmed = database.fetch(
        f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'received_{database.name}'"
    )
    assert Lsn.parse(str(confirmed[0][0])) <= writer.durable


def test_a_stop_request_ends_it_in_good_order(database: Database, tmp_path: Path) -> None:
    stop = Stop()
    writer = receiver(tmp_path / "cdc", start_of(database))
    thread = threading.Thread(target=receive, args=(database, writer, stop))
    thread.start()
    database.execute("INSERT INTO t VALUES (1, 'one')")
    wait_until(lambda: writer.transactions, 20, "the transaction to arrive")
    stop.request(StopMode.GRACEFUL)
    database.execute("INSERT INTO t VALUES (2, 'two')")
    thread.join(20)
    assert not thread.is_alive()
    receive(database, receiver(tmp_path / "cdc", start_of(database)), Stop(), current(database))
    assert kept(tmp_path / "cdc") == reference(database)


def test_no_more_is_acknowledged_than_the_target_has(database: Database, tmp_path: Path) -> None:
    database.execute("CALL work(1)")
    half = current(database)
    database.execute("CALL work(2)")
    receive(database, receiver(tmp_path / "cdc", start_of(database)), Stop(), current(database), replayed=half)
    query = f"SELECT confirmed_flush_lsn FROM pg_replication_slots WHERE slot_name = 'received_{database.name}'"
    assert Lsn.parse(str(database.fetch(query)[0][0])) <= half


def test_files_that_end_before_the_slot(database: Database, tmp_path: Path) -> None:
    folder = tmp_path / "cdc"
    start = start_of(database)
    database.execute("CALL work(1)")
    receive(database, receiver(folder, start), Stop(), current(database))
    for path in folder.iterdir():
        path.unlink()
    with pytest.raises(StateError, match=r"the slot was acknowledged up to .*, the files of .* end at"):
        receive(database, receiver(folder, start), Stop(), current(database))


def test_an_end_position_within_a_transaction(database: Database, tmp_path: Path) -> None:
    """What is committed behind it is given up, and comes whole when the end position is moved on."""
    folder = tmp_path / "cdc"
    start = start_of(database)
    with database.connect() as connection, connection.transaction():
        connection.execute("INSERT INTO t VALUES (1, 'within')")
        # The position is that of the server's memory; a commit of another session brings it to disk.
        middle = current(database)
        database.execute("INSERT INTO t VALUES (2, 'before')")
        middle = current(database)
        connection.execute("INSERT INTO t VALUES (3, 'within')")
    receive(database, receiver(folder, start), Stop(), middle)
    assert [len(found) for found in kept(folder)] == [3]
    writer = receiver(folder, start)
    receive(database, writer, Stop(), middle)
    assert writer.reached, "it is reached already"
    receive(database, receiver(folder, start), Stop(), current(database))
    assert kept(folder) == reference(database)


@pytest.mark.parametrize("last", ["C", "K", "R"])
def test_what_was_received_before_a_restart_counts_for_the_limit(
    last: str, database: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Nothing is received until the target has what an earlier process received; then one transaction is."""
    folder = tmp_path / "cdc"
    start = start_of(database)
    insert = "INSERT INTO t SELECT i, repeat('v', 100) FROM generate_series({}, {}) i"
    database.execute(insert.format(1, 100))
    applied = current(database)
    # Nothing is acknowledged: what is cut off again may be more than this transaction, for the server writes WAL too.
    receive(database, receiver(folder, start), Stop(), applied, replayed=start)
    path = max(folder.glob("*.json*"))
    lines = path.read_bytes().splitlines(keepends=True)
    commit = max(number for number, line in enumerate(lines) if line.startswith(b'{"action":"C"'))
    end = {"C": b"", "K": change_line("K", applied), "R": change_line("B", applied, xid="7")}[last]
    path.write_bytes(b"".join(lines[: commit + 1]) + end)
    database.execute(insert.format(101, 200))

    for replayed, received in ((start, 0), (applied, 1)):
        stop = Stop()
        writer = receiver(folder, start)
        writer.room = Room(folder, SIZE, Limits(most=1, floor=0))
        receive_as(database, writer, stop, UntilPaused(Lsn(), replayed, stop))
        assert writer.transactions == received
        rows = sum(file.read_bytes().count(b"v" * 100) for file in folder.iterdir())
        assert rows == 100 + 100 * received, "no part of a transaction either"
        assert ("though all of it is applied" in caplog.text) == bool(received)
