"""Settings of a database and of roles in it arrive as they are stored; what the target refuses is told."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest

from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.properties import apply_properties, fetch_properties, setting_statement
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.runtime import failpoint
from pgcopydb.runtime.errors import Kind, PgcopydbError, TargetError
from pgcopydb.runtime.stop import Stop
from tests.fix_servers import Database, DbPair
from tests.wait import wait_until

ROLES = """
DO $$ BEGIN CREATE ROLE "set odd""role'%s"; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE set_plain LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
"""
SETTINGS = r"""
ALTER DATABASE DB SET search_path = "$user", public, "Odd ""Schema", "a, b", plain;
ALTER DATABASE DB SET work_mem = '7MB';
ALTER DATABASE DB SET datestyle = 'SQL, DMY';
ALTER DATABASE DB SET timezone = 'Europe/Paris';
ALTER DATABASE DB SET my.text = E'it''s \\ = 100%s\nsecond line';
ALTER DATABASE DB SET "My.Odd_name" = '';
ALTER DATABASE DB SET statement_timeout = 90000;
ALTER DATABASE DB SET default_transaction_read_only = on;
ALTER ROLE "set odd""role'%s" IN DATABASE DB SET search_path = '';
ALTER ROLE "set odd""role'%s" IN DATABASE DB SET enable_seqscan = off;
ALTER ROLE "set odd""role'%s" IN DATABASE DB SET session_preload_libraries = auto_explain, '$libdir/odd name';
ALTER ROLE "set odd""role'%s" SET work_mem = '3MB';
"""
STORED = """
SELECT coalesce(r.rolname, ''), setting
  FROM pg_db_role_setting s
  JOIN pg_database d ON d.oid = s.setdatabase
  LEFT JOIN pg_roles r ON r.oid = s.setrole
 CROSS JOIN unnest(s.setconfig) AS setting
 WHERE d.datname = current_database()
 ORDER BY 1, 2
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogStore]:
    with closing(CatalogStore.create(tmp_path / "source.db")) as store:
        yield store


def fetch(store: CatalogStore, source: Database) -> None:
    with Endpoint(ConnInfo.parse(Side.SOURCE, source.dsn), "settest").connect("test") as connection:
        fetch_properties(connection, store)


def apply(store: CatalogStore, target_dsn: str) -> None:
    apply_properties(store, Endpoint(ConnInfo.parse(Side.TARGET, target_dsn), "settest"), RestoreOptions(), Stop())


def add(store: CatalogStore, role: str, name: str, value: str) -> None:
    store.execute("INSERT INTO database_setting VALUES (?, ?, ?)", (role, name, value))


@pytest.mark.parametrize(
    ("role", "name", "value", "expected"),
    [
        ("", "work_mem", "4MB", 'ALTER DATABASE "d""b" SET "work_mem" TO \'4MB\''),
        ("r", "a.b", "it's", 'ALTER ROLE "r" IN DATABASE "d""b" SET "a"."b" TO \'it\'\'s\''),
        ("", "search_path", '"$user", public', 'ALTER DATABASE "d""b" SET "search_path" TO \'$user\', \'public\''),
        ("", "search_path", '"a, ""b"""', 'ALTER DATABASE "d""b" SET "search_path" TO \'a, "b"\''),
        ("", "search_path", '""', 'ALTER DATABASE "d""b" SET "search_path" TO \'\''),
        ("", "search_path", "", 'ALTER DATABASE "d""b" SET "search_path" TO \'\''),
        ("", "DateStyle", "SQL, DMY", 'ALTER DATABASE "d""b" SET "DateStyle" TO \'SQL, DMY\''),
    ],
)
def test_statements(role: str, name: str, value: str, expected: str) -> None:
    assert setting_statement('d"b', role, name, value) == expected


def test_settings_arrive_as_they_are_stored(db_pair: DbPair, store: CatalogStore) -> None:
    for database in (db_pair.source, db_pair.target):
        database.execute(ROLES)
    db_pair.source.execute(SETTINGS.replace("DB", db_pair.source.name))
    fetch(store, db_pair.source)
    apply(store, db_pair.target.dsn)
    assert len(db_pair.target.fetch(STORED)) == 11
    assert db_pair.target.fetch(STORED) == db_pair.source.fetch(STORED)
    assert db_pair.target.fetch("SHOW search_path") == db_pair.source.fetch("SHOW search_path")
    assert store.step_done("properties")


def test_what_the_target_refuses_is_left_out_with_a_warning(
    source_db: Database, target_db: Database, store: CatalogStore, caplog: pytest.LogCaptureFixture
) -> None:
    add(store, "", "no_such_parameter", "sekret")
    add(store, "", "work_mem", "6MB")
    add(store, "", "enable_seqscan", "sekret")
    add(store, "set_missing", "work_mem", "sekret")
    with caplog.at_level(logging.WARNING, "pgcopydb"):
        apply(store, target_db.dsn)
    assert target_db.fetch(STORED) == [("", "work_mem=6MB")]
    messages = [record.getMessage() for record in caplog.records]
    assert len(messages) == 3
    assert messages[0].startswith("setting enable_seqscan of the database is left out: ")
    assert messages[1].startswith("setting no_such_parameter of the database is left out: ")
    assert messages[2] == 'setting work_mem of role set_missing is left out: role "set_missing" does not exist'
    assert store.step_done("properties")


def test_a_role_that_may_not_is_a_warning(
    source_db: Database, target_db: Database, store: CatalogStore, caplog: pytest.LogCaptureFixture
) -> None:
    target_db.execute(ROLES)
    add(store, "", "work_mem", "6MB")
    with caplog.at_level(logging.WARNING, "pgcopydb"):
        apply(store, target_db.cluster.dsn(target_db.name, user="set_plain"))
    assert [record.getMessage() for record in caplog.records] == [
        f"setting work_mem of the database is left out: must be owner of database {target_db.name}"
    ]


def test_a_session_that_is_ended_is_not_a_refusal(target_db: Database, store: CatalogStore) -> None:
    add(store, "", "work_mem", "6MB")
    ended = (
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
        " WHERE application_name LIKE '% properties settest' AND wait_event_type = 'Lock'"
        " AND datname = current_database()"
    )
    with target_db.connect() as other, target_db.connect() as watcher, ThreadPoolExecutor(1) as pool:
        other.execute(f"BEGIN; ALTER DATABASE {target_db.name} SET enable_seqscan = off")
        future = pool.submit(apply, store, target_db.dsn)
        wait_until(lambda: watcher.execute(ended).fetchall(), 30, "ALTER DATABASE waits for the other one")
        with pytest.raises(TargetError, match="setting work_mem of the database") as caught:
            future.result()
    assert caught.value.kind is Kind.RETRY
    assert not store.step_done("properties")


def test_an_interrupted_run_is_done_again(
    source_db: Database, target_db: Database, store: CatalogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    source_db.execute(
        f"ALTER DATABASE {source_db.name} SET work_mem = '7MB'; ALTER DATABASE {source_db.name} SET timezone = 'UTC'"
    )
    fetch(store, source_db)
    monkeypatch.setattr(failpoint, "_traps", failpoint._Traps("properties.after_set=error"))
    with pytest.raises(PgcopydbError, match=r"properties\.after_set"):
        apply(store, target_db.dsn)
    assert not store.step_done("properties")
    assert len(target_db.fetch(STORED)) == 1
    apply(store, target_db.dsn)
    assert target_db.fetch(STORED) == source_db.fetch(STORED)
