"""How large objects are divided among workers, which errors divide them further, and which are only told."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pgcopydb.bootstrap.after_follow import is_refusal
from pgcopydb.bootstrap.changed_large_objects import halves, is_about_objects, ranges_between
from pgcopydb.bootstrap.large_objects import AttributeRefused
from pgcopydb.runtime.errors import PgcopydbError, SourceError, TargetError

OIDS = st.integers(1, (1 << 32) - 1)


@given(st.lists(OIDS))
def test_ranges_hold_every_number_once(ends: list[int]) -> None:
    ranges = [*ranges_between(ends)]
    assert (ranges[0][0], ranges[-1][1]) == (1, (1 << 32) - 1)
    assert all(first <= last for first, last in ranges)
    assert all(behind[0] == before[1] + 1 for before, behind in pairwise(ranges))
    assert {*ends} <= {last for _, last in ranges}


@given(st.sets(OIDS, min_size=1))
def test_halves_end_at_single_objects(oids: set[int]) -> None:
    left, single = [oids], set()
    while left:
        these = left.pop()
        for first, last in halves(these):
            half = {oid for oid in these if first <= oid <= last}
            if first == last:
                single |= half
            else:
                assert len(half) < len(these) or len(these) == 1
                left.append(half)
    assert single == oids


@pytest.mark.parametrize(
    ("error", "divides", "told"),
    [
        (SourceError("permission denied for large object 5", sqlstate="42501"), True, True),
        (SourceError("invalid page in block 7", sqlstate="XX001"), True, False),
        (TargetError("out of shared memory", sqlstate="53200"), True, False),
        (TargetError("disk full", sqlstate="53100"), False, False),
        (TargetError("somebody else's"), False, False),
        (AttributeRefused('role "r" does not exist', sqlstate="42704"), True, True),
        (SourceError("large object 5 does not exist", sqlstate="42704"), True, False),
    ],
    ids=lambda value: str(value) if isinstance(value, bool) else value.message.replace(" ", "-"),
)
def test_what_an_error_means(error: PgcopydbError, divides: bool, told: bool) -> None:
    assert (is_about_objects(error), is_refusal(error)) == (divides, told)
