"""Whatever byte a writer dies at, and whatever page was not written when the power failed, every whole line before that
is left, and it is known where the last transaction ends."""

from __future__ import annotations

import tempfile
from pathlib import Path

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgcopydb.daemon import change_file
from pgcopydb.daemon.change_file import ChangeFile, change_line, recover, row_line
from pgcopydb.daemon.segments import Segment
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import CorruptState

SEGMENT = Segment(1, 7, 16 << 20)
START = SEGMENT.start.value

payloads = st.one_of(
    st.just(b'{"n":12345678901234567890,"f":1.10,"t":"a\\nb \\u0000 \xc3\xa9"}'),
    st.text(max_size=300).map(orjson.dumps),
    st.integers(1, 5000).map(lambda size: b'"' + b"x" * size + b'"'),
)
transactions = st.lists(st.one_of(st.none(), st.lists(payloads, max_size=5)), max_size=20)
"""A transaction is the payloads of its changes; None is a keepalive."""


def lines_of(written: list[list[bytes] | None]) -> list[tuple[bytes, int | None]]:
    """Each line, and where it has brought the file to if it is a boundary."""
    lines: list[tuple[bytes, int | None]] = []
    position = START
    for number, changes in enumerate(written):
        position += 100
        if changes is None:
            lines.append((change_line("K", Lsn(position)), position))
            continue
        lines.append((change_line("B", Lsn(position), xid=str(number)), None))
        for payload in changes:
            position += 10
            lines.append((row_line("I", str(number), position, payload), None))
        position += 50
        lines.append((change_line("C", Lsn(position), xid=str(number), timestamp="2026-01-01 00:00:00+00"), position))
    return lines


@settings(max_examples=200, deadline=None)
@given(transactions, st.data(), st.sampled_from([16, 1000, 1 << 20]))
def test_a_torn_file(written: list[list[bytes] | None], data: st.DataObject, block: int) -> None:
    lines = lines_of(written)
    content = b"".join(line for line, _ in lines)
    size_on_disk = data.draw(st.integers(0, len(content)))
    hole = data.draw(st.integers(0, size_on_disk))
    zeros = data.draw(st.integers(0, size_on_disk - hole))
    cut = hole if zeros else size_on_disk
    kept, position, size, left_open = b"", 0, 0, False
    for line, boundary in lines:
        size += len(line)
        if size <= cut:
            kept, left_open = content[:size], boundary is None
            position = position if boundary is None else boundary
    with tempfile.TemporaryDirectory() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(change_file, "_BLOCK_BYTES", block)
        path = Path(name) / f"{SEGMENT.name}.json.partial"
        path.write_bytes(content[:hole] + bytes(zeros) + content[hole + zeros : size_on_disk])
        assert recover(Path(name))[:2] == (Lsn(position), left_open)
        assert path.read_bytes() == kept
        assert recover(Path(name))[:2] == (Lsn(position), left_open)


@settings(max_examples=50, deadline=None)
@given(transactions)
def test_what_is_written_is_read_back(written: list[list[bytes] | None]) -> None:
    lines = [line for line, _ in lines_of(written)]
    with tempfile.TemporaryDirectory() as name:
        file = ChangeFile(Path(name), SEGMENT)
        for line in lines:
            file.append(line)
        file.sync()
        file.close()
        again = ChangeFile(Path(name), SEGMENT)
        again.append(change_line("X", SEGMENT.end))
        path = again.publish()
        assert path.name == f"{SEGMENT.name}.json"
        assert path.read_bytes() == b"".join(lines) + change_line("X", SEGMENT.end)
        assert recover(Path(name)).position.value == max([at for _, at in lines_of(written) if at], default=0)
        for line in path.read_bytes().splitlines():
            orjson.loads(line)


def test_a_payload_is_not_read(tmp_path: Path) -> None:
    """A number that no float holds comes out as it went in."""
    line = row_line("I", "5", (1 << 32) + 10, b'{"value":1.10,"big":12345678901234567890123}')
    assert line == b'{"action":"I","xid":"5","lsn":"1/A","message":{"value":1.10,"big":12345678901234567890123}}\n'


@pytest.mark.parametrize("damage", [b"not json\n", b'{"action":"C"}\n', b'{"action":"C","lsn":"x"}\n', b"[]\n", b"1\n"])
def test_a_damaged_line_is_not_cut_away(damage: bytes, tmp_path: Path) -> None:
    """A whole line that is none was not left by a crash: cutting it would lose changes without a word."""
    path = tmp_path / f"{SEGMENT.name}.json.partial"
    content = change_line("K", SEGMENT.start) + damage
    path.write_bytes(content)
    with pytest.raises(CorruptState, match="not a line of a change file"):
        recover(tmp_path)
    assert path.read_bytes() == content


def test_two_unfinished_files_are_refused(tmp_path: Path) -> None:
    for number in (1, 2):
        ChangeFile(tmp_path, Segment(1, number, 16 << 20)).close()
    with pytest.raises(CorruptState, match="2 unfinished files"):
        recover(tmp_path)
    assert recover(tmp_path / "nothing")[:2] == (Lsn(), False)
