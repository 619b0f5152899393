"""``copy blobs --changed``: what is new, changed or gone, and nothing of anybody else."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import Following, pair_of
from tests.integration.test_large_objects import CONTENT

OBJECTS = """
SELECT lo_from_bytea(100 + i, ('object ' || i)::bytea) FROM generate_series(1, 1200) AS i;
SELECT lo_from_bytea(7, decode(repeat('ab', 1500000), 'hex'));
COMMENT ON LARGE OBJECT 7 IS 'long';
"""
CHANGES = """
SELECT lo_put(7, 1400000, '\\x00');
SELECT lo_put(105, 0, 'O');
SELECT lo_unlink(106), lo_unlink(1299);
SELECT lo_from_bytea(4000000000, 'new');
COMMENT ON LARGE OBJECT 107 IS 'said';
GRANT SELECT ON LARGE OBJECT 108 TO PUBLIC;
"""


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 17) as pair:
        pair.source.execute(OBJECTS)
        yield pair


def env(pair: DbPair) -> dict[str, str]:
    return {"PGCOPYDB_SOURCE_PGURI": pair.source.dsn, "PGCOPYDB_TARGET_PGURI": pair.target.dsn}


def test_what_is_new_changed_or_gone(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    changed = ("copy", "blobs", "--changed", "--dir", workdir_path)
    early = pgcopydb.run(*changed, env=env(pair), check=False)
    assert (early.returncode, "copy blobs" in early.stderr) == (3, True)
    pgcopydb.run("clone", "--dir", workdir_path, env=env(pair))
    pair.source.execute(CHANGES)
    # Somebody else's, in between and behind.
    pair.target.execute("SELECT lo_from_bytea(50, 'mine'), lo_from_bytea(4000000001, 'mine too')")
    done = pgcopydb.run(*changed, env=env(pair))
    assert "5 large objects written that were new or had changed, 2 removed" in done.stderr
    assert [row for row in pair.target.fetch(CONTENT) if row[0] not in {50, 4000000001}] == pair.source.fetch(CONTENT)
    assert pair.target.fetch("SELECT lo_get(50), lo_get(4000000001)") == [(b"mine", b"mine too")]
    again = pgcopydb.run(*changed, env=env(pair))
    assert "0 large objects written that were new or had changed, 0 removed" in again.stderr
    # What was new the last time is ours this time.
    pair.source.execute("SELECT lo_unlink(4000000000)")
    assert (
        "0 large objects written that were new or had changed, 1 removed"
        in pgcopydb.run(*changed, env=env(pair)).stderr
    )


def test_an_object_of_somebody_else_is_left_alone(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    pgcopydb.run("clone", "--dir", workdir_path, env=env(pair))
    pair.source.execute(CHANGES)
    pair.target.execute("SELECT lo_from_bytea(4000000000, 'mine')")
    changed = ("copy", "blobs", "--changed", "--dir", workdir_path)
    refused = pgcopydb.run(*changed, env=env(pair), check=False)
    assert (refused.returncode, "large object 4000000000" in refused.stderr) == (7, True)
    assert pair.target.fetch("SELECT lo_get(4000000000)") == [(b"mine",)]
    pgcopydb.run(*changed, "--drop-if-exists", env=env(pair))
    assert pair.target.fetch(CONTENT) == pair.source.fetch(CONTENT)


def test_while_changes_are_followed(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    pair.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    run = Following(pgcopydb, pair, workdir_path).start()
    pair.source.execute(CHANGES)
    pgcopydb.run("copy", "blobs", "--changed", "--dir", workdir_path, env=env(pair))
    run.set_end()
    run.ends()
    assert "large objects, whose changes are not followed" in run.log
    assert pair.target.fetch(CONTENT) == pair.source.fetch(CONTENT)
