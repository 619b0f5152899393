"""``compare schema``: equal after a clone of every kind of object; each kind of difference is found, on either side."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest

from pgcopydb.bootstrap.compare_schema import SchemaDifference, compare_schema
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.filters import FilterRules
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.fix_zoo import load_zoo
from tests.following import pair_of, uris
from tests.integration.test_filters import SCHEMA

MORE = """
CREATE DOMAIN app.positive AS int DEFAULT 1 CHECK (VALUE > 0);
CREATE PUBLICATION pub FOR TABLE app.customer;
CREATE FUNCTION app.twice(i int) RETURNS int LANGUAGE sql AS 'SELECT i * 2';
CREATE TRIGGER noted BEFORE INSERT ON public.kept FOR EACH ROW EXECUTE FUNCTION old.note();
ALTER TABLE app.customer REPLICA IDENTITY FULL;
CREATE FOREIGN DATA WRAPPER remote; CREATE SERVER there FOREIGN DATA WRAPPER remote OPTIONS (host 'a');
CREATE SERVER elsewhere FOREIGN DATA WRAPPER remote;
CREATE USER MAPPING FOR CURRENT_USER SERVER there OPTIONS (password 'secret');
CREATE FOREIGN TABLE app.far (id int OPTIONS (name 'i')) SERVER there OPTIONS (path 'x');
CREATE TEXT SEARCH CONFIGURATION app.words (COPY = simple);
CREATE TEXT SEARCH DICTIONARY app.stems (TEMPLATE = simple, stopwords = english);
CREATE FUNCTION app.same(int, int) RETURNS bool LANGUAGE sql AS 'SELECT $1 = $2';
CREATE OPERATOR app.=== (LEFTARG = int, RIGHTARG = int, FUNCTION = app.same);
CREATE OPERATOR FAMILY app.kin USING btree;
CREATE OPERATOR CLASS app.order FOR TYPE int USING btree FAMILY app.kin AS
    OPERATOR 1 <, OPERATOR 3 =, FUNCTION 1 btint4cmp(int, int);
CREATE AGGREGATE app.total (int) (SFUNC = int4pl, STYPE = int);
CREATE CONVERSION app.latin FOR 'LATIN1' TO 'UTF8' FROM iso8859_1_to_utf8;
CREATE COLLATION app.plain (LOCALE = 'C');
CREATE TYPE app.flag AS (f int);
"""


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 15) as pair:
        yield pair


def compare(pgcopydb: Command, pair: DbPair, *more: str) -> tuple[int, list[dict[str, Any]]]:
    done = pgcopydb.run(
        *("compare", "schema", "--json", *more),
        env=uris(pair),
        check=False,
    )
    assert done.returncode in {0, 12}, done.stderr
    return done.returncode, orjson.loads(done.stdout)["differences"]


def differences(pair: DbPair, *, grants: bool = True) -> list[SchemaDifference]:
    source, target = (
        Endpoint(ConnInfo.parse(side, database.dsn), "compare")
        for side, database in ((Side.SOURCE, pair.source), (Side.TARGET, pair.target))
    )
    return compare_schema(source, target, FilterRules(), grants=grants).differences


def clone(pgcopydb: Command, pair: DbPair, workdir: Path, *more: str) -> None:
    pgcopydb.run(
        "clone",
        *("--dir", workdir),
        *more,
        env=uris(pair),
    )


def test_a_clone_of_everything_is_equal(pgcopydb: Command, db_pair: DbPair, workdir_path: Path) -> None:
    load_zoo(db_pair.source, db_pair.target)
    clone(pgcopydb, db_pair, workdir_path)
    assert compare(pgcopydb, db_pair) == (0, [])


# No provider of labels is packaged: a label is put where a provider's would be.
LABEL = "SET allow_system_table_mods = on; INSERT INTO pg_seclabel SELECT {}, 'dummy', 'secret'"
SHARED_LABEL = (
    "SET allow_system_table_mods = on; INSERT INTO pg_shseclabel"
    " SELECT oid, 'pg_database'::regclass, 'dummy', 'secret' FROM pg_database WHERE datname = current_database()"
)

# What is run on the target, and the one difference that it makes: kind, object, property.
DIFFERENCES = [
    ("CREATE TABLE app.extra (id int PRIMARY KEY)", "table", "app.extra", None),
    ("DROP VIEW app.above", "view", "app.above", None),
    ("CREATE SCHEMA another", "schema", "another", None),
    ("ALTER TABLE app.shared ADD COLUMN more int", "column", "app.shared.more", None),
    ("ALTER TABLE app.shared ALTER t TYPE varchar(20)", "column", "app.shared.t", "type"),
    ("ALTER TABLE app.shared ALTER t SET NOT NULL", "column", "app.shared.t", "not null"),
    ("ALTER TABLE app.shared ALTER t SET DEFAULT 'x'", "column", "app.shared.t", "default"),
    ('ALTER TABLE app.shared ALTER t TYPE text COLLATE "C"', "column", "app.shared.t", "collation"),
    ("ALTER TABLE app.shared ALTER t SET STORAGE EXTERNAL", "column", "app.shared.t", "storage"),
    ("ALTER TABLE app.shared ALTER t SET STATISTICS 500", "column", "app.shared.t", "statistics"),
    ("COMMENT ON COLUMN app.orders.note IS 'other'", "column", "app.orders.note", "comment"),
    ("GRANT SELECT (t) ON app.shared TO PUBLIC", "column", "app.shared.t", "grants"),
    ("GRANT INSERT ON app.orders TO PUBLIC", "table", "app.orders", "grants"),
    ("ALTER TABLE app.customer REPLICA IDENTITY DEFAULT", "table", "app.customer", "replica identity"),
    ("ALTER TABLE app.orders DISABLE ROW LEVEL SECURITY", "table", "app.orders", "row level security"),
    ("ALTER TABLE app.shared SET (fillfactor = 70)", "table", "app.shared", "options"),
    ("ALTER TABLE app.shared SET UNLOGGED", "table", "app.shared", "persistence"),
    ("ALTER TABLE app.shared ADD CHECK (id > 0)", "constraint", "app.shared.shared_id_check", None),
    (
        "ALTER TABLE app.orders DROP CONSTRAINT orders_customer_fkey",
        "constraint",
        "app.orders.orders_customer_fkey",
        None,
    ),
    ("DROP INDEX app.orders_note", "index", "app.orders_note", None),
    ("ALTER TABLE app.shared CLUSTER ON shared_pkey", "index", "app.shared_pkey", "clustered"),
    ("ALTER SEQUENCE app.orders_id_seq CACHE 7", "sequence", "app.orders_id_seq", "sequence"),
    ("ALTER TYPE app.mood ADD VALUE 'new'", "enum", "app.mood", "labels"),
    ("ALTER DOMAIN app.positive SET DEFAULT 2", "domain", "app.positive", "default"),
    ("ALTER DOMAIN app.positive DROP CONSTRAINT positive_check", "constraint", "app.positive.positive_check", None),
    (
        "CREATE OR REPLACE FUNCTION app.twice(i int) RETURNS int LANGUAGE sql AS 'SELECT i + i'",
        *("function", "app.twice(i integer)", "definition"),
    ),
    ("ALTER TABLE public.kept DISABLE TRIGGER noted", "trigger", "public.kept.noted", "enabled"),
    ("ALTER POLICY p ON app.orders USING (false)", "policy", "app.orders.p", "using"),
    ("DROP RULE r ON app.orders", "rule", "app.orders.r", None),
    ("DROP STATISTICS app.orders_stats", "statistics", "app.orders_stats", None),
    ("ALTER PUBLICATION pub ADD TABLE public.tmp_1", "publication", "pub", "tables"),
    (
        (
            "CREATE OR REPLACE VIEW app.named AS SELECT o.id, c.name FROM app.orders o JOIN app.customer c"
            " ON c.id = o.customer + 0"
        ),
        *("view", "app.named", "definition"),
    ),
    ("REVOKE USAGE ON SCHEMA public FROM PUBLIC", "schema", "public", "grants"),
    ("GRANT CREATE ON SCHEMA app TO PUBLIC", "schema", "app", "grants"),
    ("ALTER SCHEMA app OWNER TO pg_monitor", "schema", "app", "owner"),
    ("GRANT TRIGGER ON app.shared TO PUBLIC", "table", "app.shared", "grants"),
    ("ALTER TABLE app.shared OWNER TO pg_monitor", "table", "app.shared", "owner"),
    ("REVOKE EXECUTE ON FUNCTION app.twice FROM PUBLIC", "function", "app.twice(i integer)", "grants"),
    ("REVOKE USAGE ON TYPE app.flag FROM PUBLIC", "composite type", "app.flag", "grants"),
    ("ALTER SERVER there OPTIONS (SET host 'b')", "foreign server", "there", "definition"),
    ("GRANT USAGE ON FOREIGN SERVER elsewhere TO PUBLIC", "foreign server", "elsewhere", "grants"),
    ("ALTER FOREIGN DATA WRAPPER remote OPTIONS (debug 'on')", "foreign data wrapper", "remote", "options"),
    ("DROP USER MAPPING FOR CURRENT_USER SERVER there", "user mapping", "there for postgres", None),
    ("ALTER FOREIGN TABLE app.far OPTIONS (SET path 'y')", "foreign table", "app.far", "foreign server"),
    ("ALTER FOREIGN TABLE app.far ALTER id OPTIONS (SET name 'j')", "column", "app.far.id", "options"),
    (
        "ALTER TEXT SEARCH CONFIGURATION app.words ALTER MAPPING FOR word WITH english_stem",
        *("text search configuration", "app.words", "definition"),
    ),
    (
        "ALTER TEXT SEARCH DICTIONARY app.stems (stopwords = russian)",
        *("text search dictionary", "app.stems", "definition"),
    ),
    ("ALTER OPERATOR app.=== (int, int) OWNER TO pg_monitor", "operator", "app.===(integer,integer)", "owner"),
    (
        "ALTER OPERATOR FAMILY app.kin USING btree ADD OPERATOR 5 > (int, int)",
        *("operator family of btree", "app.kin", "operators"),
    ),
    (
        "CREATE OR REPLACE AGGREGATE app.total (int) (SFUNC = int4pl, STYPE = int, COMBINEFUNC = int4pl)",
        *("aggregate", "app.total(integer)", "definition"),
    ),
    ("ALTER CONVERSION app.latin OWNER TO pg_monitor", "conversion", "app.latin", "owner"),
    ("COMMENT ON COLLATION app.plain IS 'plain'", "collation", "app.plain", "comment"),
    ("COMMENT ON POLICY p ON app.orders IS 'said'", "policy", "app.orders.p", "comment"),
    ("ALTER TABLE app.shared SET (toast.autovacuum_enabled = off)", "table", "app.shared", "options of large values"),
    ("ALTER PUBLICATION pub SET (publish_via_partition_root = true)", "publication", "pub", "publishes"),
    ("ALTER PUBLICATION pub OWNER TO pg_monitor", "publication", "pub", "owner"),
    ("ALTER DATABASE {database} SET work_mem = '77kB'", "setting", "- work_mem", None),
    ("CREATE EXTENSION citext", "extension", "citext", None),
    (
        "ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO PUBLIC",
        *("default grants", "postgres app r", None),
    ),
    (
        LABEL.format("'app.shared'::regclass, 'pg_class'::regclass, 2"),
        *("security label of column", "app.shared.t.dummy", None),
    ),
    (
        LABEL.format("'app.twice(int)'::regprocedure, 'pg_proc'::regclass, 0"),
        *("security label of function", "app.twice(i integer).dummy", None),
    ),
    (SHARED_LABEL, "security label of database", "-.dummy", None),
]


def test_each_difference_is_found(pair: DbPair) -> None:
    for database in (pair.source, pair.target):
        database.execute(SCHEMA + MORE)
    assert differences(pair) == []
    for statement, *expected in DIFFERENCES:
        pair.target.execute(statement.format(database=pair.target.name))
        found = differences(pair)
        kinds = [(each.object.kind, each.object.identity, each.property or None) for each in found]
        assert tuple(expected) in kinds, f"{statement}: {kinds}"
        # Seen from the other side it is the same.
        turned = [
            SchemaDifference(each.object, each.property, each.target, each.source)
            for each in differences(DbPair(pair.target, pair.source))
        ]
        assert turned == found, statement
    assert len(differences(pair)) == len(DIFFERENCES)


def test_what_is_told(pgcopydb: Command, pair: DbPair) -> None:
    pair.source.execute("CREATE TABLE t (id int); GRANT SELECT ON t TO PUBLIC")
    pair.target.execute("CREATE TABLE t (id bigint)")
    env = uris(pair)
    done = pgcopydb.run("compare", "schema", env=env, check=False)
    assert done.returncode == 12
    assert "column public.t.id: type is 'integer' on the source, 'bigint' on the target" in done.stderr
    assert "table public.t: grants" in done.stderr
    assert compare(pgcopydb, pair, "--no-acl") == (
        12,
        [
            {
                "kind": "column",
                "identity": "public.t.id",
                "property": "type",
                "source": "integer",
                "target": "bigint",
            }
        ],
    )


def test_another_version_of_an_extension_is_a_note(pgcopydb: Command, pair: DbPair) -> None:
    pair.source.execute("CREATE EXTENSION citext VERSION '1.4'")
    pair.target.execute("CREATE EXTENSION citext")
    assert differences(pair) == []
    env = uris(pair)
    done = pgcopydb.run("compare", "schema", env=env)
    assert "extension citext: version is '1.4' on the source" in done.stderr


def test_what_filters_leave_out_is_no_difference(
    pgcopydb: Command, pair: DbPair, workdir_path: Path, tmp_path: Path
) -> None:
    pair.source.execute(SCHEMA + MORE)
    filters = tmp_path / "filters.ini"
    filters.write_text("[exclude-table]\napp.orders\napp.log\n[exclude-schema]\nMixed\n", encoding="utf-8")
    clone(pgcopydb, pair, workdir_path, "--filters", str(filters))
    assert compare(pgcopydb, pair)[0] == 12
    assert compare(pgcopydb, pair, "--filters", str(filters)) == (0, [])
    # The work directory knows them too.
    assert compare(pgcopydb, pair, "--dir", str(workdir_path)) == (0, [])
    env = uris(pair)
    assert pgcopydb.run("compare", "data", env=env, check=False).returncode == 12
    pgcopydb.run("compare", "data", "--dir", workdir_path, env=env)


def test_parts_of_tables_that_filters_leave_out_are_no_difference(
    pgcopydb: Command, pair: DbPair, workdir_path: Path, tmp_path: Path
) -> None:
    pair.source.execute(
        'CREATE SCHEMA "App x"; SET search_path = "App x"; CREATE TABLE gone (id int PRIMARY KEY);'
        "CREATE TABLE bare (id int PRIMARY KEY); INSERT INTO bare VALUES (1);"
        'CREATE TABLE kept (id int PRIMARY KEY, g int, b int, "in on dex" int UNIQUE,'
        ' CONSTRAINT "fk on gone" FOREIGN KEY (g) REFERENCES gone, FOREIGN KEY (b) REFERENCES bare);'
        "INSERT INTO kept VALUES (1, NULL, 1, 1); CREATE INDEX kept_g ON kept (g)"
    )
    filters = tmp_path / "filters.ini"
    filters.write_text(
        '[exclude-table]\n"App x".gone\n[exclude-table-data]\n"App x".bare\n'
        '[exclude-index]\n"App x".kept_g\n"App x"."kept_in on dex_key"\n',
        encoding="utf-8",
    )
    clone(pgcopydb, pair, workdir_path, "--filters", str(filters))
    assert len(compare(pgcopydb, pair)[1]) >= 5
    assert compare(pgcopydb, pair, "--filters", str(filters)) == (0, [])
