"""Whoever reads all of a transaction, however large it is, says meanwhile that it lives, and heeds a stop."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest

from pgcopydb.apply.pipe import PipeReader
from pgcopydb.apply.prune import prunable
from pgcopydb.apply.sql_lines import Mark, mark_line
from pgcopydb.apply.sql_reader import SqlReader, Transaction
from pgcopydb.apply.transform_stage import resume_at
from pgcopydb.daemon import backlog, change_file
from pgcopydb.daemon.change_file import (
    JSON,
    SQL,
    ChangeFile,
    change_line,
    ends_a_transaction,
    lines_backwards,
    recover,
    row_line,
)
from pgcopydb.daemon.disk import Limits, Room
from pgcopydb.daemon.receive import Receiver
from pgcopydb.daemon.segments import Segment
from pgcopydb.daemon.tail import Tail
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import Stopped
from pgcopydb.runtime.stop import Stop, StopMode

SIZE = 1 << 24
ROWS = 50_000
VALUE = b"v" * 200
ROW = b"INSERT INTO t VALUES ('%b');\n" % VALUE
SQL_BYTES = ROWS * len(ROW)
BLOCK = 1 << 20
"""No block that is read is larger."""
TAIL_BLOCK = 1 << 18


def at(file: int, byte: int = 0) -> Lsn:
    return Lsn(file * SIZE + byte)


def path_of(folder: Path, number: int, suffix: str, end: str = ".partial") -> Path:
    return folder / f"{Segment(1, number, SIZE).name}{suffix}{end}"


def statements(*, complete: bool) -> bytes:
    commit = mark_line(Mark.COMMIT, at(1, 900), "7", "2026-01-10 15:00+00")
    return mark_line(Mark.BEGIN, at(1, 100), "7") + ROW * ROWS + (commit if complete else b"")


def changes(*, complete: bool) -> bytes:
    rows = row_line("I", "7", at(1, 100).value, b'"%b"' % VALUE) * ROWS
    commit = change_line("C", at(1, 900), xid="7", timestamp="2026-01-10 15:00+00")
    return change_line("B", at(1, 100), xid="7") + rows + (commit if complete else b"")


def before(file: int = 1) -> bytes:
    """The end of the transaction before it."""
    return change_line("B", at(file, 10), xid="6") + change_line("C", at(file, 20), xid="6")


@dataclass
class Count:
    """Counts calls; ``stops_at`` is the one from which on there shall be no more."""

    calls: int = 0
    stops_at: int = 1 << 30

    def beat(self) -> None:
        self.go_on()

    def go_on(self) -> bool:
        self.calls += 1
        return self.calls < self.stops_at


def test_reading_for_the_end_of_a_transaction(tmp_path: Path) -> None:
    path_of(tmp_path, 1, SQL).write_bytes(statements(complete=True))
    count = Count()
    reader = SqlReader(tmp_path, SIZE, count.go_on)
    reader.go_to(Lsn())
    found = reader.next()
    assert isinstance(found, Transaction)
    assert found.size == SQL_BYTES
    assert count.calls >= SQL_BYTES // BLOCK
    assert found.lines is None, "it is not large"
    count.calls = 0
    assert sum(map(len, reader.statements(found))) == SQL_BYTES
    assert count.calls >= SQL_BYTES // BLOCK
    reader.close()


def test_a_stop_in_the_middle_of_it(tmp_path: Path) -> None:
    path_of(tmp_path, 1, SQL).write_bytes(statements(complete=True))
    count = Count(stops_at=3)
    reader = SqlReader(tmp_path, SIZE, count.go_on)
    reader.go_to(Lsn())
    assert reader.next() is None
    assert count.calls == 3
    count.stops_at = 1 << 30
    found = reader.next()
    assert isinstance(found, Transaction)
    assert found.size == SQL_BYTES, "it went on from where it was"
    reader.close()


def test_a_stop_while_a_pipe_is_read(tmp_path: Path) -> None:
    (tmp_path / "lines").write_bytes(statements(complete=True))
    count = Count(stops_at=3)
    with (tmp_path / "lines").open("rb") as file:
        reader = PipeReader(file.fileno(), go_on=count.go_on)
        reader.go_to(Lsn())
        assert reader.next() is None
        assert not reader.ended
        assert file.tell() == os.lseek(file.fileno(), 0, os.SEEK_CUR) < SQL_BYTES // 2


def recovers(folder: Path, beat: Callable[[], None]) -> None:
    assert recover(folder, beat)[:2] == (at(1, 20), True)


def finds_no_end(folder: Path, beat: Callable[[], None]) -> None:
    path_of(folder, 1, JSON).write_bytes(changes(complete=False))
    assert not ends_a_transaction(path_of(folder, 1, JSON), beat)


def finds_the_last_commit(folder: Path, beat: Callable[[], None]) -> None:
    assert backlog.last_commit([path_of(folder, 1, JSON)], beat) == at(1, 20)


def resumes(folder: Path, beat: Callable[[], None]) -> None:
    path_of(folder, 1, SQL).write_bytes(statements(complete=True) + ROW)
    path_of(folder, 1, JSON).write_bytes(changes(complete=True))
    tail = Tail(folder, JSON, SIZE)
    assert resume_at(tail, beat) == at(1, 900)
    assert tail.offset == len(changes(complete=True))
    tail.close()


READINGS = [recovers, finds_no_end, finds_the_last_commit, resumes]


@pytest.mark.parametrize("reads", READINGS, ids=[each.__name__ for each in READINGS])
def test_files_that_are_read_as_a_whole(reads: Callable[[Path, Callable[[], None]], None], tmp_path: Path) -> None:
    path_of(tmp_path, 1, JSON).write_bytes(before() + changes(complete=False))
    count = Count()
    reads(tmp_path, count.beat)
    assert count.calls >= len(changes(complete=False)) // BLOCK

    def stopped() -> None:
        raise Stopped("now")

    with pytest.raises(Stopped):
        reads(tmp_path, stopped)


def test_each_part_of_going_on_beats(tmp_path: Path) -> None:
    """Receiving reads for the torn line, then backwards; transform reads both files, and copies what is kept of one."""
    path_of(tmp_path, 1, JSON).write_bytes(before() + changes(complete=False))
    count = Count()
    recovers(tmp_path, count.beat)
    assert count.calls >= 2 * (len(changes(complete=False)) // BLOCK)
    count.calls = 0
    resumes(tmp_path, count.beat)
    assert count.calls >= 2 * (SQL_BYTES // BLOCK) + len(changes(complete=True)) // TAIL_BLOCK


def test_lines_of_changes_are_not_parsed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    parsed: list[bytes] = []
    real = change_file._read_head

    def counted(path: Path, start: int, line: bytes) -> tuple[str, Lsn]:
        parsed.append(line)
        return real(path, start, line)

    monkeypatch.setattr(change_file, "_read_head", counted)
    path_of(tmp_path, 1, JSON).write_bytes(before() + changes(complete=False))
    recovers(tmp_path, lambda: None)
    assert len(parsed) < 5


def test_receiving_stops_while_it_finds_out_where_it_was(tmp_path: Path) -> None:
    path_of(tmp_path, 1, JSON).write_bytes(before() + changes(complete=False))
    receiver = Receiver(tmp_path, 1, SIZE, at(1))
    assert receiver.repair(Stop()) == at(1, 20)
    stop = Stop()
    stop.request(StopMode.GRACEFUL)
    with pytest.raises(Stopped):
        receiver.repair(stop)


def test_what_was_received_where_only_sql_is_left(tmp_path: Path) -> None:
    """Change files are removed where room is short."""
    commit = mark_line(Mark.COMMIT, at(1, 900), "7", "2026-01-10 15:00+00")
    path_of(tmp_path, 1, SQL, "").write_bytes(
        mark_line(Mark.BEGIN, at(1), "7") + commit + mark_line(Mark.SWITCH, at(2))
    )
    path_of(tmp_path, 2, JSON).write_bytes(change_line("K", at(2, 1)))
    assert backlog.last_commit([*backlog.files_with_changes(tmp_path, SIZE).values()]) == at(1, 900)


def no_reading(path: Path, *_args: object) -> None:
    raise AssertionError(f"{path} was read")


def test_room_is_made_without_reading_what_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 7):
        path_of(tmp_path, number, SQL, "").write_bytes(b"")
        path_of(tmp_path, number, JSON, "").write_bytes(b"x" * 1000)
    monkeypatch.setattr(Path, "open", no_reading)
    room = Room(tmp_path, SIZE, Limits(most=5_900, floor=0))
    assert not room.lacking(0, 5)
    left = sorted(path.name for path in tmp_path.iterdir() if path.name.endswith(JSON))
    assert left == [path_of(tmp_path, number, JSON, "").name for number in (3, 4, 5, 6)], (
        "from the last end on, and two"
    )


def test_files_are_removed_without_reading_what_is_open(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(1, 4):
        switch = mark_line(Mark.SWITCH, at(number + 1))
        commit = mark_line(Mark.COMMIT, at(number, 20), "6")
        path_of(tmp_path, number, SQL, "").write_bytes(mark_line(Mark.BEGIN, at(number), "6") + commit + switch)
        path_of(tmp_path, number, JSON, "").write_bytes(before(number) + change_line("X", at(number + 1)))
    path_of(tmp_path, 4, SQL).write_bytes(mark_line(Mark.BEGIN, at(4), "7") + ROW)
    path_of(tmp_path, 4, JSON, "").write_bytes(change_line("B", at(4), xid="7"))
    path_of(tmp_path, 5, JSON).write_bytes(b"")
    read: list[Path] = []
    real = lines_backwards

    def seen(path: Path, beat: Callable[[], None]) -> object:
        read.append(path)
        return real(path, beat)

    monkeypatch.setattr(change_file, "lines_backwards", seen)
    assert [path.name[22:] for path in prunable(tmp_path, SIZE, at(3, 20))] == [
        "01.json",
        "01.sql",
        "02.json",
        "02.sql",
    ]
    assert read == [path_of(tmp_path, 3, JSON, "")]


def test_a_large_file_goes_to_the_disk_by_and_by(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Or whoever gives it its final name waits for all of it at once."""
    syncs: list[int] = []
    real = os.fdatasync

    def counted(descriptor: int) -> None:
        syncs.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fdatasync", counted)
    monkeypatch.setattr(change_file, "_SYNC_BYTES", 1 << 20)
    file = ChangeFile(tmp_path, Segment(1, 1, SIZE), SQL)
    for _ in range(5 << 10):
        file.append(b"v" * 1023 + b"\n")
    file.close()
    assert 4 <= len(syncs) <= 5
