"""``--fk not-valid-first``: keys are there at once and validated later; an orphan row is named, and stops nothing."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path

import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import Following, pair_of, uris
from tests.wait import wait_until

SCHEMA = """
CREATE TABLE parent (id int PRIMARY KEY);
INSERT INTO parent SELECT generate_series(1, 100);
CREATE TABLE "odd ""child" (id int PRIMARY KEY, p int CONSTRAINT "the ""key" REFERENCES parent ON DELETE CASCADE);
INSERT INTO "odd ""child" SELECT i, i FROM generate_series(1, 100) i;
COMMENT ON CONSTRAINT "the ""key" ON "odd ""child" IS 'why';
CREATE TABLE self (id int PRIMARY KEY, above int REFERENCES self DEFERRABLE INITIALLY DEFERRED);
INSERT INTO self SELECT i, nullif(i - 1, 0) FROM generate_series(1, 50) i;
CREATE TABLE loose (p int);
INSERT INTO loose VALUES (1), (4711);
ALTER TABLE loose ADD CONSTRAINT never_valid FOREIGN KEY (p) REFERENCES parent NOT VALID;
CREATE TABLE parted (at int, p int, FOREIGN KEY (p) REFERENCES parent) PARTITION BY RANGE (at);
CREATE TABLE parted_1 PARTITION OF parted FOR VALUES FROM (0) TO (100);
CREATE TABLE parted_2 (at int, p int REFERENCES parent);
ALTER TABLE parted ATTACH PARTITION parted_2 FOR VALUES FROM (100) TO (200);
INSERT INTO parted SELECT i, 1 + i % 50 FROM generate_series(0, 199) i;
"""
ORPHAN = """
SET session_replication_role = replica;
CREATE TABLE orphans (p int REFERENCES parent, q int REFERENCES self);
INSERT INTO orphans VALUES (1, 1), (1234, 2);
"""
KEYS = """
SELECT conrelid::regclass::text, conname, pg_get_constraintdef(oid), obj_description(oid, 'pg_constraint')
  FROM pg_constraint WHERE contype = 'f' AND conparentid = 0 ORDER BY 1, 2
"""
FAILED = 'Key (p)=(1234) is not present in table "parent".'


@pytest.fixture(params=[(15, 15), (17, 18)], ids=lambda pair: f"{pair[0]}->{pair[1]}")
def pair(request: pytest.FixtureRequest, servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, *request.param) as pair:
        pair.source.execute(SCHEMA)
        yield pair


def test_all_keys_are_valid_in_the_end(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    done = pgcopydb.run("clone", "--fk", "not-valid-first", "--dir", workdir_path, env=uris(pair))
    assert "Validating 2 foreign keys" in done.stderr
    assert pair.target.fetch(KEYS) == pair.source.fetch(KEYS)
    assert_same_content(pair.source.dsn, pair.target.dsn)


@pytest.mark.parametrize("how", ["valid", "not-valid-first"])
def test_an_orphan_names_its_key(how: str, pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    pair.source.execute(ORPHAN)
    failed = pgcopydb.run("clone", "--fk", how, "--dir", workdir_path, env=uris(pair), check=False)
    assert failed.returncode in {7, 12}
    assert FAILED in failed.stderr
    source = pair.source.fetch(KEYS)
    if how == "valid":
        assert pair.target.fetch(KEYS) == [row for row in source if row[1] != "orphans_p_fkey"]
    else:
        assert 'ALTER TABLE "public"."orphans" VALIDATE CONSTRAINT "orphans_p_fkey";' in failed.stderr
        assert pair.target.fetch(KEYS) == [
            (*row[:2], f"{row[2]} NOT VALID", row[3]) if row[1] == "orphans_p_fkey" else row for row in source
        ]
    assert_same_content(pair.source.dsn, pair.target.dsn)
    pair.target.execute("DELETE FROM orphans WHERE p = 1234")
    pgcopydb.run("clone", "--resume", "--fk", how, "--dir", workdir_path, env=uris(pair))
    assert pair.target.fetch(KEYS) == source


def test_steps(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    pair.source.execute(ORPHAN)
    pgcopydb.run("dump", "schema", "--dir", workdir_path, env=uris(pair))
    pgcopydb.run("restore", "pre-data", "--dir", workdir_path, env=uris(pair))
    pgcopydb.run("copy", "data", "--not-consistent", "--dir", workdir_path, env=uris(pair))
    restore = ("restore", "post-data", "--fk", "not-valid-first", "--dir", workdir_path)
    failed = pgcopydb.run(*restore, env=uris(pair), check=False)
    assert (failed.returncode, FAILED in failed.stderr) == (7, True), failed.stderr
    pair.target.execute("DELETE FROM orphans WHERE p = 1234")
    pgcopydb.run(*restore, env=uris(pair))
    assert pair.target.fetch(KEYS) == pair.source.fetch(KEYS)


@pytest.mark.parametrize("failpoint", ["foreign_keys.after_add", "foreign_keys.after_validate"])
def test_killed_and_resumed(failpoint: str, pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    clone = ("clone", "--fk", "not-valid-first", "--dir", workdir_path)
    killed = pgcopydb.run(*clone, env={**uris(pair), "PGCOPYDB_FAILPOINTS": f"{failpoint}=kill"}, check=False)
    assert killed.returncode == -9
    pgcopydb.run(*clone, "--resume", env=uris(pair))
    assert pair.target.fetch(KEYS) == pair.source.fetch(KEYS)
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_changes_are_applied_meanwhile(pgcopydb: Command, servers: Servers, workdir_path: Path) -> None:
    """What waits for a lock of somebody else, or fails, keeps nothing from being applied, and is told in the end."""
    with pair_of(servers, 15, 17) as pair:
        pair.source.execute(SCHEMA + ORPHAN)
        # The copy ends when it has added the keys, so that a lock can be taken before they are validated.
        stopped = pgcopydb.run(
            *("clone", "--follow", "--fk", "not-valid-first", "--dir", workdir_path),
            env={**uris(pair), "PGCOPYDB_FAILPOINTS": "follow.after_copy=kill"},
            check=False,
        )
        assert stopped.returncode == -9
        run = Following(pgcopydb, pair, workdir_path)
        with pair.target.connect(autocommit=False) as locker:
            locker.execute('LOCK TABLE "odd ""child" IN SHARE UPDATE EXCLUSIVE MODE')
            run.start()
            wait_until(partial(is_waiting, pair), 60, "a key that waits to be validated")
            pair.source.execute("INSERT INTO parent VALUES (500); INSERT INTO orphans VALUES (500, 3)")
            wait_until(partial(has_orphan, pair, 500), 60, "the change to be applied")
            locker.rollback()
        run.set_end()
        wait_until(lambda: run.process.poll() is not None, 60, "the end")
        assert run.process.returncode == 7, run.log
        assert FAILED in run.log
        assert "everything is applied, but 1 foreign keys are not valid" in run.log
        assert_same_content(pair.source.dsn, pair.target.dsn)
        assert pair.target.fetch("SELECT conname FROM pg_constraint WHERE NOT convalidated ORDER BY 1") == [
            ("never_valid",),
            ("orphans_p_fkey",),
        ]
        pair.target.execute("DELETE FROM orphans WHERE p = 1234")
        pgcopydb.run("clone", "--follow", "--resume", "--dir", workdir_path, env=uris(pair))
        assert pair.target.fetch(KEYS) == pair.source.fetch(KEYS)


def is_waiting(pair: DbPair) -> bool:
    waiting = "query LIKE '%VALIDATE%' AND wait_event_type = 'Lock'"
    return bool(pair.target.fetch(f"SELECT FROM pg_stat_activity WHERE {waiting}"))


def has_orphan(pair: DbPair, p: int) -> bool:
    return bool(pair.target.fetch(f"SELECT FROM orphans WHERE p = {p}"))
