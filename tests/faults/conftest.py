"""Says in the end how long it took to recover, in whichever of pytest's processes that was measured."""

from __future__ import annotations

from typing import Any

import pytest

from tests import lot, recovery


def pytest_sessionfinish(session: pytest.Session) -> None:
    of_worker: dict[str, Any] | None = getattr(session.config, "workeroutput", None)
    if of_worker is not None:
        of_worker["recovery"] = recovery.seconds_of_tests()


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    recovery.add(getattr(node, "workeroutput", {}).get("recovery", {}))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    found = recovery.lines()
    if found:
        terminalreporter.section(f"time to recover, seed {lot.SEED}")
        for line in found:
            terminalreporter.write_line(line)
