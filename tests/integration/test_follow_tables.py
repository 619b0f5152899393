"""Tables whose rows are hard to find or to write again: each kind of change of them arrives as it was made."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers, fresh_database
from tests.fix_wal2json import require_wal2json
from tests.following import is_applied, uris
from tests.wait import wait_until

PLUGINS = ("test_decoding", "pgoutput", "wal2json")

SCHEMA = """
CREATE FUNCTION large(seed int) RETURNS text LANGUAGE sql AS
    $$ SELECT string_agg(md5((seed * 1000 + i)::text), '') FROM generate_series(1, 300) i $$;

CREATE TABLE always (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY, code int NOT NULL UNIQUE, v text, long text,
    twice int GENERATED ALWAYS AS (code * 2) STORED
);
CREATE TABLE always_full (id int GENERATED ALWAYS AS IDENTITY, v text, long text);
ALTER TABLE always_full REPLICA IDENTITY FULL;
CREATE TABLE keyed_by_computed (a int NOT NULL, b int GENERATED ALWAYS AS (a * 10) STORED PRIMARY KEY, v text);

CREATE TABLE by_index (id int NOT NULL, v text, long text);
CREATE UNIQUE INDEX by_index_id ON by_index (id);
ALTER TABLE by_index REPLICA IDENTITY USING INDEX by_index_id;
CREATE TABLE by_full (v text, long text);
ALTER TABLE by_full REPLICA IDENTITY FULL;
CREATE TABLE by_full_key (id int PRIMARY KEY, v text, long text);
ALTER TABLE by_full_key REPLICA IDENTITY FULL;
CREATE TABLE large_key (k text PRIMARY KEY, v text, long text);

CREATE TABLE ordered (id int PRIMARY KEY, place int, CONSTRAINT one_each UNIQUE (place) DEFERRABLE);
CREATE TABLE deferred_key (id int UNIQUE DEFERRABLE INITIALLY DEFERRED, v text);
ALTER TABLE deferred_key REPLICA IDENTITY FULL;

CREATE TABLE no_columns ();
CREATE TABLE no_columns_full ();
ALTER TABLE no_columns_full REPLICA IDENTITY FULL;
CREATE TABLE only_computed (c int GENERATED ALWAYS AS (7) STORED);

CREATE TABLE animal (id int PRIMARY KEY, name text);
CREATE TABLE dog (barks int, PRIMARY KEY (id)) INHERITS (animal);
CREATE TABLE split (id int, v text, long text, PRIMARY KEY (id)) PARTITION BY RANGE (id);
CREATE TABLE split_low PARTITION OF split FOR VALUES FROM (0) TO (10);
CREATE TABLE split_high PARTITION OF split FOR VALUES FROM (10) TO (20) PARTITION BY HASH (id);
CREATE TABLE split_high_0 PARTITION OF split_high FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE split_high_1 PARTITION OF split_high FOR VALUES WITH (MODULUS 2, REMAINDER 1);

DO $$
DECLARE t text;
BEGIN
    FOREACH t IN ARRAY ARRAY['always', 'always_full', 'by_index', 'by_full', 'by_full_key', 'large_key', 'split'] LOOP
        EXECUTE format('ALTER TABLE %I ALTER long SET STORAGE EXTERNAL', t);
    END LOOP;
END $$;
ALTER TABLE large_key ALTER k SET STORAGE EXTERNAL;
"""

WORK = """
INSERT INTO always (code, v, long) SELECT i, 'v', large(i) FROM generate_series(1, 5) i;
UPDATE always SET v = 'beside the large value' WHERE id = 1;
UPDATE always SET id = DEFAULT WHERE id = 2;
UPDATE always SET id = DEFAULT, v = 'both', code = 20 WHERE id = 3;
UPDATE always SET id = DEFAULT, long = 'short' WHERE id = 4;
DELETE FROM always WHERE id = 5;
INSERT INTO always_full (v, long) SELECT 'v', large(i) FROM generate_series(1, 4) i;
UPDATE always_full SET id = DEFAULT WHERE id = 2;
UPDATE always_full SET v = NULL WHERE id = 1;
DELETE FROM always_full WHERE id = 3;
INSERT INTO keyed_by_computed (a, v) SELECT i, 'v' FROM generate_series(1, 4) i;
UPDATE keyed_by_computed SET a = 7 WHERE a = 1;
UPDATE keyed_by_computed SET v = 'w' WHERE b = 20;
DELETE FROM keyed_by_computed WHERE b = 30;

INSERT INTO by_index SELECT i, 'v', large(i) FROM generate_series(1, 4) i;
UPDATE by_index SET v = 'w' WHERE id = 1;
UPDATE by_index SET id = 10 WHERE id = 2;
DELETE FROM by_index WHERE id = 3;
INSERT INTO by_full SELECT CASE WHEN i < 5 THEN 'v' END, large(1) FROM generate_series(1, 8) i;
UPDATE by_full SET v = 'w' WHERE ctid = (SELECT min(ctid) FROM by_full);
UPDATE by_full SET v = 'x' WHERE ctid = (SELECT max(ctid) FROM by_full WHERE v IS NULL);
UPDATE by_full SET long = NULL WHERE ctid = (SELECT max(ctid) FROM by_full WHERE v IS NULL);
DELETE FROM by_full WHERE ctid IN (SELECT min(ctid) FROM by_full GROUP BY v);
INSERT INTO by_full_key SELECT i, 'v', large(i) FROM generate_series(1, 4) i;
UPDATE by_full_key SET id = 10 WHERE id = 1;
UPDATE by_full_key SET v = NULL WHERE id = 2;
DELETE FROM by_full_key WHERE id = 3;
INSERT INTO large_key SELECT left(large(i), 2500), 'v', large(i) FROM generate_series(1, 3) i;
UPDATE large_key SET v = 'w' WHERE k = left(large(1), 2500);
UPDATE large_key SET k = 'short' WHERE k = left(large(2), 2500);
DELETE FROM large_key WHERE k = left(large(3), 2500);

INSERT INTO ordered SELECT i, i FROM generate_series(1, 6) i;
UPDATE ordered SET place = 7 - place;
BEGIN;
SET CONSTRAINTS one_each DEFERRED;
UPDATE ordered SET place = 2 WHERE id = 1;
UPDATE ordered SET place = 3 WHERE id = 2;
UPDATE ordered SET place = 6 WHERE place = 3 AND id <> 2;
UPDATE ordered SET place = 5 WHERE place = 2 AND id <> 1;
COMMIT;
INSERT INTO deferred_key SELECT i, 'v' FROM generate_series(1, 3) i;
UPDATE deferred_key SET id = 4 - id;
BEGIN; INSERT INTO deferred_key VALUES (1, 'w'); DELETE FROM deferred_key WHERE id = 1 AND v = 'v'; COMMIT;

INSERT INTO no_columns DEFAULT VALUES;
INSERT INTO no_columns SELECT FROM generate_series(1, 3);
INSERT INTO no_columns_full SELECT FROM generate_series(1, 3);
INSERT INTO only_computed DEFAULT VALUES;

INSERT INTO animal VALUES (1, 'a'), (2, 'b'); INSERT INTO dog VALUES (1, 'dog', 3), (2, 'dog', 4);
UPDATE animal SET name = name || '!' WHERE id = 1;
UPDATE ONLY animal SET name = 'only' WHERE id = 2;
DELETE FROM dog WHERE id = 2;
INSERT INTO split SELECT i, 'v', large(i) FROM generate_series(1, 15) i;
UPDATE split SET id = id + 7 WHERE id BETWEEN 9 AND 11;
UPDATE split SET v = 'w' WHERE id IN (1, 18);
DELETE FROM split WHERE id IN (2, 12);
TRUNCATE split_high_0;
"""


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with (
        fresh_database(servers.get(15), "source") as source,
        fresh_database(servers.get(17, "target"), "target") as target,
    ):
        yield DbPair(source, target)


def run(database: Database, work: str) -> None:
    """In one session, each statement for itself."""
    with database.connect() as connection:
        for statement in work.split(";\n"):
            if statement.strip():
                connection.execute(statement.encode())


def env_of(pair: DbPair) -> dict[str, str]:
    return uris(pair)


def set_up(pair: DbPair, plugin: str, command: Command, workdir: Path) -> None:
    lossy = ["--wal2json-lossy-nan"] if plugin == "wal2json" else []
    command.run("stream", "setup", "--plugin", plugin, *lossy, "--dir", workdir, env=env_of(pair))


def follow(pair: DbPair, command: Command, workdir: Path, *more: str, check: bool = True) -> str:
    pair.source.execute("UPDATE pgcopydb.sentinel SET apply = true, endpos = pg_current_wal_flush_lsn()")
    return command.run("follow", "--keep-files", "--dir", workdir, *more, env=env_of(pair), check=check).stderr


@pytest.mark.parametrize("plugin", PLUGINS)
def test_rows_that_are_hard_to_find(plugin: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    if plugin == "wal2json":
        require_wal2json(pair.source.cluster)
    for database in (pair.source, pair.target):
        database.execute(SCHEMA)
    if plugin == "pgoutput":
        findings = pgcopydb.run("check", "--follow", "--plugin", plugin, env=env_of(pair), check=False).stdout
        assert 'ALTER TABLE "public"."keyed_by_computed" REPLICA IDENTITY FULL' in findings, "its key is not sent"
        pair.source.execute("ALTER TABLE keyed_by_computed REPLICA IDENTITY FULL")
    set_up(pair, plugin, pgcopydb, workdir_path)
    run(pair.source, WORK)
    try:
        follow(pair, pgcopydb, workdir_path)
        assert_same_content(pair.source.dsn, pair.target.dsn)
    finally:
        pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=env_of(pair))


@pytest.mark.parametrize("plugin", ["test_decoding", "pgoutput"])
def test_one_table_becomes_a_partitioned_one(plugin: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Made by hand on the target, with columns in another order and one more."""
    pair.source.execute("CREATE TABLE t (id int PRIMARY KEY, v text, long text)")
    pair.source.execute("ALTER TABLE t ALTER long SET STORAGE EXTERNAL")
    pair.source.execute("CREATE TABLE logged (id int, v text); ALTER TABLE logged REPLICA IDENTITY FULL")
    pair.source.execute(SCHEMA.partition(";")[0])
    pair.target.execute(
        """
        CREATE TABLE t (more int DEFAULT 7, v text, id int PRIMARY KEY, long text) PARTITION BY RANGE (id);
        CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (10);
        CREATE TABLE t_high PARTITION OF t DEFAULT;
        CREATE TABLE logged (id int, v text) PARTITION BY HASH (id);
        CREATE TABLE logged_0 PARTITION OF logged FOR VALUES WITH (MODULUS 2, REMAINDER 0);
        CREATE TABLE logged_1 PARTITION OF logged FOR VALUES WITH (MODULUS 2, REMAINDER 1);
        """
    )
    set_up(pair, plugin, pgcopydb, workdir_path)
    run(
        pair.source,
        """
        INSERT INTO t SELECT i, 'v', large(i) FROM generate_series(1, 15) i;
        UPDATE t SET id = 20 WHERE id = 3;
        UPDATE t SET v = 'w' WHERE id IN (4, 12);
        DELETE FROM t WHERE id IN (5, 13, 14);
        INSERT INTO logged SELECT i % 4, 'v' FROM generate_series(1, 12) i;
        DELETE FROM logged WHERE ctid IN (SELECT min(ctid) FROM logged GROUP BY id);
        UPDATE logged SET id = id + 1 WHERE ctid IN (SELECT max(ctid) FROM logged GROUP BY id);
        """,
    )
    try:
        follow(pair, pgcopydb, workdir_path)
        assert pair.target.fetch("SELECT DISTINCT more FROM t") == [(7,)]
        for query in ("SELECT id, v, long FROM t ORDER BY 1", "SELECT id, v FROM logged ORDER BY 1, 2"):
            assert pair.source.fetch(query) == pair.target.fetch(query)
        pair.source.execute("TRUNCATE t, logged")
        follow(pair, pgcopydb, workdir_path)
        assert pair.target.fetch("SELECT count(*) FROM t, logged") == [(0,)]
    finally:
        pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=env_of(pair))


def test_another_encoding(servers: Servers, pgcopydb: Command, workdir_path: Path) -> None:
    """Two plugins send the bytes as they are: the third one is taken, or asked for."""
    with (
        fresh_database(servers.get(15), "latin", template="template0", encoding="LATIN1", locale="C") as source,
        fresh_database(servers.get(17, "target"), "target") as target,
    ):
        pair = DbPair(source, target)
        for database in (source, target):
            database.execute('CREATE TABLE "tæble" ("ké" text PRIMARY KEY, "välue" text)')
        refused = pgcopydb.run(
            "stream", "setup", "--plugin", "test_decoding", "--dir", workdir_path, env=env_of(pair), check=False
        )
        assert refused.returncode == 6
        assert "LATIN1" in refused.stderr
        assert "--plugin pgoutput" in refused.stderr
        assert source.fetch("SELECT slot_name FROM pg_replication_slots WHERE database = current_database()") == []
        set_up(pair, "auto", pgcopydb, workdir_path)
        run(
            source,
            """
            INSERT INTO "tæble" VALUES ('é', 'ÿ½'), ('É', 'ß'), ('e', '\u00a0');
            UPDATE "tæble" SET "välue" = 'Ø' WHERE "ké" = 'é';
            UPDATE "tæble" SET "ké" = 'ê' WHERE "ké" = 'É';
            DELETE FROM "tæble" WHERE "ké" = 'e';
            """,
        )
        try:
            follow(pair, pgcopydb, workdir_path)
            assert_same_content(source.dsn, target.dsn)
        finally:
            pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=env_of(pair))


def test_a_role_that_fires_triggers(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Deferrable constraints are checked when a transaction of the source has ended, as they may have been there."""
    schema = """
    CREATE TABLE ordered (id int PRIMARY KEY, place int, CONSTRAINT one_each UNIQUE (place) DEFERRABLE);
    CREATE TABLE child (id int PRIMARY KEY, parent int REFERENCES ordered DEFERRABLE);
    INSERT INTO ordered SELECT i, i FROM generate_series(1, 6) i;
    """
    pair.target.execute("CREATE ROLE fires LOGIN")
    pair.target.execute(f"GRANT CREATE ON DATABASE {pair.target.name} TO fires; GRANT CREATE ON SCHEMA public TO fires")
    as_role = pair.target.dsn.replace("//postgres@", "//fires@")
    env = {"PGCOPYDB_SOURCE_PGURI": pair.source.dsn, "PGCOPYDB_TARGET_PGURI": as_role}
    try:
        pair.source.execute(schema)
        pair.target.execute(f"SET ROLE fires; {schema}")
        said = pgcopydb.run("stream", "setup", "--plugin", "test_decoding", "--dir", workdir_path, env=env).stderr
        assert "GRANT SET ON PARAMETER session_replication_role" in said
        run(
            pair.source,
            """
            UPDATE ordered SET place = 7 - place;
            BEGIN;
            SET CONSTRAINTS ALL DEFERRED;
            INSERT INTO child VALUES (1, 9);
            INSERT INTO ordered VALUES (9, 9);
            COMMIT;
            """,
        )
        pair.source.execute("UPDATE pgcopydb.sentinel SET apply = true, endpos = pg_current_wal_flush_lsn()")
        pgcopydb.run("follow", "--dir", workdir_path, env=env)
        assert_same_content(pair.source.dsn, pair.target.dsn)
    finally:
        pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=env)
        pair.target.execute("DROP OWNED BY fires; DROP ROLE fires")


@pytest.mark.parametrize("plugin", ["test_decoding", "pgoutput"])
def test_what_cannot_be_identified(plugin: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Named when the slot is made; its inserts are followed; the source's own writes go on."""
    for database in (pair.source, pair.target):
        database.execute("CREATE TABLE bare (id int); CREATE TABLE nothing (id int PRIMARY KEY)")
        database.execute("ALTER TABLE nothing REPLICA IDENTITY NOTHING")
    done = pgcopydb.run("stream", "setup", "--plugin", plugin, "--dir", workdir_path, env=env_of(pair))
    for table in ("bare", "nothing"):
        assert f'ALTER TABLE "public"."{table}" REPLICA IDENTITY FULL' in done.stderr
    pair.source.execute("INSERT INTO bare VALUES (1), (2); INSERT INTO nothing VALUES (1), (2)")
    pair.source.execute("DELETE FROM bare WHERE id = 1; UPDATE nothing SET id = 3 WHERE id = 2")
    try:
        pair.source.execute("UPDATE pgcopydb.sentinel SET apply = true, endpos = pg_current_wal_flush_lsn()")
        ended = pgcopydb.run("follow", "--dir", workdir_path, env=env_of(pair), check=False)
        assert ended.returncode == (3 if plugin == "test_decoding" else 12), ended.stderr
        assert "public.bare" in ended.stderr
        assert "REPLICA IDENTITY FULL" in ended.stderr
        for table in ("bare", "nothing"):
            assert pair.target.fetch(f"SELECT id FROM {table} ORDER BY 1") == [(1,), (2,)]
    finally:
        pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=env_of(pair))


@pytest.mark.parametrize("plugin", ["test_decoding", "pgoutput"])
def test_views_that_are_refreshed_meanwhile(plugin: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.source.execute(
        """
        CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t VALUES (1, 'x');
        CREATE MATERIALIZED VIEW at_once AS SELECT * FROM t;
        CREATE MATERIALIZED VIEW by_rows AS SELECT * FROM t;
        CREATE UNIQUE INDEX ON by_rows (id);
        CREATE MATERIALIZED VIEW left_alone AS SELECT * FROM t;
        CREATE MATERIALIZED VIEW filled_later AS SELECT * FROM t WITH NO DATA;
        """
    )
    process = pgcopydb.start("clone", "--follow", "--plugin", plugin, "--dir", workdir_path, env=env_of(pair))
    wait_until(lambda: process.poll() is not None or is_applied(pair), 60, "changes to be applied")
    try:
        pair.source.execute("INSERT INTO t VALUES (2, 'y')")
        for statement in ("at_once", "CONCURRENTLY by_rows", "filled_later"):
            pair.source.execute(f"REFRESH MATERIALIZED VIEW {statement}")
        pair.source.execute(
            "UPDATE pgcopydb.sentinel SET endpos = pg_current_wal_flush_lsn(); NOTIFY pgcopydb_sentinel"
        )
        assert process.wait(60) == 0, pgcopydb.log_of(process)
        assert_same_content(pair.source.dsn, pair.target.dsn)
        assert pair.target.fetch("SELECT count(*) FROM left_alone") == [(1,)]
    finally:
        process.kill()
        process.wait()
        pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=env_of(pair))
