"""What is seen of the slot while it is watched: that it is lost and why, and nothing that stopped to answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import orjson
import psycopg
import pytest

from pgcopydb.daemon.service import Service
from pgcopydb.postgres import liveness
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.runtime.workdir import WorkDir
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers
from tests.following import Following, pair_of
from tests.proxy import Proxy
from tests.wait import wait_until


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 18, 17) as pair:
        yield pair


WRITES = (
    "SELECT pg_logical_emit_message(false, 'x', repeat('x', 10000), true), pg_sleep(0.05) FROM generate_series(1, 9999)"
)


@contextmanager
def writing(source: Database) -> Iterator[None]:
    """WAL of some 200 kB a second."""
    session = source.connect()

    def write() -> None:
        with suppress(psycopg.errors.QueryCanceled):
            session.execute(WRITES)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        yield
    finally:
        session.cancel()
        writer.join()
        session.close()


def test_a_slot_that_nobody_read_for_too_long(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    env = Following(pgcopydb, pair, workdir_path).env()
    pgcopydb.run("stream", "setup", "--dir", workdir_path, env=env)

    def is_lost() -> bool:
        pair.source.execute("SELECT pg_logical_emit_message(false, 'x', 'x', true)")
        pair.source.execute("CHECKPOINT")
        return pair.source.fetch("SELECT invalidation_reason FROM pg_replication_slots") == [("idle_timeout",)]

    try:
        pair.source.execute("ALTER SYSTEM SET idle_replication_slot_timeout = '1s'")
        pair.source.execute("SELECT pg_reload_conf()")
        wait_until(is_lost, 60, "the slot to be lost")
    finally:
        pair.source.execute("ALTER SYSTEM RESET idle_replication_slot_timeout")
        pair.source.execute("SELECT pg_reload_conf()")
    why = "replication slot pgcopydb is lost: nobody has read it for longer than idle_replication_slot_timeout"
    found = orjson.loads(pgcopydb.run("status", "--json", "--dir", workdir_path, env=env).stdout)
    assert found["warnings"] == [why]
    failed = pgcopydb.run("stream", "receive", "--dir", workdir_path, env=env, check=False)
    assert failed.returncode == 6
    assert why in failed.stderr
    assert "set idle_replication_slot_timeout = 0" in failed.stderr


def test_a_session_that_was_forgotten_on_the_way(
    pair: DbPair, pgcopydb: Command, workdir_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Without an end to its patience nobody would ever be warned again."""
    env = Following(pgcopydb, pair, workdir_path).env()
    pgcopydb.run("stream", "setup", "--dir", workdir_path, env=env)
    monkeypatch.setattr(liveness, "SILENT_SECONDS", 2.0)
    monkeypatch.setattr("pgcopydb.daemon.service._SLOT_SECONDS", 0.2)
    with Proxy(pair.source.dsn) as proxy:
        source = Endpoint(ConnInfo.parse(Side.SOURCE, proxy.dsn), "watch")
        service = Service(source, WorkDir(workdir_path), ())
        with service.watched():
            wait_until(lambda: service.health is not None, 30, "a look at the slot")
            proxy.lose("server")
            pair.source.execute("SELECT pg_drop_replication_slot('pgcopydb')")
            wait_until(lambda: service.health is not None and not service.health.exists, 30, "another look")


def test_until_when_a_slot_is_safe(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Also while nothing runs: then it is in danger."""
    env = Following(pgcopydb, pair, workdir_path).env()
    pgcopydb.run("stream", "setup", "--dir", workdir_path, env=env)

    def left() -> float | None:
        found = orjson.loads(pgcopydb.run("status", "--json", "--dir", workdir_path, env=env).stdout)
        seconds: float | None = found["slot"]["seconds_until_lost"]
        return seconds

    try:
        pair.source.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '1GB'")
        pair.source.execute("SELECT pg_reload_conf()")
        with writing(pair.source):
            wait_until(lambda: (left() or 0) > 100, 30, "an estimate")
            people = pgcopydb.run("status", "--dir", workdir_path, env=env).stdout
            assert "until it may be lost (about " in people
    finally:
        pair.source.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        pair.source.execute("SELECT pg_reload_conf()")


def test_a_slot_that_was_dropped(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    env = Following(pgcopydb, pair, workdir_path).env()
    pgcopydb.run("stream", "setup", "--dir", workdir_path, env=env)
    pair.source.execute("SELECT pg_drop_replication_slot('pgcopydb')")
    people = pgcopydb.run("status", "--dir", workdir_path, env=env).stdout
    assert "slot        pgcopydb: is not on the source any more" in people
    assert "WARNING: replication slot pgcopydb is not on the source any more" in people
