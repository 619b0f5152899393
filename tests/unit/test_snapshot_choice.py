"""What a new snapshot means for what an earlier run copied."""

from __future__ import annotations

import pytest

from pgcopydb.bootstrap.snapshot_choice import Verdict, judge


@pytest.mark.parametrize(
    ("stored", "restored", "anything_read", "not_consistent", "expected"),
    [
        (None, False, False, False, Verdict.SAME),
        ("10:10:", True, True, False, Verdict.SAME),
        ("9:9:", False, False, False, Verdict.BEGIN_AGAIN),
        ("9:9:", True, False, False, Verdict.REFUSED),
        ("9:9:", True, False, True, Verdict.MIXED),
        ("9:9:", True, True, False, Verdict.REFUSED),
        ("9:9:", True, True, True, Verdict.MIXED),
    ],
)
def test_verdict(
    stored: str | None, restored: bool, anything_read: bool, not_consistent: bool, expected: Verdict
) -> None:
    verdict = judge(
        stored=stored,
        content="10:10:",
        restored=restored,
        anything_read=anything_read,
        not_consistent=not_consistent,
    )
    assert verdict is expected
