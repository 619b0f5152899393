"""Databases that are not UTF-8, and collations: bytes arrive as they are, or it is said up front that they cannot."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers, fresh_database
from tests.following import uris


@contextmanager
def pair_in(servers: Servers, of_source: str, of_target: str, majors: tuple[int, int] = (15, 17)) -> Iterator[DbPair]:
    """Two databases of these encodings."""
    options = {"template": "template0", "locale": "C"}
    with (
        fresh_database(servers.get(majors[0]), "source", encoding=of_source, **options) as source,
        fresh_database(servers.get(majors[1], "target"), "target", encoding=of_target, **options) as target,
    ):
        yield DbPair(source, target)


def env_of(pair: DbPair) -> dict[str, str]:
    return uris(pair)


def fill(database: Database) -> None:
    """Every byte that text may hold, in one-byte encodings."""
    escaped = ((i, f"E'\\x{i:02x}'", f"E'a\\x{i:02x}'") for i in range(1, 256))
    rows = ", ".join(f"({i}, {one}, {two}, {one}, ARRAY[{one}])" for i, one, two in escaped)
    database.execute(
        "CREATE TABLE bytes (id int PRIMARY KEY, t text NOT NULL CHECK (t <> E'\\xe9\\xe8'),"
        " v varchar(20) DEFAULT E'\\xe9', c char(3), a text[]);"
        f"INSERT INTO bytes VALUES {rows}; CREATE UNIQUE INDEX ON bytes (t); COMMENT ON TABLE bytes IS E'caf\\xe9';"
        "SELECT lo_from_bytea(4711, '\\x00e9')"
    )


def bytes_of(database: Database) -> list[tuple[object, ...]]:
    """As they are stored."""
    raw = "convert_to({}, getdatabaseencoding())".format
    columns = ", ".join(raw(name) for name in ("t", "v", "c", "a[1]"))
    of_catalogs = ", ".join(
        raw(text)
        for text in (
            "obj_description('bytes'::regclass)",
            "(SELECT pg_get_expr(adbin, adrelid) FROM pg_attrdef)",
        )
    )
    return database.fetch(f"SELECT id, {columns}, {of_catalogs} FROM bytes ORDER BY id")


@pytest.mark.parametrize("encoding", ["SQL_ASCII", "LATIN1"])
@pytest.mark.parametrize("options", [(), ("--use-copy-binary",)], ids=["text", "binary"])
def test_bytes_arrive_as_they_are(
    encoding: str, options: tuple[str, ...], servers: Servers, pgcopydb: Command, workdir_path: Path
) -> None:
    with pair_in(servers, encoding, encoding) as pair:
        fill(pair.source)
        if encoding != "SQL_ASCII":
            pair.source.execute("CREATE INDEX ON bytes (c) WHERE t <> 'ü'")
        pgcopydb.run("clone", "--dir", workdir_path, *options, env=env_of(pair))
        assert bytes_of(pair.target) == bytes_of(pair.source)


def test_what_the_server_can_convert(servers: Servers, pgcopydb: Command, workdir_path: Path) -> None:
    with pair_in(servers, "LATIN1", "UTF8") as pair:
        fill(pair.source)
        found = pgcopydb.run("check", "--json", env=env_of(pair), check=False).stdout
        (row,) = [row for row in orjson.loads(found) if row["subject"] == "encoding"]
        assert (row["severity"], "the server converts all text" in row["message"]) == ("note", True)
        pgcopydb.run("clone", "--dir", workdir_path, env=env_of(pair))
        assert_same_content(pair.source.dsn, pair.target.dsn)
        assert pair.target.fetch("SELECT v, octet_length(v) FROM bytes WHERE id = 233") == [("aé", 3)]
        assert "public.bytes" in pgcopydb.run("compare", "data", env=env_of(pair)).stdout
        pair.target.execute("UPDATE bytes SET v = 'aè' WHERE id = 233")
        assert pgcopydb.run("compare", "data", env=env_of(pair), check=False).returncode == 12


@pytest.mark.parametrize(
    ("of_source", "of_target", "why"),
    [
        ("SQL_ASCII", "UTF8", "nobody knows which encoding its bytes are in"),
        ("UTF8", "SQL_ASCII", "not every text of the source can be stored"),
        ("UTF8", "LATIN1", "not every text of the source can be stored"),
        ("LATIN1", "LATIN9", "not every text of the source can be stored"),
    ],
)
def test_what_nobody_can_convert(
    of_source: str, of_target: str, why: str, servers: Servers, pgcopydb: Command, workdir_path: Path
) -> None:
    with pair_in(servers, of_source, of_target) as pair:
        pair.source.execute("CREATE TABLE t (a text)")
        refused = pgcopydb.run("clone", "--dir", workdir_path, env=env_of(pair), check=False)
        assert refused.returncode == 4
        assert f"is {of_target} here and {of_source} on the source: {why}" in refused.stderr
        assert f"TEMPLATE template0 ENCODING '{of_source}'" in refused.stderr
        assert pair.target.fetch("SELECT to_regclass('t')") == [(None,)]


@pytest.mark.parametrize(("encoding", "plugin"), [("SQL_ASCII", "test_decoding"), ("LATIN1", "pgoutput")])
def test_changes_are_followed(
    encoding: str, plugin: str, servers: Servers, pgcopydb: Command, workdir_path: Path
) -> None:
    """Of SQL_ASCII what is UTF-8; more is refused, and nothing of it is acknowledged."""
    with pair_in(servers, encoding, encoding) as pair:
        fill(pair.source)
        if encoding == "SQL_ASCII":
            # What changes are written with is read from the catalogs as UTF-8.
            pair.source.execute("ALTER TABLE bytes ALTER COLUMN v DROP DEFAULT")
        env = env_of(pair)
        try:
            pgcopydb.run("clone", "--follow", "--plugin", plugin, "--endpos", "0/1", "--dir", workdir_path, env=env)
            assert bytes_of(pair.target) == bytes_of(pair.source)
            high = "E'\\xe9'" if encoding == "LATIN1" else "E'\\xc3\\xa9'"
            pair.source.execute(
                f"INSERT INTO bytes VALUES (1000, 'new' || {high}, {high}, 'x', ARRAY[{high}]);"
                f"UPDATE bytes SET v = {high} WHERE id = 97"
            )
            pair.source.execute("UPDATE pgcopydb.sentinel SET apply = true, endpos = pg_current_wal_flush_lsn()")
            pgcopydb.run("follow", "--dir", workdir_path, env=env)
            assert bytes_of(pair.target) == bytes_of(pair.source)
            if encoding == "SQL_ASCII":
                pair.source.execute("UPDATE bytes SET v = E'\\xe9' WHERE id = 98")
                pair.source.execute("UPDATE pgcopydb.sentinel SET endpos = pg_current_wal_flush_lsn()")
                refused = pgcopydb.run("follow", "--dir", workdir_path, env=env, check=False)
                assert refused.returncode != 0
                assert "a change holds bytes that are not UTF-8" in refused.stderr
        finally:
            pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=env)


def test_a_name_that_is_not_utf8(servers: Servers, pgcopydb: Command) -> None:
    with pair_in(servers, "SQL_ASCII", "SQL_ASCII") as pair, pair.source.connect(client_encoding="SQL_ASCII") as raw:
        for create, drop in (
            (b'CREATE TABLE "caf\xe9" (i int)', b'DROP TABLE "caf\xe9"'),
            (b"CREATE TABLE t (a text); CREATE INDEX i ON t (a) WHERE a <> 'caf\xe9'", b"DROP TABLE t"),
        ):
            raw.execute(create)
            refused = pgcopydb.run("check", env=env_of(pair), check=False)
            assert refused.returncode == 6
            assert "rename or rewrite it there" in refused.stderr
            raw.execute(drop)


def test_collations_that_the_target_lacks(servers: Servers, pgcopydb: Command, workdir_path: Path) -> None:
    """The server of 17 here has no ICU, and no server has the locale of that name."""
    with (
        fresh_database(servers.get(15), "source") as source,
        fresh_database(servers.get(17, "target"), "target") as target,
    ):
        if not source.fetch("SELECT FROM pg_collation WHERE collname = 'de-x-icu'"):
            pytest.skip("the server of 15 has no ICU")
        if target.fetch("SELECT FROM pg_collation WHERE collname = 'de-x-icu'"):
            pytest.skip("the server of 17 has ICU")
        source.execute(
            """
            CREATE TABLE t (a text COLLATE "de-x-icu", b text COLLATE "C");
            CREATE COLLATION numeric_order (provider = icu, locale = 'en-u-kn-true');
            CREATE COLLATION like_c (locale = 'C.UTF-8');
            CREATE COLLATION from_elsewhere (locale = 'C');
            UPDATE pg_collation SET collcollate = 'xx_XX', collctype = 'xx_XX' WHERE collname = 'from_elsewhere';
            """
        )
        pair = DbPair(source, target)
        found = orjson.loads(pgcopydb.run("check", "--json", env=env_of(pair), check=False).stdout)
        lacking = {row["subject"]: row for row in found if row["subject"].startswith("collation ")}
        names = {"collation pg_catalog.de-x-icu", "collation public.numeric_order", "collation public.from_elsewhere"}
        assert set(lacking) == names
        assert {row["severity"] for row in lacking.values()} == {"error"}
        refused = pgcopydb.run("clone", "--dir", workdir_path, env=env_of(pair), check=False)
        assert refused.returncode == 4
        assert target.fetch("SELECT to_regclass('t')") == [(None,)]
        left = orjson.loads(pgcopydb.run("check", "--json", "--skip-collations", env=env_of(pair), check=False).stdout)
        assert [row["subject"] for row in left if "collation " in row["subject"]] == ["collation pg_catalog.de-x-icu"]
