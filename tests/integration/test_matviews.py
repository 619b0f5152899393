"""Materialized views are refreshed in order, as a session of the database would, and independently of each other."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pgcopydb.bootstrap.matviews import fetch_matviews, refresh_matviews
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.workers import Failure, Failures
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.runtime import failpoint
from pgcopydb.runtime.stop import Stop
from tests.fix_servers import Database, DbPair

TABLES = """
CREATE SCHEMA app;
CREATE SCHEMA "a %s ""b'";
CREATE TABLE app.base AS SELECT i, i % 7 AS k, timestamptz '2026-01-01 00:00:00+00' + i * interval '1 hour' AS at
  FROM generate_series(1, 1000) AS i;
"""
# Named so that neither names nor creation order give the order of refreshing.
VIEWS = """
CREATE MATERIALIZED VIEW app.z_first AS SELECT k, count(*) AS n FROM app.base GROUP BY k WITH DATA;
CREATE VIEW app.m_between AS SELECT k, n * 2 AS n FROM app.z_first;
CREATE VIEW app.l_between AS SELECT * FROM app.m_between WHERE k > 1;
CREATE MATERIALIZED VIEW "a %s ""b'"."second ""one'%s" AS SELECT sum(n) AS total FROM app.l_between WITH DATA;
CREATE MATERIALIZED VIEW app.a_third AS
  SELECT total, (SELECT count(*) FROM app.z_first) AS kinds FROM "a %s ""b'"."second ""one'%s" WITH DATA;
CREATE MATERIALIZED VIEW app.text_of_time AS
  SELECT i, at::text AS text, (i / 3.0)::float8::text AS x FROM app.base WITH DATA;
CREATE MATERIALIZED VIEW app.never AS SELECT 1 AS one WITH NO DATA;
CREATE UNIQUE INDEX ON app.z_first (k);
"""


@pytest.fixture
def store(tmp_path: Path) -> Iterator[CatalogStore]:
    with closing(CatalogStore.create(tmp_path / "source.db")) as store:
        yield store


def fetch(store: CatalogStore, source: Database) -> None:
    with Endpoint(ConnInfo.parse(Side.SOURCE, source.dsn), "viewtest").connect("test") as connection:
        fetch_matviews(connection, store)


def refresh(store: CatalogStore, target: Database, jobs: int = 2) -> list[Failure]:
    stop = Stop()
    failures = Failures(stop, fail_fast=False)
    refresh_matviews(store, Endpoint(ConnInfo.parse(Side.TARGET, target.dsn), "viewtest"), jobs, failures, stop)
    return failures.all


def load(source: Database, target: Database, views: str) -> None:
    """The source as it is used, the target as pg_restore leaves it."""
    source.execute(TABLES + views)
    target.execute(TABLES + views.replace("WITH DATA", "WITH NO DATA"))


def levels(store: CatalogStore) -> dict[str, int]:
    return {row["name"]: row["level"] for row in store.rows("SELECT name, level FROM matview")}


def populated(database: Database) -> dict[str, bool]:
    return dict(database.fetch("SELECT matviewname, ispopulated FROM pg_matviews"))


def content(database: Database) -> dict[str, list[str]]:
    names = database.fetch("SELECT format('%I.%I', schemaname, matviewname) FROM pg_matviews WHERE ispopulated")
    return {name: [row[0] for row in database.fetch(f"SELECT v::text FROM {name} v ORDER BY 1")] for (name,) in names}


def test_views_on_views_are_refreshed_in_order(db_pair: DbPair, store: CatalogStore) -> None:
    for database in (db_pair.source, db_pair.target):
        database.execute(f"ALTER DATABASE {database.name} SET timezone = 'Asia/Kathmandu'")
        database.execute(f"ALTER DATABASE {database.name} SET datestyle = 'German'")
        database.execute(f"ALTER DATABASE {database.name} SET extra_float_digits = -3")
    load(db_pair.source, db_pair.target, VIEWS)
    fetch(store, db_pair.source)
    assert levels(store) == {"z_first": 0, "second \"one'%s": 1, "a_third": 2, "text_of_time": 0, "never": 0}
    assert refresh(store, db_pair.target) == []
    assert populated(db_pair.target) == populated(db_pair.source)
    assert populated(db_pair.target)["never"] is False
    assert content(db_pair.target) == content(db_pair.source)
    assert len(content(db_pair.target)["app.text_of_time"]) == 1000
    assert db_pair.target.fetch("SELECT reltuples::int FROM pg_class WHERE relname = 'text_of_time'") == [(1000,)]
    assert store.step_done("matviews")


def test_a_session_search_path_is_the_databases_own(
    source_db: Database, target_db: Database, store: CatalogStore
) -> None:
    # A function that finds its table by search_path: PostgreSQL 17 and newer refuse it on the source as well.
    views = (
        "CREATE FUNCTION app.rows_of_base() RETURNS bigint LANGUAGE plpgsql AS"
        " $$ BEGIN RETURN (SELECT count(*) FROM base); END $$;"
        "SET search_path = app; CREATE MATERIALIZED VIEW app.by_path AS SELECT app.rows_of_base() AS n WITH DATA"
    )
    load(source_db, target_db, views)
    fetch(store, source_db)
    (failure,) = refresh(store, target_db)
    assert failure.what == "materialized view app.by_path"
    assert 'relation "base" does not exist' in str(failure.error)
    assert not store.step_done("matviews")
    target_db.execute(f"ALTER DATABASE {target_db.name} SET search_path = app")
    assert refresh(store, target_db) == []
    assert content(target_db) == content(source_db) == {"app.by_path": ["(1000)"]}
    assert store.step_done("matviews")


def test_one_that_fails_takes_with_it_only_what_reads_it(
    source_db: Database, target_db: Database, store: CatalogStore
) -> None:
    views = (
        "CREATE MATERIALIZED VIEW app.broken AS SELECT 1 / (k + 1) AS x FROM app.base WITH DATA;"
        "CREATE MATERIALIZED VIEW app.reader AS SELECT count(*) FROM app.broken WITH DATA;"
        "CREATE MATERIALIZED VIEW app.sound AS SELECT count(*) FROM app.base WITH DATA;"
        "CREATE MATERIALIZED VIEW app.sound_reader AS SELECT * FROM app.sound WITH DATA;"
    )
    load(source_db, target_db, views)
    fetch(store, source_db)
    target_db.execute("INSERT INTO app.base (k) VALUES (-1)")
    failures = refresh(store, target_db)
    assert [failure.what for failure in failures] == ["materialized view app.broken", "materialized view app.reader"]
    assert "division by zero" in str(failures[0].error)
    assert "has not been populated" in str(failures[1].error)
    assert populated(target_db) == {"broken": False, "reader": False, "sound": True, "sound_reader": True}
    assert not store.step_done("matviews")
    target_db.execute("DELETE FROM app.base WHERE k = -1")
    before = target_db.fetch("SELECT relfilenode FROM pg_class WHERE relname = 'sound'")
    assert refresh(store, target_db) == []
    assert all(populated(target_db).values())
    assert target_db.fetch("SELECT relfilenode FROM pg_class WHERE relname = 'sound'") == before
    assert store.step_done("matviews")


def test_a_circle_of_views_comes_to_an_end(source_db: Database, target_db: Database, store: CatalogStore) -> None:
    views = (
        "CREATE VIEW app.v AS SELECT 1 AS n;"
        "CREATE MATERIALIZED VIEW app.kept AS SELECT n FROM app.v WITH DATA;"
        "CREATE MATERIALIZED VIEW app.apart AS SELECT 1 AS n WITH DATA;"
    )
    load(source_db, target_db, views)
    source_db.execute("CREATE OR REPLACE VIEW app.v AS SELECT n + 1 AS n FROM app.kept")
    fetch(store, source_db)
    assert set(levels(store)) == {"kept", "apart"}
    assert levels(store)["apart"] == 0
    assert levels(store)["kept"] <= 2
    assert refresh(store, target_db) == []


def test_what_belongs_to_an_extension_is_left_to_it(source_db: Database, store: CatalogStore) -> None:
    source_db.execute(
        "CREATE MATERIALIZED VIEW member AS SELECT 1; CREATE MATERIALIZED VIEW own AS SELECT 1; "
        "CREATE EXTENSION hstore;"
        "ALTER EXTENSION hstore ADD MATERIALIZED VIEW member"
    )
    fetch(store, source_db)
    assert levels(store) == {"own": 0}


def test_an_interrupted_refresh_goes_on(
    source_db: Database, target_db: Database, store: CatalogStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    load(source_db, target_db, VIEWS)
    fetch(store, source_db)
    monkeypatch.setattr(failpoint, "_traps", failpoint._Traps("matviews.after_refresh=error@3"))
    (failure,) = refresh(store, target_db, jobs=1)
    assert "matviews.after_refresh" in str(failure.error)
    assert not store.step_done("matviews")
    assert refresh(store, target_db) == []
    assert content(target_db) == content(source_db)
    assert store.step_done("matviews")
