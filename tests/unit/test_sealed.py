"""A sealed file is read as it was written, or not at all."""

from __future__ import annotations

from pathlib import Path

import orjson
import pytest

from pgcopydb.runtime.sealed import read_sealed, write_sealed

FIELDS = {"lsn": "16/B374D848", "tables": [{"name": "a b"}], "ready": True, "count": 3}


def test_what_was_written_is_read(tmp_path: Path) -> None:
    write_sealed(tmp_path / "file", FIELDS)
    assert read_sealed(tmp_path / "file") == FIELDS


def test_each_bit_counts(tmp_path: Path) -> None:
    """White space between fields excepted: it means nothing."""
    path = tmp_path / "file"
    write_sealed(path, FIELDS)
    content = path.read_bytes()
    for place in range(len(content) * 8):
        damaged = bytearray(content)
        damaged[place // 8] ^= 1 << place % 8
        path.write_bytes(damaged)
        try:
            found = read_sealed(path)
        except ValueError:
            continue
        assert found == FIELDS
        assert content[place // 8 : place // 8 + 1].isspace()


@pytest.mark.parametrize("text", [b"", b"[]", b"3", b"{}", b'{"lsn": "16/0"}', b"\0" * 20])
def test_what_never_was_one(text: bytes, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"checksum|JSON|unexpected|zero-length|input"):
        read_sealed(path)


def test_an_edit_is_found(tmp_path: Path) -> None:
    path = tmp_path / "file"
    write_sealed(path, FIELDS)
    path.write_bytes(orjson.dumps(orjson.loads(path.read_bytes()) | {"ready": False}))
    with pytest.raises(ValueError, match="checksum"):
        read_sealed(path)
