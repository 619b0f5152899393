"""What is drawn by lot in tests: the same for the same ``PGCOPYDB_TEST_SEED``, which is 0 unless set."""

from __future__ import annotations

import os
from random import Random
from typing import Final

SEED: Final = int(os.environ.get("PGCOPYDB_TEST_SEED", "0"))


def moved(seed: int) -> int:
    """Another one for each value of the variable."""
    return SEED * 1000 + seed


def lot(seed: int) -> Random:
    return Random(moved(seed))
