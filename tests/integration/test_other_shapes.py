"""Tables of the target that somebody else has made, in another shape than the source's."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from tests.content import assert_same_rows
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.fix_wal2json import require_wal2json
from tests.following import pair_of
from tests.integration.test_follow_tables import PLUGINS, run
from tests.integration.test_steps import Steps
from tests.wait import wait_until

# Flat here and partitioned there, the other way round, divided in another way under the same names, by inheritance.
SOURCE = """
CREATE TABLE flat (id int PRIMARY KEY, at date NOT NULL, v text);
INSERT INTO flat SELECT i, date '2024-01-01' + i % 700, repeat('f', i % 50) FROM generate_series(1, 3000) i;

CREATE TABLE split (id int, at date, v text, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE split_2024 PARTITION OF split FOR VALUES FROM ('2024-01-01') TO ('2025-01-01') PARTITION BY HASH (id);
CREATE TABLE split_2024_0 PARTITION OF split_2024 FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE split_2024_1 PARTITION OF split_2024 FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE split_later PARTITION OF split DEFAULT;
INSERT INTO split SELECT i, date '2024-01-01' + i % 700, 's' FROM generate_series(1, 3000) i;

CREATE TABLE moved (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE moved_low PARTITION OF moved FOR VALUES FROM (0) TO (1000);
CREATE TABLE moved_high PARTITION OF moved FOR VALUES FROM (1000) TO (5000);
CREATE UNIQUE INDEX moved_low_id ON moved_low (id);
INSERT INTO moved SELECT i, 'm' FROM generate_series(1, 3000) i;

CREATE TABLE same (id int, v text) PARTITION BY HASH (id);
CREATE TABLE same_0 PARTITION OF same FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE same_1 PARTITION OF same FOR VALUES WITH (MODULUS 2, REMAINDER 1);
INSERT INTO same SELECT i, 'same' FROM generate_series(1, 2000) i;

CREATE TABLE old (id int, v text);
CREATE TABLE old_1 (CHECK (id < 100)) INHERITS (old);
CREATE TABLE old_2 (CHECK (id >= 100)) INHERITS (old);
INSERT INTO old VALUES (5, 'in the parent'); INSERT INTO old_1 SELECT i, 'o' FROM generate_series(1, 99) i;
INSERT INTO old_2 SELECT i, 'o' FROM generate_series(100, 999) i;
"""
TARGET = """
CREATE TABLE flat (at date NOT NULL, v text, id int, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE flat_2024 PARTITION OF flat FOR VALUES FROM ('2024-01-01') TO ('2025-01-01');
CREATE TABLE flat_later PARTITION OF flat DEFAULT;
CREATE TABLE split (id int, at date, v text, PRIMARY KEY (id, at));
CREATE TABLE moved (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE moved_low PARTITION OF moved FOR VALUES FROM (0) TO (2000);
CREATE TABLE moved_top PARTITION OF moved FOR VALUES FROM (2000) TO (5000);
CREATE TABLE same (id int, v text) PARTITION BY HASH (id);
CREATE TABLE same_0 PARTITION OF same FOR VALUES WITH (MODULUS 2, REMAINDER 0);
CREATE TABLE same_1 PARTITION OF same FOR VALUES WITH (MODULUS 2, REMAINDER 1);
CREATE TABLE old (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE old_1 PARTITION OF old FOR VALUES FROM (0) TO (100);
CREATE TABLE old_rest PARTITION OF old DEFAULT;
INSERT INTO flat VALUES ('2024-05-05', 'was there', 7); INSERT INTO split VALUES (7, '2024-05-05', 'was there');
INSERT INTO moved VALUES (7, 'was there'); INSERT INTO old VALUES (7, 'was there'), (7000, 'was there');
"""
TABLES = ("flat", "split", "moved", "same", "old")


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 17) as pair:
        yield pair


@pytest.fixture
def steps(pgcopydb: Command, pair: DbPair, workdir_path: Path) -> Steps:
    return Steps(pgcopydb, pair, workdir_path)


def assert_all_there(pair: DbPair, tables: tuple[str, ...] = TABLES) -> None:
    for table in tables:
        assert_same_rows(pair.source.dsn, pair.target.dsn, table)


@pytest.mark.parametrize("step", ["table-data", "data"])
@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
def test_partitioned_and_flat(step: str, parts: bool, steps: Steps, pair: DbPair) -> None:
    pair.source.execute(SOURCE)
    pair.target.execute(TARGET)
    split = ("--split-tables-larger-than", "16kB") if parts else ()
    told = steps("copy", step, *split).stderr
    assert "public.split_2024_0 into public.split" in told
    assert_all_there(pair)
    # Partitions in the same place are written to themselves, and those of another one are not emptied on the way.
    assert "public.same_0 into" not in told
    assert_same_rows(pair.source.dsn, pair.target.dsn, "same_0")


def test_statistics_are_gathered_wherever_rows_are(steps: Steps, pair: DbPair) -> None:
    pair.source.execute(SOURCE)
    pair.target.execute(TARGET)
    steps("copy", "data")
    analyzed = "SELECT relname FROM pg_class WHERE relkind IN ('r', 'p') AND relnamespace = 'public'::regnamespace"
    assert pair.target.fetch(f"{analyzed} AND reltuples < 0 ORDER BY 1") == []


# The last of them is walked on every change, the others where there is time.
KILLS = [
    pytest.param(point, passes, under, marks=() if (point, passes) == ("copy.after_commit", 7) else pytest.mark.slow)
    for point in ("copy.after_truncate", "copy.before_commit", "copy.after_commit")
    for passes in (1, 4, 7)
    for under in ("the same snapshot", "another snapshot")
]


@pytest.mark.parametrize(("point", "passes", "under"), KILLS)
def test_killed_while_it_fills_them(
    point: str, passes: int, under: str, steps: Steps, pair: DbPair, pgcopydb: Command
) -> None:
    # What is left is what takes several tables' rows, in more parts than passes.
    pair.source.execute(f"{SOURCE}; DROP TABLE flat, same, old CASCADE")
    holder = pgcopydb.start("snapshot", "--dir", steps.workdir, env=steps.env)
    wait_until((steps.workdir / "snapshot").exists, 30, "the snapshot")
    # What was copied is kept where the schema was: the tables are replaced behind it.
    steps("copy", "schema")
    pair.target.execute(f"DROP TABLE split, moved; {TARGET}")
    copy: tuple[str, ...] = ("copy", "table-data", "--split-tables-larger-than", "16kB", "--table-jobs", "2")
    env = steps.env
    steps.env = {**env, "PGCOPYDB_FAILPOINTS": f"{point}=kill@{passes}"}
    assert steps(*copy, check=False).returncode == -signal.SIGKILL
    steps.env = env
    if under == "another snapshot":
        holder.terminate()
        holder.wait(30)
        # Rows are in another partition of the source now.
        pair.source.execute(
            "UPDATE split SET at = date '2024-01-01' + (at - '2024-01-01' + 350) % 700;"
            "DELETE FROM moved_low; UPDATE moved SET id = 3001 - id"
        )
        copy = (*copy, "--not-consistent")
    steps(*copy)
    assert_all_there(pair, ("split", "moved"))


def test_rows_of_others_are_not_emptied(steps: Steps, pair: DbPair, tmp_path: Path) -> None:
    """One partition of several is copied: the others may have been before."""
    pair.source.execute(SOURCE)
    pair.target.execute(TARGET)
    filters = tmp_path / "filters.ini"
    filters.write_text("[include-only-table]\npublic.flat\npublic.moved_low\n", encoding="utf-8")
    refused = steps("copy", "table-data", "--filters", str(filters), check=False)
    assert refused.returncode == 7, refused.stderr
    assert "table public.moved on the target has rows, and is not emptied" in refused.stderr
    assert pair.target.fetch("SELECT v FROM moved UNION ALL SELECT v FROM flat") == [("was there",)] * 2
    pair.target.execute("DELETE FROM moved")
    steps("copy", "table-data")
    assert pair.target.fetch("SELECT count(*), min(id), max(id) FROM moved") == [(999, 1, 999)]
    assert_all_there(pair, ("flat",))


@pytest.mark.parametrize("section", ["exclude-table-data", "include-only-table"])
def test_rows_of_what_inherits_are_not_emptied_with_the_parent(
    section: str, steps: Steps, pair: DbPair, tmp_path: Path
) -> None:
    """On the target all of them are one partitioned table, and an earlier run has copied the others."""
    pair.source.execute(SOURCE)
    pair.target.execute(TARGET)
    filters = tmp_path / "filters.ini"
    filters.write_text(f"[{section}]\npublic.old_1\npublic.old_2\n", encoding="utf-8")
    refused = steps("copy", "table-data", "--filters", str(filters), check=False)
    assert refused.returncode == 7, refused.stderr
    assert "table public.old on the target has rows, and is not emptied" in refused.stderr
    assert pair.target.fetch("SELECT id FROM old ORDER BY 1") == [(7,), (7000,)]


def test_rows_of_what_is_left_out_are_not_emptied_with_a_partitioned_table(
    steps: Steps, pair: DbPair, tmp_path: Path
) -> None:
    """On the source the two have nothing to do with each other."""
    pair.source.execute("CREATE TABLE t AS SELECT 1 AS id; CREATE TABLE t_low AS SELECT 2 AS id")
    pair.target.execute(
        "CREATE TABLE t (id int) PARTITION BY RANGE (id);"
        "CREATE TABLE t_low PARTITION OF t FOR VALUES FROM (0) TO (1000); INSERT INTO t VALUES (7)"
    )
    filters = tmp_path / "filters.ini"
    filters.write_text("[include-only-table]\npublic.t\n", encoding="utf-8")
    refused = steps("copy", "table-data", "--filters", str(filters), check=False)
    assert refused.returncode == 7, refused.stderr
    assert "table public.t on the target has rows, and is not emptied" in refused.stderr
    assert pair.target.fetch("SELECT id FROM t") == [(7,)]


MOVED = """
CREATE TABLE moved (id int, v text) PARTITION BY RANGE (id);
CREATE TABLE moved_low PARTITION OF moved FOR VALUES FROM (0) TO (9000);
CREATE TABLE moved_high PARTITION OF moved FOR VALUES FROM (9000) TO (10000);
"""


@pytest.mark.parametrize("at", ["moved", "moved_low"])
def test_what_others_refer_to_is_emptied_again(at: str, steps: Steps, pair: DbPair) -> None:
    """A foreign key forbids TRUNCATE, also one at a partition, also when only some of the tables are copied."""
    pair.source.execute(f"{MOVED}; INSERT INTO moved SELECT i, 'm' FROM generate_series(1, 9500) i")
    pair.target.execute(MOVED.replace("9000", "8000").replace("id int", "id int PRIMARY KEY"))
    pair.target.execute(f"CREATE TABLE refers (id int REFERENCES {at}); INSERT INTO moved VALUES (7, 'was there')")
    copy = ("copy", "table-data", "--table-jobs", "1")
    env = steps.env
    steps.env = {**env, "PGCOPYDB_FAILPOINTS": "copy.after_mark=kill"}
    assert steps(*copy, check=False).returncode == -signal.SIGKILL
    steps.env = env
    pair.source.execute("UPDATE moved SET id = 10000 - id")
    steps(*copy, "--resume", "--not-consistent")
    assert_all_there(pair, ("moved",))


COLUMNS = """
CREATE DOMAIN size AS int;
CREATE TABLE c (
    id int PRIMARY KEY, "sum" int GENERATED ALWAYS AS (id * 2) STORED,
    twin int GENERATED ALWAYS AS (id + 1) STORED, plain text, small int, short varchar(10), at timestamp,
    "In Order" text, number int GENERATED BY DEFAULT AS IDENTITY, part size, price numeric(8,2), j json
);
INSERT INTO c (id, plain, small, short, at, "In Order", part, price, j)
SELECT i, repeat('p', i % 40), -i, 'v' || i, timestamp '2024-01-01' + i * interval '1.5 hours', chr(65 + i % 26),
       i, i * 1.25, '{"a":  1}' FROM generate_series(1, 20000) i;
"""
OTHER_COLUMNS = """
CREATE DOMAIN size AS bigint;
CREATE TABLE c (
    "In Order" text, at timestamptz, short text, extra text DEFAULT 'extra', may_be_null date,
    tag int NOT NULL DEFAULT 7, counted int GENERATED ALWAYS AS IDENTITY, gone int,
    computed int GENERATED ALWAYS AS (id + 100) STORED, small bigint, price numeric(10,3), j jsonb, part size,
    plain text, twin int GENERATED ALWAYS AS (id + 1) STORED, "sum" int, number int GENERATED ALWAYS AS IDENTITY,
    id bigint PRIMARY KEY
);
ALTER TABLE c DROP gone;
"""
CASTS = {"at": "timestamptz", "price": "numeric(10,3)", "j": "jsonb"}


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
def test_other_columns(parts: bool, steps: Steps, pair: DbPair) -> None:
    pair.source.execute(COLUMNS)
    pair.target.execute(OTHER_COLUMNS)
    split = ("--split-tables-larger-than", "64kB") if parts else ()
    told = steps("copy", "table-data", *split).stderr
    assert "Columns have other types on the target, their rows go as text: public.c" in told
    assert_same_rows(pair.source.dsn, pair.target.dsn, "c", casts=CASTS)
    assert pair.target.fetch(
        "SELECT DISTINCT extra, may_be_null, tag, computed - id, twin - id, sum = id * 2 FROM c"
    ) == [("extra", None, 7, 100, 1, True)]
    assert pair.target.fetch("SELECT count(DISTINCT counted) FROM c") == [(20000,)]


def test_binary_rows_have_one_type(steps: Steps, pair: DbPair) -> None:
    """int4 and float4 have as many bytes as each other, which would go unnoticed."""
    pair.source.execute("CREATE TABLE n AS SELECT i::int2 AS i FROM generate_series(1, 9) i")
    pair.target.execute("CREATE TABLE n (i float4); INSERT INTO n VALUES (0)")
    refused = steps("copy", "table-data", "--copy-format", "binary", check=False)
    assert refused.returncode == 7, refused.stderr
    assert "column i of public.n is smallint, that of public.n on the target real" in refused.stderr
    assert pair.target.fetch("SELECT i FROM n") == [(0,)]
    steps("copy", "table-data")
    assert pair.target.fetch("SELECT sum(i) FROM n") == [(45,)]


REFUSED = {
    "needed": ("id int, must text NOT NULL", "column must of public.r is NOT NULL without a default"),
    "needed by a domain": ("id int, must filled", "column must of public.r is NOT NULL without a default"),
    "missing": ("other text", "column id of public.r is not in public.r on the target"),
    "generated": ("id int GENERATED ALWAYS AS (7) STORED", "column id of public.r holds values of its own"),
    "rounded": ("id real", "column id of public.r is integer, that of public.r on the target real"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, steps: Steps, pair: DbPair) -> None:
    """Nothing is written, to other tables either; and when it is mended the same command goes on."""
    columns, message = REFUSED[case]
    pair.source.execute("CREATE TABLE r AS SELECT i AS id FROM generate_series(1, 9) i; CREATE TABLE fine AS TABLE r")
    pair.target.execute(
        "CREATE DOMAIN filled AS text NOT NULL; CREATE TABLE fine (id int); INSERT INTO fine VALUES (0)"
    )
    pair.target.execute(f"CREATE TABLE r ({columns})")
    refused = steps("copy", "data", check=False)
    assert refused.returncode == 7, refused.stderr
    assert message in refused.stderr
    assert pair.target.fetch("SELECT id FROM fine") == [(0,)]
    assert pair.target.fetch("SELECT count(*) FROM r") == [(0,)]
    pair.target.execute("DROP TABLE r; CREATE TABLE r (id int)")
    # Others may have written on the source meanwhile.
    pair.source.execute("INSERT INTO r VALUES (10)")
    steps("copy", "data")
    assert_all_there(pair, ("r", "fine"))


CHANGED = {
    "range": ("tstzrange", "tsrange"),
    "array of a domain": ("price[]", "numeric(8,2)[]"),
}


@pytest.mark.parametrize("case", CHANGED)
def test_types_that_change_a_value_without_a_word(case: str, steps: Steps, pair: DbPair) -> None:
    here, there = CHANGED[case]
    pair.source.execute(f"CREATE DOMAIN price AS numeric; CREATE TABLE r (v {here})")
    pair.target.execute(f"CREATE TABLE r (v {there})")
    refused = steps("copy", "table-data", check=False)
    assert refused.returncode == 7, refused.stderr
    assert f"that of public.r on the target {there}" in refused.stderr


def test_all_that_is_wrong_is_said_at_once(steps: Steps, pair: DbPair) -> None:
    pair.source.execute(
        "CREATE TABLE one (id int); CREATE TABLE two (id int); CREATE TABLE three (id int);"
        "CREATE TABLE p (id int) PARTITION BY LIST (id); CREATE TABLE p_1 PARTITION OF p FOR VALUES IN (1)"
    )
    pair.target.execute("CREATE TABLE one (); CREATE VIEW two AS SELECT 1 AS id")
    refused = steps("copy", "table-data", check=False)
    assert refused.returncode == 7, refused.stderr
    assert "(and 3 more)" in refused.stderr
    for message in (
        "column id of public.one is not in public.one on the target",
        'ALTER TABLE "public"."one" ADD COLUMN "id" integer;',
        "public.two on the target is a view, public.two on the source a table",
        "table public.three is not on the target",
        "table public.p_1 is not on the target, nor is public.p",
    ):
        assert message in refused.stderr


def differences(steps: Steps, *options: str) -> dict[str, object]:
    done = steps.pgcopydb.run("compare", "data", "--json", *options, env=steps.env, check=False)
    found = {f"{row['schema']}.{row['name']}": row for row in orjson.loads(done.stdout) if not row["equal"]}
    assert done.returncode == (12 if found else 0), done.stderr
    return {name: row["problem"] or row["rows"] for name, row in found.items()}


def test_other_shapes_are_equal_or_not(steps: Steps, pair: DbPair) -> None:
    """By their rows: neither partitions nor more columns are a difference, nor is a value that has another type."""
    pair.source.execute(SOURCE + COLUMNS)
    pair.target.execute(TARGET + OTHER_COLUMNS)
    steps("copy", "table-data")
    steps("copy", "sequences")
    assert differences(steps, "--split-tables-larger-than", "64kB") == {}
    pair.target.execute(
        "UPDATE flat SET v = 'x' WHERE id = 7; DELETE FROM split WHERE id = 8;"
        "UPDATE moved SET v = 'x' WHERE id = 2500;"
        "INSERT INTO old VALUES (7000, 'more'); UPDATE c SET at = at + interval '1 us' WHERE id = 9;"
        "UPDATE c SET extra = 'nobody compares it'"
    )
    assert differences(steps, "--rows", "3") == {
        "public.flat": ["(7) differs"],
        "public.split": ["(8,2024-01-09) is only on the source"],
        "public.moved": ["(2500,m) is only on the source", "(2500,x) is only on the target"],
        "public.old": ["(7000,more) is only on the target"],
        "public.c": ["(9) differs"],
    }
    pair.target.execute("ALTER TABLE c DROP plain")
    assert differences(steps)["public.c"] == "columns that are not on the target: plain"


IDENTIFIED = """
ALTER TABLE moved_low REPLICA IDENTITY FULL; ALTER TABLE moved_high REPLICA IDENTITY FULL;
ALTER TABLE same_0 REPLICA IDENTITY FULL; ALTER TABLE same_1 REPLICA IDENTITY FULL;
ALTER TABLE old REPLICA IDENTITY FULL; ALTER TABLE old_1 REPLICA IDENTITY FULL; ALTER TABLE old_2 REPLICA IDENTITY FULL;
"""
WORK = """
INSERT INTO flat SELECT i, date '2024-01-01' + i % 700, 'new' FROM generate_series(4000, 4100) i;
UPDATE flat SET at = at + 300, v = 'moves on the target' WHERE id < 100;
DELETE FROM flat WHERE id BETWEEN 200 AND 210;
INSERT INTO split SELECT i, date '2024-01-01' + i % 700, 'new' FROM generate_series(4000, 4100) i;
UPDATE split SET at = at + 300 WHERE id < 100;
UPDATE split SET v = 'changed' WHERE id BETWEEN 100 AND 120;
DELETE FROM split WHERE id BETWEEN 200 AND 210;
INSERT INTO moved SELECT i, 'new' FROM generate_series(4000, 4100) i;
UPDATE moved SET id = id + 1500 WHERE id BETWEEN 500 AND 510;
UPDATE moved SET v = 'changed' WHERE id BETWEEN 900 AND 1100;
DELETE FROM moved WHERE id BETWEEN 1200 AND 1210;
UPDATE same SET id = id + 1 WHERE id < 20;
DELETE FROM same_0;
INSERT INTO old_2 VALUES (5000, 'new');
UPDATE old SET v = v || '!' WHERE id < 200;
DELETE FROM old WHERE id > 900;
TRUNCATE same_1;
CREATE TABLE split_2030 PARTITION OF split FOR VALUES FROM ('2030-01-01') TO ('2031-01-01');
INSERT INTO split VALUES (9000, '2030-06-06', 'in a new partition');
TRUNCATE split_later, moved_low;
INSERT INTO split VALUES (9001, '2026-06-06', 'again');
"""


def follows_behind_a_copy(steps: Steps, pair: DbPair, pgcopydb: Command, plugin: str, work: str) -> str:
    """The tables stand already: set up, copy, let something happen, follow."""
    if plugin == "wal2json":
        require_wal2json(pair.source.cluster)
    chosen = ["--plugin", plugin, *(["--wal2json-lossy-nan"] if plugin == "wal2json" else [])]
    holder = pgcopydb.start("snapshot", "--follow", *chosen, "--dir", steps.workdir, env=steps.env)
    wait_until(lambda: (steps.workdir / "snapshot").exists() or holder.poll() is not None, 60, "the snapshot")
    steps("stream", "setup", *chosen)
    steps("copy", "table-data")
    holder.terminate()
    holder.wait(30)
    run(pair.source, work)
    pair.source.execute("UPDATE pgcopydb.sentinel SET apply = true, endpos = pg_current_wal_flush_lsn()")
    return steps("follow", check=False).stderr


@pytest.mark.parametrize("plugin", PLUGINS)
def test_changes_find_their_place(plugin: str, steps: Steps, pair: DbPair, pgcopydb: Command) -> None:
    pair.source.execute(SOURCE + IDENTIFIED)
    pair.target.execute(TARGET)
    told = follows_behind_a_copy(steps, pair, pgcopydb, plugin, WORK)
    try:
        assert_all_there(pair)
    except AssertionError as error:
        error.add_note(told)
        raise
    # All of it, where it is known to be all.
    pair.source.execute("TRUNCATE split, flat, old; INSERT INTO old_1 VALUES (1, 'after')")
    pair.source.execute("UPDATE pgcopydb.sentinel SET endpos = pg_current_wal_flush_lsn()")
    steps("follow")
    assert_all_there(pair)


@pytest.mark.parametrize("statement", ["TRUNCATE split_2024_0", "TRUNCATE ONLY old", "TRUNCATE old_1"])
def test_a_truncate_that_nothing_expresses_is_refused(
    statement: str, steps: Steps, pair: DbPair, pgcopydb: Command
) -> None:
    pair.source.execute(SOURCE + IDENTIFIED)
    pair.target.execute(TARGET)
    before = pair.source.fetch("SELECT count(*) FROM split UNION ALL SELECT count(*) FROM old")
    told = follows_behind_a_copy(steps, pair, pgcopydb, "test_decoding", f"{statement};\n")
    assert "was truncated on the source, and public." in told
    assert pair.target.fetch("SELECT count(*) FROM split UNION ALL SELECT count(*) FROM old") == before


CHANGED_COLUMNS = """
INSERT INTO c (id, plain, small, short, at, part, price, j)
    VALUES (30000, 'x', 1, 's', '2024-02-28 12:00:00.123456', 7, 0.5, '[1,  2]');
UPDATE c SET small = 7, number = id + 100000 WHERE id < 100;
UPDATE c SET id = id + 40000 WHERE id BETWEEN 100 AND 110;
DELETE FROM c WHERE id BETWEEN 200 AND 210;
"""


@pytest.mark.parametrize("identity", ["DEFAULT", "FULL", "NOTHING BUT ROWS"])
@pytest.mark.parametrize("plugin", ["test_decoding", "wal2json"])
def test_changes_of_other_columns(plugin: str, identity: str, steps: Steps, pair: DbPair, pgcopydb: Command) -> None:
    pair.source.execute(COLUMNS)
    pair.target.execute(OTHER_COLUMNS)
    if identity == "NOTHING BUT ROWS":
        pair.source.execute("ALTER TABLE c DROP CONSTRAINT c_pkey")
    if identity != "DEFAULT":
        pair.source.execute("ALTER TABLE c REPLICA IDENTITY FULL")
    told = follows_behind_a_copy(steps, pair, pgcopydb, plugin, CHANGED_COLUMNS)
    try:
        assert_same_rows(pair.source.dsn, pair.target.dsn, "c", casts=CASTS)
    except AssertionError as error:
        error.add_note(told)
        raise


def test_computed_values_that_are_not_sent_are_refused(steps: Steps, pair: DbPair, pgcopydb: Command) -> None:
    """pgoutput leaves out what the source generates."""
    pair.source.execute(COLUMNS)
    pair.target.execute(OTHER_COLUMNS)
    told = follows_behind_a_copy(steps, pair, pgcopydb, "pgoutput", CHANGED_COLUMNS)
    assert "column sum of public.c is generated on the source, which does not log its values" in told
    assert pair.target.fetch("SELECT count(*) FROM c") == [(20000,)]


def test_computed_when_they_are_read(servers: Servers, pgcopydb: Command, workdir_path: Path) -> None:
    """Columns of 18 that are generated but not stored: their values are copied, and no plugin sends them."""
    with pair_of(servers, 18, 18) as pair:
        steps = Steps(pgcopydb, pair, workdir_path)
        pair.source.execute(
            "CREATE TABLE v (id int PRIMARY KEY, here int GENERATED ALWAYS AS (id * 2), twin int"
            " GENERATED ALWAYS AS (id)); INSERT INTO v VALUES (1), (2);"
            "CREATE TABLE w (id int PRIMARY KEY, there int)"
        )
        pair.target.execute(
            "CREATE TABLE v (twin int GENERATED ALWAYS AS (id), here int, id int PRIMARY KEY);"
            "CREATE TABLE w (id int PRIMARY KEY, there int GENERATED ALWAYS AS (7))"
        )
        refused = steps("copy", "table-data", check=False)
        assert "column there of public.w holds values of its own" in refused.stderr
        pair.target.execute("ALTER TABLE w DROP there, ADD there int")
        steps("copy", "table-data")
        assert_all_there(pair, ("v", "w"))
        steps.workdir = workdir_path.with_name("followed")
        told = follows_behind_a_copy(steps, pair, pgcopydb, "test_decoding", "INSERT INTO v VALUES (3);\n")
        assert "column here of public.v is generated on the source, which does not log its values" in told
        assert pair.target.fetch("SELECT id, here FROM v ORDER BY id") == [(1, 2), (2, 4)]


def test_values_that_the_target_computes_are_refused(steps: Steps, pair: DbPair, pgcopydb: Command) -> None:
    """The operator made it so behind the copy."""
    pair.source.execute("CREATE TABLE g (id int PRIMARY KEY, v int); INSERT INTO g VALUES (1, 1)")
    pair.target.execute("CREATE TABLE g (id int PRIMARY KEY, v int)")
    follows_behind_a_copy(steps, pair, pgcopydb, "test_decoding", "INSERT INTO g VALUES (2, 2);\n")
    pair.target.execute("ALTER TABLE g DROP v; ALTER TABLE g ADD v int GENERATED ALWAYS AS (id) STORED")
    pair.source.execute("INSERT INTO g VALUES (3, 7)")
    pair.source.execute("UPDATE pgcopydb.sentinel SET endpos = pg_current_wal_flush_lsn()")
    refused = steps("follow", check=False)
    assert refused.returncode != 0
    assert "column v of public.g is generated on the target, and the source has values of its own" in refused.stderr
    assert pair.target.fetch("SELECT id FROM g ORDER BY id") == [(1,), (2,)]
