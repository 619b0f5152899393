"""What receiving makes of errors of the source's own."""

from __future__ import annotations

from pgcopydb.daemon.receive_stage import InternalErrors
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import Kind, SourceError

FOUND = SourceError('could not map filenode "base/1/2" to relation OID', sqlstate="XX000")


def test_other_sessions_are_tried_first() -> None:
    errors = InternalErrors()
    found = [errors.judge(FOUND, Lsn(0x100)) for _ in range(12)]
    assert [error.kind for error in found] == [Kind.RETRY] * 11 + [Kind.OPERATOR]
    assert found[-1].message.endswith("so said 12 sessions that began at 0/100")
    assert found[-1].exit_code == FOUND.exit_code


def test_each_place_has_its_own_patience() -> None:
    errors = InternalErrors()
    for position in range(1, 100):
        assert errors.judge(FOUND, Lsn(position)).kind is Kind.RETRY
    assert [errors.judge(FOUND, Lsn(99)).kind for _ in range(11)] == [Kind.RETRY] * 10 + [Kind.OPERATOR]
