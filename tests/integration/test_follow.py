"""A database that is written to is cloned and followed; in the end the target is what the source is."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import orjson
import pytest

from pgcopydb.postgres.lsn import Lsn
from tests.content import assert_same_content, assert_same_schema
from tests.fix_command import PROGRAM, Command
from tests.fix_servers import Database, DbPair, Servers
from tests.fix_wal2json import require_wal2json
from tests.following import is_applied, pair_of, sentinel_row, uris
from tests.wait import wait_until
from tests.workload import SCHEMA, TRUNCATES, Workload

PLUGINS = ("test_decoding", "pgoutput", "wal2json")

NO_NAN = """
CREATE FUNCTION public.no_nan() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RETURN jsonb_populate_record(NEW, (
        SELECT coalesce(jsonb_object_agg(key, 1.5), '{}') FROM jsonb_each_text(to_jsonb(NEW))
        WHERE key = ANY (TG_ARGV) AND value IN ('NaN', 'Infinity', '-Infinity')));
END $$;
DO $$
DECLARE r record;
BEGIN
    FOR r IN SELECT attrelid::regclass AS name, string_agg(quote_literal(attname), ', ') AS columns FROM pg_attribute
             JOIN pg_class ON pg_class.oid = attrelid
             WHERE relkind = 'r' AND relnamespace::regnamespace::text IN ('public', 'work')
             AND atttypid IN ('numeric'::regtype, 'float8'::regtype) GROUP BY 1
    LOOP
        EXECUTE format('CREATE TRIGGER a_no_nan BEFORE INSERT OR UPDATE ON %s FOR EACH ROW'
                       ' EXECUTE FUNCTION public.no_nan(%s)', r.name, r.columns);
    END LOOP;
END $$;
"""
"""What wal2json before 2.6 cannot carry does not get into a table."""


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 18) as pair:
        yield pair


def replayed(pair: DbPair) -> Lsn:
    return Lsn.parse(str(sentinel_row(pair.source)["replay_lsn"]))


def replayed_behind(pair: DbPair, position: Lsn) -> bool:
    return replayed(pair) > position


def open_transactions(pair: DbPair) -> list[str]:
    """Our sessions on the source that wait with a transaction open, and so keep dead rows from being vacuumed."""
    query = (
        "SELECT application_name FROM pg_stat_activity"
        " WHERE application_name LIKE 'pgcopydb%' AND state = 'idle in transaction'"
    )
    return [str(row[0]) for row in pair.source.fetch(query)]


def sequences(pair: DbPair) -> list[tuple[str, str]]:
    """They are set when the end position is reached, by the commands that do the whole."""
    query = "SELECT relnamespace::regnamespace::text, relname FROM pg_class WHERE relkind = 'S'"
    return [(row[0], row[1]) for row in pair.source.fetch(query)]


def end_here(pgcopydb: Command, pair: DbPair, workdir: Path) -> Lsn:
    done = pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir, env=uris(pair))
    return Lsn.parse(done.stdout.strip())


def supports(pair: DbPair, plugin: str) -> list[str]:
    """What a plugin needs, as options."""
    if plugin != "wal2json":
        return ["--plugin", plugin]
    require_wal2json(pair.source.cluster)
    return ["--plugin", plugin, "--wal2json-lossy-nan"]


@pytest.mark.parametrize("plugin", PLUGINS)
def test_clone_and_follow(plugin: str, db_pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """The workload runs from before the snapshot until the end position is set."""
    options = supports(db_pair, plugin)
    db_pair.source.execute(SCHEMA)
    if plugin == "wal2json":
        db_pair.source.execute(NO_NAN)
    with Workload(db_pair.source.dsn, seed=7, writers=3, without=TRUNCATES) as workload:
        wait_until(lambda: workload.committed > 50, 60, "rows before the snapshot")
        process = pgcopydb.start("clone", "--follow", "--dir", workdir_path, *options, env=uris(db_pair))
        wait_until(lambda: is_applied(db_pair) or process.poll() is not None, 90, "changes to be applied")
        assert process.poll() is None, pgcopydb.log_of(process)
        wait_until(lambda: not open_transactions(db_pair), 30, "the source to be able to vacuum what the copy has read")
        seen = workload.committed
        wait_until(lambda: workload.committed > seen + 100, 60, "work while changes are applied")
    Workload(db_pair.source.dsn, seed=8, writers=3).run(150)
    endpos = end_here(pgcopydb, db_pair, workdir_path)
    wait_until(lambda: process.poll() is not None, 90, "the end position to be reached")
    log = pgcopydb.log_of(process)
    assert process.returncode == 0, log
    assert_same_content(db_pair.source.dsn, db_pair.target.dsn)
    assert Lsn.parse(str(sentinel_row(db_pair.source)["replay_lsn"])) >= endpos
    assert f"Reached {endpos}" in log
    assert orjson.loads((workdir_path / "apply.json").read_bytes())["transactions"] > 0
    removed = pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=uris(db_pair)).stdout
    assert "Removed replication slot pgcopydb on the source" in removed
    nothing_left(db_pair)
    if db_pair.target.cluster.major < 18:  # which gives inherited NOT NULL constraints names of their own
        assert_same_schema(db_pair.source.dsn, db_pair.target.dsn)
    second = pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=uris(db_pair)).stdout
    assert second == "Removed nothing: there was nothing to remove\n"


def nothing_left(pair: DbPair) -> None:
    for database in (pair.source, pair.target):
        assert database.fetch("SELECT to_regnamespace('pgcopydb')") == [(None,)]
        assert database.fetch("SELECT roname FROM pg_replication_origin") == []
        assert database.fetch("SELECT pubname FROM pg_publication") == []
    slots = f"SELECT slot_name FROM pg_replication_slots WHERE database = '{pair.source.name}'"
    assert pair.source.fetch(slots) == []
    busy = "SELECT application_name FROM pg_stat_activity WHERE application_name LIKE 'pgcopydb%'"
    for database in (pair.source, pair.target):
        wait_until(partial(is_empty, database, busy), 20, "all sessions to end")


def is_empty(database: Database, query: str) -> bool:
    return database.fetch(query) == []


def test_an_interrupted_follow_goes_on(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Killed, stopped, interrupted, and moved on to further end positions: nothing is lost and nothing repeated."""
    pair.source.execute(SCHEMA)
    clone = pgcopydb.start("clone", "--follow", "--dir", workdir_path, env=uris(pair))
    with Workload(pair.source.dsn, seed=11, writers=2, without=TRUNCATES):
        wait_until(lambda: is_applied(pair) or clone.poll() is not None, 60, "changes to be applied")
        for number in (signal.SIGKILL, signal.SIGTERM, signal.SIGINT):
            here = current(pair)
            wait_until(partial(replayed_behind, pair, Lsn.parse(here)), 60, "changes to be applied")
            os.kill(clone.pid, number)
            assert clone.wait(60) != 0
            log = pgcopydb.log_of(clone)
            if number is not signal.SIGKILL:
                assert "received transactions remain" in log
            clone = pgcopydb.start("follow", "--dir", workdir_path, env=uris(pair))
    end_here(pgcopydb, pair, workdir_path)
    assert clone.wait(60) == 0, pgcopydb.log_of(clone)
    assert_same_content(pair.source.dsn, pair.target.dsn)
    for seed in (13, 14):
        Workload(pair.source.dsn, seed).run(50)
        pgcopydb.run("follow", "--dir", workdir_path, "--endpos", current(pair), env=uris(pair))
        assert_same_content(pair.source.dsn, pair.target.dsn)
        pgcopydb.run("follow", "--dir", workdir_path, env=uris(pair))


def current(pair: DbPair) -> str:
    return str(pair.source.fetch("SELECT pg_current_wal_flush_lsn()")[0][0])


def test_step_by_step(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Snapshot, set-up, copy, prefetch, catch-up and live replay as commands of their own."""
    env = uris(pair)
    pair.source.execute(SCHEMA)
    work = Workload(pair.source.dsn, seed=3)
    work.run(100)
    holder = pgcopydb.start("snapshot", "--follow", "--dir", workdir_path, env=env)
    wait_until(lambda: (workdir_path / "snapshot").exists() or holder.poll() is not None, 60, "the snapshot")
    described = orjson.loads(pgcopydb.run("stream", "setup", "--json", "--dir", workdir_path, env=env).stdout)
    assert described["slot"] == "pgcopydb"
    assert described["ready"]
    Workload(pair.source.dsn, seed=4, without=TRUNCATES).run(100)
    pgcopydb.run("clone", "--dir", workdir_path, env=env)
    holder.terminate()
    assert holder.wait(20) == 0
    first = current(pair)
    pgcopydb.run("stream", "prefetch", "--dir", workdir_path, "--endpos", first, env=env)
    work.run(100)
    pgcopydb.run("stream", "sentinel", "set", "apply", env=env | {"TMPDIR": str(workdir_path.parent)})
    pgcopydb.run("stream", "catchup", "--dir", workdir_path, env=env)
    assert pgcopydb.run("stream", "sentinel", "get", "--apply", env=env).stdout == "enabled\n"
    pgcopydb.run("stream", "replay", "--dir", workdir_path, "--endpos", current(pair), env=env)
    pgcopydb.run("follow", "--dir", workdir_path, env=env)
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_a_migration_that_was_cleaned_up_is_not_begun_again(
    pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    """A new slot would begin behind changes that nobody has received: those since the end."""
    env = uris(pair)
    resume = ("clone", "--follow", "--resume", "--dir", workdir_path)
    pair.source.execute("CREATE TABLE t (i int PRIMARY KEY); INSERT INTO t VALUES (1)")
    process = pgcopydb.start(*resume, env=env)
    wait_until(lambda: is_applied(pair) or process.poll() is not None, 60, "changes to be applied")
    end_here(pgcopydb, pair, workdir_path)
    assert process.wait(60) == 0, pgcopydb.log_of(process)
    pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=env)
    pair.source.execute("INSERT INTO t VALUES (2)")
    refused = pgcopydb.run(*resume, env=env, check=False)
    assert refused.returncode == 3
    assert "has a copy but no slot" in refused.stderr
    nothing_left(pair)
    anew = pgcopydb.start("clone", "--follow", "--restart", "--drop-if-exists", "--dir", workdir_path, env=env)
    wait_until(lambda: is_applied(pair) or anew.poll() is not None, 60, "changes to be applied")
    end_here(pgcopydb, pair, workdir_path)
    assert anew.wait(60) == 0, pgcopydb.log_of(anew)
    assert pair.target.fetch("SELECT i FROM t ORDER BY i") == [(1,), (2,)]


def test_a_copy_under_another_snapshot_than_the_stream_begins_at(
    pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    """Rows would be there twice: once copied, once applied."""
    env = uris(pair)
    pair.source.execute("CREATE TABLE t (i int)")
    pgcopydb.run("stream", "setup", "--plugin", "test_decoding", "--dir", workdir_path, env=env)
    pair.source.execute("INSERT INTO t VALUES (1)")
    refused = pgcopydb.run("clone", "--dir", workdir_path, env=env, check=False)
    assert refused.returncode == 3
    assert "changes would be lost or applied twice" in refused.stderr
    again = pgcopydb.start("clone", "--follow", "--resume", "--dir", workdir_path, env=env)
    wait_until(lambda: is_applied(pair) or again.poll() is not None, 60, "changes to be applied")
    end_here(pgcopydb, pair, workdir_path)
    assert again.wait(60) == 0, pgcopydb.log_of(again)
    assert pair.target.fetch("SELECT i FROM t") == [(1,)]


def changes_of(lines: str) -> list[str]:
    """Without keepalives, which say where a server stands at the time."""
    return [line for line in lines.splitlines() if not line.startswith('{"action":"K"')]


@pytest.mark.parametrize("plugin", ["test_decoding", "pgoutput"])
def test_pipes_and_files(plugin: str, pair: DbPair, pgcopydb: Command, workdir_path: Path, tmp_path: Path) -> None:
    """The stages put together by a shell; the same again through psql."""
    env = uris(pair)
    pair.source.execute(SCHEMA)
    Workload(pair.source.dsn, seed=21).run(30)
    holder = pgcopydb.start("snapshot", "--follow", "--plugin", plugin, "--dir", workdir_path, env=env)
    wait_until(lambda: (workdir_path / "snapshot").exists() or holder.poll() is not None, 60, "the snapshot")
    pgcopydb.run("stream", "setup", "--dir", workdir_path, env=env)
    pgcopydb.run("clone", "--dir", workdir_path, env=env)
    holder.terminate()
    holder.wait()
    Workload(pair.source.dsn, seed=22).run(60)
    options = ["--dir", str(workdir_path), "--quiet"]
    receive = ["stream", "receive", "--to-stdout", "--endpos", current(pair), *options]
    lines = pgcopydb.run(*receive, env=env).stdout
    again = pgcopydb.run(*receive, env=env).stdout
    assert changes_of(again) == changes_of(lines), "nothing is acknowledged that the target does not have"
    (tmp_path / "lines.json").write_text(lines)
    pgcopydb.run("stream", "transform", tmp_path / "lines.json", tmp_path / "lines.sql", *options, env=env)
    for _ in range(2):
        pgcopydb.run("stream", "apply", tmp_path / "lines.sql", *options, env=env)
        assert_same_content(pair.source.dsn, pair.target.dsn, ignore_tables=sequences(pair))
    Workload(pair.source.dsn, seed=23).run(60)
    program = f"{PROGRAM} stream {{}} --dir {workdir_path} --quiet"
    piped = " | ".join(
        program.format(part) for part in (f"receive --to-stdout --endpos {current(pair)}", "transform - -", "apply -")
    )
    subprocess.run(["/bin/bash", "-o", "pipefail", "-c", piped], env={**os.environ, **env}, timeout=60, check=True)
    assert_same_content(pair.source.dsn, pair.target.dsn, ignore_tables=sequences(pair))


def test_sql_files_through_psql(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    env = uris(pair)
    pair.source.execute(SCHEMA)
    Workload(pair.source.dsn, seed=31).run(60)
    holder = pgcopydb.start("snapshot", "--follow", "--dir", workdir_path, env=env)
    wait_until(lambda: (workdir_path / "snapshot").exists() or holder.poll() is not None, 60, "the snapshot")
    pgcopydb.run("stream", "setup", "--dir", workdir_path, env=env)
    pgcopydb.run("clone", "--dir", workdir_path, env=env)
    holder.terminate()
    holder.wait()
    Workload(pair.source.dsn, seed=32).run(200)
    pair.source.execute("SELECT pg_switch_wal()")
    Workload(pair.source.dsn, seed=33).run(50)
    pgcopydb.run("stream", "prefetch", "--dir", workdir_path, "--endpos", current(pair), env=env)
    files = sorted((workdir_path / "cdc").glob("*.sql*"))
    assert len(files) > 1
    psql = pair.source.cluster.bin_dir / "psql"
    arguments = [argument for path in files for argument in ("-f", str(path))]
    subprocess.run(
        [psql, "-X", "-q", "-v", "ON_ERROR_STOP=1", "-d", pair.target.dsn, *arguments],
        env={**os.environ, "PGOPTIONS": "-c session_replication_role=replica -c search_path=pg_catalog"},
        check=True,
    )
    assert_same_content(pair.source.dsn, pair.target.dsn, ignore_tables=sequences(pair))
