"""Where tables, indexes and materialized views are put on the target: as on the source, elsewhere, nowhere."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
from psycopg.conninfo import make_conninfo

from pgcopydb.bootstrap.placement import parse_map
from pgcopydb.runtime.errors import UsageError
from tests.content import assert_same_content, assert_same_schema
from tests.fix_command import Command
from tests.fix_servers import Database, Servers, fresh_database

WHERE = """
SELECT c.relname::text, coalesce(t.spcname, '-')::text
  FROM pg_class c
  JOIN pg_namespace n ON n.oid = c.relnamespace
  LEFT JOIN pg_tablespace t ON t.oid = c.reltablespace
 WHERE n.nspname = 'shop' AND c.relkind IN ('r', 'p', 'm', 'i', 'I')
"""
SHOP = """
CREATE SCHEMA shop;
SET search_path = shop;
CREATE TABLE plain (i int PRIMARY KEY, t text);
CREATE INDEX plain_t ON plain (t) TABLESPACE "slow =, disk";
CREATE TABLE placed (
    i int, t text, r int4range,
    CONSTRAINT placed_pkey PRIMARY KEY (i) USING INDEX TABLESPACE "slow =, disk",
    CONSTRAINT placed_r EXCLUDE USING gist (r WITH &&) USING INDEX TABLESPACE fast,
    CONSTRAINT placed_t UNIQUE (t)) TABLESPACE fast;
CREATE INDEX placed_it ON placed (i, t) TABLESPACE fast;
ALTER TABLE placed ADD FOREIGN KEY (i) REFERENCES plain;
CREATE TABLE parts (i int, t text, CONSTRAINT parts_pkey PRIMARY KEY (i) USING INDEX TABLESPACE fast)
    PARTITION BY RANGE (i) TABLESPACE fast;
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (100);
CREATE TABLE parts_2 PARTITION OF parts FOR VALUES FROM (100) TO (200) TABLESPACE "slow =, disk";
CREATE INDEX parts_t ON parts (t) TABLESPACE "slow =, disk";
CREATE MATERIALIZED VIEW placed_view TABLESPACE fast AS SELECT i, t FROM placed;
CREATE UNIQUE INDEX placed_view_i ON placed_view (i) TABLESPACE "slow =, disk";
CREATE UNLOGGED TABLE quick (i int) TABLESPACE fast;
INSERT INTO plain SELECT i, 'text ' || i FROM generate_series(1, 50) i;
INSERT INTO placed SELECT i, t, int4range(i, i + 1) FROM plain;
INSERT INTO parts SELECT i * 3, t FROM plain;
REFRESH MATERIALIZED VIEW placed_view;
"""
FAST, SLOW = "fast", "slow =, disk"
ELSEWHERE: dict[str, Any] = {"pg_dump_options": ["--no-tablespaces"], "database_settings": False}


@contextmanager
def tablespaces(database: Database, *names: str) -> Iterator[None]:
    """Of the whole server, which other tests use too: gone in the end, and first what is in them."""
    with database.connect(options="-c allow_in_place_tablespaces=on") as connection:
        for name in names:
            connection.execute(f"CREATE TABLESPACE \"{name}\" LOCATION ''".encode())
    try:
        yield
    finally:
        database.execute("DROP SCHEMA IF EXISTS shop CASCADE")
        for name in names:
            database.execute(f'DROP TABLESPACE "{name}"')


@pytest.fixture
def shop(source_db: Database) -> Iterator[Database]:
    with tablespaces(source_db, FAST, SLOW):
        source_db.execute(SHOP)
        yield source_db


def places(database: Database) -> dict[str, str]:
    return dict(database.fetch(WHERE))


def renamed(found: dict[str, str], **names: str) -> dict[str, str]:
    """``names``: those of tablespaces on the target."""
    by_name = {FAST: names["fast"], SLOW: names["slow"]}
    return {relation: by_name.get(place, place) for relation, place in found.items()}


def differences(pgcopydb: Command, source: Database, target: Database, *options: str) -> list[tuple[str | None, ...]]:
    """Of ``compare schema``: kind, identity, property, and what it is on the source and on the target."""
    compared = pgcopydb.run(
        *("compare", "schema", "--json", "--source", source.dsn, "--target", target.dsn, *options), check=False
    )
    found = orjson.loads(compared.stdout)["differences"]
    assert compared.returncode == (12 if found else 0), compared.stderr
    return [tuple(each.values()) for each in found]


def findings(pgcopydb: Command, source: Database, target: Database, *options: str) -> dict[str, dict[str, str]]:
    checked = pgcopydb.run(
        *("check", "--json", "--source", source.dsn, "--target", target.dsn, "--dir", str(pgcopydb.folder / "check")),
        *options,
        check=False,
    )
    return {row["subject"]: row for row in orjson.loads(checked.stdout)}


def test_everything_stays_where_it_is(
    shop: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    arguments = ("clone", "--source", shop.dsn, "--target", target_db.dsn, "--dir", str(workdir_path))
    with tablespaces(target_db, FAST, SLOW):
        # What says nothing is where the database is, not where new tables of users go.
        target_db.execute(f"ALTER DATABASE {target_db.name} SET default_tablespace = fast")
        pgcopydb.run(*arguments)
        assert places(target_db) == places(shop)
        assert {FAST, SLOW, "-"} == set(places(shop).values())
        assert_same_content(shop.dsn, target_db.dsn)
        setting = ("setting", "- default_tablespace", None, None, "")
        assert differences(pgcopydb, shop, target_db) == [setting]
        assert differences(pgcopydb, shop, target_db, "--no-tablespaces") == []
        target_db.execute(f"ALTER DATABASE {target_db.name} RESET default_tablespace")
        assert differences(pgcopydb, shop, target_db) == []
        pgcopydb.run(*arguments, "--restart", "--drop-if-exists", "--no-tablespaces")
        assert set(places(target_db).values()) == {"-"}
        assert differences(pgcopydb, shop, target_db, "--no-tablespaces") == []
        moved = {identity: tuple(rest) for _, identity, *rest in differences(pgcopydb, shop, target_db)}
        assert moved == {
            f"shop.{name}": ("tablespace", place, None) for name, place in places(shop).items() if place != "-"
        }
        assert_same_content(shop.dsn, target_db.dsn)


@pytest.mark.parametrize("major", [15, 18])
def test_other_names_on_the_target(
    servers: Servers, shop: Database, pgcopydb: Command, workdir_path: Path, major: int
) -> None:
    arguments = ("--tablespace-map", "fast=big one", "--tablespace-map", f'"{SLOW}"=pg_default')
    shop.execute(f'ALTER DATABASE {shop.name} SET temp_tablespaces = fast, "{SLOW}"')
    with (
        fresh_database(servers.get(major, "target"), "target") as target,
        tablespaces(target, "big one", FAST, SLOW),
    ):
        pgcopydb.run("clone", "--source", shop.dsn, "--target", target.dsn, "--dir", workdir_path, *arguments)
        assert places(target) == renamed(places(shop), fast="big one", slow="-")
        assert_same_content(shop.dsn, target.dsn)
        assert_same_schema(shop.dsn, target.dsn, **ELSEWHERE)
        assert target.fetch("SHOW temp_tablespaces") == [('"big one", ""',)]
        assert differences(pgcopydb, shop, target, *arguments) == []
        # The work directory knows the map too.
        assert differences(pgcopydb, shop, target, "--dir", str(workdir_path)) == []
        assert differences(pgcopydb, shop, target, "--no-tablespaces") == []
        unmapped = differences(pgcopydb, shop, target)
        assert ("table", "shop.placed", "tablespace", FAST, "big one") in unmapped
        assert ("setting", "- temp_tablespaces", "value", '"fast", "slow =, disk"', '"big one", ""') in unmapped
        target.execute("ALTER INDEX shop.placed_it SET TABLESPACE pg_default")
        moved = ("index", "shop.placed_it", "tablespace", "big one", None)
        assert differences(pgcopydb, shop, target, *arguments) == [moved]


def test_step_by_step_the_map_is_said_once(
    shop: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    ends = ("--source", shop.dsn, "--target", target_db.dsn, "--dir", str(workdir_path))
    with tablespaces(target_db, "big", "cheap"):
        pgcopydb.run("dump", "schema", *ends)
        before_map = pgcopydb.run("restore", "pre-data", *ends, check=False)
        assert before_map.returncode == 7
        assert "the target has no tablespace fast, slow =, disk" in before_map.stderr
        assert target_db.fetch("SELECT count(*) FROM pg_namespace WHERE nspname = 'shop'") == [(0,)]
        pgcopydb.run("restore", "pre-data", *ends, env={"PGCOPYDB_TABLESPACE_MAP": f'fast=big,"{SLOW}"=cheap'})
        other = pgcopydb.run("copy", "data", *ends, "--tablespace-map", "fast=cheap", check=False)
        assert other.returncode == 3
        assert '{"fast":"big","slow =, disk":"cheap"}' in other.stderr
        # pg_restore builds what nobody has built: under the map too.
        pgcopydb.run("restore", "post-data", *ends)
        assert places(target_db) == renamed(places(shop), fast="big", slow="cheap")
        pgcopydb.run("copy", "table-data", *ends)
        assert places(target_db) == renamed(places(shop), fast="big", slow="cheap")
        assert_same_schema(shop.dsn, target_db.dsn, **ELSEWHERE)


def test_leaving_them_out_is_said_once(
    shop: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    ends = ("--source", shop.dsn, "--target", target_db.dsn, "--dir", str(workdir_path))
    pgcopydb.run("copy", "schema", *ends, "--no-tablespaces")
    pgcopydb.run("copy", "data", *ends)
    assert set(places(target_db).values()) == {"-"}
    pgcopydb.run("copy", "sequences", *ends)
    pgcopydb.run("copy", "blobs", *ends)
    assert_same_content(shop.dsn, target_db.dsn)


def test_a_tablespace_that_is_the_default_of_the_target(
    servers: Servers, shop: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    """By its name no partitioned table could be put there."""
    maintenance = Database(servers.get(15, "target"), "postgres")
    with (
        tablespaces(maintenance, FAST, SLOW),
        fresh_database(servers.get(15, "target"), "target", tablespace=FAST) as target,
    ):
        warned = pgcopydb.run("clone", "--source", shop.dsn, "--target", target.dsn, "--dir", workdir_path)
        assert places(target) == renamed(places(shop), fast="-", slow=SLOW)
        assert f"database {target.name}: is in tablespace fast, the source's database in pg_default" in warned.stderr
        assert f'ALTER DATABASE "{target.name}" SET TABLESPACE "pg_default";' in warned.stderr
        elsewhere = ("database", "-", "tablespace", "pg_default", FAST)
        assert differences(pgcopydb, shop, target) == [elsewhere]
        assert differences(pgcopydb, shop, target, "--tablespace-map", f"pg_default={FAST}") == []
        assert_same_schema(shop.dsn, target.dsn, **ELSEWHERE)


def test_killed_before_tables_are_moved(
    shop: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    arguments = ("clone", "--source", shop.dsn, "--target", target_db.dsn, "--dir", str(workdir_path))
    with tablespaces(target_db, "big"):
        killed = pgcopydb.run(
            *arguments,
            *("--tablespace-map", "fast=big", "--tablespace-map", f'"{SLOW}"=big'),
            env={"PGCOPYDB_FAILPOINTS": "pre_data.after_restore=kill"},
            check=False,
        )
        assert killed.returncode == -9
        pgcopydb.run(*arguments, "--resume", "--not-consistent")
        assert places(target_db) == renamed(places(shop), fast="big", slow="big")
        assert_same_content(shop.dsn, target_db.dsn)


def test_what_is_missing_is_said_first(
    shop: Database, target_db: Database, pgcopydb: Command, workdir_path: Path
) -> None:
    found = findings(pgcopydb, shop, target_db)
    assert found["tablespace fast"]["severity"] == found[f"tablespace {SLOW}"]["severity"] == "error"
    assert "5 indexes, 1 materialized view, 4 tables" in found["tablespace fast"]["message"]
    assert "--tablespace-map fast=OTHER" in found["tablespace fast"]["message"]
    assert found["tablespace fast"]["fix"] == "CREATE TABLESPACE \"fast\" LOCATION '…';"
    refused = pgcopydb.run("clone", "--source", shop.dsn, "--target", target_db.dsn, "--dir", workdir_path, check=False)
    assert refused.returncode == 4
    assert target_db.fetch("SELECT count(*) FROM pg_namespace WHERE nspname = 'shop'") == [(0,)]
    assert findings(pgcopydb, shop, target_db, "--no-tablespaces") == {}

    filters = pgcopydb.folder / "filters.ini"
    filters.write_text("[exclude-table]\nshop.placed\nshop.placed_view\n[exclude-index]\nshop.plain_t\n")
    found = findings(pgcopydb, shop, target_db, "--filters", str(filters))
    assert "3 indexes, 3 tables" in found["tablespace fast"]["message"]
    assert "3 indexes, 1 table of" in found[f"tablespace {SLOW}"]["message"]


def test_maps_that_do_not_fit(shop: Database, target_db: Database, pgcopydb: Command) -> None:
    shop.execute(f"ALTER DATABASE {shop.name} SET temp_tablespaces = fast")
    with tablespaces(target_db, "bigger", SLOW):
        found = findings(pgcopydb, shop, target_db, "--tablespace-map", "fast=biger", "--tablespace-map", "fest=bigger")
        assert found["tablespace biger"]["severity"] == "error"
        assert "fast is mapped to it; the nearest names here are bigger" in found["tablespace biger"]["message"]
        assert found["--tablespace-map"]["severity"] == "warning"
        assert found["--tablespace-map"]["message"] == "nothing on the source is in tablespace fest"
        assert "fast" in found["--tablespace-map"]["fix"]
        shop.execute("DROP TABLE shop.placed CASCADE; DROP TABLE shop.parts, shop.quick")
        found = findings(pgcopydb, shop, target_db)
        assert found["tablespace fast"]["severity"] == "warning"
        assert "setting temp_tablespaces of the database names it" in found["tablespace fast"]["message"]


def test_a_role_that_may_not_create_there(shop: Database, target_db: Database, pgcopydb: Command) -> None:
    target_db.execute(f"CREATE ROLE tenant LOGIN; GRANT ALL ON DATABASE {target_db.name} TO tenant")
    tenant = make_conninfo(target_db.dsn, user="tenant")
    try:
        with tablespaces(target_db, FAST, SLOW):
            arguments = ("check", "--json", "--source", shop.dsn, "--target", tenant, "--no-owner")
            rows = orjson.loads(pgcopydb.run(*arguments, check=False).stdout)
            fixes = [row["fix"] for row in rows if row["subject"].startswith("tablespace")]
            assert sorted(fixes) == [f'GRANT CREATE ON TABLESPACE "{name}" TO "tenant";' for name in (FAST, SLOW)]
            for fix in fixes:
                target_db.execute(fix)
            rows = orjson.loads(pgcopydb.run(*arguments, check=False).stdout)
            assert not [row for row in rows if row["subject"].startswith("tablespace")]
            for name in (FAST, SLOW):
                target_db.execute(f'REVOKE ALL ON TABLESPACE "{name}" FROM tenant')
    finally:
        target_db.execute("DROP OWNED BY tenant; DROP ROLE tenant")


def test_options_that_contradict_each_other(pgcopydb: Command) -> None:
    refused = pgcopydb.run(
        *("clone", "--source", "host=nowhere", "--target", "host=nowhere"),
        *("--no-tablespaces", "--tablespace-map", "a=b"),
        check=False,
    )
    assert refused.returncode == 1
    assert "--tablespace-map and --no-tablespaces exclude each other" in refused.stderr


@pytest.mark.parametrize(
    ("pairs", "found"),
    [
        ([], {}),
        (["a=b"], {"a": "b"}),
        ([" a = b c ", "d=b c"], {"a": "b c", "d": "b c"}),
        (['"a=""1"="b,2"', "a=b", "a=b"], {'a="1': "b,2", "a": "b"}),
    ],
)
def test_pairs(pairs: list[str], found: dict[str, str]) -> None:
    assert parse_map(pairs) == found


@pytest.mark.parametrize(
    ("pairs", "said"),
    [
        (["a"], "'a' is not OLD=NEW"),
        (["=b"], "'=b' is not OLD=NEW"),
        (["a="], "'a=' is not OLD=NEW"),
        (["a=b=c"], "'a=b=c' is not OLD=NEW"),
        (['""=b'], "is not OLD=NEW"),
        (["a=pg_global"], "nothing of a database is in pg_global"),
        (["a=b", "a=c"], "maps a both to b and to c"),
    ],
)
def test_pairs_that_are_none(pairs: list[str], said: str) -> None:
    with pytest.raises(UsageError, match="--tablespace-map") as caught:
        parse_map(pairs)
    assert said in caught.value.message
