"""The only place of the suite that sleeps: a wait names its condition and its deadline."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")

PATIENCE = 3
"""Several tests share a machine, which may be slow: a deadline is for what never comes."""
_PAUSE_SECONDS = 0.02


def wait_until(condition: Callable[[], T], deadline: float, what: str) -> T:
    """Ask ``condition`` until its answer is true, and return that answer.

    ``what`` completes the sentence "… seconds were not enough for: "; ``deadline`` is in seconds from now, of a machine
    that has nothing else to do.
    """
    deadline *= PATIENCE
    end = time.monotonic() + deadline
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise AssertionError(f"{deadline:g} seconds were not enough for: {what} (last answer: {answer!r})")
        time.sleep(_PAUSE_SECONDS)
