"""How long it took after a fault until the target had again what the source had, of all tests of a run."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from statistics import median
from typing import Final

_SECONDS: Final[dict[str, list[float]]] = {}


@contextmanager
def measured() -> Iterator[None]:
    """The block waits for that."""
    begun = time.monotonic()
    yield
    test = os.environ.get("PYTEST_CURRENT_TEST", "").rpartition("::")[2].partition(" ")[0].partition("[")[0]
    _SECONDS.setdefault(test, []).append(time.monotonic() - begun)


def seconds_of_tests() -> dict[str, list[float]]:
    return _SECONDS


def add(found: dict[str, list[float]]) -> None:
    """What another process measured."""
    for test, seconds in found.items():
        _SECONDS.setdefault(test, []).extend(seconds)


def lines() -> list[str]:
    """One for each test, the slowest first: how often, the median, the longest."""
    return [
        f"{test:60} {len(seconds):4} times, median {median(seconds):5.1f} s, longest {max(seconds):5.1f} s"
        for test, seconds in sorted(_SECONDS.items(), key=lambda found: -max(found[1]))
    ]
