"""Extensions in the versions that --requirements asks for, with two small ones made for it."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database

# Of this process alone: another one may run the same tests against the same installation.
BASE = f"pgcopydb_base_{os.getpid()}"
TOP = f"pgcopydb_atop_{os.getpid()}"

_KINDS = """
CREATE DOMAIN label AS text;
CREATE FUNCTION made_as() RETURNS text LANGUAGE sql IMMUTABLE AS 'SELECT ''{}''';
"""
# Each table refers to one that is made later and has a later name: neither gives the order.
_CONFIG = """
CREATE TABLE a_streets (id int PRIMARY KEY, town int, next int REFERENCES a_streets);
CREATE TABLE m_towns (id int PRIMARY KEY, land int);
CREATE TABLE z_lands (id int PRIMARY KEY, shipped bool NOT NULL DEFAULT false);
ALTER TABLE a_streets ADD FOREIGN KEY (town) REFERENCES m_towns;
ALTER TABLE m_towns ADD FOREIGN KEY (land) REFERENCES z_lands;
INSERT INTO z_lands VALUES (0, true);
SELECT pg_extension_config_dump('a_streets', '');
SELECT pg_extension_config_dump('m_towns', '');
SELECT pg_extension_config_dump('z_lands', 'WHERE NOT shipped');
"""
FILES = {
    f"{BASE}.control": "default_version = '1.10'\nrelocatable = true\n",
    f"{BASE}--1.0.sql": _KINDS.format("1.0"),
    f"{BASE}--1.9.sql": _KINDS.format("1.9"),
    f"{BASE}--1.10.sql": _KINDS.format("1.10"),
    f"{BASE}--1.0--1.9.sql": "CREATE OR REPLACE FUNCTION made_as() RETURNS text LANGUAGE sql AS 'SELECT ''1.9''';",
    f"{TOP}.control": f"default_version = '1'\nrequires = '{BASE}'\nrelocatable = true\n",
    f"{TOP}--1.sql": _CONFIG,
}
SOURCE = f"""
CREATE SCHEMA "Odd Schema" AUTHORIZATION requirements_owner;
CREATE SCHEMA top;
CREATE EXTENSION {BASE} SCHEMA "Odd Schema" VERSION '1.0';
CREATE EXTENSION {TOP} SCHEMA top;
COMMENT ON EXTENSION {BASE} IS 'said by users';
COMMENT ON SCHEMA "Odd Schema" IS 'said by users too';
GRANT USAGE ON SCHEMA "Odd Schema" TO PUBLIC;
CREATE TABLE uses (i int PRIMARY KEY, t "Odd Schema".label, made text DEFAULT "Odd Schema".made_as());
CREATE VIEW "Odd Schema".beside AS SELECT t FROM uses;
INSERT INTO uses SELECT i, 'row ' || i FROM generate_series(1, 10) i;
INSERT INTO top.z_lands VALUES (1), (2);
INSERT INTO top.m_towns VALUES (1, 1), (2, 0);
INSERT INTO top.a_streets VALUES (2, 2, NULL), (1, 1, 2);
"""
EXTENSIONS = f"""
SELECT extname, nspname, extversion, obj_description(e.oid), obj_description(n.oid), pg_get_userbyid(nspowner),
       nspacl::text
  FROM pg_extension e JOIN pg_namespace n ON n.oid = extnamespace WHERE extname IN ('{BASE}', '{TOP}') ORDER BY 1
"""


@pytest.fixture
def pair(source_db: Database, target_db: Database) -> Iterator[tuple[Database, Database]]:
    """A source that uses both extensions, and a target that could have them."""
    folder = Path(source_db.fetch("SELECT setting FROM pg_config WHERE name = 'SHAREDIR'")[0][0]) / "extension"
    if not os.access(folder, os.W_OK):
        pytest.skip(
            f"no extension that comes with PostgreSQL has several versions to create, and {folder} is read-only"
        )
    with ExitStack() as stack:
        for name, text in FILES.items():
            stack.callback((folder / name).unlink)
            (folder / name).write_text(text)
            (folder / name).chmod(0o644)
        for database in (source_db, target_db):
            database.execute("CREATE ROLE requirements_owner")
            stack.callback(database.execute, "DROP OWNED BY requirements_owner CASCADE; DROP ROLE requirements_owner")
        source_db.execute(SOURCE)
        yield source_db, target_db


@pytest.fixture
def pins(tmp_path: Path) -> Callable[..., Path]:
    def write(**versions: str) -> Path:
        rows = [{"name": name, "version": version} for name, version in versions.items()]
        path = tmp_path / "pins.json"
        path.write_bytes(orjson.dumps(rows, option=orjson.OPT_INDENT_2))
        return path

    return write


def findings(pgcopydb: Command, pair: tuple[Database, Database], *options: str | Path) -> dict[str, Any]:
    source, target = pair
    checked = pgcopydb.run(*("check", "--json", "--source", source.dsn, "--target", target.dsn, *options), check=False)
    assert checked.returncode in {0, 4}, checked.stderr
    return {row["subject"]: row for row in orjson.loads(checked.stdout)}


def assert_as_on_the_source(pair: tuple[Database, Database], version: str) -> None:
    source, target = pair
    expected = [[version if value == "1.0" else value for value in row] for row in source.fetch(EXTENSIONS)]
    assert [list(row) for row in target.fetch(EXTENSIONS)] == expected
    assert target.fetch('SELECT "Odd Schema".made_as()') == [(version,)]
    assert target.fetch('SELECT count(*) FROM "Odd Schema".beside') == [(10,)]
    assert_same_content(source.dsn, target.dsn)
    for table in ("top.z_lands", "top.m_towns", "top.a_streets"):
        rows = f"SELECT t::text FROM {table} t ORDER BY 1"
        assert source.fetch(rows) == target.fetch(rows)


@pytest.mark.parametrize(
    ("asked", "version"),
    [(None, "1.10"), ({}, "1.10"), ({BASE: "1.0"}, "1.0"), ({BASE: "1.9", TOP: "1", "plpgsql": "1.0"}, "1.9")],
    ids=["no file", "nothing asked for", "the source's", "another"],
)
def test_each_is_created_in_the_version_asked_for(
    pair: tuple[Database, Database],
    pins: Callable[..., Path],
    pgcopydb: Command,
    workdir_path: Path,
    asked: dict[str, str] | None,
    version: str,
) -> None:
    source, target = pair
    options: list[str | Path] = [] if asked is None else ["--requirements", pins(**asked)]
    pgcopydb.run("clone", "--source", source.dsn, "--target", target.dsn, "--dir", workdir_path, *options)
    assert_as_on_the_source(pair, version)


def test_what_list_prints_is_what_clone_reads(
    pair: tuple[Database, Database], pgcopydb: Command, workdir_path: Path, tmp_path: Path
) -> None:
    source, target = pair
    listed = pgcopydb.run("list", "extensions", "--requirements", "--source", source.dsn).stdout
    assert {"name": BASE, "version": "1.10"} in orjson.loads(listed)
    versions = {row["name"]: row for row in listed_versions(pgcopydb, source)}
    assert versions[BASE] == {"name": BASE, "default": "1.10", "versions": ["1.10", "1.9", "1.0"]}
    path = tmp_path / "listed.json"
    path.write_text(listed)
    pgcopydb.run("clone", "--source", source.dsn, "--target", target.dsn, "--dir", workdir_path, "-Q", path)
    assert_as_on_the_source(pair, "1.10")


def listed_versions(pgcopydb: Command, database: Database) -> list[dict[str, Any]]:
    arguments = ("list", "extensions", "--available-versions", "--json", "--source", database.dsn)
    rows: list[dict[str, Any]] = orjson.loads(pgcopydb.run(*arguments).stdout)
    return rows


def test_killed_behind_the_extensions(
    pair: tuple[Database, Database], pins: Callable[..., Path], pgcopydb: Command, workdir_path: Path
) -> None:
    source, target = pair
    arguments = ("clone", "--source", source.dsn, "--target", target.dsn, "--dir", workdir_path)
    killed = pgcopydb.run(
        *arguments,
        "--requirements",
        pins(**{BASE: "1.9"}),
        env={"PGCOPYDB_FAILPOINTS": "pre_data.before_restore=kill"},
        check=False,
    )
    assert killed.returncode == -9
    assert len(target.fetch(EXTENSIONS)) == 2
    other = pgcopydb.run(
        *arguments, "--resume", "--not-consistent", "--requirements", pins(**{BASE: "1.0"}), check=False
    )
    assert other.returncode == 3
    assert f'another --requirements: {{"{BASE}":"1.9"}}' in other.stderr
    # What the run was told is remembered.
    pgcopydb.run(*arguments, "--resume", "--not-consistent")
    assert_as_on_the_source(pair, "1.9")


def test_step_by_step(
    pair: tuple[Database, Database], pins: Callable[..., Path], pgcopydb: Command, workdir_path: Path
) -> None:
    source, target = pair
    ends = ("--source", source.dsn, "--target", target.dsn, "--dir", workdir_path)
    refused = pgcopydb.run("copy", "extensions", *ends, "-Q", pins(**{BASE: "7.7"}), check=False)
    assert refused.returncode == 7
    assert f"extension {BASE} is not available in version 7.7" in refused.stderr
    assert "there are 1.10, 1.9, 1.0" in refused.stderr
    assert target.fetch(EXTENSIONS) == []
    pgcopydb.run("copy", "extensions", *ends, "--restart", "-Q", pins(**{BASE: "1.9"}))
    assert [row[2] for row in target.fetch(EXTENSIONS)] == ["1", "1.9"]
    pgcopydb.run("copy", "schema", *ends, "--not-consistent")
    assert target.fetch('SELECT count(*) FROM "Odd Schema".beside') == [(0,)]
    assert [row[:3] for row in target.fetch(EXTENSIONS)] == [(TOP, "top", "1"), (BASE, "Odd Schema", "1.9")]


def test_restored_from_a_dump(
    pair: tuple[Database, Database], pins: Callable[..., Path], pgcopydb: Command, workdir_path: Path
) -> None:
    source, target = pair
    pgcopydb.run("dump", "schema", "--source", source.dsn, "--dir", workdir_path)
    pgcopydb.run("restore", "schema", "--target", target.dsn, "--dir", workdir_path, "-Q", pins(**{BASE: "1.0"}))
    assert [row[2] for row in target.fetch(EXTENSIONS)] == [row[2] for row in source.fetch(EXTENSIONS)]


def test_what_cannot_be_had_is_said_first(
    pair: tuple[Database, Database], pins: Callable[..., Path], pgcopydb: Command, workdir_path: Path
) -> None:
    source, target = pair
    note = findings(pgcopydb, pair)[f"extension {BASE}"]
    assert (note["severity"], note["message"]) == (
        "note",
        "is created here with version 1.10, the source has 1.0 (--requirements can ask for that one)",
    )
    file = pins(**{BASE: "1.1", "plpgsqll": "1.0"})
    found = findings(pgcopydb, pair, "--requirements", file)
    row = found[f"extension {BASE}"]
    assert row["severity"] == "error"
    assert "not available in version 1.1, which --requirements asks for; there are 1.10, 1.9, 1.0" in row["message"]
    assert found["--requirements"]["severity"] == "warning"
    assert "extension plpgsqll is not copied" in found["--requirements"]["message"]
    assert found["--requirements"]["fix"] == "the nearest names are plpgsql"
    arguments = ("clone", "--source", source.dsn, "--target", target.dsn, "--dir", workdir_path)
    assert pgcopydb.run(*arguments, "-Q", file, check=False).returncode == 4
    assert target.fetch("SELECT count(*) FROM pg_extension") == [(1,)]


def test_one_that_is_there_in_another_version(
    pair: tuple[Database, Database], pins: Callable[..., Path], pgcopydb: Command
) -> None:
    _, target = pair
    target.execute(f'CREATE SCHEMA "Odd Schema"; CREATE EXTENSION {BASE} SCHEMA "Odd Schema" VERSION \'1.0\'')
    file = pins(**{BASE: "1.9"})
    row = findings(pgcopydb, pair, "-Q", file)[f"extension {BASE}"]
    assert (row["severity"], row["fix"]) == ("error", f"ALTER EXTENSION \"{BASE}\" UPDATE TO '1.9';")
    target.execute(row["fix"])
    assert findings(pgcopydb, pair, "-Q", file)[f"extension {BASE}"]["severity"] == "note"
    row = findings(pgcopydb, pair, "-Q", pins(**{BASE: "1.0"}))[f"extension {BASE}"]
    assert row["severity"] == "error"
    assert "and no update leads there" in row["message"]


def test_one_that_the_target_does_not_know(pair: tuple[Database, Database], pgcopydb: Command, tmp_path: Path) -> None:
    source, _ = pair
    # Named in the catalog only: what an extension looks like whose package the target lacks.
    source.execute(f"UPDATE pg_extension SET extname = 'not_packaged' WHERE extname = '{BASE}'")
    row = findings(pgcopydb, pair)["extension not_packaged"]
    assert row["severity"] == "error"
    assert "the source's column t of table public.uses" in row["message"]
    assert row["message"].endswith("need it")
    source.execute("DROP TABLE uses CASCADE")
    assert "nothing of the source needs it" in findings(pgcopydb, pair)["extension not_packaged"]["message"]
    filters = tmp_path / "filters.ini"
    filters.write_text("[exclude-extension]\nnot_packaged\n")
    assert "extension not_packaged" not in findings(pgcopydb, pair, "--filters", filters)


@pytest.mark.parametrize(
    ("text", "options", "code", "said"),
    [
        ("[]", ("--skip-extensions",), 1, "--requirements and --skip-extensions exclude each other"),
        ('[\n{"name": "hstore"}]', (), 2, "pins.json, line 2: found an object without 'version', expected both"),
        (None, (), 1, "pins.json cannot be read: No such file or directory"),
        (b"[\xff]", (), 2, "pins.json is not UTF-8: byte 1"),
    ],
)
def test_files_and_options_that_make_no_sense(
    pgcopydb: Command, tmp_path: Path, text: str | bytes | None, options: tuple[str, ...], code: int, said: str
) -> None:
    path = tmp_path / "pins.json"
    if text is not None:
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
    nowhere = ("--source", "host=nowhere", "--target", "host=nowhere", "--dir", tmp_path / "work")
    for command in (("clone",), ("copy", "schema"), ("restore", "pre-data"), ("check",)):
        refused = pgcopydb.run(*command, *nowhere, "-Q", path, *options, check=False)
        assert (refused.returncode, said in refused.stderr) == (code, True), refused.stderr
    assert not (tmp_path / "work").exists()


@pytest.mark.parametrize("name", ["citus", "timescaledb"])
def test_one_whose_tables_are_more_than_tables(
    source_db: Database, target_db: Database, pgcopydb: Command, name: str
) -> None:
    source_db.execute(f"CREATE EXTENSION hstore; UPDATE pg_extension SET extname = '{name}' WHERE extname = 'hstore'")
    checked = pgcopydb.run("check", "--json", "--source", source_db.dsn, "--target", target_db.dsn, check=False)
    rows = [row for row in orjson.loads(checked.stdout) if row["subject"] == f"extension {name}"]
    assert [(row["severity"], row["side"]) for row in rows] == [("error", "target"), ("warning", "source")]
    skipped = pgcopydb.run(
        *("check", "--json", "--source", source_db.dsn, "--target", target_db.dsn, "--skip-extensions"), check=False
    )
    assert [row["subject"] for row in orjson.loads(skipped.stdout) if row["severity"] == "warning"] == [
        f"extension {name}"
    ]
