"""Changes that are reduced to what they come to: the target is the same, and is never seen in a state of its own."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import pair_of, uris
from tests.integration.test_follow import current
from tests.workload import SCHEMA, Workload

ACCOUNTS = """
CREATE TABLE account (id int PRIMARY KEY, owner text UNIQUE, balance int NOT NULL);
CREATE TABLE vault (id int PRIMARY KEY, balance int NOT NULL);
CREATE TABLE entry (id int PRIMARY KEY, amount int NOT NULL);
INSERT INTO account SELECT i, 'owner ' || i, 100 FROM generate_series(1, 20) i;
INSERT INTO vault SELECT i, 1000 FROM generate_series(1, 3) i;
"""
TOTAL = """SELECT (SELECT sum(balance) FROM account) + (SELECT sum(balance) FROM vault)
    + (SELECT coalesce(sum(amount), 0) FROM entry)"""
TRANSFERS = """
DO $$ BEGIN FOR i IN 1..3000 LOOP
    UPDATE account SET balance = balance - 1 WHERE id = i % 20 + 1;
    IF i % 3 = 0 THEN UPDATE vault SET balance = balance + 1 WHERE id = i % 2 + 1;
    ELSIF i % 3 = 1 THEN INSERT INTO entry VALUES (i, 1);
    ELSE
        UPDATE entry SET amount = amount + 1 WHERE id = i - 1;
        IF NOT FOUND THEN INSERT INTO entry VALUES (i, 1); END IF;
    END IF;
    IF i % 100 = 0 THEN
        UPDATE vault SET balance = balance + (SELECT sum(amount) FROM entry) WHERE id = 3;
        DELETE FROM entry;
    END IF;
    COMMIT;
END LOOP; END $$
"""


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 18) as pair:
        yield pair


def clone(pair: DbPair, pgcopydb: Command, workdir: Path, plugin: str = "test_decoding") -> None:
    pgcopydb.run(
        *("clone", "--follow", "--plugin", plugin, "--dir", workdir, "--endpos", current(pair)), env=uris(pair)
    )


def follow(pair: DbPair, pgcopydb: Command, workdir: Path, mode: str) -> str:
    """Receive all of it first, then apply; the log."""
    end = ("--endpos", current(pair), "--dir", workdir)
    pgcopydb.run("stream", "prefetch", *end, env=uris(pair))
    done = pgcopydb.run("follow", *end, "--apply-mode", mode, "--debug", env=uris(pair))
    return done.stderr


@pytest.mark.parametrize("plugin", ["test_decoding", "pgoutput"])
@pytest.mark.parametrize("mode", ["auto", "grouped"])
def test_a_random_history(mode: str, plugin: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.source.execute(SCHEMA)
    workload = Workload(pair.source.dsn, seed=77)
    workload.run(50)
    clone(pair, pgcopydb, workdir_path, plugin)
    for _ in range(3):
        workload.run(400)
        log = follow(pair, pgcopydb, workdir_path, mode)
        # Where unique values change hands all of it may have been done one by one.
        assert " changes as " in log or "one by one, because of: duplicate key" in log, log
        assert_same_content(pair.source.dsn, pair.target.dsn)


def test_nobody_sees_a_state_that_the_source_never_had(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.source.execute(ACCOUNTS)
    clone(pair, pgcopydb, workdir_path)
    total = pair.source.fetch(TOTAL)
    pair.source.execute(TRANSFERS)
    assert pair.source.fetch(TOTAL) == total
    seen, over = [], threading.Event()

    def look() -> None:
        with pair.target.connect() as reader:
            while not over.is_set():
                seen.append(reader.execute(TOTAL).fetchall())

    reader = threading.Thread(target=look)
    reader.start()
    try:
        log = follow(pair, pgcopydb, workdir_path, "grouped")
    finally:
        over.set()
        reader.join()
    assert len(seen) > 10
    assert all(found == total for found in seen)
    assert " changes as " in log
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_unique_values_that_change_hands(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """What they come to has a value twice for a moment: done as it was on the source."""
    pair.source.execute(ACCOUNTS)
    clone(pair, pgcopydb, workdir_path)
    for owner, number in (("nobody", 1), ("owner 1", 2), ("owner 2", 1)):
        pair.source.execute(f"UPDATE account SET owner = '{owner}' WHERE id = {number}")
    log = follow(pair, pgcopydb, workdir_path, "auto")
    assert "one by one, because of: duplicate key value" in log
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_a_trigger_that_fires_always_sees_what_it_saw(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """It may look at any table: all that came before its row is there, and nothing else."""
    pair.source.execute(ACCOUNTS)
    clone(pair, pgcopydb, workdir_path)
    pair.target.execute(
        "CREATE TABLE noted (entry int, balance bigint);"
        "CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN"
        " INSERT INTO public.noted SELECT NEW.id, sum(balance) FROM public.account; RETURN NULL; END $$;"
        "CREATE TRIGGER note AFTER INSERT ON entry FOR EACH ROW EXECUTE FUNCTION note();"
        "ALTER TABLE entry ENABLE ALWAYS TRIGGER note"
    )
    for number in range(5):
        pair.source.execute(
            f"UPDATE account SET balance = balance - 1 WHERE id = 1; INSERT INTO entry VALUES ({number}, 1)"
        )
    log = follow(pair, pgcopydb, workdir_path, "grouped")
    assert " changes as " in log
    assert pair.target.fetch("TABLE noted ORDER BY 1") == [(number, 2000 - 1 - number) for number in range(5)]


def test_a_large_transaction_is_reduced_in_pieces(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.source.execute("CREATE TABLE t (a int, b text, v int, w text, PRIMARY KEY (a, b))")
    clone(pair, pgcopydb, workdir_path)
    pair.source.execute(
        "BEGIN; INSERT INTO t SELECT i, 'b' || i, 0, repeat('w', 100) FROM generate_series(1, 30000) i;"
        "UPDATE t SET v = a; UPDATE t SET v = v + 1, w = NULL WHERE a % 2 = 0; DELETE FROM t WHERE a % 3 = 0; COMMIT"
    )
    assert " changes as " in follow(pair, pgcopydb, workdir_path, "auto")
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_a_conflict_is_that_of_the_change_itself(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.source.execute(ACCOUNTS)
    clone(pair, pgcopydb, workdir_path)
    pair.target.execute("DELETE FROM account WHERE id = 7")
    pair.source.execute("UPDATE account SET balance = 1 WHERE id <= 10")
    pair.source.execute("UPDATE account SET balance = 2 WHERE id <= 10")
    end = ("--endpos", current(pair), "--dir", workdir_path)
    failed = pgcopydb.run("stream", "replay", *end, "--apply-mode", "auto", env=uris(pair), check=False)
    assert failed.returncode == 7
    assert """0 rows instead of 1 by UPDATE ONLY "public"."account" SET "balance" = '1'""" in failed.stderr.replace(
        """ SET "owner" = 'owner 7',""", " SET"
    )
    pair.target.execute("INSERT INTO account VALUES (7, 'owner 7', 100)")
    pgcopydb.run("stream", "replay", *end, "--apply-mode", "auto", env=uris(pair))
    assert_same_content(pair.source.dsn, pair.target.dsn)
