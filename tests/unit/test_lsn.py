"""WAL positions: text and integer forms agree."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgcopydb.postgres.lsn import Lsn

positions = st.integers(0, 2**64 - 1).map(Lsn)


@given(positions)
def test_text_form_reads_back(lsn: Lsn) -> None:
    assert Lsn.parse(str(lsn)) == lsn


@given(positions, positions)
def test_order_is_that_of_the_bytes(one: Lsn, other: Lsn) -> None:
    assert (one < other) == (one.value < other.value)
    assert one.bytes_since(other) == -other.bytes_since(one)


def test_text_is_not_padded() -> None:
    assert str(Lsn(0x1_0000_00AB)) == "1/AB"


@pytest.mark.parametrize("text", ["", "0", "0/", "/0", "0/0/0", "g/0", "123456789/0", "0/123456789", " 0/0", "-1/0"])
def test_anything_else_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a WAL position"):
        Lsn.parse(text)
