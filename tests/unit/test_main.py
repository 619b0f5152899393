"""What an error means for the exit code, and what is shown of it."""

from __future__ import annotations

import pytest

from pgcopydb.cli import main
from pgcopydb.runtime.errors import ExitCode, PartialFailure, SourceError, StateError, TargetError


def ends_with(error: Exception, monkeypatch: pytest.MonkeyPatch) -> int:
    def fail(_arguments: list[str]) -> int:
        raise error

    monkeypatch.setattr(main, "_invoke", fail)
    return main.run([])


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SourceError("no"), ExitCode.SOURCE),
        (StateError("no"), ExitCode.BAD_STATE),
        (PartialFailure("no", causes=[TargetError("a"), TargetError("b")]), ExitCode.TARGET),
        (PartialFailure("no", causes=[TargetError("a"), SourceError("b")]), ExitCode.INTERNAL_ERROR),
    ],
)
def test_exit_codes(error: Exception, code: int, monkeypatch: pytest.MonkeyPatch) -> None:
    assert ends_with(error, monkeypatch) == code


def test_a_defect_is_one_line_and_a_hint(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    assert ends_with(ZeroDivisionError("by accident"), monkeypatch) == ExitCode.FATAL
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 2
    assert "internal error: ZeroDivisionError: by accident" in lines[0]
    assert "--debug" in lines[1]
