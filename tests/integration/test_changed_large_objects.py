"""``copy blobs --changed``: what is new, changed or gone, and nothing of anybody else."""

from __future__ import annotations

import re
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import Following, pair_of, uris
from tests.integration.test_large_objects import CONTENT, role_of_source

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


def test_what_is_new_changed_or_gone(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    changed = ("copy", "blobs", "--changed", "--dir", workdir_path)
    early = pgcopydb.run(*changed, env=uris(pair), check=False)
    assert (early.returncode, "copy blobs" in early.stderr) == (3, True)
    pgcopydb.run("clone", "--dir", workdir_path, env=uris(pair))
    pair.source.execute(CHANGES)
    # Somebody else's, in between and behind.
    pair.target.execute("SELECT lo_from_bytea(50, 'mine'), lo_from_bytea(4000000001, 'mine too')")
    done = pgcopydb.run(*changed, env=uris(pair))
    assert "5 large objects written that were new or had changed, 2 removed" in done.stderr
    assert [row for row in pair.target.fetch(CONTENT) if row[0] not in {50, 4000000001}] == pair.source.fetch(CONTENT)
    assert pair.target.fetch("SELECT lo_get(50), lo_get(4000000001)") == [(b"mine", b"mine too")]
    again = pgcopydb.run(*changed, env=uris(pair))
    assert "0 large objects written that were new or had changed, 0 removed" in again.stderr
    # What was new the last time is ours this time.
    pair.source.execute("SELECT lo_unlink(4000000000)")
    assert (
        "0 large objects written that were new or had changed, 1 removed"
        in pgcopydb.run(*changed, env=uris(pair)).stderr
    )


def test_what_was_removed_is_no_longer_ours(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    """Its number may be given to an object of the target's own then."""
    changed = ("copy", "blobs", "--changed", "--dir", workdir_path)
    pgcopydb.run("clone", "--dir", workdir_path, env=uris(pair))
    pair.source.execute("SELECT lo_unlink(106)")
    pair.target.execute("SELECT lo_unlink(107)")
    pair.source.execute("SELECT lo_unlink(107)")
    pgcopydb.run(*changed, env=uris(pair))
    pair.target.execute("SELECT lo_from_bytea(106, 'mine'), lo_from_bytea(107, 'mine too')")
    assert ", 0 removed" in pgcopydb.run(*changed, env=uris(pair)).stderr
    assert pair.target.fetch("SELECT lo_get(106), lo_get(107)") == [(b"mine", b"mine too")]


def test_what_was_committed_before_it_was_killed_is_ours(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    killed = pgcopydb.run(
        "clone",
        *("--dir", workdir_path),
        env={**uris(pair), "PGCOPYDB_FAILPOINTS": "large_objects.after_commit=kill"},
        check=False,
    )
    assert killed.returncode == -signal.SIGKILL
    gone = pair.target.fetch("SELECT min(oid), max(oid) FROM pg_largeobject_metadata")[0]
    pair.source.execute(f"SELECT lo_unlink({gone[0]}), lo_unlink({gone[1]})")
    pgcopydb.run("clone", "--dir", workdir_path, "--resume", "--not-consistent", env=uris(pair))
    pgcopydb.run("copy", "blobs", "--changed", "--dir", workdir_path, env=uris(pair))
    assert pair.target.fetch(CONTENT) == pair.source.fetch(CONTENT)


def test_an_object_of_somebody_else_is_left_alone(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    pgcopydb.run("clone", "--dir", workdir_path, env=uris(pair))
    pair.source.execute(CHANGES)
    pair.target.execute("SELECT lo_from_bytea(4000000000, 'mine')")
    changed = ("copy", "blobs", "--changed", "--dir", workdir_path)
    refused = pgcopydb.run(*changed, env=uris(pair), check=False)
    assert (refused.returncode, "large object 4000000000" in refused.stderr) == (7, True)
    assert pair.target.fetch("SELECT lo_get(4000000000)") == [(b"mine",)]
    pgcopydb.run(*changed, "--drop-if-exists", env=uris(pair))
    assert pair.target.fetch(CONTENT) == pair.source.fetch(CONTENT)


def test_while_changes_are_followed(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    pair.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    run = Following(pgcopydb, pair, workdir_path).start()
    pair.source.execute(CHANGES)
    pgcopydb.run("copy", "blobs", "--changed", "--dir", workdir_path, env=uris(pair))
    run.set_end()
    run.ends()
    assert "large objects, whose changes are not followed" in run.log
    assert pair.target.fetch(CONTENT) == pair.source.fetch(CONTENT)


@pytest.mark.parametrize("ends_with", ["clone", "follow"])
def test_what_has_changed_is_copied_at_the_end(
    pgcopydb: Command, pair: DbPair, workdir_path: Path, ends_with: str
) -> None:
    pair.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    run = Following(pgcopydb, pair, workdir_path).start("--no-comments")
    assert "whose changes are not followed: those that are new, have changed or are gone are copied when" in run.log
    pair.source.execute(CHANGES + "INSERT INTO t VALUES (1)")
    pair.target.execute("SELECT lo_from_bytea(50, 'mine')")
    if ends_with == "follow":
        run.process.terminate()
        run.process.wait(30)
        run.process = pgcopydb.start("follow", "--dir", workdir_path, env=uris(pair))
    run.set_end()
    assert run.process.wait(90) == 0, run.log
    # Not the comment: the copy was to leave comments out.
    assert "4 large objects written that were new or had changed, 2 removed" in run.log
    rows = [row for row in pair.target.fetch(CONTENT) if row[0] != 50]
    assert [row[:-1] for row in rows] == [row[:-1] for row in pair.source.fetch(CONTENT)]
    assert {row[-1] for row in rows} == {None}
    # Started once more, behind the switch: what was written to the target since is not written over.
    pair.target.execute("SELECT lo_put(105, 0, 'X'), lo_unlink(110)")
    pair.source.execute("SELECT lo_put(120, 0, 'X')")
    again = pgcopydb.run("follow", "--dir", workdir_path, env=uris(pair))
    assert "copied at this end position before: they are left as they are" in again.stderr
    assert pair.target.fetch("SELECT lo_get(105), lo_get(120)") == [(b"Xbject 5", b"object 20")]
    progress = pgcopydb.run("list", "progress", "--dir", workdir_path).stdout
    assert ["Large objects compared", "1200", "0", "1200"] in [
        re.split(r"\s{2,}", line.strip()) for line in progress.splitlines()
    ]


def test_not_at_the_end_when_they_are_skipped(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    pair.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    run = Following(pgcopydb, pair, workdir_path).start("--skip-large-objects")
    run.process.terminate()
    run.process.wait(30)
    # The work directory knows that none were to be copied.
    run.process = pgcopydb.start("follow", "--dir", workdir_path, env=uris(pair))
    run.set_end()
    assert run.process.wait(90) == 0, run.log
    assert "1201 large objects, whose changes are not followed: `pgcopydb copy blobs --changed`" in run.log
    assert pair.target.fetch(CONTENT) == []


def test_skipped_at_the_end_alone(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    pair.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    run = Following(pgcopydb, pair, workdir_path).start()
    run.process.terminate()
    run.process.wait(30)
    before = pair.target.fetch(CONTENT)
    pair.source.execute(CHANGES)
    run.process = pgcopydb.start("follow", "--skip-large-objects", "--dir", workdir_path, env=uris(pair))
    run.set_end()
    assert run.process.wait(90) == 0, run.log
    assert "1200 large objects, whose changes are not followed: `pgcopydb copy blobs --changed`" in run.log
    assert pair.target.fetch(CONTENT) == before


def test_what_the_target_refuses_at_the_end_is_a_warning(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> None:
    pair.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    run = Following(pgcopydb, pair, workdir_path).start()
    with role_of_source(pair.source, "lo_of_source"):
        pair.source.execute(CHANGES + "SELECT lo_from_bytea(30, 'theirs'); ALTER LARGE OBJECT 30 OWNER TO lo_of_source")
        run.set_end()
        assert run.process.wait(90) == 0, run.log
        refused = 'large object 30: ALTER LARGE OBJECT 30 OWNER TO "lo_of_source": role "lo_of_source" does not exist'
        assert f"WARN   {refused}" in run.log
        assert "1 large objects are not what they are on the source, the first is large object 30" in run.log
        rows = pair.target.fetch(CONTENT)
        assert [row[:3] for row in rows] == [row[:3] for row in pair.source.fetch(CONTENT)]


def test_a_number_that_somebody_has_taken_is_an_error_at_the_end(
    pgcopydb: Command, pair: DbPair, workdir_path: Path
) -> None:
    pair.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    run = Following(pgcopydb, pair, workdir_path).start()
    pair.source.execute(CHANGES)
    pair.target.execute("SELECT lo_from_bytea(4000000000, 'mine')")
    run.set_end()
    assert run.process.wait(90) == 7, run.log
    assert "everything is applied, but 1 large objects could not be copied, the first was large object 4000000000" in (
        run.log
    )
    assert pair.target.fetch("SELECT lo_get(4000000000)") == [(b"mine",)]
    pair.target.execute("SELECT lo_unlink(4000000000)")
    pgcopydb.run("follow", "--dir", workdir_path, env=uris(pair))
    assert pair.target.fetch(CONTENT) == pair.source.fetch(CONTENT)


@pytest.fixture
def plain_role(pair: DbPair) -> Iterator[str]:
    """Of both servers: it may replicate, and is no superuser."""
    role = "lo_migrates"
    for database in (pair.source, pair.target):
        database.execute(
            f"CREATE ROLE {role} LOGIN REPLICATION; GRANT ALL ON DATABASE {database.name} TO {role};"
            f"GRANT ALL ON SCHEMA public TO {role}"
        )
    try:
        yield role
    finally:
        for database in (pair.source, pair.target):
            database.execute(f"DROP OWNED BY {role} CASCADE; DROP ROLE {role}")


def test_one_that_cannot_be_read_holds_up_no_other(
    pgcopydb: Command, pair: DbPair, workdir_path: Path, plain_role: str
) -> None:
    with pair.source.connect() as source:
        source.execute(f"SET ROLE {plain_role}; SELECT lo_from_bytea(20000 + i, 'mine') FROM generate_series(1, 30) i")
    pair.source.execute("SELECT lo_unlink(oid) FROM pg_largeobject_metadata WHERE oid < 20000")
    reader = {
        "PGCOPYDB_SOURCE_PGURI": pair.source.cluster.dsn(pair.source.name, user=plain_role),
        "PGCOPYDB_TARGET_PGURI": pair.target.cluster.dsn(pair.target.name, user=plain_role),
    }
    pgcopydb.run("clone", "--dir", workdir_path, env=reader)
    with pair.source.connect() as source:
        source.execute(f"SET ROLE {plain_role}; SELECT lo_put(oid, 0, 'M') FROM unnest('{{20003, 20021}}'::oid[]) oid")
        source.execute(
            "RESET ROLE; ALTER LARGE OBJECT 20015 OWNER TO postgres; ALTER LARGE OBJECT 20029 OWNER TO postgres"
        )
    # One worker takes several at once: 20021 is among those that cannot be read as a whole.
    changed = ("copy", "blobs", "--changed", "--large-objects-jobs", "1", "--dir", workdir_path)
    partly = pgcopydb.run(*changed, env=reader, check=False)
    assert partly.returncode == 6, partly.stderr
    assert "2 large objects written that were new or had changed, 0 removed" in partly.stderr
    for oid in (20015, 20029):
        assert f"large object {oid}: reading large objects of the source: permission denied for large object {oid}" in (
            partly.stderr
        )
    content = "SELECT oid::int, lo_get(oid) FROM pg_largeobject_metadata ORDER BY oid"
    assert pair.target.fetch(content) == pair.source.fetch(content)
    at_once = pgcopydb.run(*changed, "--fail-fast", env=reader, check=False)
    assert at_once.returncode == 6
