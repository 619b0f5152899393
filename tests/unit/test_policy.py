"""What is done about what goes wrong."""

from __future__ import annotations

import pytest

from pgcopydb.runtime.errors import (
    DiskFull,
    ExitCode,
    Kind,
    PartialFailure,
    PgcopydbError,
    SourceError,
    StateError,
    Stopped,
)
from pgcopydb.runtime.policy import POLICY, Again, Trouble, trouble_of, trouble_of_exit


@pytest.mark.parametrize(
    ("error", "trouble"),
    [
        (SourceError("gone", kind=Kind.RETRY), Trouble.AWAY),
        (SourceError("refused"), Trouble.FOR_A_PERSON),
        (StateError("locked"), Trouble.FOR_A_PERSON),
        (DiskFull("full"), Trouble.NO_ROOM),
        (SourceError("full", sqlstate="53100"), Trouble.NO_ROOM),
        (Stopped("asked"), Trouble.STOP),
        (PartialFailure("some", causes=[SourceError("gone", kind=Kind.RETRY), DiskFull("full")]), Trouble.AWAY),
        (PartialFailure("some", causes=[SourceError("gone", kind=Kind.RETRY), StateError("no")]), Trouble.FOR_A_PERSON),
        (PartialFailure("some"), Trouble.FOR_A_PERSON),
    ],
)
def test_errors(error: PgcopydbError, trouble: Trouble) -> None:
    assert trouble_of(error) is trouble


def test_ends_of_stages() -> None:
    assert trouble_of_exit(0) is None
    assert trouble_of_exit(-9) is Trouble.KILLED
    assert trouble_of_exit(ExitCode.INTERNAL_ERROR) is Trouble.KILLED, "it got a signal"
    for code in (ExitCode.BAD_ARGS, ExitCode.BAD_STATE, ExitCode.SOURCE, ExitCode.TARGET, ExitCode.FATAL):
        assert trouble_of_exit(code) is Trouble.FOR_A_PERSON


def test_every_kind_has_a_line() -> None:
    assert set(POLICY) == set(Trouble)


def test_pauses_grow_to_the_longest_and_differ() -> None:
    again = Again(0.1, 5.0)
    for attempt in range(100):
        whole = min(5.0, 0.1 * 2.0**attempt)
        pauses = [again.pause(attempt) for _ in range(20)]
        assert all(whole / 2 <= pause <= whole for pause in pauses)
        assert len(set(pauses)) > 1
