"""Rows that users put into the configuration tables of an extension, with a small extension made for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import pytest

from demo.clusters import Cluster
from pgcopydb.bootstrap.extension_data import copy_extension_data, fetch_extensions
from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.snapshot import ReadUnder, begin_under
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.runtime import failpoint
from pgcopydb.runtime.errors import PgcopydbError, SourceError, TargetError
from pgcopydb.runtime.stop import Stop
from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair

# Of this process alone: another one may run the same tests against the same installation.
NAME = f"pgcopydb_test_{os.getpid()}"
CONTROL = "comment = 'configuration tables'\ndefault_version = '1.0'\nrelocatable = true\n"
SCRIPT = """
CREATE TABLE kinds (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    name text NOT NULL UNIQUE,
    loud text GENERATED ALWAYS AS (upper(name)) STORED,
    builtin bool NOT NULL DEFAULT false);
INSERT INTO kinds (name, builtin) VALUES ('shipped', true);
CREATE TABLE a_rules (kind int REFERENCES kinds, note text, given numeric);
INSERT INTO a_rules VALUES (1, 'shipped', 1.10);
CREATE TABLE "odd ""Table'%s" ("col 1" text, "B" jsonb, "%s" bytea);
CREATE SEQUENCE numbers;
CREATE TABLE not_config (x int);
SELECT pg_extension_config_dump('a_rules', '');
SELECT pg_extension_config_dump('kinds', 'WHERE NOT builtin');
SELECT pg_extension_config_dump('kinds_id_seq', '');
SELECT pg_extension_config_dump('"odd ""Table''%s"', '');
SELECT pg_extension_config_dump('numbers', '');
"""
SCHEMA = '"con %s ""fig"'
ROWS = rf"""
SET search_path = {SCHEMA};
INSERT INTO kinds (name) VALUES ('own'), (E'o\tther'), ('unused');
DELETE FROM kinds WHERE name = 'unused';
INSERT INTO a_rules VALUES (2, 'twice', 'NaN'), (2, 'twice', 'NaN'), (3, NULL, 0.30), (1, '', NULL), (NULL, NULL, NULL);
INSERT INTO "odd ""Table'%s" VALUES (E'\\N', '{{"a": 1.10}}', '\x00ff'), ('', NULL, '');
SELECT nextval('numbers') FROM generate_series(1, 42);
INSERT INTO not_config VALUES (1);
"""
TABLES = ("kinds", "a_rules", '"odd ""Table\'%s"')


@pytest.fixture
def install() -> Iterator[Callable[[Database], None]]:
    """Puts the extension's files where a server looks for them, and takes them away at the end."""
    with ExitStack() as stack:

        def put(database: Database) -> None:
            folder = Path(database.fetch("SELECT setting FROM pg_config WHERE name = 'SHAREDIR'")[0][0]) / "extension"
            if not os.access(folder, os.W_OK):
                pytest.skip(
                    f"no extension that comes with PostgreSQL has configuration tables, and {folder} is read-only"
                )
            for name, text in ((f"{NAME}.control", CONTROL), (f"{NAME}--1.0.sql", SCRIPT)):
                path = folder / name
                if not path.exists():
                    stack.callback(path.unlink)
                    path.write_text(text)
                    path.chmod(0o644)

        yield put


@dataclass
class Run:
    store: CatalogStore
    source: Endpoint
    target: Endpoint
    snapshot: str

    def copy(self, options: RestoreOptions | None = None) -> None:
        copy_extension_data(
            self.store, self.source, self.target, ReadUnder(self.snapshot, ""), options or RestoreOptions(), Stop()
        )


Begin = Callable[[Database, Database], Run]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    with ExitStack() as stack:

        def make(source: Database, target: Database) -> Run:
            ends = [
                Endpoint(ConnInfo.parse(side, database.dsn), "exttest")
                for side, database in ((Side.SOURCE, source), (Side.TARGET, target))
            ]
            held = stack.enter_context(ends[0].connect("holder"))
            begin_under(held, None)
            store = CatalogStore.create(tmp_path / "source.db")
            stack.callback(store.close)
            with store.transaction():
                fetch_extensions(held, store)
            return Run(store, ends[0], ends[1], held.execute("SELECT pg_export_snapshot()").fetchall()[0][0])

        yield make


def create(database: Database) -> None:
    database.execute(f"CREATE SCHEMA {SCHEMA}; CREATE EXTENSION {NAME} SCHEMA {SCHEMA}")


def content(database: Database) -> dict[str, list[str]]:
    return {
        table: [row[0] for row in database.fetch(f"SELECT t::text FROM {SCHEMA}.{table} t ORDER BY 1")]
        for table in TABLES
    }


def next_numbers(database: Database) -> list[tuple[int]]:
    return database.fetch("SELECT last_value FROM pg_sequences ORDER BY sequencename")


def test_users_rows_arrive_and_the_extensions_own_are_not_doubled(
    db_pair: DbPair, install: Callable[[Database], None], begin: Begin
) -> None:
    for database in (db_pair.source, db_pair.target):
        install(database)
        create(database)
    db_pair.source.execute(ROWS)
    expected = content(db_pair.source)
    run = begin(db_pair.source, db_pair.target)
    db_pair.source.execute(f"INSERT INTO {SCHEMA}.a_rules VALUES (1, 'too late', 0)")
    run.copy()
    assert content(db_pair.target) == expected
    assert len(expected["a_rules"]) == 6
    assert next_numbers(db_pair.target) == next_numbers(db_pair.source) == [(4,), (42,)]
    assert db_pair.target.fetch(f"SELECT count(*) FROM {SCHEMA}.not_config") == [(0,)]
    assert run.store.step_done("extension_data")


def test_an_extension_that_was_dropped_meanwhile(
    source_db: Database,
    target_db: Database,
    install: Callable[[Database], None],
    begin: Begin,
    caplog: pytest.LogCaptureFixture,
) -> None:
    for database in (source_db, target_db):
        install(database)
        create(database)
    run = begin(source_db, target_db)
    source_db.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    create(source_db)
    with pytest.raises(SourceError, match="made anew"):
        run.copy()
    assert not run.store.step_done("extension_data")
    source_db.execute(f"DROP SCHEMA {SCHEMA} CASCADE")
    run.copy()
    assert f"a_rules of extension {NAME} was dropped on the source meanwhile" in caplog.text
    assert run.store.step_done("extension_data")
    assert content(target_db)["a_rules"] == ["(1,shipped,1.10)"]


def test_rows_outside_the_condition_stay_as_the_extension_made_them(
    source_db: Database, target_db: Database, install: Callable[[Database], None], begin: Begin
) -> None:
    for database in (source_db, target_db):
        install(database)
        create(database)
    source_db.execute(
        f"SET search_path = {SCHEMA}; UPDATE kinds SET name = 'renamed' WHERE builtin;"
        "INSERT INTO kinds (name, builtin) VALUES ('hidden', true), ('own', false)"
    )
    begin(source_db, target_db).copy()
    assert content(target_db)["kinds"] == ["(1,shipped,SHIPPED,t)", "(3,own,OWN,f)"]


def test_the_order_follows_foreign_keys(
    source_db: Database, target_db: Database, install: Callable[[Database], None], begin: Begin
) -> None:
    install(source_db)
    create(source_db)
    run = begin(source_db, target_db)
    rows = {row["name"]: row for row in run.store.rows("SELECT * FROM extension_config")}
    assert set(rows) == {"a_rules", "kinds", "kinds_id_seq", "odd \"Table'%s", "numbers"}
    assert rows["kinds"]["position"] < rows["a_rules"]["position"]
    assert (rows["kinds"]["condition"], rows["kinds"]["kind"], rows["numbers"]["kind"]) == (
        "WHERE NOT builtin",
        "r",
        "S",
    )
    assert rows["kinds"]["extension"] == NAME
    assert NAME in {row["name"] for row in run.store.rows("SELECT name FROM extension")}


@pytest.mark.parametrize("passes", [1, 2, 3, 4, 5])
def test_a_table_whose_end_is_not_known_is_not_doubled(
    source_db: Database,
    target_db: Database,
    install: Callable[[Database], None],
    begin: Begin,
    monkeypatch: pytest.MonkeyPatch,
    passes: int,
) -> None:
    for database in (source_db, target_db):
        install(database)
        create(database)
    source_db.execute(ROWS)
    run = begin(source_db, target_db)
    monkeypatch.setattr(failpoint, "_traps", failpoint._Traps(f"extension_data.after_commit=error@{passes}"))
    with pytest.raises(PgcopydbError, match=r"extension_data\.after_commit"):
        run.copy()
    assert not run.store.step_done("extension_data")
    run.copy()
    assert content(target_db) == content(source_db)
    assert next_numbers(target_db) == next_numbers(source_db)
    assert run.store.step_done("extension_data")


def test_an_extension_missing_on_the_target_is_an_error(
    source_db: Database, target_db: Database, install: Callable[[Database], None], begin: Begin
) -> None:
    install(source_db)
    create(source_db)
    source_db.execute(ROWS)
    run = begin(source_db, target_db)
    with pytest.raises(TargetError, match="does not exist") as caught:
        run.copy()
    assert NAME in (caught.value.hint or "")
    assert not run.store.step_done("extension_data")
    create(target_db)
    run.copy()
    assert content(target_db) == content(source_db)


def test_a_row_that_contradicts_is_an_error_and_stays(
    source_db: Database, target_db: Database, install: Callable[[Database], None], begin: Begin
) -> None:
    for database in (source_db, target_db):
        install(database)
        create(database)
    source_db.execute(ROWS)
    target_db.execute(f"INSERT INTO {SCHEMA}.kinds (name) VALUES ('another of number two')")
    before = content(target_db)
    run = begin(source_db, target_db)
    with pytest.raises(TargetError, match=r"\(id\)=\(2\)") as caught:
        run.copy()
    assert "--resume" in (caught.value.hint or "")
    assert content(target_db)["kinds"] == before["kinds"]


def test_skipped_extensions_are_left_alone(
    source_db: Database, target_db: Database, install: Callable[[Database], None], begin: Begin
) -> None:
    install(source_db)
    create(source_db)
    run = begin(source_db, target_db)
    run.copy(RestoreOptions(skip_extensions=True))
    assert run.store.step_done("extension_data")


def test_of_every_database_of_a_server(
    install: Callable[[Database], None], pgcopydb: Command, workdir_path: Path
) -> None:
    """Large objects too: each database arrives as it would alone."""
    with Cluster.of_major(15) as one, Cluster.of_major(17) as other:
        names = ("postgres", "shop", "crm")
        for name in names[1:]:
            one.create_database(name)
        for cluster in (one, other):
            install(Database(cluster, "postgres"))
        for name in names:
            create(Database(one, name))
            Database(one, name).execute(ROWS)
            Database(one, name).execute(
                f"UPDATE {SCHEMA}.kinds SET name = '{name}' WHERE id = 2; SELECT lo_from_bytea(0, '{name}')"
            )
        pgcopydb.run(
            *("clone", "--all-databases", "--dir", workdir_path, "--source", one.dsn(), "--target", other.dsn())
        )
        for name in names:
            source, target = Database(one, name), Database(other, name)
            assert content(target) == content(source), name
            assert next_numbers(target) == next_numbers(source)
            assert_same_content(source.dsn, target.dsn)
