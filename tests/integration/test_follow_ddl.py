"""Schema changes on the source while it is followed: replay stops before the first change that does not fit."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import is_applied, is_halted, pair_of, uris
from tests.wait import wait_until

TABLES = """
CREATE TABLE kept (id int PRIMARY KEY, v text);
CREATE TABLE changed (id int PRIMARY KEY, v text, n int);
INSERT INTO kept SELECT i, 'v' FROM generate_series(1, 10) i;
INSERT INTO changed SELECT i, 'v', i FROM generate_series(1, 10) i;
"""
PLUGINS = ("test_decoding", "pgoutput")


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 17) as pair:
        pair.source.execute(TABLES)
        yield pair


@pytest.mark.parametrize("plugin", PLUGINS)
@pytest.mark.parametrize(
    ("ddl", "work", "said", "fix"),
    [
        (
            "ALTER TABLE changed ADD COLUMN extra numeric(5, 2) DEFAULT 7.5",
            "INSERT INTO changed VALUES (11, 'x', 1, 1.5)",
            'ALTER TABLE "public"."changed" ADD COLUMN "extra" numeric(5,2) DEFAULT 7.5;',
            'ALTER TABLE "public"."changed" ADD COLUMN "extra" numeric(5,2) DEFAULT 7.5',
        ),
        (
            "ALTER TABLE changed RENAME COLUMN v TO w",
            "UPDATE changed SET w = 'x' WHERE id = 3",
            "column w of public.changed",
            "ALTER TABLE changed RENAME COLUMN v TO w",
        ),
        (
            "ALTER TABLE changed RENAME TO renamed",
            "INSERT INTO renamed VALUES (11, 'x', 1)",
            "table public.renamed is not on the target",
            "ALTER TABLE changed RENAME TO renamed",
        ),
        (
            "ALTER TABLE changed ALTER COLUMN n TYPE text USING 'n' || n",
            "INSERT INTO changed VALUES (11, 'x', 'n11')",
            'invalid input syntax for type integer: "n11"',
            "ALTER TABLE changed ALTER COLUMN n TYPE text USING 'n' || n",
        ),
    ],
    ids=["add-column", "rename-column", "rename-table", "change-type"],
)
def test_replay_stops_before_what_does_not_fit(
    plugin: str, ddl: str, work: str, said: str, fix: str, pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    """Everything before it is applied; after the statement was run on the target, all the rest too."""
    process = pgcopydb.start("clone", "--follow", "--plugin", plugin, "--dir", workdir_path, env=uris(pair))
    wait_until(lambda: process.poll() is not None or is_applied(pair), 60, "changes to be applied")
    pair.source.execute("INSERT INTO kept SELECT i, 'before' FROM generate_series(11, 500) i")
    pair.source.execute(ddl)
    pair.source.execute("INSERT INTO kept VALUES (1000, 'still before')")
    pair.source.execute(work)
    pair.source.execute("INSERT INTO kept VALUES (1001, 'behind')")
    wait_until(lambda: process.poll() is not None, 60, "replay to stop")
    log = pgcopydb.log_of(process)
    assert process.returncode == 7, log
    assert said in log
    assert "--resume" in log
    assert "Traceback" not in log
    assert pair.target.fetch("SELECT count(*), max(id) FROM kept") == [(501, 1000)]
    if "ADD COLUMN" in ddl:
        again = pgcopydb.start("follow", "--dir", workdir_path, env=uris(pair))
        wait_until(lambda: again.poll() is not None, 60, "replay to stop at the same change")
        assert again.returncode == 7, pgcopydb.log_of(again)
        assert pair.target.fetch("SELECT count(*), max(id) FROM kept") == [(501, 1000)]
    pair.target.execute(fix)
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=uris(pair))
    pgcopydb.run("clone", "--follow", "--resume", "--plugin", plugin, "--dir", workdir_path, env=uris(pair))
    assert_same_content(pair.source.dsn, pair.target.dsn)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_column_that_was_dropped_needs_nothing(
    plugin: str, pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    process = pgcopydb.start("clone", "--follow", "--plugin", plugin, "--dir", workdir_path, env=uris(pair))
    wait_until(lambda: process.poll() is not None or is_applied(pair), 60, "changes to be applied")
    pair.source.execute("ALTER TABLE changed DROP COLUMN n; INSERT INTO changed VALUES (11, 'x')")
    pair.source.execute("UPDATE changed SET v = 'y' WHERE id < 4; DELETE FROM changed WHERE id = 5")
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=uris(pair))
    assert process.wait(60) == 0, pgcopydb.log_of(process)
    assert pair.target.fetch("SELECT n FROM changed WHERE id = 11") == [(None,)]
    pair.target.execute("ALTER TABLE changed DROP COLUMN n")
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_a_new_table_is_named(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    process = pgcopydb.start("clone", "--follow", "--plugin", "test_decoding", "--dir", workdir_path, env=uris(pair))
    wait_until(lambda: process.poll() is not None or is_applied(pair), 60, "changes to be applied")
    pair.source.execute("CREATE TABLE made (id int PRIMARY KEY); INSERT INTO made VALUES (1)")
    wait_until(lambda: process.poll() is not None, 60, "replay to stop")
    assert process.returncode == 7
    assert "table public.made is not on the target" in pgcopydb.log_of(process)
    pair.target.execute("CREATE TABLE made (id int PRIMARY KEY)")
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=uris(pair))
    pgcopydb.run("follow", "--dir", workdir_path, env=uris(pair))
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_a_column_added_during_the_copy_can_be_added_until_it_is_complete(
    pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    env = uris(pair) | {"PGCOPYDB_FAILPOINTS": "follow.after_copy=stop"}
    process = pgcopydb.start("clone", "--follow", "--plugin", "test_decoding", "--dir", workdir_path, env=env)
    wait_until(lambda: process.poll() is not None or is_halted(process.pid), 60, "the copy to be complete")
    pair.source.execute("ALTER TABLE changed ADD COLUMN extra int; INSERT INTO changed VALUES (11, 'x', 1, 2)")
    wait_until(lambda: "waiting for the copy" in pgcopydb.log_of(process), 30, "a warning")
    assert 'ADD COLUMN "extra" integer' in pgcopydb.log_of(process)
    pair.target.execute("ALTER TABLE changed ADD COLUMN extra int")
    process.send_signal(signal.SIGCONT)
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=uris(pair))
    assert process.wait(60) == 0, pgcopydb.log_of(process)
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_a_table_that_is_dropped(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Its last changes are applied, though the source does not say any more what identified its rows."""
    process = pgcopydb.start("clone", "--follow", "--plugin", "test_decoding", "--dir", workdir_path, env=uris(pair))
    wait_until(lambda: process.poll() is not None or is_applied(pair), 60, "changes to be applied")
    pair.source.execute("BEGIN; UPDATE changed SET n = 7; DELETE FROM changed WHERE id = 1; DROP TABLE changed; COMMIT")
    pair.source.execute("INSERT INTO kept VALUES (1000, 'behind')")
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=uris(pair))
    assert process.wait(60) == 0, pgcopydb.log_of(process)
    assert "table public.changed is not on the source any more" in pgcopydb.log_of(process)
    assert pair.target.fetch("SELECT count(*), min(n), max(n) FROM changed") == [(9, 7, 7)]
    pair.target.execute("DROP TABLE changed")
    assert_same_content(pair.source.dsn, pair.target.dsn)


@pytest.mark.parametrize("plugin", PLUGINS)
def test_a_table_that_is_made_anew(plugin: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """That its rows are others now is not among the changes."""
    process = pgcopydb.start("clone", "--follow", "--plugin", plugin, "--dir", workdir_path, env=uris(pair))
    wait_until(lambda: process.poll() is not None or is_applied(pair), 60, "changes to be applied")
    pair.source.execute("BEGIN; DROP TABLE changed; CREATE TABLE changed (id int PRIMARY KEY, v text, n int); COMMIT")
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=uris(pair))
    assert process.wait(60) == 12, pgcopydb.log_of(process)
    assert "made anew or renamed on the source since they were copied: public.changed" in pgcopydb.log_of(process)
