"""Which files of changes can go."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pgcopydb.apply.prune import check_not_behind, last_removed, prunable, prune
from pgcopydb.apply.sql_lines import Mark, mark_line
from pgcopydb.apply.sql_reader import SqlReader, Transaction
from pgcopydb.daemon.change_file import change_line, ends_a_transaction
from pgcopydb.daemon.segments import Segment
from pgcopydb.daemon.tail import check_first, files_of, move_first_on, remember_first
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import StateError
from pgcopydb.runtime.workdir import InUse, WorkDir

SIZE = 1 << 20


def at(file: int, byte: int = 0) -> Lsn:
    return Lsn(file * SIZE + byte)


def transaction(commit: Lsn) -> bytes:
    return mark_line(Mark.BEGIN, Lsn(commit.value - 10), "7") + b"DELETE x;\n" + mark_line(Mark.COMMIT, commit, "7")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Files 5 to 9. Number 6 ends within a transaction that is committed in 8; 9 is being written."""
    content = {
        5: transaction(at(5, 100)) + transaction(at(5, 200)),
        6: transaction(at(6, 100)) + mark_line(Mark.BEGIN, at(6, 150), "8") + b"DELETE x;\n",
        7: b"DELETE x;\n" * 3,
        8: b"DELETE x;\n" + mark_line(Mark.COMMIT, at(8, 50), "8") + transaction(at(8, 100)),
        9: transaction(at(9, 100)),
    }
    workdir = WorkDir(tmp_path)
    workdir.create()
    folder = workdir.changes
    for number, lines in content.items():
        name = Segment(1, number, SIZE).name
        last = number == max(content)
        end = b"" if last else mark_line(Mark.SWITCH, at(number + 1))
        suffix = ".partial" if last else ""
        (folder / f"{name}.sql{suffix}").write_bytes(lines + end)
        (folder / f"{name}.json{suffix}").write_bytes(change_line("X", at(number + 1)))
    return folder


def numbers(paths: list[Path]) -> list[tuple[int, str]]:
    return [(Segment.parse(path.name[:24], SIZE).number, path.name[24:]) for path in paths]


@pytest.mark.parametrize(
    ("durable", "first_kept"),
    [
        (Lsn(), 5),
        (at(5, 199), 5),
        (at(5, 200), 5),
        (at(6, 100), 6),
        (at(7, 0), 6),
        (at(8, 49), 6),
        (at(8, 50), 6),
        (at(9, 0), 9),
        (at(9, 100), 9),
        (at(20, 0), 9),
    ],
)
def test_what_can_go(folder: Path, durable: Lsn, first_kept: int) -> None:
    expected = [(number, suffix) for number in range(5, first_kept) for suffix in (".json", ".sql")]
    before = behind(folder, durable)
    assert numbers(prunable(folder, SIZE, durable)) == expected
    assert numbers(prune(WorkDir(folder.parent), SIZE, durable)) == expected
    assert len(list(folder.glob("*.*"))) == 10 - len(expected)
    assert behind(folder, durable) == before
    assert prune(WorkDir(folder.parent), SIZE, durable) == []


def behind(folder: Path, durable: Lsn) -> list[Lsn]:
    """Commits that a reader that begins there finds behind that position."""
    reader = SqlReader(folder, SIZE)
    reader.go_to(durable)
    found: list[Lsn] = []
    while (unit := reader.next()) is not None:
        if isinstance(unit, Transaction) and unit.commit > durable:
            found.append(unit.commit)
    reader.close()
    return found


def test_a_target_that_has_gone_back_behind_what_was_removed(folder: Path) -> None:
    check_not_behind(folder, Lsn())
    prune(WorkDir(folder.parent), SIZE, at(8, 50))
    assert last_removed(folder) == at(5, 200), "the transaction that ends in 8 begins in 6"
    prune(WorkDir(folder.parent), SIZE, at(9, 0))
    assert last_removed(folder) == at(8, 100)
    check_not_behind(folder, at(8, 100))
    with pytest.raises(StateError, match="it was restored"):
        check_not_behind(folder, at(8, 99))


def test_a_change_file_stays_until_its_sql_file_is_complete(folder: Path) -> None:
    for path in folder.glob("*.sql*"):
        if Segment.parse(path.name[:24], SIZE).number > 6:
            path.unlink()
    assert numbers(prunable(folder, SIZE, at(20))) == [(5, ".json"), (5, ".sql")]


def test_without_sql_files_nothing_goes(folder: Path) -> None:
    for path in folder.glob("*.sql*"):
        path.unlink()
    assert prunable(folder, SIZE, at(20)) == []


def test_the_last_change_file_in_which_a_transaction_ends_stays(folder: Path) -> None:
    """Receiving goes on from there: without it a slot that was acknowledged seems to be ahead of the files."""
    path = next(folder.glob("*6.json"))
    path.write_bytes(change_line("C", at(6, 100), xid="6") + change_line("X", at(7)))
    assert numbers(prunable(folder, SIZE, at(20))) == [(5, ".json"), (5, ".sql")]


@pytest.mark.parametrize("cut", [1, 20, 40])
def test_half_a_line_that_is_being_written(cut: int, tmp_path: Path) -> None:
    path = tmp_path / "000000010000000000000005.json.partial"
    commit = change_line("C", Lsn(100), xid="7", timestamp="2026-01-10 15:00+00")
    begin = change_line("B", Lsn(120), xid="8")
    path.write_bytes(commit + begin[:cut])
    assert ends_a_transaction(path)
    path.write_bytes(begin + commit[:cut])
    assert not ends_a_transaction(path)
    path.write_bytes(commit[:cut])
    assert not ends_a_transaction(path)


def test_only_one_removes_files_at_a_time(folder: Path) -> None:
    workdir = WorkDir(folder.parent)
    before = sorted(folder.iterdir())
    with workdir.lock("prune"), pytest.raises(InUse):
        prune(workdir, SIZE, at(9))
    assert sorted(folder.iterdir()) == before
    assert numbers(prune(workdir, SIZE, at(9, 0)))


def test_what_the_first_file_is_does_not_go_back(folder: Path) -> None:
    """Whoever removes files may know of an earlier position than one who has removed more since."""
    prune(WorkDir(folder.parent), SIZE, at(9))
    remember_first(folder, Segment(1, 9, SIZE).name)
    move_first_on(folder, Segment(1, 6, SIZE))
    for suffix in (".json", ".sql"):
        check_first(files_of(folder, suffix, SIZE), SIZE)
    next(folder.glob("*9.sql.partial")).rename(folder / f"{Segment(1, 10, SIZE).name}.sql.partial")
    with pytest.raises(StateError, match="files are missing"):
        check_first(files_of(folder, ".sql", SIZE), SIZE)


@pytest.mark.parametrize("suffix", [".json", ".sql"])
def test_a_file_gets_its_final_name_while_it_is_looked_at(
    suffix: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real: Callable[..., object] = Path.open

    def published_before(path: Path, *more: str) -> object:
        if path.name.endswith(f"{suffix}.partial") and path.exists():
            path.rename(path.with_name(path.name.removesuffix(".partial")))
        return real(path, *more)

    monkeypatch.setattr(Path, "open", published_before)
    assert numbers(prunable(folder, SIZE, at(9)))
    assert not list(folder.glob(f"*{suffix}.partial"))


def test_a_change_file_is_removed_while_it_is_looked_at(folder: Path) -> None:
    """The receiver does so where room is short, with those before the last one in which a transaction ends."""
    assert ends_a_transaction(folder / "00000001000000000000004.json")
