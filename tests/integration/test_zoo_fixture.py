"""The oracle accepts a right copy of the zoo, made by pg_dump and pg_restore alone, and refuses a wrong one."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator

import pytest
from psycopg import sql

from demo import shop
from tests.content import assert_same_content, assert_same_schema
from tests.fix_servers import Database, DbPair, Servers, fresh_database
from tests.fix_zoo import EXTRAS, FILES, create_roles, load_zoo


def copy_plainly(source: Database, target: Database) -> None:
    """pg_dump of the source's own release, into the target's pg_restore: the settings of the database by hand."""
    dump = subprocess.Popen(
        [source.cluster.bin_dir / "pg_dump", "--format=custom", "--compress=0", f"--dbname={source.dsn}"],
        stdout=subprocess.PIPE,
    )
    restored = subprocess.run(
        [target.cluster.bin_dir / "pg_restore", "--exit-on-error", f"--dbname={target.dsn}"],
        check=False,
        stdin=dump.stdout,
        capture_output=True,
        text=True,
    )
    assert dump.stdout is not None
    dump.stdout.close()
    assert (restored.returncode, dump.wait()) == (0, 0), restored.stderr
    copy_settings(source, target)


def copy_settings(source: Database, target: Database) -> None:
    rows = source.fetch(
        "SELECT r.rolname, unnest(s.setconfig)"
        " FROM pg_db_role_setting AS s LEFT JOIN pg_roles AS r ON r.oid = s.setrole"
        " WHERE s.setdatabase = (SELECT oid FROM pg_database WHERE datname = current_database())"
    )
    lists = {"search_path"}
    with target.connect() as connection:
        for role, setting in rows:
            name, _, value = setting.partition("=")
            whom = sql.SQL("ROLE {} IN DATABASE").format(sql.Identifier(role)) if role else sql.SQL("DATABASE")
            connection.execute(
                sql.SQL("ALTER {} {} SET {} = {}").format(
                    whom,
                    sql.Identifier(target.name),
                    sql.Identifier(*name.split(".")),
                    sql.SQL(value) if name in lists else sql.Literal(value),
                )
            )


def test_a_plain_copy_is_accepted(db_pair: DbPair) -> None:
    loaded = load_zoo(db_pair.source, db_pair.target)
    # What a pair of servers may leave out, and nothing else.
    assert set(FILES) - set(loaded) <= {"xml", "lz4", "icu", "pg17", "pg18"}
    copy_plainly(db_pair.source, db_pair.target)
    assert_same_content(db_pair.source.dsn, db_pair.target.dsn)
    assert_same_schema(db_pair.source.dsn, db_pair.target.dsn)


def test_the_newest_features_are_copied_too(servers: Servers) -> None:
    with fresh_database(servers.get(18), "source") as source, fresh_database(servers.get(18), "target") as target:
        assert {"pg17", "pg18"} <= set(load_zoo(source, target))
        copy_plainly(source, target)
        assert_same_content(source.dsn, target.dsn)
        assert_same_schema(source.dsn, target.dsn)


def test_the_extras_load(source_db: Database) -> None:
    assert set(EXTRAS) <= set(load_zoo(source_db, extras=EXTRAS))
    source_db.execute("REFRESH MATERIALIZED VIEW zoo_path.totals")


def test_the_shop_is_the_same_every_time(source_db: Database, target_db: Database) -> None:
    for database in (source_db, target_db):
        shop.load(database.dsn, scale=0.01)
    assert source_db.fetch("SELECT count(*) > 3000 FROM shop.orders") == [(True,)]
    assert_same_content(source_db.dsn, target_db.dsn)
    assert_same_schema(source_db.dsn, target_db.dsn)


SMALL = """
CREATE TABLE things (id int NOT NULL, code text NOT NULL, b bytea, n numeric, f float8, t text);
CREATE UNIQUE INDEX things_code ON things (code);
CREATE UNIQUE INDEX things_expression ON things ((id + 1));
ALTER TABLE things REPLICA IDENTITY USING INDEX things_code;
ALTER TABLE things CLUSTER ON things_code;
ALTER INDEX things_expression ALTER COLUMN 1 SET STATISTICS 500;
INSERT INTO things VALUES
    (1, 'a', '\\x0001ff', 1.10, -0.0, ''), (2, 'b', '\\x00', 'NaN', 'NaN', NULL), (3, 'c', NULL, 0, 1, 'x');
INSERT INTO things SELECT i, i::text FROM generate_series(10, 2000) AS i;
UPDATE things SET f = '-0' WHERE id = 1;
CREATE TABLE children (CHECK (id > 0)) INHERITS (things);
INSERT INTO children VALUES (5, 'e');
CREATE SEQUENCE counter;
SELECT setval('counter', 5);
CREATE MATERIALIZED VIEW kept AS SELECT count(*) AS n FROM things;
SELECT lo_from_bytea(4200000001, 'content');
COMMENT ON LARGE OBJECT 4200000001 IS 'a comment';
GRANT SELECT ON LARGE OBJECT 4200000001 TO zoo_reader;
COMMENT ON COLUMN things.t IS 'a comment';
GRANT SELECT ON things TO zoo_reader;
CREATE FUNCTION f() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END';
CREATE TRIGGER t AFTER INSERT ON things EXECUTE FUNCTION f();
ALTER TABLE things ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
"""

CONTENT_FAULTS = {
    "a byte": "UPDATE things SET b = set_byte(b, 2, 254) WHERE id = 1",
    "a missing row": "DELETE FROM ONLY things WHERE id = 2000",
    "a row too many": "INSERT INTO things VALUES (2001, '2001')",
    "a row twice": """
        DROP INDEX things_code, things_expression; INSERT INTO things SELECT * FROM ONLY things WHERE id = 2000
    """,
    "NULL for nothing": "UPDATE things SET t = NULL WHERE id = 1",
    "nothing for NULL": "UPDATE things SET t = '' WHERE id = 2",
    "the scale of a number": "UPDATE things SET n = 1.1 WHERE id = 1",
    "the sign of zero": "UPDATE things SET f = 0 WHERE id = 1",
    "a row in the parent instead of the child": "INSERT INTO things SELECT * FROM children; DELETE FROM children",
    "a table": "DROP TABLE children",
    "a column": "ALTER TABLE things DROP COLUMN f",
    "a sequence that fell behind": "SELECT setval('counter', 4)",
    "a sequence that was not called": "SELECT setval('counter', 5, false)",
    "a materialized view": """
        INSERT INTO children VALUES (2, 'b'); REFRESH MATERIALIZED VIEW kept; DELETE FROM children WHERE id = 2
    """,
    "a materialized view without rows": "REFRESH MATERIALIZED VIEW kept WITH NO DATA",
    "a large object": "SELECT lo_unlink(4200000001)",
    "a large object's content": "SELECT lo_put(4200000001, 3, 'x')",
    "a large object's owner": "ALTER LARGE OBJECT 4200000001 OWNER TO zoo_owner",
    "a large object's grants": "REVOKE SELECT ON LARGE OBJECT 4200000001 FROM zoo_reader",
    "a large object's comment": "COMMENT ON LARGE OBJECT 4200000001 IS NULL",
}

SCHEMA_FAULTS = {
    "replica identity": "ALTER TABLE things REPLICA IDENTITY DEFAULT",
    "clustered": "ALTER TABLE things SET WITHOUT CLUSTER",
    "index statistics": "ALTER INDEX things_expression ALTER COLUMN 1 SET STATISTICS -1",
    "a comment": "COMMENT ON COLUMN things.t IS NULL",
    "an owner": "ALTER TABLE things OWNER TO zoo_owner",
    "a grant": "REVOKE SELECT ON things FROM zoo_reader",
    "a trigger's state": "ALTER TABLE things DISABLE TRIGGER t",
    "row-level security": "ALTER TABLE things NO FORCE ROW LEVEL SECURITY",
    "an index": "DROP INDEX things_expression",
    "a default": "ALTER TABLE things ALTER COLUMN n SET DEFAULT 0",
    "NOT NULL": "ALTER TABLE things ALTER COLUMN id DROP NOT NULL",
    "a parent": "ALTER TABLE children NO INHERIT things",
    "storage": "ALTER TABLE things ALTER COLUMN t SET STORAGE EXTERNAL",
    "no WAL": "ALTER TABLE things SET UNLOGGED",
    "a sequence's range": "ALTER SEQUENCE counter MAXVALUE 10",
    "a setting of the database": """
        DO $$ BEGIN EXECUTE format('ALTER DATABASE %I SET work_mem = 64', current_database()); END $$
    """,
}


@pytest.fixture(scope="module")
def small(servers: Servers) -> Iterator[Database]:
    with fresh_database(servers.get(15), "small") as database:
        create_roles(database.cluster)
        database.execute(SMALL)
        yield database


@pytest.fixture
def copy(small: Database) -> Iterator[Database]:
    """The same files under another name: nothing differs yet."""
    with fresh_database(small.cluster, "copy", template=small.name) as database:
        yield database


def test_equal_databases_are_accepted(small: Database, copy: Database) -> None:
    assert_same_content(small.dsn, copy.dsn)
    assert_same_schema(small.dsn, copy.dsn)


@pytest.mark.parametrize("fault", CONTENT_FAULTS.values(), ids=CONTENT_FAULTS)
def test_other_content_is_refused(small: Database, copy: Database, fault: str) -> None:
    copy.execute(fault)
    with pytest.raises(AssertionError, match="differ"):
        assert_same_content(small.dsn, copy.dsn)


@pytest.mark.parametrize("fault", SCHEMA_FAULTS.values(), ids=SCHEMA_FAULTS)
def test_another_schema_is_refused(small: Database, copy: Database, fault: str) -> None:
    copy.execute(fault)
    with pytest.raises(AssertionError, match="differ"):
        assert_same_schema(small.dsn, copy.dsn)


def test_another_schema_is_refused_between_majors(db_pair: DbPair) -> None:
    for database in (db_pair.source, db_pair.target):
        create_roles(database.cluster)
        database.execute(SMALL)
    assert_same_schema(db_pair.source.dsn, db_pair.target.dsn)
    for fault in ("replica identity", "a grant", "NOT NULL"):
        db_pair.target.execute(SCHEMA_FAULTS[fault])
    with pytest.raises(AssertionError) as refused:
        assert_same_schema(db_pair.source.dsn, db_pair.target.dsn)
    missing = [line for line in str(refused.value).splitlines() if line.startswith("-") and not line.startswith("--")]
    assert len(missing) == 3, missing


def test_the_first_rows_that_differ_are_shown(small: Database, copy: Database) -> None:
    copy.execute("UPDATE things SET t = 'y' WHERE id = 3")
    with pytest.raises(AssertionError) as refused:
        assert_same_content(small.dsn, copy.dsn)
    assert str(refused.value).splitlines() == [
        'table "public"."things" differs (1994 rows in the source, 1994 in the target) at row 1994:',
        "  source: (,c,1,3,0,x)",
        "  target: (,c,1,3,0,y)",
    ]
