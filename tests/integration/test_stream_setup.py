"""What stands in the way of following changes is said before anything is made, and nothing is left behind."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import orjson
import pytest
from psycopg.conninfo import make_conninfo

from demo.clusters import Cluster
from pgcopydb.daemon import waited
from pgcopydb.daemon.waited import telling_what_is_waited_for, waited_for
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers, fresh_database
from tests.fix_wal2json import require_wal2json
from tests.following import drop_progress, uris
from tests.integration.test_bad_input import assert_one_clear_line
from tests.integration.test_follow import nothing_left
from tests.wait import wait_until

ONLY_PGOUTPUT = {"options": "-c output_plugin_libraries=pgoutput"}
SLOTS = "SELECT slot_name FROM pg_replication_slots"


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with (
        fresh_database(servers.get(15), "source") as source,
        fresh_database(servers.get(17, "target"), "target") as target,
    ):
        source.execute("CREATE TABLE t (i int PRIMARY KEY, t text)")
        yield DbPair(source, target)
        drop_progress(target)


@pytest.fixture
def limited(pair: DbPair) -> Iterator[DbPair]:
    """Sides of a role that may log in, with its own table on the source."""
    for database in (pair.source, pair.target):
        database.execute("CREATE ROLE limited LOGIN")
    yield pair
    for database in (pair.source, pair.target):
        database.execute("DROP OWNED BY limited; DROP ROLE limited")


@pytest.fixture
def prepared() -> Iterator[Database]:
    """Where transactions can be prepared."""
    with Cluster.of_major(15, settings={"max_prepared_transactions": "2"}) as cluster:
        database = Database(cluster, "postgres")
        database.execute("CREATE TABLE t (i int)")
        yield database


def as_limited(pair: DbPair, side: str) -> dict[str, str]:
    env = uris(pair)
    name = f"PGCOPYDB_{side.upper()}_PGURI"
    return {**env, name: make_conninfo(env[name], user="limited")}


def refused(
    pgcopydb: Command,
    env: dict[str, str],
    workdir: Path,
    code: int,
    *words: str,
    options: tuple[str, ...] = (),
    hint: bool = True,
) -> str:
    done = pgcopydb.run("stream", "setup", "--dir", workdir, *options, env=env, check=False)
    assert done.returncode == code, done.stderr
    assert done.stdout == ""
    if hint:
        assert_one_clear_line(done.stderr, *words)
    assert not (workdir / "stream.json").exists()
    return done.stderr


@pytest.mark.parametrize("database", ["", "postgres"])
def test_a_slot_of_that_name(database: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Nobody drops the slot of another database for want of a better name."""
    elsewhere = Database(pair.source.cluster, database or pair.source.name)
    elsewhere.execute("SELECT pg_create_logical_replication_slot('pgcopydb', 'pgoutput')")
    try:
        stderr = refused(pgcopydb, uris(pair), workdir_path, 6, "slot pgcopydb exists on the source already")
        assert "--slot-name" in stderr
        removed = pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=uris(pair)).stdout
        assert ("slot pgcopydb" in removed) == (not database)
        assert pair.source.fetch(SLOTS) == ([("pgcopydb",)] if database else [])
    finally:
        elsewhere.execute("SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots")


@pytest.mark.parametrize("plugin", ["auto", "wal2json", "pgoutput"])
def test_a_role_without_replication(plugin: str, limited: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    limited.source.execute(f"GRANT CREATE ON DATABASE {limited.source.name} TO limited")
    env = as_limited(limited, "source")
    options = ("--plugin", plugin)
    stderr = refused(pgcopydb, env, workdir_path, 6, "cannot connect to the source", options=options)
    assert 'ALTER ROLE "limited" REPLICATION' in stderr
    nothing_left(limited)


def test_a_role_that_may_not_make_the_sentinel(limited: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    limited.source.execute("ALTER ROLE limited REPLICATION")
    stderr = refused(pgcopydb, as_limited(limited, "source"), workdir_path, 6, "schema pgcopydb on the source")
    assert f'GRANT CREATE ON DATABASE "{limited.source.name}" TO "limited"' in stderr
    nothing_left(limited)


def test_a_target_that_does_not_allow_it(limited: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    stderr = refused(pgcopydb, as_limited(limited, "target"), workdir_path, 7, "schema pgcopydb on the target")
    assert f'GRANT CREATE ON DATABASE "{limited.target.name}" TO "limited"' in stderr
    nothing_left(limited)


def test_a_target_that_does_not_answer(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    env = {**uris(pair), "PGCOPYDB_TARGET_PGURI": make_conninfo(pair.target.dsn, port="1")}
    refused(pgcopydb, env, workdir_path, 7, "cannot connect to the target")
    nothing_left(pair)


def test_an_origin_of_that_name(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """It may be that of a migration to another database of the cluster, which must not lose it."""
    pair.target.execute("SELECT pg_replication_origin_create('pgcopydb')")
    refused(pgcopydb, uris(pair), workdir_path, 3, "origin pgcopydb is on the target already")
    assert "origin pgcopydb is left" in pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=uris(pair)).stderr
    assert pair.target.fetch("SELECT roname FROM pg_replication_origin") == [("pgcopydb",)]


def test_a_sentinel_of_another_migration(pair: DbPair, pgcopydb: Command, workdir_path: Path, tmp_path: Path) -> None:
    pgcopydb.run("stream", "setup", "--dir", workdir_path, env=uris(pair))
    options = ("--slot-name", "second", "--origin", "second")
    refused(pgcopydb, uris(pair), tmp_path / "second", 3, "sentinel", options=options)
    removed = pgcopydb.run("stream", "cleanup", "--dir", tmp_path / "second", *options, env=uris(pair), check=False)
    assert "Removed nothing" in removed.stdout
    assert pair.source.fetch("SELECT count(*) FROM pgcopydb.sentinel") == [(1,)]
    removed = pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=uris(pair))
    nothing_left(pair)


def test_an_end_position_in_the_past(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """The copy is as of a later moment: that is said, and nothing behind it is applied."""
    pair.source.execute("CREATE TABLE past (i int PRIMARY KEY); INSERT INTO past VALUES (1)")
    done = pgcopydb.run("clone", "--follow", "--endpos", "0/10", "--dir", workdir_path, env=uris(pair))
    assert "--endpos 0/10 is in the past" in done.stderr
    assert pair.target.fetch("SELECT i FROM past") == [(1,)]
    pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=uris(pair))
    nothing_left(pair)


def test_a_plugin_that_is_not_allowed(servers: Servers, pgcopydb: Command, workdir_path: Path) -> None:
    """And what is taken when there is a choice. 18.6 has the setting."""
    with (
        fresh_database(servers.get(18), "source") as source,
        fresh_database(servers.get(18, "target"), "target") as target,
    ):
        pair = DbPair(source, target)
        env = {**uris(pair), "PGCOPYDB_SOURCE_PGURI": make_conninfo(source.dsn, **ONLY_PGOUTPUT)}
        for plugin in ("wal2json", "test_decoding"):
            stderr = refused(pgcopydb, env, workdir_path, 6, plugin, options=("--plugin", plugin))
            assert "output_plugin_libraries = pgoutput, " in stderr
        nothing_left(pair)
        described = pgcopydb.run("stream", "setup", "--dir", workdir_path, env=env).stdout
        assert "pgoutput" in described
        pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=env)
        nothing_left(pair)


def test_transactions_that_have_been_open_for_long(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """A new slot waits for them: that is no reason to take another plugin than the one that was asked for."""
    require_wal2json(pair.source.cluster)
    with pair.source.connect(autocommit=False) as other:
        other.execute("INSERT INTO t VALUES (1)")
        stderr = refused(pgcopydb, uris(pair), workdir_path, 6, "open for long", options=("--plugin", "wal2json"))
        assert "pg_stat_activity" in stderr
        process = pgcopydb.start("stream", "setup", "--plugin", "test_decoding", "--dir", workdir_path, env=uris(pair))
        wait_until(lambda: "idle in transaction: INSERT INTO t" in pgcopydb.log_of(process), 30, "what it waits for")
        other.commit()
    assert process.wait(30) == 0, pgcopydb.log_of(process)
    pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=uris(pair))


def test_what_is_waited_for_is_said_in_full(limited: DbPair) -> None:
    """To who may see it; no secret is among it."""
    source = limited.source
    with ExitStack() as stack:
        for number in range(6):
            other = stack.enter_context(source.connect(autocommit=False))
            other.execute(f"INSERT INTO t VALUES ({number + 10}, repeat('x', 100))")
            other.execute(f"/* {number} */ ALTER ROLE limited PASSWORD 'secret'" if number == 0 else f"SELECT {number}")
        with source.connect() as reader:
            wait_until(lambda: len(waited_for(reader)) == 6, 30, "them to be open for a while")
            lines = waited_for(reader)
            assert "idle in transaction: /* 0 */ ALTER ROLE limited PASSWORD …" in lines[0]
            assert lines[1].endswith("idle in transaction: SELECT 1")
            assert lines[5] == "and 1 more"
        with source.connect(user="limited") as reader:
            lines = waited_for(reader)
            assert [line.split(" of postgres")[1] for line in lines[:5]] == [", which this role may not look at"] * 5
            assert lines[6] == "more of them can be seen after GRANT pg_read_all_stats TO limited"


class Lines(logging.Handler):
    """What was logged."""

    def __init__(self) -> None:
        super().__init__()
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


def test_what_is_waited_for_is_said_again(pair: DbPair, monkeypatch: pytest.MonkeyPatch) -> None:
    """As long as it is waited for, and what is so then."""
    said, logger = Lines(), logging.getLogger("waited")
    logger.setLevel(logging.INFO)
    logger.addHandler(said)
    monkeypatch.setattr(waited, "logger", logger)
    monkeypatch.setattr(waited, "REPEAT_SECONDS", 0.1)
    with pair.source.connect(autocommit=False) as other, pair.source.connect() as reader:
        other.execute("INSERT INTO t VALUES (1)")
        with telling_what_is_waited_for(reader):
            wait_until(lambda: sum("INSERT INTO t" in line for line in said.lines) > 1, 30, "it to be said twice")
            other.execute("SELECT 'another one'")
            wait_until(lambda: "another one" in said.lines[-1], 30, "what is new to be said")


def test_a_prepared_transaction_is_waited_for(prepared: Database) -> None:
    with prepared.connect() as reader:
        prepared.execute("BEGIN; INSERT INTO t VALUES (1); PREPARE TRANSACTION 'left'")
        try:
            (line,) = waited_for(reader)
        finally:
            prepared.execute("ROLLBACK PREPARED 'left'")
    assert line.startswith("prepared transaction 'left' of postgres, prepared ")


def test_a_stream_that_is_being_made(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """By a migration that waits for its slot: nobody takes it for one that was interrupted, and all can be seen."""
    env, servers = uris(pair), ("--dir", str(workdir_path))
    status = ("status", "--json", *servers)
    with pair.source.connect(autocommit=False) as other:
        other.execute("INSERT INTO t VALUES (1)")
        process = pgcopydb.start("clone", "--follow", "--plugin", "test_decoding", *servers, env=env)
        wait_until(
            lambda: "idle in transaction: INSERT INTO t" in pgcopydb.log_of(process), 60, "it to say what it waits for"
        )
        found = orjson.loads(pgcopydb.run(*status, env=env).stdout)
        assert (found["stream"], found["running"], found["slot"]) == ("waiting for the slot", False, None)
        assert "idle in transaction: INSERT INTO t" in found["waits_for"][0]
        assert found["problems"] == found["warnings"] == []
        assert found["copy"]["complete"] is False
        people = pgcopydb.run("status", *servers, env=env).stdout
        assert "stream      slot pgcopydb is waited for" in people
        assert "copy        " in people
        refused = pgcopydb.run("stream", "setup", *servers, env=env, check=False)
        assert_one_clear_line(refused.stderr, "in use by another pgcopydb follow")
        refused = pgcopydb.run("stream", "receive", *servers, env=env, check=False)
        assert_one_clear_line(refused.stderr, "slot pgcopydb and what goes with it are being made by another")
        assert refused.returncode == 3
        assert (workdir_path / "stream.json").exists()
        other.commit()
    wait_until(lambda: orjson.loads(pgcopydb.run(*status, env=env).stdout)["running"], 60, "it to go on")
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", *servers, env=env)
    assert process.wait(60) == 0, pgcopydb.log_of(process)
    assert pair.target.fetch("SELECT i FROM t") == [(1,)]
    found = orjson.loads(pgcopydb.run(*status, env=env).stdout)
    assert (found["stream"], found["copy"]["complete"]) == ("ready", True)
    pgcopydb.run("stream", "cleanup", *servers, env=env)


def test_a_stream_that_was_not_made_to_the_end(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    setup, env = ("stream", "setup", "--dir", str(workdir_path)), uris(pair)
    for failpoint, state, said in (
        ("stream.before_slot", "interrupted", "making slot pgcopydb was interrupted"),
        ("stream.after_slot", "interrupted", "making slot pgcopydb was interrupted"),
        ("stream.after_origin", "slot made", "the sentinel and the target's side are not"),
    ):
        pgcopydb.run(*setup, env={**env, "PGCOPYDB_FAILPOINTS": f"{failpoint}=kill"}, check=False)
        found = orjson.loads(pgcopydb.run("status", "--json", "--dir", workdir_path, env=env).stdout)
        assert (found["stream"], found["sentinel"]) == (state, None)
        assert said.split(" was")[0] in pgcopydb.run("status", "--dir", workdir_path, env=env).stdout
        refused_receive = pgcopydb.run("stream", "receive", "--dir", workdir_path, env=env, check=False)
        assert refused_receive.returncode == 3
        assert_one_clear_line(refused_receive.stderr, said)
    pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=env)


def test_a_wal2json_that_loses_values(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    require_wal2json(pair.source.cluster)
    pair.source.execute("CREATE TABLE floats (i int PRIMARY KEY, f float8)")
    options = ("--plugin", "wal2json")
    stderr = refused(pgcopydb, uris(pair), workdir_path, 6, "wal2json", "NaN", options=options)
    assert "--wal2json-lossy-nan" in stderr
    nothing_left(pair)
    pgcopydb.run("stream", "setup", "--dir", workdir_path, *options, "--wal2json-lossy-nan", env=uris(pair))
    pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=uris(pair))
    nothing_left(pair)


STEPS = ("stream.before_slot", "stream.after_slot", "stream.after_origin")


@pytest.mark.parametrize("step", STEPS)
def test_what_fails_leaves_nothing(step: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    env = {**uris(pair), "PGCOPYDB_FAILPOINTS": f"{step}=error"}
    refused(pgcopydb, env, workdir_path, 12, step, options=("--plugin", "pgoutput"), hint=False)
    nothing_left(pair)


@pytest.mark.parametrize("step", STEPS)
def test_what_was_killed_goes_on_or_goes_away(step: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Cleaning up says what it removed, and can be done again."""
    setup = ("stream", "setup", "--plugin", "pgoutput", "--dir", str(workdir_path))
    cleanup = ("stream", "cleanup", "--dir", str(workdir_path))
    made = [
        "Removed replication slot pgcopydb on the source",
        "Removed publication pgcopydb on the source",
        "Removed publication pgcopydb_insert on the source",
        "Removed schema pgcopydb on the source",
        "Removed replication origin pgcopydb on the target",
        "Removed schema pgcopydb on the target",
        f"Removed the files of changes in {workdir_path}/cdc",
    ]
    until = {"stream.before_slot": made[6:], "stream.after_slot": made[:3] + made[6:]}.get(step, made[:3] + made[4:])
    for left in (made, until):
        pgcopydb.run(*setup, env={**uris(pair), "PGCOPYDB_FAILPOINTS": f"{step}=kill"}, check=False)
        if left is made:
            pgcopydb.run(*setup, env=uris(pair))
        assert pgcopydb.run(*cleanup, env=uris(pair)).stdout.splitlines() == left
        nothing_left(pair)
    assert pgcopydb.run(*cleanup, env=uris(pair)).stdout == "Removed nothing: there was nothing to remove\n"
