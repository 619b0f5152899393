"""Filters: what is left out is left out everywhere, with all that needs it, and nothing else is."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers
from tests.following import pair_of, uris


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 17) as pair:
        yield pair


SCHEMA = """
CREATE SCHEMA app; CREATE SCHEMA old; CREATE SCHEMA "Mixed";
CREATE TYPE app.mood AS ENUM ('sad', 'ok');
CREATE FUNCTION old.answer() RETURNS int LANGUAGE sql AS 'SELECT 42';
CREATE FUNCTION old.note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RETURN NEW; END $$;
CREATE TABLE app.customer (id serial PRIMARY KEY, name text UNIQUE, m app.mood);
CREATE INDEX customer_name ON app.customer (lower(name));
CREATE TABLE app.orders (id bigserial PRIMARY KEY, customer int REFERENCES app.customer, note text);
CREATE INDEX orders_note ON app.orders (note);
CREATE TABLE app.shared (id int PRIMARY KEY DEFAULT nextval('app.orders_id_seq'), t text);
CREATE TABLE app.log (at timestamptz NOT NULL, t text) PARTITION BY RANGE (at);
CREATE TABLE app.log_1 PARTITION OF app.log FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE app.log_2 PARTITION OF app.log FOR VALUES FROM ('2021-01-01') TO ('2022-01-01');
CREATE INDEX ON app.log (at);
CREATE VIEW app.named AS SELECT o.id, c.name FROM app.orders o JOIN app.customer c ON c.id = o.customer;
CREATE VIEW app.above AS SELECT count(*) FROM app.named;
CREATE MATERIALIZED VIEW app.totals AS SELECT customer, count(*) FROM app.orders GROUP BY 1;
CREATE MATERIALIZED VIEW app.grand AS SELECT sum(count) FROM app.totals;
CREATE UNIQUE INDEX totals_customer ON app.totals (customer);
CREATE TABLE "Mixed"."Some Table" (id int PRIMARY KEY, t text);
CREATE TABLE old.stale (id int PRIMARY KEY);
CREATE TABLE public.tmp_1 (i int); CREATE TABLE public.tmp_2 (i int); CREATE TABLE public.kept (i int PRIMARY KEY);
COMMENT ON TABLE app.orders IS 'orders'; COMMENT ON COLUMN app.orders.note IS 'a note';
GRANT SELECT ON app.orders TO PUBLIC;
ALTER TABLE app.orders ENABLE ROW LEVEL SECURITY;
CREATE POLICY p ON app.orders USING (true);
CREATE STATISTICS app.orders_stats ON customer, note FROM app.orders;
CREATE RULE r AS ON DELETE TO app.orders DO ALSO NOTIFY gone;

INSERT INTO app.customer (name, m) SELECT 'c' || i, 'ok' FROM generate_series(1, 50) i;
INSERT INTO app.orders (customer, note) SELECT 1 + i % 50, 'n' || i FROM generate_series(1, 500) i;
INSERT INTO app.shared (t) SELECT 't' || i FROM generate_series(1, 20) i;
INSERT INTO app.log SELECT timestamptz '2020-06-01' + i * interval '1 day', 'l' || i FROM generate_series(1, 400) i;
INSERT INTO "Mixed"."Some Table" SELECT i, 'x' FROM generate_series(1, 10) i;
INSERT INTO old.stale SELECT generate_series(1, 5);
INSERT INTO public.tmp_1 VALUES (1); INSERT INTO public.tmp_2 VALUES (2); INSERT INTO public.kept VALUES (3);
REFRESH MATERIALIZED VIEW app.totals; REFRESH MATERIALIZED VIEW app.grand;
"""

RELATIONS = """
SELECT n.nspname || '.' || c.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
 WHERE c.relkind IN ('r', 'p', 'v', 'm', 'S', 'i', 'I') AND n.nspname !~ '^pg_'
   AND n.nspname NOT IN ('information_schema', 'pgcopydb')
"""


def relations(database: Database) -> set[str]:
    return {row[0] for row in database.fetch(RELATIONS)}


def clone(
    pgcopydb: Command, pair: DbPair, tmp_path: Path, text: str, *more: str, check: bool = True
) -> tuple[int, str]:
    filters = tmp_path / "filters.ini"
    filters.write_text(text, encoding="utf-8")
    done = pgcopydb.run(
        "clone",
        *("--filters", filters),
        *("--dir", tmp_path / "work"),
        "--notice",
        *more,
        env=uris(pair),
        check=check,
    )
    return done.returncode, done.stderr


def assert_same_rows(pair: DbPair, *tables: str) -> None:
    for table in tables:
        query = f"SELECT t::text FROM {table} t ORDER BY 1"
        assert pair.source.fetch(query) == pair.target.fetch(query), table


def test_excluded_tables_go_with_all_that_needs_them(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute(SCHEMA)
    clone(pgcopydb, pair, tmp_path, "[exclude-table]\napp.orders\napp.log\npublic.~/^tmp_/\n")
    assert relations(pair.source) - relations(pair.target) == {
        *("app.orders", "app.orders_pkey", "app.orders_note"),
        *("app.named", "app.above", "app.totals", "app.grand", "app.totals_customer"),
        *("app.log", "app.log_1", "app.log_2", "app.log_at_idx", "app.log_1_at_idx", "app.log_2_at_idx"),
        *("public.tmp_1", "public.tmp_2"),
    }
    assert_same_rows(pair, "app.customer", "app.shared", '"Mixed"."Some Table"', "old.stale", "public.kept")
    # The sequence of a table that is gone serves one that is not.
    assert pair.target.fetch("SELECT last_value FROM app.orders_id_seq") == [(520,)]
    pair.target.execute("INSERT INTO app.shared (t) VALUES ('more')")
    assert pair.target.fetch("SELECT id FROM app.shared WHERE t = 'more'") == [(521,)]


def test_only_these_tables(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute(SCHEMA)
    clone(pgcopydb, pair, tmp_path, '[include-only-table]\napp.customer\napp.log_2\n"Mixed"."Some Table"\n')
    assert relations(pair.target) == {
        *("app.customer", "app.customer_pkey", "app.customer_name_key", "app.customer_name", "app.customer_id_seq"),
        *("app.log", "app.log_at_idx", "app.log_2", "app.log_2_at_idx"),
        *("Mixed.Some Table", "Mixed.Some Table_pkey"),
    }
    assert_same_rows(pair, "app.customer", "app.log_2", '"Mixed"."Some Table"')
    assert pair.target.fetch("SELECT last_value FROM app.customer_id_seq") == [(50,)]
    # Functions are no tables.
    assert pair.target.fetch("SELECT old.answer()") == [(42,)]


def test_schemas(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute(SCHEMA)
    # A bare name that there is not, as it is written, means what SQL makes of it.
    clone(pgcopydb, pair, tmp_path, "[exclude-schema]\nOLD\n~/^Mix/\n")
    assert relations(pair.source) - relations(pair.target) == {
        *("old.stale", "old.stale_pkey", "Mixed.Some Table", "Mixed.Some Table_pkey")
    }
    assert pair.target.fetch("SELECT FROM pg_namespace WHERE nspname IN ('old', 'Mixed')") == []
    assert pair.target.fetch("SELECT FROM pg_proc WHERE proname = 'answer'") == []


def test_only_these_schemas(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute(SCHEMA)
    pair.source.execute("CREATE EXTENSION citext SCHEMA old; CREATE TABLE app.ci (v old.citext PRIMARY KEY)")
    clone(pgcopydb, pair, tmp_path, "[include-only-schema]\napp\n~/^nothing_like_this/\n")
    assert {name.partition(".")[0] for name in relations(pair.target)} == {"app"}
    assert relations(pair.target) == {name for name in relations(pair.source) if name.startswith("app.")}
    # An extension that is kept brings its schema, and none of what else is there.
    assert pair.target.fetch("SELECT FROM pg_proc WHERE proname = 'answer'") == []


def test_rows_stay_behind(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute(SCHEMA)
    _, log = clone(pgcopydb, pair, tmp_path, "[exclude-table-data]\napp.customer\napp.log\napp.totals\n")
    assert relations(pair.source) == relations(pair.target)
    for table in ("app.customer", "app.log"):
        assert pair.target.fetch(f"SELECT count(*) FROM {table}") == [(0,)]
    assert_same_rows(pair, "app.orders", "app.shared", "old.stale")
    assert pair.target.fetch("SELECT relname FROM pg_class WHERE relkind = 'm' AND NOT relispopulated ORDER BY 1") == [
        ("grand",),
        ("totals",),
    ]
    # The foreign key to rows that are not there is left out, with what adds it later.
    assert pair.target.fetch("SELECT FROM pg_constraint WHERE contype = 'f'") == []
    fix = next(line for line in log.splitlines() if "fix: ALTER TABLE" in line).partition("fix: ")[2]
    assert fix.endswith("NOT VALID;")
    pair.target.execute(fix)


def test_indexes(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute(SCHEMA)
    clone(pgcopydb, pair, tmp_path, "[exclude-index]\napp.customer_name_key\napp.~/^orders_/\napp.log_at_idx\n")
    assert relations(pair.source) - relations(pair.target) == {
        *("app.customer_name_key", "app.orders_pkey", "app.orders_note"),
        *("app.log_at_idx", "app.log_1_at_idx", "app.log_2_at_idx"),
    }
    assert pair.target.fetch("SELECT conname FROM pg_constraint WHERE conrelid = 'app.customer'::regclass") == [
        ("customer_pkey",)
    ]
    assert_same_content_of_rows(pair)


def test_indexes_that_their_table_goes_by(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute(
        "CREATE TABLE public.goes (a int NOT NULL, b int); CREATE UNIQUE INDEX goes_a ON goes (a);"
        "CREATE INDEX goes_b ON goes (b); ALTER TABLE goes REPLICA IDENTITY USING INDEX goes_a;"
        "ALTER TABLE goes CLUSTER ON goes_b"
    )
    _, log = clone(pgcopydb, pair, tmp_path, "[exclude-index]\npublic.goes_a\npublic.goes_b\n")
    assert "public.goes_a was the replica identity of its table and is left out" in log
    assert pair.target.fetch("SELECT relreplident FROM pg_class WHERE relname LIKE 'goes%'") == [("d",)]


def assert_same_content_of_rows(pair: DbPair) -> None:
    assert_same_rows(pair, "app.customer", "app.orders", "app.shared", "app.log", "old.stale", "public.kept")


def test_extensions(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute("CREATE EXTENSION citext; CREATE EXTENSION hstore; CREATE EXTENSION pgcrypto")
    pair.source.execute("COMMENT ON EXTENSION hstore IS 'ours'; CREATE TABLE t (h citext)")
    clone(pgcopydb, pair, tmp_path, "[exclude-extension]\n~/^h/\npgcrypto\n")
    assert pair.target.fetch("SELECT extname FROM pg_extension ORDER BY 1") == [("citext",), ("plpgsql",)]


def test_only_these_extensions(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute("CREATE EXTENSION citext; CREATE EXTENSION hstore")
    clone(pgcopydb, pair, tmp_path, "[include-only-extension]\nhstore\n")
    assert pair.target.fetch("SELECT extname FROM pg_extension ORDER BY 1") == [("hstore",), ("plpgsql",)]


def test_an_empty_file_filters_nothing(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute(SCHEMA)
    clone(pgcopydb, pair, tmp_path, "; nothing yet\n")
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_what_matches_nothing_is_said(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute(SCHEMA)
    _, log = clone(pgcopydb, pair, tmp_path, "[exclude-table]\napp.order\n[exclude-schema]\n~/^none/\n")
    assert "nothing on the source is of [exclude-table] app.order (line 2)" in log
    assert "the nearest names are app.orders" in log
    assert "nothing on the source is of [exclude-schema] ~/^none/ (line 4)" in log
    assert_same_content(pair.source.dsn, pair.target.dsn)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[include-only-table]\napp.order\n", "line 2: there is no app.order on the source"),
        ("[include-only-table]\napp.~/^zzz/\n", "nothing on the source is of [include-only-table]"),
        ("[exclude-table]\napp.~/(/\n", "line 2: 'app.~/(/': invalid regular expression"),
        (
            "[exclude-schema]\nold\n[exclude-index]\napp.none\n",
            "table app.uses is kept, but default value for app.uses.n needs function old.answer(), which is left out",
        ),
        ("[exclude-tables]\n", "filters.ini, line 1: there is no section [exclude-tables]"),
    ],
)
def test_what_cannot_be_done_is_refused_before_anything_is_changed(
    pgcopydb: Command, pair: DbPair, tmp_path: Path, text: str, said: str
) -> None:
    pair.source.execute(SCHEMA + "CREATE TABLE app.uses (id int, n int DEFAULT old.answer());")
    code, log = clone(pgcopydb, pair, tmp_path, text, check=False)
    assert (code, said in log) == (2, True), log
    assert relations(pair.target) == set()


def test_a_sequence_of_a_schema_that_goes(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute(
        "CREATE SCHEMA old; CREATE TABLE old.owner (id serial);"
        "CREATE TABLE public.user (id int DEFAULT nextval('old.owner_id_seq'))"
    )
    code, log = clone(pgcopydb, pair, tmp_path, "[exclude-schema]\nold\n", check=False)
    assert code == 2
    assert 'table public.user is kept, but default value for public."user".id needs sequence old.owner_id_seq' in log
    assert pair.target.fetch("SELECT FROM pg_class WHERE relname = 'user'") == []


def test_triggers_that_go_are_said(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute(SCHEMA)
    pair.source.execute("CREATE TRIGGER noted BEFORE INSERT ON public.kept FOR EACH ROW EXECUTE FUNCTION old.note()")
    _, log = clone(pgcopydb, pair, tmp_path, "[exclude-schema]\nold\n")
    assert "left out with what it needs: trigger noted on public.kept" in log
    assert pair.target.fetch("SELECT FROM pg_trigger WHERE tgname = 'noted'") == []


def test_tables_that_may_not_be_read_are_left_out(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    """A role that may read all but one table and one schema copies the rest."""
    pair.source.execute(SCHEMA)
    pair.source.execute("DROP ROLE IF EXISTS filtering")
    pair.source.execute("CREATE ROLE filtering LOGIN")
    pair.source.execute('GRANT USAGE ON SCHEMA app, public, "Mixed" TO filtering')
    pair.source.execute('GRANT SELECT ON ALL TABLES IN SCHEMA app, public, "Mixed" TO filtering')
    pair.source.execute('GRANT SELECT ON ALL SEQUENCES IN SCHEMA app, public, "Mixed" TO filtering')
    pair.source.execute("CREATE SEQUENCE app.hidden OWNED BY app.log.at; REVOKE SELECT ON app.hidden FROM filtering")
    pair.source.execute("REVOKE SELECT ON app.log, app.log_1, app.log_2 FROM filtering")
    pair.source.execute("ALTER TABLE app.orders DISABLE ROW LEVEL SECURITY")
    try:
        clone(
            *(pgcopydb, pair, tmp_path, "[exclude-schema]\nold\n[exclude-table]\napp.log\n", "--no-owner"),
            *("--source", pair.source.dsn.replace("postgres@", "filtering@"), "--skip-db-properties", "--no-acl"),
        )
        assert_same_rows(pair, "app.customer", "app.orders", "app.shared", '"Mixed"."Some Table"')
    finally:
        pair.source.execute("DROP OWNED BY filtering; DROP ROLE filtering")


def test_resumed_with_the_filters_that_it_began_with(pgcopydb: Command, pair: DbPair, tmp_path: Path) -> None:
    pair.source.execute(SCHEMA)
    env = {
        "PGCOPYDB_SOURCE_PGURI": pair.source.dsn,
        "PGCOPYDB_TARGET_PGURI": pair.target.dsn,
        "PGCOPYDB_FAILPOINTS": "copy.after_commit=kill",
    }
    filters = tmp_path / "filters.ini"
    filters.write_text("[exclude-table]\napp.orders\n", encoding="utf-8")
    work = ("--dir", tmp_path / "work")
    killed = pgcopydb.run("clone", "--filters", filters, *work, env=env, check=False)
    assert killed.returncode == -9, killed.stderr
    del env["PGCOPYDB_FAILPOINTS"]
    filters.write_text("[exclude-table]\napp.customer\n", encoding="utf-8")
    refused = pgcopydb.run("clone", "--resume", "--filters", filters, *work, env=env, check=False)
    assert (refused.returncode, "the earlier run had other filters" in refused.stderr) == (3, True)
    done = pgcopydb.run("clone", "--resume", "--not-consistent", *work, env=env)
    assert "The earlier run was filtered" in done.stderr
    assert "app.orders" not in relations(pair.target)
    assert_same_rows(pair, "app.customer", "app.shared", "app.log")
