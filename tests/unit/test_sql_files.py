"""Statements are sent to servers of any encoding, their remarks too."""

from __future__ import annotations

from pathlib import Path

import pytest

FILES = sorted((Path(__file__).parents[2] / "bootstrap" / "sql").glob("*.sql"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_only_what_every_encoding_has(path: Path) -> None:
    assert path.read_bytes().isascii()
