"""The pairs of versions that ``tests/integration/test_follow_types.py`` leaves out."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fix_command import Command
from tests.fix_matrix import Matrix

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("plugin", "source", "target"),
    [
        ("test_decoding", 15, 18),
        ("test_decoding", 17, 18),
        ("wal2json", 15, 15),
        ("pgoutput", 15, 15),
        ("pgoutput", 15, 18),
    ],
)
def test_every_type(
    plugin: str, source: int, target: int, matrix: Matrix, pgcopydb: Command, workdir_path: Path
) -> None:
    matrix.follow(plugin, (source, target), pgcopydb, workdir_path)
