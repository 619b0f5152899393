"""Tables of the target that somebody else has made, in another shape than the source's."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.content import assert_same_rows
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import pair_of
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
    pair.source.execute(SOURCE)
    pair.target.execute(TARGET)
    holder = pgcopydb.start("snapshot", "--dir", steps.workdir, env=steps.env)
    wait_until((steps.workdir / "snapshot").exists, 30, "the snapshot")
    copy = ("copy", "table-data", "--split-tables-larger-than", "16kB", "--table-jobs", "2")
    env = steps.env
    steps.env = {**env, "PGCOPYDB_FAILPOINTS": f"{point}=kill@{passes}"}
    assert steps(*copy, check=False).returncode == -signal.SIGKILL
    steps.env = env
    if under == "another snapshot":
        holder.terminate()
        holder.wait(30)
        # Rows are in another partition of the source now.
        pair.source.execute("UPDATE split SET at = date '2024-01-01' + (at - '2024-01-01' + 350) % 700")
        copy = (*copy, "--not-consistent")
    steps(*copy)
    assert_all_there(pair)


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


COLUMNS = """
CREATE DOMAIN size AS int;
CREATE TABLE c (
    id int PRIMARY KEY, "sum" int GENERATED ALWAYS AS (id * 2) STORED,
    twin int GENERATED ALWAYS AS (id + 1) STORED, plain text, small int, short varchar(10), at timestamp, "In Order" text,
    number int GENERATED BY DEFAULT AS IDENTITY, part size, price numeric(8,2), j json
);
INSERT INTO c (id, plain, small, short, at, "In Order", part, price, j)
SELECT i, repeat('p', i % 40), -i, 'v' || i, timestamp '2024-01-01' + i * interval '1.5 hours', chr(65 + i % 26),
       i, i * 1.25, '{"a":  1}' FROM generate_series(1, 20000) i;
"""
OTHER_COLUMNS = """
CREATE DOMAIN size AS bigint;
CREATE TABLE c (
    "In Order" text, at timestamptz, short text, extra text DEFAULT 'extra', may_be_null date,
    tag int NOT NULL DEFAULT 7, counted int GENERATED ALWAYS AS IDENTITY, gone int, computed int GENERATED ALWAYS AS (id + 100) STORED,
    small bigint, price numeric(10,3), j jsonb, part size, plain text, twin int GENERATED ALWAYS AS (id + 1) STORED,
    "sum" int, number int GENERATED ALWAYS AS IDENTITY, id bigint PRIMARY KEY
);
ALTER TABLE c DROP gone;
"""


@pytest.mark.parametrize("parts", [False, True], ids=["whole", "in parts"])
def test_other_columns(parts: bool, steps: Steps, pair: DbPair) -> None:
    pair.source.execute(COLUMNS)
    pair.target.execute(OTHER_COLUMNS)
    split = ("--split-tables-larger-than", "64kB") if parts else ()
    told = steps("copy", "table-data", *split).stderr
    assert "Columns have other types on the target, their rows go as text: public.c" in told
    assert_same_rows(
        pair.source.dsn, pair.target.dsn, "c", casts={"at": "timestamptz", "price": "numeric(10,3)", "j": "jsonb"}
    )
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
