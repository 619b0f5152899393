"""Lines out of files that grow: whole, each once, in order, a long one alone."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgcopydb.daemon import tail as module
from pgcopydb.daemon.segments import Segment
from pgcopydb.daemon.tail import Tail
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import CorruptState

SIZE = 1 << 24
BLOCK = 32


def path_of(folder: Path, number: int, end: str = ".json.partial") -> Path:
    return folder / f"{Segment(1, number, SIZE).name}{end}"


@pytest.fixture(autouse=True)
def _small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_BLOCK_BYTES", BLOCK)


lengths = st.lists(st.one_of(st.integers(0, 10), st.integers(25, 40), st.integers(60, 200)), max_size=12)


@given(lengths, st.lists(st.integers(1, 90), max_size=40))
def test_whatever_is_written_in_whatever_pieces(lengths: list[int], pieces: list[int]) -> None:
    content = b"".join(b"%d" % (n % 10) * n + b"\n" for n in lengths)
    taken: list[bytes] = []
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "_BLOCK_BYTES", BLOCK)
        patch.setattr(module, "_PIECE_BYTES", 50)
        folder = Path(name)
        tail = Tail(folder, ".json", SIZE)
        assert tail.read() == b""
        with path_of(folder, 3).open("wb", buffering=0) as file:
            written = 0
            for size in [*pieces, len(content)]:
                file.write(content[written : written + size])
                written += size
                while block := tail.read():
                    taken.append(block)
                assert b"".join(taken) == content[:written][: content[:written].rfind(b"\n") + 1]
        tail.close()
    for block in taken:
        assert block.endswith(b"\n")
        assert len(block) <= BLOCK or block.count(b"\n") == 1


def test_a_file_that_gets_its_final_name_meanwhile(tmp_path: Path) -> None:
    path = path_of(tmp_path, 3)
    path.write_bytes(b"one\n")
    tail = Tail(tmp_path, ".json", SIZE)
    assert tail.read() == b"one\n"
    with path.open("ab") as file:
        file.write(b"two\n")
    path.rename(path_of(tmp_path, 3, ".json"))
    assert not tail.was_replaced()
    assert tail.read() == b"two\n"
    assert tail.name == path_of(tmp_path, 3, ".json").name
    tail.close()


def test_the_next_file_is_the_one_that_is_announced(tmp_path: Path) -> None:
    for number in (3, 5):
        path_of(tmp_path, number, ".json").write_bytes(b"%d\n" % number)
    path_of(tmp_path, 4, ".sql").write_bytes(b"of another kind\n")
    tail = Tail(tmp_path, ".json", SIZE)
    assert tail.read() == b"3\n"
    tail.follow(Lsn(5 * SIZE))
    assert tail.read() == b"5\n"
    tail.follow(Lsn(6 * SIZE))
    assert tail.read() == b"", "it is not there yet"
    path_of(tmp_path, 6).write_bytes(b"6\n")
    assert tail.read() == b"6\n"
    tail.close()


def test_a_file_that_is_gone(tmp_path: Path) -> None:
    path_of(tmp_path, 5).write_bytes(b"5\n")
    tail = Tail(tmp_path, ".json", SIZE)
    tail.go_to(4)
    with pytest.raises(CorruptState, match=r"a file is missing in .*: the one before 000000010000000000000005"):
        tail.read()


def test_a_file_of_somebody_else(tmp_path: Path) -> None:
    (tmp_path / "notes.json").write_bytes(b"{}\n")
    with pytest.raises(CorruptState, match="is not the name of a WAL segment"):
        Tail(tmp_path, ".json", SIZE).read()
    (tmp_path / "notes.json").rename(tmp_path / ".notes.json")
    assert Tail(tmp_path, ".json", SIZE).read() == b""


def test_a_file_that_was_replaced(tmp_path: Path) -> None:
    path = path_of(tmp_path, 3)
    path.write_bytes(b"one\ntwo\n")
    tail = Tail(tmp_path, ".json", SIZE)
    assert not tail.was_replaced(), "nothing is being read"
    assert tail.read() == b"one\ntwo\n"
    aside = tmp_path / "aside"
    aside.write_bytes(b"one\n")
    aside.replace(path)
    assert tail.was_replaced()
    tail.go_to(3, len(b"one\n"))
    with path.open("ab") as file:
        file.write(b"other\n")
    assert tail.read() == b"other\n"
    assert not tail.was_replaced()
    tail.close()
