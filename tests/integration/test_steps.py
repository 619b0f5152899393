"""``copy …``, ``dump …``, ``restore …``: step by step in one work directory comes to what one clone does."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import pair_of, uris
from tests.integration.test_filters import SCHEMA, relations
from tests.wait import wait_until


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 17) as pair:
        pair.source.execute(SCHEMA)
        pair.source.execute("SELECT lo_from_bytea(4711, 'large'); ALTER TABLE app.shared CLUSTER ON shared_pkey")
        yield pair


class Steps:
    """Runs commands in one work directory."""

    def __init__(self, pgcopydb: Command, pair: DbPair, workdir: Path) -> None:
        self.pgcopydb = pgcopydb
        self.pair = pair
        self.workdir = workdir
        self.env = uris(pair)

    def __call__(self, *command: str, check: bool = True) -> subprocess.CompletedProcess[str]:
        return self.pgcopydb.run(*command, "--dir", self.workdir, env=self.env, check=check)


@pytest.fixture
def steps(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> Steps:
    return Steps(pgcopydb, pair, workdir_path)


def test_schema_then_data(steps: Steps, pair: DbPair) -> None:
    """Rows that are there go, though foreign keys refer to them."""
    steps("copy", "schema")
    assert pair.target.fetch("SELECT count(*) FROM app.shared") == [(0,)]
    pair.target.execute("INSERT INTO app.customer VALUES (1, 'was there', 'sad'); INSERT INTO app.orders VALUES (1, 1)")
    # Any transaction of the server is a change, be it one of autovacuum.
    steps("copy", "data", "--not-consistent")
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_each_step_by_itself_under_a_held_snapshot(steps: Steps, pair: DbPair, pgcopydb: Command) -> None:
    holder = pgcopydb.start("snapshot", "--dir", steps.workdir, env=steps.env)
    wait_until((steps.workdir / "snapshot").exists, 30, "the snapshot")
    steps("dump", "schema")
    # What happens meanwhile is not seen by any of the steps.
    pair.source.execute("INSERT INTO app.shared (id, t) VALUES (9001, 'later'); DELETE FROM app.log")
    steps("restore", "pre-data")
    steps("copy", "table-data")
    steps("copy", "blobs")
    steps("copy", "indexes")
    assert "app.orders_note" in relations(pair.target)
    assert pair.target.fetch("SELECT FROM pg_constraint WHERE conname = 'shared_pkey'") == []
    steps("copy", "constraints")
    assert pair.target.fetch("SELECT contype FROM pg_constraint WHERE conname = 'shared_pkey'") == [("p",)]
    steps("copy", "sequences")
    steps("restore", "post-data")
    holder.terminate()
    holder.wait(30)
    assert pair.target.fetch("SELECT count(*) FROM app.log") == [(400,)]
    assert pair.target.fetch("SELECT FROM app.shared WHERE id = 9001") == []
    assert relations(pair.source) == relations(pair.target)
    assert pair.target.fetch("SELECT sum FROM app.grand") == [(500,)]
    # A clone of the same work directory has nothing to read.
    pair.source.execute("INSERT INTO app.log SELECT * FROM app.log_1 WHERE false")
    assert pair.target.fetch("SELECT lo_get(4711)") == [(b"large",)]


def test_data_under_another_snapshot_is_refused(steps: Steps, pair: DbPair) -> None:
    steps("copy", "schema")
    pair.source.execute("INSERT INTO app.shared (id, t) VALUES (9001, 'later')")
    refused = steps("copy", "table-data", check=False)
    assert refused.returncode == 3, refused.stderr
    assert "--not-consistent" in refused.stderr
    steps("copy", "table-data", "--not-consistent")
    assert pair.target.fetch("SELECT t FROM app.shared WHERE id = 9001") == [("later",)]


def test_how_tables_are_divided_is_for_those_who_copy_them_to_say(steps: Steps) -> None:
    steps("copy", "schema")
    steps("copy", "table-data", "--split-tables-larger-than", "8kB", "--split-max-parts", "2", "--not-consistent")
    refused = steps("copy", "table-data", check=False)
    assert (refused.returncode, "divided its tables by other rules: 8192 bytes" in refused.stderr) == (3, True)
    steps("copy", "indexes")


def test_a_schema_that_came_another_way(steps: Steps, pair: DbPair, tmp_path: Path) -> None:
    """Rows go into tables that somebody else has made, indexes too."""
    bin_dir = pair.target.cluster.bin_dir
    dumped = tmp_path / "schema.sql"
    subprocess.run([bin_dir / "pg_dump", "-s", "-f", dumped, pair.source.dsn], check=True)
    subprocess.run(
        [bin_dir / "psql", "-q", "-v", "ON_ERROR_STOP=1", "-f", dumped, pair.target.dsn],
        check=True,
        capture_output=True,
    )
    pair.target.execute("DROP MATERIALIZED VIEW app.grand")
    steps("copy", "data")
    pair.source.execute("DROP MATERIALIZED VIEW app.grand")
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_sequences_as_they_are_now(steps: Steps, pair: DbPair) -> None:
    steps("copy", "schema")
    steps("copy", "sequences")
    pair.source.execute("SELECT nextval('app.orders_id_seq') FROM generate_series(1, 100)")
    steps("copy", "sequences")
    assert pair.target.fetch("SELECT last_value FROM app.orders_id_seq") == [(620,)]


def test_extensions(steps: Steps, pair: DbPair) -> None:
    pair.source.execute('CREATE SCHEMA "Ext"; CREATE EXTENSION hstore SCHEMA "Ext"; CREATE EXTENSION citext')
    steps("copy", "extensions")
    query = "SELECT extname, nspname FROM pg_extension JOIN pg_namespace n ON n.oid = extnamespace ORDER BY 1"
    assert pair.target.fetch(query) == pair.source.fetch(query)
    assert "The target has extension hstore" in steps("copy", "extensions").stderr


def test_the_list_of_an_archive(steps: Steps, tmp_path: Path) -> None:
    missing = steps("restore", "parse-list", check=False)
    assert (missing.returncode, "has no schema dump" in missing.stderr) == (3, True)
    steps("dump", "schema")
    listed = steps("restore", "parse-list").stdout
    assert " TABLE app orders postgres\n" in listed
    assert all(line.split("; ")[0].isdigit() for line in listed.splitlines())
    other = tmp_path / "some.list"
    other.write_text("; a remark\n215; 1259 16390 TABLE public t owner\n", encoding="utf-8")
    assert steps("restore", "parse-list", str(other)).stdout == "215; 1259 16390 TABLE public t owner\n"
    other.write_text("nonsense\n", encoding="utf-8")
    refused = steps("restore", "parse-list", str(other), check=False)
    assert (refused.returncode, "line 1 of pg_restore's list is no entry" in refused.stderr) == (1, True)


@pytest.mark.parametrize("command", [("restore", "pre-data"), ("restore", "post-data"), ("restore", "schema")])
def test_nothing_to_restore(steps: Steps, command: tuple[str, str]) -> None:
    refused = steps(*command, check=False)
    assert (refused.returncode, "has no schema dump" in refused.stderr) == (3, True)


def test_post_data_comes_second(steps: Steps, pair: DbPair) -> None:
    steps("dump", "schema")
    refused = steps("restore", "post-data", check=False)
    assert (refused.returncode, "is not restored yet" in refused.stderr) == (3, True)
    assert relations(pair.target) == set()


def test_filters_hold_for_every_step(steps: Steps, pair: DbPair, tmp_path: Path) -> None:
    filters = tmp_path / "filters.ini"
    filters.write_text("[exclude-table]\napp.orders\n[exclude-table-data]\napp.log\n", encoding="utf-8")
    steps("dump", "schema", "--filters", str(filters))
    steps("restore", "schema")
    steps("copy", "data", "--not-consistent")
    assert "app.orders" not in relations(pair.target)
    assert "app.log_2" in relations(pair.target)
    assert pair.target.fetch("SELECT count(*) FROM app.log") == [(0,)]
    assert pair.target.fetch("SELECT count(*) FROM app.customer") == [(50,)]


def test_rows_that_the_role_may_not_remove(steps: Steps, pair: DbPair, tmp_path: Path) -> None:
    """By TRUNCATE, else by DELETE, and else there are none: they are never added to."""
    rules = tmp_path / "filters.ini"
    rules.write_text("[include-only-table]\npublic.stays\n")
    pair.source.execute("CREATE TABLE public.stays (id int); INSERT INTO public.stays VALUES (1), (2)")
    pair.target.execute(
        "CREATE TABLE public.stays (id int); INSERT INTO public.stays VALUES (3); CREATE ROLE filler LOGIN"
    )
    try:
        pair.target.execute("GRANT INSERT, SELECT ON public.stays TO filler")
        steps.env["PGCOPYDB_TARGET_PGURI"] = pair.target.dsn.replace("//postgres@", "//filler@")
        copy = ("copy", "table-data", "--filters", str(rules))
        refused = steps(*copy, check=False)
        assert refused.returncode == 7, refused.stderr
        assert "table public.stays on the target has rows, and is not emptied" in refused.stderr
        assert pair.target.fetch("SELECT * FROM public.stays") == [(3,)]
        pair.target.execute("GRANT DELETE ON public.stays TO filler")
        steps(*copy, "--not-consistent")
        assert pair.target.fetch("SELECT * FROM public.stays ORDER BY 1") == [(1,), (2,)]
    finally:
        pair.target.execute("DROP OWNED BY filler; DROP ROLE filler")


def test_rows_are_not_deleted_through_foreign_keys(steps: Steps, pair: DbPair, tmp_path: Path) -> None:
    """By a role that cannot switch them off: refused where rows of others would go too, else in their order."""
    rules = tmp_path / "filters.ini"
    rules.write_text("[include-only-table]\npublic.parent\npublic.child\n")
    tables = (
        "CREATE TABLE public.parent (id int PRIMARY KEY);"
        "CREATE TABLE public.child (id int PRIMARY KEY, p int REFERENCES public.parent ON DELETE CASCADE, t text);"
    )
    pair.source.execute(
        f"{tables} INSERT INTO public.parent VALUES (1), (2);"
        "INSERT INTO public.child SELECT i, 1 + i % 2, repeat('x', 500) FROM generate_series(1, 500) i"
    )
    pair.target.execute(
        f"{tables} INSERT INTO public.parent VALUES (1), (2), (3); INSERT INTO public.child VALUES (1, 3, 'old');"
        "CREATE ROLE filler LOGIN; ALTER TABLE public.parent OWNER TO filler; ALTER TABLE public.child OWNER TO filler"
    )
    try:
        steps.env["PGCOPYDB_TARGET_PGURI"] = pair.target.dsn.replace("//postgres@", "//filler@")
        copy = ("copy", "table-data", "--filters", str(rules), "--table-jobs", "1")
        refused = steps(*copy, check=False)
        assert refused.returncode == 7, refused.stderr
        assert "foreign key child_p_fkey would then delete or change rows of table public.child" in refused.stderr
        assert pair.target.fetch("SELECT count(*) FROM public.parent") == [(3,)]
        assert pair.target.fetch("SELECT * FROM public.child") == [(1, 3, "old")]
        pair.target.execute("DELETE FROM public.parent")
        steps(*copy, "--not-consistent")
        assert pair.target.fetch("SELECT count(*), count(DISTINCT p) FROM public.child") == [(500, 2)]
        assert pair.target.fetch("SELECT * FROM public.parent ORDER BY 1") == [(1,), (2,)]
    finally:
        pair.target.execute("DROP OWNED BY filler; DROP ROLE filler")
