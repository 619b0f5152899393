"""Dividing tables into parts: each row is in exactly one part."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgcopydb.bootstrap.copy_plan import PartRange, parts_wanted, plan_table, ranges
from pgcopydb.bootstrap.options import Split


@pytest.mark.parametrize(
    ("size", "split", "expected"),
    [
        (100, Split(larger_than=0), 1),
        (99, Split(larger_than=100), 1),
        (100, Split(larger_than=100), 1),
        (101, Split(larger_than=100), 2),
        (1000, Split(larger_than=100), 10),
        (1000, Split(larger_than=100, max_parts=3), 3),
    ],
)
def test_parts_wanted(size: int, split: Split, expected: int) -> None:
    assert parts_wanted(size, split) == expected


def covers(part: PartRange, value: int) -> bool:
    return (part.lower is None or value >= part.lower) and (part.upper is None or value <= part.upper)


@given(
    low=st.integers(-(2**63), 2**63 - 1),
    width=st.integers(0, 10_000),
    parts=st.integers(2, 50),
    value=st.integers(-(2**63), 2**63 - 1),
    seen=st.lists(st.integers(-100, 10_100)),
)
def test_every_value_is_in_exactly_one_range(low: int, width: int, parts: int, value: int, seen: list[int]) -> None:
    planned = list(ranges("key", low, min(low + width, 2**63 - 1), parts, [low + each for each in seen]))
    assert 1 <= len(planned) <= parts
    for probe in (value, low - 1, low, low + width // 2, low + width, low + width + 1):
        assert sum(covers(part, probe) for part in planned) == 1


def test_parts_have_as_many_rows_each_as_the_statistics_tell() -> None:
    """One number that is far from all others does not leave all rows to one part."""
    plan = plan_table(
        parts=4, key="k", bounds=(1, 10**12), nullable=False, pages=None, histogram=[*range(1, 101), 10**12]
    )
    assert [part.condition("k") for part in plan] == [
        '"k" <= 26',
        '"k" >= 27 AND "k" <= 51',
        '"k" >= 52 AND "k" <= 76',
        '"k" >= 77',
    ]


def test_a_nullable_key_has_a_part_of_its_own_for_null() -> None:
    plan = plan_table(parts=4, key="k", bounds=(1, 100), nullable=True, pages=None)
    assert [part.condition("k") for part in plan] == [
        '"k" IS NULL',
        '"k" <= 25',
        '"k" >= 26 AND "k" <= 50',
        '"k" >= 51 AND "k" <= 75',
        '"k" >= 76',
    ]


def test_pages_are_cut_at_page_boundaries() -> None:
    plan = plan_table(parts=2, key=None, bounds=None, nullable=False, pages=10)
    assert [part.condition(None) for part in plan] == ["ctid < '(5,0)'::tid", "ctid >= '(5,0)'::tid"]


@pytest.mark.parametrize(
    ("key", "bounds", "pages"),
    [("k", None, None), (None, None, None), (None, None, 1), ("k", (5, 5), None)],
)
def test_a_table_that_cannot_be_cut_is_copied_whole(
    key: str | None, bounds: tuple[int, int] | None, pages: int | None
) -> None:
    plan = plan_table(parts=8, key=key, bounds=bounds, nullable=True, pages=pages)
    assert plan == [PartRange("whole")]
    assert plan[0].condition(key) == ""
