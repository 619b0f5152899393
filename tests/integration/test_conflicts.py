"""A statement that finds other rows than on the source: refused, or named and passed over; never unnoticed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from pgcopydb.apply.execute import StatementFailed
from pgcopydb.apply.pipe import PipeReader
from pgcopydb.apply.replay import ConflictError, OnConflict, Replay
from pgcopydb.apply.sql_lines import Mark, mark_line
from pgcopydb.daemon.progress import create_progress, drop_progress
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.lsn import Lsn
from tests.fix_servers import Database

START = 1 << 24


@pytest.fixture
def target(target_db: Database) -> Iterator[Database]:
    target_db.execute(
        "CREATE TABLE t (id int PRIMARY KEY, v text); INSERT INTO t SELECT i, 'old' FROM generate_series(1, 9) i"
    )
    yield target_db
    with target_db.connect() as connection:
        drop_progress(connection, target_db.name)


def update(key: int, value: str = "new") -> str:
    return f"""UPDATE ONLY "public"."t" SET "v" = '{value}' WHERE "id" = '{key}';\n"""


def file_of(folder: Path, *transactions: str) -> Path:
    path = folder / "lines.sql"
    with path.open("wb") as file:
        for number, statements in enumerate(transactions, 1):
            file.write(mark_line(Mark.BEGIN, Lsn(START + number * 100), str(number)))
            file.write(statements.encode())
            file.write(mark_line(Mark.COMMIT, Lsn(START + number * 100 + 50), str(number), "2026-01-10 15:00:00+00"))
    return path


@contextmanager
def replaying(target: Database, path: Path, on_conflict: OnConflict) -> Iterator[Replay]:
    endpoint = Endpoint(ConnInfo.parse(Side.TARGET, target.dsn), "conflicts")
    with endpoint.connect("apply") as connection, path.open("rb") as file:
        progress = create_progress(connection, target.name, Lsn(START))
        replay = Replay(connection, progress, PipeReader(file.fileno()), on_conflict)
        replay.begin()
        yield replay


def values(target: Database) -> dict[int, str]:
    return dict(target.fetch("SELECT id, v FROM t ORDER BY id"))


def test_the_transaction_is_not_applied(target: Database, tmp_path: Path) -> None:
    path = file_of(tmp_path, update(1), update(2) + update(77) + update(3), update(4))
    with replaying(target, path, OnConflict.ERROR) as replay:
        with pytest.raises(ConflictError, match=r"transaction 2 at 0/10000FA: 0 rows instead of 1 by UPDATE .*'77'"):
            replay.step(Lsn())
        assert (replay.counts.transactions, replay.position) == (1, Lsn(START + 150))
    assert [key for key, value in values(target).items() if value == "new"] == [1]


def test_it_is_named_and_passed_over(target: Database, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = file_of(tmp_path, update(1), update(2) + update(77), update(3) + update(78))
    with caplog.at_level(logging.WARNING), replaying(target, path, OnConflict.WARN) as replay:
        assert replay.step(Lsn())
        assert (replay.counts.transactions, replay.counts.rows, replay.counts.conflicts) == (3, 3, 2)
    assert [key for key, value in values(target).items() if value == "new"] == [1, 2, 3]
    said = [record.getMessage() for record in caplog.records]
    assert len(said) == 2
    assert "transaction 2 at 0/10000FA" in said[0]
    assert "'78'" in said[1]


def test_more_rows_than_on_the_source(target: Database, tmp_path: Path) -> None:
    path = file_of(tmp_path, """DELETE FROM ONLY "public"."t" WHERE "id" IN ('1', '2', '3'); -- 2\n""")
    with (
        replaying(target, path, OnConflict.ERROR) as replay,
        pytest.raises(ConflictError, match="3 rows instead of 2 by DELETE"),
    ):
        replay.step(Lsn())
    assert len(values(target)) == 9


def test_a_long_transaction_ends_with_its_first_conflict(target: Database, tmp_path: Path) -> None:
    """What is behind it is not even sent: it would have failed by itself."""
    path = file_of(tmp_path, update(77) + update(1, "x" * 1000) * 600 + "INSERT INTO nothing VALUES (1);\n")
    with replaying(target, path, OnConflict.ERROR) as replay, pytest.raises(ConflictError, match="'77'"):
        replay.step(Lsn())


def test_what_the_target_refuses_is_the_error_of_its_transaction(target: Database, tmp_path: Path) -> None:
    wrong = """INSERT INTO "public"."t" ("id") VALUES ('1');\n"""
    path = file_of(tmp_path, update(1), update(2) + wrong, update(3))
    with replaying(target, path, OnConflict.WARN) as replay:
        with pytest.raises(StatementFailed, match=r"duplicate key .* by INSERT INTO"):
            replay.step(Lsn())
        assert replay.counts.transactions == 1
    assert [key for key, value in values(target).items() if value == "new"] == [1]
