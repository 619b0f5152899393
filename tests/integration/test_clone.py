"""A whole clone by the command line: every type and kind of object, on every pair of versions."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import orjson
import pytest
from psycopg.conninfo import make_conninfo

from demo.clusters import Cluster
from tests.content import assert_same_content, assert_same_schema
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair
from tests.fix_zoo import load_zoo


@pytest.mark.parametrize(
    "options", [(), ("--use-copy-binary", "--split-tables-larger-than", "16kB")], ids=["text", "binary"]
)
def test_the_zoo_arrives_as_it_is(
    options: tuple[str, ...], db_pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    load_zoo(db_pair.source, db_pair.target)
    pgcopydb.run(
        "clone", "--source", db_pair.source.dsn, "--target", db_pair.target.dsn, "--dir", workdir_path, *options
    )
    assert_same_content(db_pair.source.dsn, db_pair.target.dsn)
    assert_same_schema(db_pair.source.dsn, db_pair.target.dsn)


def test_what_pg_restore_alone_cannot_copy(
    source_db: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    load_zoo(source_db, target_db, extras=("search_path", "enum_hash"))
    pgcopydb.run("clone", "--source", source_db.dsn, "--target", target_db.dsn, "--dir", workdir_path)
    compared = pgcopydb.run("compare", "data", "--source", source_db.dsn, "--target", target_db.dsn, "--json")
    rows = orjson.loads(compared.stdout)
    assert len(rows) > 20
    assert all(row["equal"] for row in rows)


def test_over_tls(target_db: Database, pgcopydb: Command, workdir_path: Path) -> None:
    """The rows go through libpq there; what arrives is the same."""
    with Cluster.of_major(15, tls=True) as secure:
        source = Database(secure, "postgres")
        load_zoo(source, target_db)
        dsn = make_conninfo(source.dsn, sslmode="require")
        pgcopydb.run("clone", "--source", dsn, "--target", target_db.dsn, "--dir", workdir_path)
        assert_same_content(source.dsn, target_db.dsn)
        assert_same_schema(source.dsn, target_db.dsn)


def test_sizes_by_estimate(source_db: Database, target_db: Database, pgcopydb: Command, workdir_path: Path) -> None:
    """Tables without statistics are analyzed first, so that they can be divided."""
    source_db.execute("CREATE TABLE t AS SELECT i, repeat('x', 100) AS t FROM generate_series(1, 50000) i")
    arguments = ("clone", "--source", source_db.dsn, "--target", target_db.dsn)
    options = ("--estimate-table-sizes", "--split-tables-larger-than", "1MB", "--skip-vacuum")
    pgcopydb.run(*arguments, "--dir", workdir_path, *options)
    assert source_db.fetch("SELECT reltuples FROM pg_class WHERE relname = 't'") == [(50000,)]
    summary = orjson.loads((workdir_path / "summary.json").read_bytes())
    assert summary["tables"][0]["rows"] == 50000
    with sqlite3.connect(f"file:{workdir_path}/schema/source.db?mode=ro", uri=True) as store:
        assert store.execute("SELECT count(*) FROM copy_part").fetchone()[0] > 4
    store.close()
    assert_same_content(source_db.dsn, target_db.dsn)


@pytest.mark.parametrize(
    ("option", "left_out"),
    [
        ("--no-owner", "SELECT count(*) FROM pg_tables WHERE tableowner = 'zoo_owner'"),
        ("--no-comments", "SELECT count(*) FROM pg_description WHERE objoid = 'commented'::regclass"),
        ("--no-acl", "SELECT count(*) FROM pg_class WHERE relname = 'commented' AND relacl IS NOT NULL"),
        ("--skip-large-objects", "SELECT count(*) FROM pg_largeobject_metadata"),
        ("--skip-extensions", "SELECT count(*) FROM pg_extension WHERE extname = 'hstore'"),
        ("--skip-collations", "SELECT count(*) FROM pg_collation WHERE collname = 'mine'"),
        (
            "--skip-db-properties",
            (
                "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = s.setdatabase"
                " WHERE datname = current_database()"
            ),
        ),
        ("--skip-vacuum", "SELECT analyze_count FROM pg_stat_user_tables WHERE relname = 'commented'"),
    ],
)
def test_what_is_left_out_on_request(
    option: str, left_out: str, source_db: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    for database in (source_db, target_db):
        database.execute("DO $$ BEGIN CREATE ROLE zoo_owner; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
    source_db.execute(
        f"""
        CREATE TABLE commented AS SELECT i FROM generate_series(1, 10) i;
        COMMENT ON TABLE commented IS 'with a comment';
        ALTER TABLE commented OWNER TO zoo_owner;
        GRANT SELECT ON commented TO PUBLIC;
        CREATE EXTENSION hstore;
        CREATE COLLATION mine FROM "C";
        SELECT lo_create(4711);
        ALTER DATABASE {source_db.name} SET work_mem = '7MB';
        """
    )
    arguments = ("clone", "--source", source_db.dsn, "--target", target_db.dsn, "--dir", str(workdir_path))
    pgcopydb.run(*arguments, option)
    assert target_db.fetch(left_out) == [(0,)]
    assert target_db.fetch("SELECT count(*) FROM commented") == [(10,)]
    pgcopydb.run(*arguments, "--restart", "--drop-if-exists")
    assert target_db.fetch(left_out) != [(0,)]
