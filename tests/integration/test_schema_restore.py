"""The schema through pg_dump and pg_restore: whole, interrupted, over a target that is not empty, with broken rows."""

from __future__ import annotations

import logging
import re
import subprocess
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.post_data import restore_post_data
from pgcopydb.bootstrap.pre_data import restore_pre_data
from pgcopydb.bootstrap.restore import end_leftovers, read_entries, restore
from pgcopydb.bootstrap.schema_dump import dump_schema
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.binaries import Tools, ToolSet, choose, discover
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.runtime import failpoint
from pgcopydb.runtime.errors import PgcopydbError, SourceError, Stopped, TargetError
from pgcopydb.runtime.stop import Stop, StopMode
from pgcopydb.runtime.workdir import WorkDir
from tests.fix_servers import Database, DbPair
from tests.wait import wait_until

ROLES = """
DO $$ BEGIN
    CREATE ROLE schema_owner;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
DO $$ BEGIN
    CREATE ROLE schema_reader;
EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL; END $$;
"""

RICH = """
CREATE SCHEMA app AUTHORIZATION schema_owner;
CREATE SCHEMA "a b";
COMMENT ON SCHEMA app IS 'the app';
GRANT USAGE ON SCHEMA app TO schema_reader;
CREATE EXTENSION hstore SCHEMA app;
COMMENT ON EXTENSION hstore IS 'ours';
CREATE TYPE app.mood AS ENUM ('sad', 'ok');
CREATE TYPE app.pair AS (a int, b text);
CREATE DOMAIN app.pos AS int CHECK (VALUE > 0);
CREATE COLLATION app.coll FROM "C";
COMMENT ON COLLATION app.coll IS 'c';
CREATE FUNCTION app.f(app.mood, app.pair) RETURNS int LANGUAGE sql AS 'SELECT 1';
ALTER FUNCTION app.f OWNER TO schema_owner;
GRANT EXECUTE ON FUNCTION app.f TO schema_reader;
CREATE TYPE app.base;
CREATE FUNCTION app.base_in(cstring) RETURNS app.base LANGUAGE internal IMMUTABLE STRICT AS 'textin';
CREATE FUNCTION app.base_out(app.base) RETURNS cstring LANGUAGE internal IMMUTABLE STRICT AS 'textout';
CREATE TYPE app.base (INPUT = app.base_in, OUTPUT = app.base_out, LIKE = text);
CREATE FUNCTION app.same(app.base, app.base) RETURNS bool LANGUAGE internal IMMUTABLE STRICT AS 'texteq';
CREATE OPERATOR app.=== (LEFTARG = app.base, RIGHTARG = app.base, FUNCTION = app.same);
CREATE CAST (app.mood AS app.pos) WITH INOUT;
CREATE AGGREGATE app.agg(int) (SFUNC = int4pl, STYPE = int);
CREATE TABLE app.customers (id serial PRIMARY KEY, name text COLLATE app.coll, m app.mood, b app.base, p app.pos);
ALTER TABLE app.customers OWNER TO schema_owner;
CREATE TABLE app.orders (
    id int GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
    customer int,
    half int,
    whole int GENERATED ALWAYS AS (half * 2) STORED
);
CREATE TABLE app.weird ("a
b" int);
CREATE TABLE app.heir (extra int) INHERITS (app.weird);
CREATE TABLE "a b"."c
d ""q""; --" (x int UNIQUE);
CREATE FUNCTION app.uses(t app.customers) RETURNS text LANGUAGE sql BEGIN ATOMIC SELECT (t).name; END;
CREATE FUNCTION app.unqualified() RETURNS bigint LANGUAGE sql SET search_path = app AS 'SELECT count(*) FROM orders';
CREATE VIEW app.v AS SELECT c.*, app.uses(c) FROM app.customers c;
ALTER VIEW app.v OWNER TO schema_owner;
CREATE VIEW app.grouped AS SELECT id, name FROM app.customers GROUP BY id;
CREATE MATERIALIZED VIEW app.mv AS SELECT count(*) AS n FROM app.customers WITH NO DATA;
CREATE INDEX mv_n ON app.mv (n);
ALTER TABLE app.orders ADD CONSTRAINT fk FOREIGN KEY (customer) REFERENCES app.customers NOT VALID;
ALTER TABLE app.orders VALIDATE CONSTRAINT fk;
ALTER TABLE app.orders ADD CONSTRAINT ck CHECK (id > 0) NOT VALID;
CREATE TABLE app.parts (k int, v text, PRIMARY KEY (k)) PARTITION BY RANGE (k);
CREATE TABLE app.parts_1 PARTITION OF app.parts FOR VALUES FROM (0) TO (10);
CREATE TABLE app.parts_2 PARTITION OF app.parts FOR VALUES FROM (10) TO (20);
CREATE INDEX parts_v ON app.parts (v);
CREATE FUNCTION app.trg() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NEW; END';
CREATE TRIGGER tr BEFORE INSERT ON app.parts FOR EACH ROW EXECUTE FUNCTION app.trg();
ALTER TABLE app.parts_1 DISABLE TRIGGER tr;
CREATE RULE r AS ON UPDATE TO app.customers DO ALSO NOTIFY x;
ALTER TABLE app.customers ENABLE ROW LEVEL SECURITY;
CREATE POLICY pol ON app.customers USING (true);
COMMENT ON POLICY pol ON app.customers IS 'pp';
CREATE FUNCTION app.evt() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN END';
CREATE EVENT TRIGGER evt ON ddl_command_end EXECUTE FUNCTION app.evt();
CREATE PUBLICATION pub FOR TABLE app.customers, app.orders;
ALTER PUBLICATION pub OWNER TO schema_owner;
CREATE PUBLICATION pub_schema FOR TABLES IN SCHEMA "a b";
CREATE SUBSCRIPTION SUBNAME CONNECTION 'host=/nowhere password=sekret' PUBLICATION x WITH (connect = false);
CREATE STATISTICS app.st ON name, m FROM app.customers;
ALTER STATISTICS app.st OWNER TO schema_owner;
ALTER DEFAULT PRIVILEGES IN SCHEMA app GRANT SELECT ON TABLES TO schema_reader;
COMMENT ON INDEX app.parts_v IS 'idx';
COMMENT ON CONSTRAINT fk ON app.orders IS 'fk';
CREATE FOREIGN DATA WRAPPER fdw;
CREATE SERVER srv FOREIGN DATA WRAPPER fdw;
CREATE USER MAPPING FOR schema_owner SERVER srv OPTIONS (password 'sekret');
CREATE FOREIGN TABLE app.ft (x int) SERVER srv;
"""


@dataclass
class Run:
    """One bootstrap as far as the schema goes."""

    store: CatalogStore
    workdir: WorkDir
    source: Endpoint
    target: Endpoint
    tools: Tools
    options: RestoreOptions = field(default_factory=RestoreOptions)
    stop: Stop = field(default_factory=Stop)

    def dump(self) -> None:
        with self.source.connect("test") as connection:
            self.store.executemany(
                "INSERT INTO namespace VALUES (?, ?)",
                connection.execute(
                    "SELECT nspname, pg_get_userbyid(nspowner) FROM pg_namespace"
                    " WHERE nspname !~ '^pg_' AND nspname <> 'information_schema'"
                ).fetchall(),
            )
            self.store.executemany(
                "INSERT INTO partitioned_table (oid, schema, name, is_root) VALUES (?, ?, ?, 1)",
                connection.execute(
                    "SELECT c.oid::bigint, n.nspname, relname"
                    " FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace"
                    " WHERE relkind IN ('r', 'p') AND nspname !~ '^pg_' AND nspname <> 'information_schema'"
                ).fetchall(),
            )
        dump_schema(self.store, self.workdir, self.source, self.tools, None, self.stop)

    def pre_data(self) -> None:
        restore_pre_data(self.store, self.workdir, self.target, self.tools, self.options, self.stop)

    def post_data(self, jobs: int = 2) -> list[str]:
        return restore_post_data(self.store, self.workdir, self.target, self.tools, self.options, jobs, self.stop)


def make_run(source: Database, target: Database, folder: Path, tools: Tools | None = None) -> Run:
    workdir = WorkDir(folder)
    workdir.create()
    ends = [
        Endpoint(ConnInfo.parse(side, database.dsn), "schematest")
        for side, database in ((Side.SOURCE, source), (Side.TARGET, target))
    ]
    versions = []
    for end in ends:
        with end.connect("test") as connection:
            versions.append(connection.info.server_version)
    return Run(
        CatalogStore.create(workdir.catalog),
        workdir,
        ends[0],
        ends[1],
        tools or choose(discover(), versions[0], versions[1]),
    )


@pytest.fixture
def rich(source_db: Database, target_db: Database, tmp_path: Path) -> Iterator[Run]:
    """The rich schema, dumped, before an empty target."""
    load_rich(source_db, target_db)
    run = make_run(source_db, target_db, tmp_path)
    run.dump()
    yield run
    run.store.close()
    forget_subscription(source_db, target_db)


def load_rich(source: Database, target: Database) -> None:
    source.execute(ROLES)
    target.execute(ROLES)
    with source.connect() as connection:
        connection.add_notice_handler(lambda _: None)
        connection.execute(RICH.replace("SUBNAME", source.name).encode())


def forget_subscription(*databases: Database) -> None:
    """A database with a subscription cannot be dropped."""
    for database in databases:
        for (name,) in database.fetch(
            "SELECT subname FROM pg_subscription JOIN pg_database d ON d.oid = subdbid"
            " WHERE datname = current_database()"
        ):
            database.execute(f'ALTER SUBSCRIPTION "{name}" DISABLE')
            database.execute(f'ALTER SUBSCRIPTION "{name}" SET (slot_name = NONE)')
            database.execute(f'DROP SUBSCRIPTION "{name}"')


def schema_of(database: Database) -> list[str]:
    """What the newest pg_dump prints, without what changes from call to call or from server to server."""
    newest = discover()[-1]
    printed = subprocess.run(
        [newest.program("pg_dump"), "--schema-only", f"--dbname={database.dsn}"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    # Since 16 the columns of a view over a single table are printed without the table's name.
    printed = re.sub(r"\b(c|customers)\.", "", printed)
    # Options of a subscription that a later major has, or has another default for.
    printed = re.sub(r"(CREATE SUBSCRIPTION .*), streaming = .*", r"\1);", printed)
    return [
        line
        for line in printed.splitlines()
        if line and not re.match(r"-- (Dumped|Name: |TOC|Data)|\\(un)?restrict |--$", line)
    ]


def fail_at(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(failpoint, "_traps", failpoint._Traps(f"{name}=error"))


def test_a_rich_schema_arrives_whole(db_pair: DbPair, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(1, "pgcopydb")
    load_rich(db_pair.source, db_pair.target)
    try:
        run = make_run(db_pair.source, db_pair.target, tmp_path)
        run.dump()
        run.pre_data()
        assert run.post_data() == []
        assert schema_of(db_pair.target) == schema_of(db_pair.source)
        assert run.store.step_done("dump")
        assert run.store.step_done("pre_data")
        assert run.store.step_done("post_data")
        assert "sekret" not in caplog.text
        run.store.close()
    finally:
        forget_subscription(db_pair.source, db_pair.target)


@pytest.mark.parametrize("share", [0.02, 0.2, 0.4, 0.6, 0.8, 0.97])
def test_pre_data_that_was_cut_off_is_made_anew(
    rich: Run, source_db: Database, target_db: Database, share: float
) -> None:
    entries = [e for e in read_entries(rich.workdir, "pre-data") if e.kind != "DATABASE"]
    begun = entries[: int(share * len(entries))]
    flags = ["--no-owner"]
    assert not restore(
        rich.workdir,
        rich.target,
        rich.tools.restore,
        begun,
        section="pre-data",
        flags=flags,
        tolerate=False,
        stop=rich.stop,
    )
    rich.store.set_setting("target_objects_recorded", "yes")
    rich.store.executemany("INSERT INTO target_object VALUES (?, ?)", [("schema", "public"), ("extension", "plpgsql")])
    rich.store.set_setting("pre_data_begun", "yes")
    rich.pre_data()
    assert rich.post_data() == []
    assert schema_of(target_db) == schema_of(source_db)


@pytest.mark.parametrize("place", ["pre_data.before_restore", "pre_data.after_restore"])
def test_pre_data_resumes_at_its_failpoints(
    rich: Run, source_db: Database, target_db: Database, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    fail_at(monkeypatch, place)
    with pytest.raises(PgcopydbError, match=place):
        rich.pre_data()
    assert not rich.store.step_done("pre_data")
    rich.pre_data()
    assert rich.post_data() == []
    assert schema_of(target_db) == schema_of(source_db)


@pytest.mark.parametrize("place", ["post_data.before_restore", "post_data.after_restore"])
def test_post_data_resumes_at_its_failpoints(
    rich: Run, source_db: Database, target_db: Database, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    rich.pre_data()
    fail_at(monkeypatch, place)
    with pytest.raises(PgcopydbError, match=place):
        rich.post_data()
    assert not rich.store.step_done("post_data")
    assert rich.post_data() == []
    assert schema_of(target_db) == schema_of(source_db)


@pytest.mark.parametrize("place", ["dump.before_publish", "dump.after_publish"])
def test_the_dump_is_taken_again_unless_marked(
    source_db: Database, target_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, place: str
) -> None:
    source_db.execute("CREATE TABLE t (id int)")
    run = make_run(source_db, target_db, tmp_path)
    fail_at(monkeypatch, place)
    with pytest.raises(PgcopydbError, match=place):
        run.dump()
    assert run.workdir.schema_dump.exists() == (place == "dump.after_publish")
    dump_schema(run.store, run.workdir, run.source, run.tools, None, run.stop)
    run.pre_data()
    assert target_db.fetch("SELECT count(*) FROM t") == [(0,)]
    run.store.close()


def test_post_data_that_was_stopped_makes_what_is_missing(rich: Run, source_db: Database, target_db: Database) -> None:
    rich.pre_data()
    title = f"%pg_restore {rich.target.run_id}"
    with target_db.connect() as blocker, target_db.connect() as watcher:
        blocker.execute("BEGIN; LOCK TABLE app.orders IN ACCESS EXCLUSIVE MODE")

        def stop_when_blocked() -> None:
            waiting = "SELECT FROM pg_stat_activity WHERE application_name LIKE %s AND wait_event_type = 'Lock'"
            wait_until(
                lambda: watcher.execute(waiting, (title,)).fetchone() is not None, 30, "pg_restore waits for the lock"
            )
            rich.stop.request(StopMode.FAST)

        thread = threading.Thread(target=stop_when_blocked)
        thread.start()
        with pytest.raises(Stopped):
            rich.post_data()
        thread.join()
        blocker.execute("ROLLBACK")
    rich.stop = Stop()
    assert rich.post_data() == []
    assert schema_of(target_db) == schema_of(source_db)


def test_entries_that_were_cut_off_in_the_middle_are_completed(
    rich: Run, source_db: Database, target_db: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    rich.pre_data()
    fail_at(monkeypatch, "post_data.before_restore")
    with pytest.raises(PgcopydbError):
        rich.post_data()
    # What a kill between the two statements of an entry leaves behind.
    target_db.execute("CREATE PUBLICATION pub")
    target_db.execute("CREATE STATISTICS app.st ON name, m FROM app.customers")
    # The partitions have it now too, but on the source it is disabled on one of them.
    target_db.execute("CREATE TRIGGER tr BEFORE INSERT ON app.parts FOR EACH ROW EXECUTE FUNCTION app.trg()")
    assert rich.post_data() == []
    assert schema_of(target_db) == schema_of(source_db)


def test_schemas_and_extensions_that_stood_before_are_kept(
    rich: Run, target_db: Database, caplog: pytest.LogCaptureFixture
) -> None:
    target_db.execute("CREATE SCHEMA app; CREATE TABLE app.theirs (id int); INSERT INTO app.theirs VALUES (1)")
    target_db.execute("CREATE EXTENSION hstore SCHEMA app; COMMENT ON EXTENSION hstore IS 'theirs'")
    before = target_db.fetch("SELECT oid FROM pg_namespace WHERE nspname = 'app' UNION SELECT oid FROM pg_extension")
    with caplog.at_level(logging.INFO, "pgcopydb"):
        rich.pre_data()
    # Again, as after a kill before the mark.
    rich.store.execute("DELETE FROM step WHERE name = 'pre_data'")
    rich.pre_data()
    assert before == target_db.fetch(
        "SELECT oid FROM pg_namespace WHERE nspname = 'app' UNION SELECT oid FROM pg_extension"
    )
    assert target_db.fetch("SELECT * FROM app.theirs") == [(1,)]
    assert target_db.fetch(
        "SELECT obj_description(oid, 'pg_extension') FROM pg_extension WHERE extname = 'hstore'"
    ) == [("theirs",)]
    assert "3 entries (stood on the target before)" in caplog.text
    assert 'ALTER SCHEMA "app" OWNER TO "schema_owner";' in caplog.text
    assert rich.post_data() == []


def test_a_missing_public_schema_is_made(source_db: Database, target_db: Database, tmp_path: Path) -> None:
    source_db.execute("CREATE TABLE public.t (id int)")
    target_db.execute("DROP SCHEMA public")
    run = make_run(source_db, target_db, tmp_path)
    run.dump()
    run.pre_data()
    assert target_db.fetch("SELECT count(*) FROM public.t") == [(0,)]
    run.store.close()


def test_nothing_is_restored_over_what_is_there(rich: Run, target_db: Database) -> None:
    target_db.execute("CREATE SCHEMA app; CREATE TABLE app.orders (mine int); INSERT INTO app.orders VALUES (7)")
    for _ in range(2):
        with pytest.raises(TargetError, match=r"already has 1 of the objects to restore: TABLE app orders") as caught:
            rich.pre_data()
        assert "--drop-if-exists" in (caught.value.hint or "")
    assert target_db.fetch("SELECT * FROM app.orders") == [(7,)]
    assert target_db.fetch("SELECT FROM pg_type WHERE typname = 'mood'") == []


def test_drop_if_exists_replaces_what_is_there(
    rich: Run, source_db: Database, target_db: Database, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rich.pre_data()
    assert rich.post_data() == []
    forget_subscription(target_db)
    # Default privileges of a schema that is kept would give what is made anew more grants than on the source.
    target_db.execute("ALTER DEFAULT PRIVILEGES IN SCHEMA app REVOKE SELECT ON TABLES FROM schema_reader")
    target_db.execute("INSERT INTO app.parts VALUES (1, 'old'); CREATE VIEW app.mine AS SELECT * FROM app.parts")
    again = make_run(source_db, target_db, tmp_path / "again")
    again.options = RestoreOptions(drop_if_exists=True)
    again.dump()
    for place in ("pre_data.before_restore", "pre_data.after_restore"):
        fail_at(monkeypatch, place)
        with pytest.raises(PgcopydbError, match=place):
            again.pre_data()
    again.pre_data()
    assert again.post_data() == []
    again.store.close()
    assert target_db.fetch("SELECT count(*) FROM app.parts") == [(0,)]
    assert schema_of(target_db) == schema_of(source_db)


def test_an_orphan_row_is_reported_and_the_rest_is_restored(
    rich: Run, source_db: Database, target_db: Database
) -> None:
    rich.pre_data()
    target_db.execute("INSERT INTO app.orders (customer) VALUES (99)")
    errors = rich.post_data()
    assert len(errors) == 2  # the foreign key, and the comment on it
    assert errors[0].startswith("FK CONSTRAINT app orders fk ")
    assert "Key (customer)=(99) is not present in table" in errors[0]
    assert not rich.store.step_done("post_data")
    assert target_db.fetch("SELECT count(*) FROM pg_policy") == [(1,)]
    target_db.execute("TRUNCATE app.orders")
    assert rich.post_data() == []
    assert rich.store.step_done("post_data")
    assert schema_of(target_db) == schema_of(source_db)


def test_what_the_index_workers_built_is_left_out(rich: Run, source_db: Database, target_db: Database) -> None:
    rich.pre_data()
    target_db.execute("ALTER TABLE ONLY app.customers ADD CONSTRAINT customers_pkey PRIMARY KEY (id)")
    target_db.execute("CREATE INDEX parts_1_v_idx ON app.parts_1 (v)")
    constraint = source_db.fetch("SELECT oid::bigint FROM pg_constraint WHERE conname = 'customers_pkey'")[0][0]
    index = source_db.fetch("SELECT 'app.parts_1_v_idx'::regclass::oid::bigint")[0][0]
    rich.store.execute(
        "INSERT INTO built_constraint"
        " (oid, table_oid, index_oid, name, kind, is_deferrable, is_deferred, definition, state)"
        " VALUES (?, 0, 0, '', 'p', 0, 0, '', 'done')",
        (constraint,),
    )
    rich.store.execute(
        "INSERT INTO built_index (oid, table_oid, schema, name, sql, is_unique, bytes, statistics, extensions, state)"
        " VALUES (?, 0, '', '', '', 0, 0, '[]', '[]', 'done')",
        (index,),
    )
    assert rich.post_data() == []
    assert schema_of(target_db) == schema_of(source_db)


def test_a_stranger_with_the_name_of_a_publication_is_never_dropped(rich: Run, target_db: Database) -> None:
    rich.pre_data()
    target_db.execute("CREATE PUBLICATION pub FOR ALL TABLES")
    for _ in range(2):
        errors = rich.post_data()
        assert "PUBLICATION - pub schema_owner: an object of this name stood on the target before" in errors
        assert target_db.fetch("SELECT puballtables FROM pg_publication WHERE pubname = 'pub'") == [(True,)]


def _tool(major: int) -> ToolSet:
    found = [tool for tool in discover() if tool.major == major]
    if not found:
        pytest.skip(f"needs the client programs of PostgreSQL {major}")
    return found[-1]


def test_a_pg_restore_that_is_too_new_for_the_target(rich: Run, source_db: Database, target_db: Database) -> None:
    rich.tools = Tools(dump=rich.tools.dump, restore=_tool(17), knows_source=True, restore_too_new=True)
    rich.pre_data()
    assert rich.post_data() == []
    assert schema_of(target_db) == schema_of(source_db)


def test_an_error_is_still_an_error_when_one_is_tolerated(rich: Run, target_db: Database) -> None:
    rich.tools = Tools(dump=rich.tools.dump, restore=_tool(17), knows_source=True, restore_too_new=True)
    target_db.execute(
        "CREATE FUNCTION refuse() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN RAISE ''refused''; END'"
    )
    target_db.execute(
        "CREATE EVENT TRIGGER refuse ON ddl_command_end WHEN TAG IN ('CREATE VIEW') EXECUTE FUNCTION refuse()"
    )
    with pytest.raises(TargetError, match=r"VIEW app grouped .*: ERROR:  ?refused"):
        rich.pre_data()
    assert not rich.store.step_done("pre_data")


def test_column_versions_that_only_the_source_understands_are_taken_out(
    source_db: Database, target_db: Database, tmp_path: Path
) -> None:
    source_db.execute("CREATE TABLE t (id int, n int, v text DEFAULT 'SET (pg_attver=1);')")
    source_db.execute("ALTER TABLE t ALTER n SET (n_distinct = 5)")
    source_db.execute("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'")
    source_db.execute(
        "UPDATE pg_attribute SET attoptions = coalesce(attoptions, '{}') || '{pg_attver=3}'"
        " WHERE attrelid = 't'::regclass AND attname IN ('id', 'n')"
    )
    newer = _tool(17)
    tools = Tools(dump=newer, restore=newer, knows_source=False, restore_too_new=True)
    run = make_run(source_db, target_db, tmp_path, tools)
    run.dump()
    run.pre_data()
    assert run.post_data() == []
    assert target_db.fetch(
        "SELECT attname, attoptions FROM pg_attribute WHERE attrelid = 't'::regclass AND attnum > 0 ORDER BY attnum"
    ) == [
        ("id", None),
        ("n", ["n_distinct=5"]),
        ("v", None),
    ]
    assert sorted(path.name for path in run.workdir.schema_dump.parent.glob("*.sql")) == []
    run.store.close()


def test_a_session_that_an_interrupted_restore_left_is_ended(rich: Run, target_db: Database) -> None:
    with rich.target.connect("pg_restore") as left, rich.target.connect("schema") as connection:
        end_leftovers(connection, rich.target, rich.stop)
        pid = left.info.backend_pid
        assert connection.execute("SELECT FROM pg_stat_activity WHERE pid = %s", (pid,)).fetchone() is None


def test_a_dump_that_is_refused_says_why(source_db: Database, target_db: Database, tmp_path: Path) -> None:
    run = make_run(source_db, target_db, tmp_path)
    with pytest.raises(SourceError, match="invalid snapshot identifier") as caught:
        dump_schema(run.store, run.workdir, run.source, run.tools, "no-such-snapshot", run.stop)
    assert "--snapshot" in (caught.value.hint or "")
    assert not run.workdir.schema_dump.exists()
    run.store.close()


@pytest.mark.parametrize(
    ("options", "missing"),
    [
        (
            RestoreOptions(skip_ext_comments=True),
            "SELECT max(description) FROM pg_description WHERE description = 'ours'",
        ),
        (RestoreOptions(skip_extensions=True), "SELECT max(extname) FROM pg_extension WHERE extname = 'hstore'"),
        (RestoreOptions(no_owner=True), "SELECT max(schemaname) FROM pg_tables WHERE tableowner = 'schema_owner'"),
        (RestoreOptions(no_comments=True), "SELECT obj_description('app'::regnamespace, 'pg_namespace')"),
    ],
)
def test_options_leave_their_entries_out(rich: Run, target_db: Database, options: RestoreOptions, missing: str) -> None:
    rich.options = options
    rich.pre_data()
    assert target_db.fetch(missing) == [(None,)]


def test_collations_can_be_left_out(source_db: Database, target_db: Database, tmp_path: Path) -> None:
    source_db.execute("""CREATE COLLATION c (locale = 'C'); COMMENT ON COLLATION c IS 'c'; CREATE TABLE t (id int)""")
    run = make_run(source_db, target_db, tmp_path)
    run.options = RestoreOptions(skip_collations=True)
    run.dump()
    run.pre_data()
    assert target_db.fetch("SELECT FROM pg_collation WHERE collname = 'c'") == []
    run.store.close()
