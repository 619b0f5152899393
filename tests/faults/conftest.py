"""Says in the end how long it took to recover."""

from __future__ import annotations

import pytest

from tests import lot, recovery


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = recovery.lines()
    if found:
        terminalreporter.section(f"time to recover, seed {lot.SEED}")
        for line in found:
            terminalreporter.write_line(line)
