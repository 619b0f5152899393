"""Every type, every way to tell a row from others, through every plugin: the target becomes what the source is.

Other pairs of versions: ``tests/faults/test_follow_types.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fix_command import Command
from tests.fix_matrix import Matrix


@pytest.mark.parametrize(
    ("plugin", "source", "target"), [("test_decoding", 15, 15), ("wal2json", 15, 18), ("pgoutput", 17, 18)]
)
def test_every_type(
    plugin: str, source: int, target: int, matrix: Matrix, pgcopydb: Command, workdir_path: Path
) -> None:
    matrix.follow(plugin, (source, target), pgcopydb, workdir_path, by_psql=True)
