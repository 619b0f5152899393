"""Scripts written for the C program run as they are: options, output, exit codes, and what is on the target after."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import orjson
import pytest

from tests.content import assert_same_content
from tests.fix_command import PROGRAM, without_own_variables
from tests.fix_servers import DbPair, Servers
from tests.following import pair_of
from tests.integration.test_filters import SCHEMA
from tests.wait import PATIENCE

SCRIPTS = Path(__file__).parents[1] / "c_scripts"
MORE = """
CREATE EXTENSION hstore; SELECT lo_from_bytea(4711, 'large');
CREATE TABLE app.keyless AS SELECT i, repeat('x', 200) AS t FROM generate_series(1, 2000) i;
CREATE TABLE app.wide (id int PRIMARY KEY, t text);
INSERT INTO app.wide SELECT i, repeat('y', 200) FROM generate_series(1, 2000) i;
ALTER DATABASE {name} SET work_mem = '7MB';
"""


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 17) as pair:
        pair.source.execute(SCHEMA)
        pair.source.execute(MORE.format(name=pair.source.name))
        yield pair


class Script:
    """Runs one, and reads what it wrote."""

    def __init__(self, pair: DbPair, folder: Path) -> None:
        self.pair = pair
        self.folder = folder
        folder.mkdir()

    def __call__(self, name: str) -> None:
        variables = {"SOURCE": self.pair.source.dsn, "TARGET": self.pair.target.dsn, "D": str(self.folder)}
        path = f"{PROGRAM.parent}{os.pathsep}{os.environ['PATH']}"
        log = self.folder.with_suffix(".log")
        with log.open("wb") as output:
            process = subprocess.Popen(
                ["/bin/bash", "-xeuo", "pipefail", SCRIPTS / f"{name}.sh"],
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                env={**without_own_variables(), "PATH": path, **variables},
                start_new_session=True,
            )
        try:
            code = process.wait(180 * PATIENCE)
        finally:
            # What a script left in the background must not outlive the test.
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
        assert code == 0, log.read_text(encoding="utf-8")

    def json(self, name: str) -> Any:
        return orjson.loads((self.folder / name).read_bytes())


@pytest.fixture
def script(pair: DbPair, tmp_path: Path) -> Script:
    return Script(pair, tmp_path / "work")


def parts_of(workdir: Path) -> dict[str, int]:
    with closing(sqlite3.connect(f"file:{workdir}/schema/source.db?mode=ro", uri=True)) as store:
        return dict(
            store.execute(
                "SELECT name, count(*) FROM copied_table JOIN copy_part ON table_oid = oid GROUP BY 1"
            ).fetchall()
        )


@pytest.mark.parametrize("name", ["clone_short_options", "clone_environment"])
def test_one_command(name: str, script: Script, pair: DbPair) -> None:
    script(name)
    assert {table["name"] for table in script.json("progress")["tables"]} >= {"wide", "keyless"}
    parts = parts_of(script.folder if name == "clone_short_options" else script.folder / "pgcopydb")
    assert (parts["wide"], parts["keyless"]) == (3, 1), "not more than asked for, and none by pages"
    asked_for = "SELECT vacuum_count, analyze_count FROM pg_stat_user_tables WHERE relname = 'wide'"
    assert pair.target.fetch(asked_for) == [(0, 0)], "not vacuumed"
    settings = "SELECT count(*) FROM pg_db_role_setting s JOIN pg_database d ON d.oid = setdatabase WHERE datname = "
    assert pair.target.fetch(f"{settings} current_database()") == [(0,)]
    comments = pair.target.fetch("SELECT count(*) FROM pg_description WHERE objoid = 'app.orders'::regclass")
    if name == "clone_short_options":
        assert comments == [(0,)]
    else:
        assert comments == [(2,)]
        lines = (script.folder / "stderr").read_bytes().splitlines()
        said = [line["message"] for line in map(orjson.loads, lines)]
        assert sum(line.startswith("--host: ") for line in said) == 1
        # It was written after the snapshot.
        pair.source.execute("DELETE FROM app.shared WHERE id = 9001")
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_step_by_step(script: Script, pair: DbPair) -> None:
    script("multi_step")
    assert script.json("progress")["complete"] is False
    assert any(table["name"] == "orders" for table in script.json("list")["tables"])
    assert " TABLE app orders " in (script.folder / "entries").read_text(encoding="utf-8")
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_clone_follow(script: Script, pair: DbPair) -> None:
    script("clone_follow")
    row = script.json("sentinel")
    assert row["apply"] is True
    assert row["replay_lsn"] >= row["endpos"] != row["startpos"]
    assert_same_content(pair.source.dsn, pair.target.dsn)
    assert pair.source.fetch("SELECT FROM pg_replication_slots WHERE slot_name = 'c_follow'") == []
    assert pair.source.fetch("SELECT FROM pg_publication") == []


def test_follow_step_by_step(script: Script, pair: DbPair) -> None:
    script("follow_steps")
    found = dict(line.split(" ") for line in (script.folder / "positions").read_text(encoding="utf-8").splitlines())
    assert found["--transform-lsn:-t"] != "0/0"
    assert found["--replay-lsn:-r"] != found["--startpos:-s"] != "0/0"
    assert_same_content(pair.source.dsn, pair.target.dsn)
    assert pair.source.fetch("SELECT FROM pg_replication_slots WHERE slot_name = 'c_steps'") == []


def test_lists(script: Script, pair: DbPair) -> None:
    script("lists")
    for name in ("databases", "extensions", "collations", "tables", "sequences", "indexes", "available", "depends"):
        assert isinstance(script.json(f"{name}.json"), list), name
    assert {(row["schema"], row["name"]) for row in script.json("skipped.json")} == {("public", "tmp_1")}
    assert len(script.json("filtered.json")) == len(script.json("tables.json")) - 1
    assert len(script.json("parts.json")) == 4
    assert {row["name"] for row in script.json("indexes_of_one.json")} >= {"customer_pkey"}
    keyless = (script.folder / "tables.text").read_text(encoding="utf-8")
    assert "keyless" in keyless
    assert "customer" not in keyless


def test_exit_codes(script: Script, pair: DbPair) -> None:
    script("exit_codes")
    assert_same_content(pair.source.dsn, pair.target.dsn)
