"""Both sides of a comparison make the same 64 bits of the same text."""

from __future__ import annotations

import pytest

from pgcopydb.bootstrap.compare_rows import Hashing


@pytest.mark.parametrize(
    ("encodings", "versions", "expected"),
    [
        (("UTF8", "UTF8"), (150000, 180000), Hashing.NATIVE),
        (("UTF8", "UTF8"), (100023, 150000), Hashing.MD5),
        (("LATIN1", "LATIN1"), (110000, 170000), Hashing.NATIVE),
        (("LATIN1", "UTF8"), (150000, 170000), Hashing.MD5_IN_UTF8),
        (("UTF8", "LATIN1"), (100023, 170000), Hashing.MD5_IN_UTF8),
        (("SQL_ASCII", "UTF8"), (150000, 170000), Hashing.NATIVE),
    ],
)
def test_what_both_sides_can(encodings: tuple[str, str], versions: tuple[int, int], expected: Hashing) -> None:
    assert Hashing.between(encodings, versions) is expected
    assert Hashing.between(encodings[::-1], versions[::-1]) is expected
