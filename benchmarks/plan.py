"""How much is to be measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from benchmarks.tools import Tool


@dataclass(frozen=True, slots=True)
class Plan:
    """How much is run. ``tools`` holds missing ones too; ``asked`` names those to run, None leaves it to the suite.

    ``transactions`` make a backlog; ``commits`` are those of a round of ``latency``, ``seconds`` those of ``live``.
    """

    rounds: int
    jobs: int
    tools: Sequence[Tool]
    asked: frozenset[str] | None
    size: int
    tables: int
    row_megabytes: int
    long_scale: int
    transactions: int
    commits: int
    seconds: int
