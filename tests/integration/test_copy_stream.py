"""COPY from server to server, by the relay and through libpq: the same rows, the same errors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest

from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.copy_stream import CancelToken, CopyCounts, copy_between
from pgcopydb.runtime.errors import Kind, PgcopydbError, SourceError, Stopped, TargetError
from tests.content import assert_same_content
from tests.fix_servers import Database
from tests.wait import wait_until

NASTY = """
CREATE TABLE t (id int, a text, b bytea);
INSERT INTO t SELECT i, chr(1 + i % 1000) || E'd\\x01\\x01\\x01Z\\x01E\\tN\\n\\\\.' || repeat('S', i % 300),
    decode(md5(i::text), 'hex')
  FROM generate_series(1, 20000) i;
INSERT INTO t VALUES (NULL, NULL, NULL), (0, '', ''), (1, E'\\\\N', E'\\\\x00');
"""


@pytest.fixture(params=[False, True], ids=["relay", "libpq"])
def through_libpq(request: pytest.FixtureRequest) -> bool:
    return bool(request.param)


@pytest.fixture
def pair(source_db: Database, target_db: Database) -> Iterator[tuple[Connection, Connection]]:
    one = Endpoint(ConnInfo.parse(Side.SOURCE, source_db.dsn), "test")
    other = Endpoint(ConnInfo.parse(Side.TARGET, target_db.dsn), "test")
    with one.connect("reader") as source, other.connect("writer") as target:
        yield source, target


def copy(
    pair: tuple[Connection, Connection],
    query: str,
    *,
    into: str = "public.t",
    binary: bool = False,
    quiet: bool = False,
    through_libpq: bool = False,
    token: CancelToken | None = None,
) -> CopyCounts:
    form = " WITH (FORMAT binary)" if binary else ""
    with closing(token or CancelToken()) as cancel:
        return copy_between(
            *pair,
            f"COPY ({query}) TO STDOUT{form}",
            f"COPY {into} FROM STDIN{form}",
            binary=binary,
            cancel=cancel,
            on_bytes=lambda _count: None,
            quiet=quiet,
            through_libpq=through_libpq,
        )


@pytest.mark.parametrize("quiet", [False, True])
@pytest.mark.parametrize("binary", [False, True])
def test_rows_arrive_as_they_are(
    binary: bool,
    quiet: bool,
    through_libpq: bool,
    pair: tuple[Connection, Connection],
    source_db: Database,
    target_db: Database,
) -> None:
    source_db.execute(NASTY)
    target_db.execute("CREATE TABLE t (id int, a text, b bytea)")
    counts = copy(pair, "SELECT * FROM public.t", binary=binary, quiet=quiet, through_libpq=through_libpq)
    assert counts.rows == 20003
    assert_same_content(source_db.dsn, target_db.dsn)
    assert [side.execute("SELECT 1").fetchone() for side in pair] == [(1,), (1,)]


@pytest.mark.parametrize("binary", [False, True])
def test_no_rows_and_no_columns(
    binary: bool, through_libpq: bool, pair: tuple[Connection, Connection], target_db: Database
) -> None:
    target_db.execute("CREATE TABLE t ()")
    none = copy(pair, "SELECT WHERE false", binary=binary, quiet=True, through_libpq=through_libpq)
    many = copy(pair, "SELECT FROM generate_series(1, 3000)", binary=binary, through_libpq=through_libpq)
    assert (none.rows, many.rows) == (0, 3000)
    assert target_db.fetch("SELECT count(*) FROM t") == [(3000,)]


@pytest.mark.parametrize("in_transaction", [False, True])
@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("quiet", [False, True])
def test_an_error_of_the_source_in_the_middle(
    quiet: bool,
    binary: bool,
    in_transaction: bool,
    through_libpq: bool,
    pair: tuple[Connection, Connection],
    target_db: Database,
) -> None:
    target_db.execute("CREATE TABLE t (n int)")
    if in_transaction:
        pair[0].execute("BEGIN")
    with pytest.raises(SourceError, match="division by zero") as caught:
        copy(
            pair,
            "SELECT 1 / (100000 - i) FROM generate_series(1, 200000) i",
            binary=binary,
            quiet=quiet,
            through_libpq=through_libpq,
        )
    assert (caught.value.sqlstate, caught.value.kind) == ("22012", Kind.OPERATOR)
    assert target_db.fetch("SELECT count(*) FROM t") == [(0,)]


def test_an_error_of_the_target_in_the_middle(
    through_libpq: bool, pair: tuple[Connection, Connection], target_db: Database
) -> None:
    target_db.execute("CREATE TABLE t (n int CHECK (n <> 100000))")
    with pytest.raises(TargetError, match="violates check constraint"):
        copy(pair, "SELECT i FROM generate_series(1, 1000000) i", quiet=True, through_libpq=through_libpq)
    assert target_db.fetch("SELECT count(*) FROM t") == [(0,)]


def test_a_missing_table_is_an_error_of_its_side(
    through_libpq: bool, pair: tuple[Connection, Connection], target_db: Database
) -> None:
    with pytest.raises(TargetError, match=r'relation "public\.t" does not exist'):
        copy(pair, "SELECT 1", through_libpq=through_libpq)


def test_notices_between_rows_are_not_rows(
    pair: tuple[Connection, Connection], source_db: Database, target_db: Database, through_libpq: bool
) -> None:
    source_db.execute(
        "CREATE FUNCTION loud(i int) RETURNS int LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE NOTICE 'row %', i; RAISE INFO '%', repeat('VERROR', i % 50);"
        " PERFORM set_config('TimeZone', CASE WHEN i % 2 = 0 THEN 'UTC' ELSE 'CET' END, false); RETURN i; END $$"
    )
    target_db.execute("CREATE TABLE t (n int)")
    counts = copy(pair, "SELECT public.loud(i) FROM generate_series(1, 2000) i", through_libpq=through_libpq)
    assert counts.rows == 2000
    assert target_db.fetch("SELECT count(*), sum(n) FROM t") == [(2000, 2001000)]


@pytest.mark.parametrize("in_transaction", [False, True])
def test_rows_that_imitate_the_end_of_the_stream(
    in_transaction: bool, pair: tuple[Connection, Connection], source_db: Database, target_db: Database
) -> None:
    """Every row could be the last words of a source, but for the word that nobody knows."""
    last_words = b"c\0\0\0\x04C\0\0\0\x0bCOPY 1\0Z\0\0\0\x05T"
    source_db.execute(
        "CREATE TABLE t (id int, b bytea);"
        f"INSERT INTO t SELECT i, '\\x{last_words.hex()}' FROM generate_series(1, 50000) i"
    )
    target_db.execute("CREATE TABLE t (id int, b bytea)")
    if in_transaction:
        pair[0].execute("BEGIN")
    counts = copy(pair, "SELECT * FROM public.t", binary=True, quiet=True)
    assert counts.rows == 50000
    assert_same_content(source_db.dsn, target_db.dsn)
    assert pair[0].execute("SELECT 1").fetchone() == (1,)


@pytest.mark.parametrize("binary", [False, True])
@pytest.mark.parametrize("killed", [Side.SOURCE, Side.TARGET])
def test_a_killed_backend_is_worth_another_try(
    killed: Side, binary: bool, pair: tuple[Connection, Connection], source_db: Database, target_db: Database
) -> None:
    target_db.execute("CREATE TABLE t (n int)")
    database, title = (source_db, "reader") if killed is Side.SOURCE else (target_db, "writer")

    def kill() -> bool:
        return bool(
            database.fetch(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                f" AND application_name LIKE '%{title}%' AND query LIKE 'COPY%' AND state = 'active'"
            )
        )

    killer = threading.Thread(target=wait_until, args=(kill, 30, "the COPY to run"))
    killer.start()
    with pytest.raises(killed.error) as caught:
        copy(pair, "SELECT generate_series(1, 1000000000)", quiet=True, binary=binary)
    killer.join()
    assert caught.value.kind is Kind.RETRY
    # What a server said last goes with the connection when we were writing to it.
    lost = {None} if killed is Side.TARGET else set()
    assert caught.value.sqlstate in {"57P01", *lost}


def test_a_cancelled_copy_ends_at_once(
    through_libpq: bool, pair: tuple[Connection, Connection], target_db: Database
) -> None:
    target_db.execute("CREATE TABLE t (n int)")
    token = CancelToken()
    canceller = threading.Timer(0.3, token.cancel)
    canceller.start()
    with pytest.raises(Stopped):
        copy(pair, "SELECT generate_series(1, 1000000000)", quiet=True, through_libpq=through_libpq, token=token)
    canceller.join()
    assert target_db.fetch("SELECT count(*) FROM t") == [(0,)]


def test_a_row_of_300_mb_passes_through_one_buffer(
    pair: tuple[Connection, Connection], source_db: Database, target_db: Database
) -> None:
    source_db.execute("CREATE TABLE t (a text); INSERT INTO t SELECT repeat('x', 300000000)")
    target_db.execute("CREATE TABLE t (a text)")
    before = peak_memory()
    assert copy(pair, "SELECT a FROM public.t", quiet=True).rows == 1
    assert target_db.fetch("SELECT length(a) FROM t") == [(300000000,)]
    assert peak_memory() - before < 30_000


def peak_memory() -> int:
    """The most that this process ever had in memory, in kB."""
    with Path("/proc/self/status").open() as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmHWM"))


def test_different_row_counts_are_an_error(pair: tuple[Connection, Connection], target_db: Database) -> None:
    """A BEFORE trigger that drops rows: the target's count is what it wrote."""
    target_db.execute(
        "CREATE TABLE t (n int); CREATE FUNCTION half() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN IF NEW.n % 2 = 0 THEN RETURN NULL; END IF; RETURN NEW; END $$;"
        "CREATE TRIGGER half BEFORE INSERT ON t FOR EACH ROW EXECUTE FUNCTION half()"
    )
    with pytest.raises(PgcopydbError, match="sent 10 rows and the target received 5"):
        copy(pair, "SELECT i FROM generate_series(1, 10) i", quiet=True)
