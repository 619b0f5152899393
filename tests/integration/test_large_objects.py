"""Large objects: bytes, owners, grants and comments, under the snapshot, interrupted, over a target that has some."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from pgcopydb.bootstrap.large_objects import BATCH, copy_large_objects, fetch_large_objects
from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.snapshot import begin_under
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.workers import Failure, Failures
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.runtime import failpoint
from pgcopydb.runtime.errors import TargetError
from pgcopydb.runtime.stop import Stop
from tests.fix_servers import Database, DbPair

ROLES = """
DO $$ BEGIN CREATE ROLE lo_owner; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE lo_reader; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
DO $$ BEGIN CREATE ROLE "lo odd""role'%s" LOGIN; EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
"""

OBJECTS = r"""
CREATE FUNCTION noise(size int) RETURNS bytea LANGUAGE sql AS
    $$ SELECT substr(string_agg(sha512((size || '-' || i)::bytea), '' ORDER BY i), 1, size)
         FROM generate_series(1, size / 64 + 1) AS i $$;
SELECT lo_create(7);
SELECT lo_from_bytea(8, '\x00ff00');
SELECT lo_from_bytea(20000, noise(2048));
SELECT lo_from_bytea(20001, noise(16383)), lo_from_bytea(20002, noise(16384)), lo_from_bytea(20003, noise(16385));
SELECT lo_from_bytea(20004, noise(16384 + 1048575)), lo_from_bytea(20005, noise(16384 + 1048576)),
       lo_from_bytea(20006, noise(16384 + 1048577)), lo_from_bytea(20007, noise(3 * 1048576));
SELECT lo_create(4200000000);
SELECT lo_put(4200000000, 1500000, 'after a hole');
SELECT lo_from_bytea(4294967295, 'the last oid');
SELECT lo_from_bytea(30000 + i, ('object ' || i)::bytea) FROM generate_series(1, 20) AS i;
ALTER LARGE OBJECT 8 OWNER TO lo_owner;
GRANT SELECT ON LARGE OBJECT 8 TO lo_reader WITH GRANT OPTION;
ALTER LARGE OBJECT 20000 OWNER TO "lo odd""role'%s";
REVOKE UPDATE ON LARGE OBJECT 20000 FROM "lo odd""role'%s";
GRANT UPDATE ON LARGE OBJECT 20000 TO PUBLIC;
GRANT SELECT, UPDATE ON LARGE OBJECT 20001, 20002 TO "lo odd""role'%s", lo_owner;
ALTER LARGE OBJECT 20003 OWNER TO lo_owner;
REVOKE ALL ON LARGE OBJECT 20003 FROM lo_owner;
GRANT SELECT ON LARGE OBJECT 20004 TO lo_reader;
REVOKE SELECT ON LARGE OBJECT 20004 FROM lo_reader;
COMMENT ON LARGE OBJECT 7 IS 'an empty one';
COMMENT ON LARGE OBJECT 8 IS E'it''s "100%s"\nand \\ odd';
"""

CONTENT = (
    "SELECT oid::bigint, length(lo_get(oid)), md5(lo_get(oid)), pg_get_userbyid(lomowner),"
    " ARRAY(SELECT a::text FROM unnest(lomacl) AS a ORDER BY 1), lomacl IS NULL, obj_description(oid, 'pg_largeobject')"
    " FROM pg_largeobject_metadata ORDER BY oid"
)


@dataclass
class Run:
    """One bootstrap as far as large objects go; ``held`` is the session that exported the snapshot."""

    store: CatalogStore
    source: Endpoint
    target: Endpoint
    held: Connection
    snapshot: str
    stop: Stop = field(default_factory=Stop)

    def fetch(self) -> None:
        with self.source.connect("test") as connection:
            begin_under(connection, self.snapshot)
            with self.store.transaction():
                fetch_large_objects(connection, self.store)

    def copy(self, options: RestoreOptions | None = None, jobs: int = 2) -> list[Failure]:
        failures = Failures(self.stop, fail_fast=False)
        copy_large_objects(
            self.store, self.source, self.target, self.snapshot, jobs, options or RestoreOptions(), failures, self.stop
        )
        return failures.all

    def states(self) -> list[str]:
        return [row["state"] for row in self.store.rows("SELECT state FROM large_object_batch ORDER BY batch")]


Begin = Callable[[str, str], Run]


@pytest.fixture
def begin(tmp_path: Path) -> Iterator[Begin]:
    """Takes a snapshot of the source, and what large objects it has."""
    with ExitStack() as stack:

        def make(source: str, target: str) -> Run:
            ends = [
                Endpoint(ConnInfo.parse(side, dsn), "lotest")
                for side, dsn in ((Side.SOURCE, source), (Side.TARGET, target))
            ]
            held = stack.enter_context(ends[0].connect("holder"))
            begin_under(held, None)
            snapshot = held.execute("SELECT pg_export_snapshot()").fetchall()[0][0]
            store = CatalogStore.create(tmp_path / "source.db")
            stack.callback(store.close)
            run = Run(store, ends[0], ends[1], held, snapshot)
            run.fetch()
            return run

        yield make


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str, passes: int = 1) -> None:
    monkeypatch.setattr(failpoint, "_traps", failpoint._Traps(f"{name}=error@{passes}"))


@contextmanager
def role_of_source(source: Database, name: str) -> Iterator[None]:
    """A role that the target does not have."""
    source.execute(f"CREATE ROLE {name}")
    try:
        yield
    finally:
        source.execute(f"DROP OWNED BY {name}; DROP ROLE {name}")


def peak_memory() -> int:
    text = Path("/proc/self/status").read_text()
    return int(text.partition("VmHWM:")[2].split()[0]) * 1024


def test_everything_arrives_as_the_snapshot_saw_it(db_pair: DbPair, begin: Begin) -> None:
    for database in (db_pair.source, db_pair.target):
        database.execute(ROLES)
    db_pair.source.execute(OBJECTS)
    expected = db_pair.source.fetch(CONTENT)
    assert len(expected) == 32
    run = begin(db_pair.source.dsn, db_pair.target.dsn)
    db_pair.source.execute(
        "SELECT lo_put(20007, 100, 'too late'), lo_truncate(lo_open(20005, 131072), 5), lo_unlink(8), lo_create(55555);"
        "GRANT SELECT ON LARGE OBJECT 20006 TO lo_reader; COMMENT ON LARGE OBJECT 7 IS 'too late'"
    )
    assert run.copy() == []
    assert db_pair.target.fetch(CONTENT) == expected
    assert run.store.step_done("large_objects")
    assert run.store.value("SELECT sum(bytes) FROM large_object_batch") == sum(row[1] for row in expected)


@pytest.mark.parametrize("passes", [1, 2])
@pytest.mark.parametrize("place", ["large_objects.before_commit", "large_objects.after_commit"])
def test_a_batch_whose_end_is_not_known_is_done_again(
    source_db: Database, target_db: Database, begin: Begin, monkeypatch: pytest.MonkeyPatch, place: str, passes: int
) -> None:
    source_db.execute(
        "SELECT lo_from_bytea(10000 + 3 * i, repeat(md5(i::text), i % 1000)::bytea)"
        f" FROM generate_series(1, {3 * BATCH}) AS i"
    )
    expected = source_db.fetch(CONTENT)
    run = begin(source_db.dsn, target_db.dsn)
    assert run.states() == ["pending"] * 3
    fail_at(monkeypatch, place, passes)
    (failure,) = run.copy(jobs=1)
    assert place in str(failure.error)
    assert run.states().count("done") == 2
    committed = target_db.fetch("SELECT count(*) FROM pg_largeobject_metadata")[0][0]
    assert committed == (3 if place.endswith("after_commit") else 2) * BATCH
    assert not run.store.step_done("large_objects")
    assert run.copy() == []
    assert run.states() == ["done"] * 3
    assert target_db.fetch(CONTENT) == expected
    assert run.copy() == []


def test_large_and_many_objects_are_never_held_whole(source_db: Database, target_db: Database, begin: Begin) -> None:
    source_db.execute(
        "SELECT lo_create(1000);"
        "SELECT lo_put(1000, i * 1048576, repeat(chr(65 + (i % 26)::int), 1048576)::bytea)"
        " FROM generate_series(0, 199::bigint) i;"
        "SELECT lo_from_bytea(2000 + i, repeat(chr(65 + i % 26), 262144)::bytea) FROM generate_series(1, 400) i"
    )
    run = begin(source_db.dsn, target_db.dsn)
    # Sets the high-water mark back to what is in use now.
    Path("/proc/self/clear_refs").write_text("5")
    before = peak_memory()
    assert run.copy(jobs=1) == []
    assert peak_memory() - before < 50 << 20
    size = (
        "SELECT count(*), sum(length(data)), md5(string_agg(md5(data), '' ORDER BY loid, pageno)) FROM pg_largeobject"
    )
    assert target_db.fetch(size) == source_db.fetch(size)
    assert target_db.fetch(size)[0][1] == (200 << 20) + (400 << 18)


def test_an_object_of_the_target_is_not_overwritten(source_db: Database, target_db: Database, begin: Begin) -> None:
    source_db.execute("SELECT lo_from_bytea(oid, 'new') FROM unnest('{100, 102, 104}'::oid[]) AS oid")
    target_db.execute("SELECT lo_from_bytea(oid, 'old') FROM unnest('{101, 102}'::oid[]) AS oid")
    run = begin(source_db.dsn, target_db.dsn)
    content = "SELECT oid::int, convert_from(lo_get(oid), 'UTF8') FROM pg_largeobject_metadata ORDER BY oid"
    with pytest.raises(TargetError, match="102") as caught:
        run.copy()
    assert "--drop-if-exists" in (caught.value.hint or "")
    assert target_db.fetch(content) == [(101, "old"), (102, "old")]
    assert run.copy(RestoreOptions(drop_if_exists=True)) == []
    assert target_db.fetch(content) == [(100, "new"), (101, "old"), (102, "new"), (104, "new")]


def test_an_object_between_two_others_is_no_obstacle(source_db: Database, target_db: Database, begin: Begin) -> None:
    source_db.execute("SELECT lo_create(100), lo_create(102)")
    target_db.execute("SELECT lo_create(101)")
    run = begin(source_db.dsn, target_db.dsn)
    assert run.copy() == []
    assert target_db.fetch("SELECT oid::int FROM pg_largeobject_metadata ORDER BY oid") == [(100,), (101,), (102,)]


def test_a_role_missing_on_the_target_is_reported_for_each_object(
    source_db: Database, target_db: Database, begin: Begin
) -> None:
    for database in (source_db, target_db):
        database.execute(ROLES)
    with role_of_source(source_db, "lo_only_here"):
        source_db.execute(
            "SELECT lo_from_bytea(oid, 'data') FROM unnest('{10, 11, 12, 13}'::oid[]) AS oid;"
            "GRANT SELECT ON LARGE OBJECT 10, 11 TO lo_only_here; GRANT UPDATE ON LARGE OBJECT 10 TO lo_reader;"
            "ALTER LARGE OBJECT 12 OWNER TO lo_only_here; ALTER LARGE OBJECT 13 OWNER TO lo_owner;"
            "COMMENT ON LARGE OBJECT 11 IS 'kept'"
        )
        expected = source_db.fetch(CONTENT)
        run = begin(source_db.dsn, target_db.dsn)
        failures = run.copy()
        assert [failure.what for failure in failures] == [f"large object {oid}" for oid in (10, 11, 12)]
        assert all('role "lo_only_here" does not exist' in str(failure.error) for failure in failures)
        assert all("--resume" in (failure.error.hint or "") for failure in failures)
        arrived = {row[0]: row for row in target_db.fetch(CONTENT)}
        assert [row[1:3] for row in arrived.values()] == [row[1:3] for row in expected]
        assert arrived[10][4] == ["lo_reader=w/postgres", "postgres=rw/postgres"]
        assert arrived[11][6] == "kept"
        assert arrived[13][3] == "lo_owner"
        assert run.states() == ["failed"]
        assert not run.store.step_done("large_objects")
        with role_of_source(target_db, "lo_only_here"):
            assert run.copy() == []
            assert target_db.fetch(CONTENT) == expected
            assert run.store.step_done("large_objects")


@pytest.mark.parametrize(
    ("options", "kept"),
    [
        (RestoreOptions(no_owner=True), ("postgres", ["=r/postgres", "postgres=rw/postgres"], "a comment")),
        (RestoreOptions(no_acl=True), ("lo_owner", [], "a comment")),
        (RestoreOptions(no_comments=True), ("lo_owner", ["=r/lo_owner", "lo_owner=r/lo_owner"], None)),
    ],
    ids=["no-owner", "no-acl", "no-comments"],
)
def test_what_is_not_wanted_is_left_out(
    source_db: Database, target_db: Database, begin: Begin, options: RestoreOptions, kept: tuple[Any, ...]
) -> None:
    for database in (source_db, target_db):
        database.execute(ROLES)
    source_db.execute(
        "SELECT lo_create(10); ALTER LARGE OBJECT 10 OWNER TO lo_owner; GRANT SELECT ON LARGE OBJECT 10 TO PUBLIC;"
        "REVOKE UPDATE ON LARGE OBJECT 10 FROM lo_owner; COMMENT ON LARGE OBJECT 10 IS 'a comment'"
    )
    run = begin(source_db.dsn, target_db.dsn)
    assert run.copy(options) == []
    assert [(row[3], row[4], row[6]) for row in target_db.fetch(CONTENT)] == [kept]


def test_an_ordinary_role_copies_what_it_owns(source_db: Database, target_db: Database, begin: Begin) -> None:
    role = "lo odd\"role'%s"
    for database in (source_db, target_db):
        database.execute(ROLES)
    source_db.execute(
        "SELECT lo_from_bytea(10, 'mine'), lo_from_bytea(11, repeat('x', 100000)::bytea);"
        """ALTER LARGE OBJECT 10 OWNER TO "lo odd""role'%s"; ALTER LARGE OBJECT 11 OWNER TO "lo odd""role'%s";"""
        "GRANT SELECT ON LARGE OBJECT 10 TO lo_reader; COMMENT ON LARGE OBJECT 11 IS 'mine too'"
    )
    run = begin(*(database.cluster.dsn(database.name, user=role) for database in (source_db, target_db)))
    assert run.copy() == []
    assert target_db.fetch(CONTENT) == source_db.fetch(CONTENT)


def test_a_source_without_large_objects_needs_nothing(source_db: Database, target_db: Database, begin: Begin) -> None:
    run = begin(source_db.dsn, target_db.dsn)
    assert run.copy() == []
    assert run.store.step_done("large_objects")
