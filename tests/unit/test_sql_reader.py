"""Transactions out of SQL files: small and large, over several files, while transform writes them again."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from pgcopydb.apply import sql_reader
from pgcopydb.apply.sql_lines import Mark, mark_line
from pgcopydb.apply.sql_reader import Position, SqlReader, Transaction
from pgcopydb.daemon.segments import Segment
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import CorruptState

SIZE = 1 << 24


def at(file: int, byte: int = 0) -> Lsn:
    return Lsn(file * SIZE + byte)


def path_of(folder: Path, number: int, *, partial: bool = False) -> Path:
    return folder / f"{Segment(1, number, SIZE).name}.sql{'.partial' if partial else ''}"


def statement(number: int) -> bytes:
    return b"DELETE FROM t WHERE id = '%d';\n" % number


def transaction(file: int, byte: int, statements: Sequence[bytes]) -> bytes:
    begin = mark_line(Mark.BEGIN, at(file, byte), str(byte))
    return begin + b"".join(statements) + mark_line(Mark.COMMIT, at(file, byte + 50), str(byte), "2026-01-10 15:00+00")


def switch(number: int) -> bytes:
    return mark_line(Mark.SWITCH, at(number))


def read(reader: SqlReader) -> list[tuple[Lsn, list[bytes]] | Position]:
    found: list[tuple[Lsn, list[bytes]] | Position] = []
    while (unit := reader.next()) is not None:
        found.append((unit.commit, list(reader.statements(unit))) if isinstance(unit, Transaction) else unit)
    return found


@pytest.fixture
def reader(tmp_path: Path) -> SqlReader:
    reader = SqlReader(tmp_path, SIZE)
    reader.go_to(Lsn())
    return reader


@pytest.mark.parametrize("kept", [8 << 20, 100], ids=["in memory", "read again"])
def test_a_transaction_over_three_files(
    kept: int, reader: SqlReader, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_reader, "_KEPT_BYTES", kept)
    statements = [statement(number) for number in range(30)]
    whole = transaction(1, 500, statements).splitlines(keepends=True)
    path_of(tmp_path, 1).write_bytes(transaction(1, 100, statements[:1]) + b"".join(whole[:10]) + switch(2))
    path_of(tmp_path, 2).write_bytes(switch(4))
    path_of(tmp_path, 4, partial=True).write_bytes(b"".join(whole[10:-1]))
    assert read(reader) == [(at(1, 150), statements[:1])], "its end is not there yet"
    with path_of(tmp_path, 4, partial=True).open("ab") as file:
        file.write(whole[-1] + mark_line(Mark.KEEPALIVE, at(4, 900)))
        file.write(transaction(4, 1000, []) + mark_line(Mark.ENDPOS, at(4, 2000)))
    assert read(reader) == [
        (at(1, 550), statements),
        Position(at(4, 900), end=False),
        (at(4, 1050), []),
        Position(at(4, 2000), end=True),
    ]
    assert read(reader) == []
    reader.close()


def test_what_was_given_up_does_not_come_out(reader: SqlReader, tmp_path: Path) -> None:
    given_up = mark_line(Mark.BEGIN, at(1, 10), "7") + statement(1) + mark_line(Mark.ROLLBACK, at(1, 10))
    path_of(tmp_path, 1, partial=True).write_bytes(given_up + transaction(1, 100, [statement(2)]) + given_up)
    assert read(reader) == [(at(1, 150), [statement(2)])]
    reader.close()


def test_a_file_that_transform_shortens_while_it_is_read(reader: SqlReader, tmp_path: Path) -> None:
    """The new one begins as the old one did, up to the end of some unit; what came out does not come again."""
    path = path_of(tmp_path, 1, partial=True)
    first, second, third = (transaction(1, byte, [statement(byte)]) for byte in (100, 200, 300))
    path.write_bytes(first + second[:-5])
    assert read(reader) == [(at(1, 150), [statement(100)])]
    aside = tmp_path / ".aside"
    aside.write_bytes(first)
    aside.replace(path)
    assert read(reader) == []
    with path.open("ab") as file:
        file.write(second + third)
    assert read(reader) == [(at(1, 250), [statement(200)]), (at(1, 350), [statement(300)])]
    reader.close()


@pytest.mark.parametrize(
    ("position", "expected"),
    [
        (Lsn(), [at(5, 150), at(7, 150), at(7, 450)]),
        (at(5, 150), [at(5, 150), at(7, 150), at(7, 450)]),
        (at(6, 0), [at(7, 150), at(7, 450)]),
        (at(7, 150), [at(7, 450)]),
        (at(7, 450), [at(7, 450)]),
        (at(9), [at(7, 450)]),
    ],
)
def test_where_reading_begins(position: Lsn, expected: list[Lsn], tmp_path: Path) -> None:
    """Not behind the first transaction that is wanted. Replay leaves out what it has."""
    begun = transaction(7, 100, [statement(1)]).splitlines(keepends=True)
    path_of(tmp_path, 5).write_bytes(transaction(5, 100, []) + begun[0] + switch(6))
    path_of(tmp_path, 6).write_bytes(begun[1] + switch(7))
    path_of(tmp_path, 7, partial=True).write_bytes(begun[2] + transaction(7, 400, []))
    reader = SqlReader(tmp_path, SIZE)
    reader.go_to(position)
    wanted = [unit.commit for unit in iter(reader.next, None) if isinstance(unit, Transaction)]
    assert wanted[-1] == expected[-1]
    assert {lsn for lsn in expected if lsn > position} <= set(wanted)
    reader.close()


def test_a_transaction_whose_begin_is_gone(tmp_path: Path) -> None:
    """What begins before the first file can only have been applied; anything else was lost."""
    begun = statement(1) + mark_line(Mark.COMMIT, at(5, 100), "7")
    path_of(tmp_path, 5, partial=True).write_bytes(begun + transaction(5, 200, []))
    reader = SqlReader(tmp_path, SIZE)
    reader.go_to(at(5, 100))
    assert read(reader) == [(at(5, 250), [])]
    reader.go_to(at(5, 99))
    with pytest.raises(CorruptState, match="the end of a transaction that did not begin"):
        read(reader)
    reader.close()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (statement(1), "a statement outside of a transaction"),
        (mark_line(Mark.COMMIT, at(1, 300), "7"), "the end of a transaction that did not begin"),
        (mark_line(Mark.BEGIN, at(1, 300), "7") * 2, "a transaction begins within another"),
        (mark_line(Mark.BEGIN, at(1, 300), "7") + mark_line(Mark.KEEPALIVE, at(1, 310)), "no more is said of a"),
        (mark_line(Mark.BEGIN, at(1, 300), "7") + mark_line(Mark.ENDPOS, at(1, 310)), "no more is said of a"),
    ],
)
def test_lines_that_cannot_follow_each_other(line: bytes, message: str, reader: SqlReader, tmp_path: Path) -> None:
    path_of(tmp_path, 1).write_bytes(transaction(1, 100, [statement(1)]) + line + transaction(1, 400, []))
    with pytest.raises(CorruptState, match=message):
        read(reader)
    reader.close()


def test_a_file_that_is_made_again_with_other_lines(reader: SqlReader, tmp_path: Path) -> None:
    """A power failure took the end of the change file: keepalives come at other times then. Nothing comes out twice."""
    path = path_of(tmp_path, 1, partial=True)
    first, second, third = (transaction(1, byte, [statement(byte)]) for byte in (100, 200, 300))
    path.write_bytes(first + mark_line(Mark.KEEPALIVE, at(1, 170)) + second + third[:-5])
    assert read(reader) == [
        (at(1, 150), [statement(100)]),
        Position(at(1, 170), end=False),
        (at(1, 250), [statement(200)]),
    ]
    aside = tmp_path / ".aside"
    aside.write_bytes(first + second[:20])
    aside.replace(path)
    assert read(reader) == []
    with path.open("ab") as file:
        file.write(second[20:] + third + mark_line(Mark.KEEPALIVE, at(1, 400)))
    assert read(reader) == [(at(1, 350), [statement(300)]), Position(at(1, 400), end=False)]
    reader.close()
