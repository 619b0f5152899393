"""How much memory each stage of following takes for some work on the source: the peak of its process.

A stage takes no more than ``BASE_MB`` and ``LINES`` times the longest line of a change file, which is one value or one
row of values: as text, as JSON, as SQL and as what libpq keeps of it. Python keeps a text in which one character is
an emoji at four bytes for each: value, literal and statement are then three or four lines long, each twice at a time.
"""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tests.content import assert_same_content
from tests.fix_command import PROGRAM, Command
from tests.fix_servers import DbPair
from tests.fix_wal2json import require_wal2json
from tests.following import uris

BASE_MB: Final = 100
LINES: Final = 18
STAGES: Final = ("receive", "transform", "apply")

# The program's own parent is a small process: a child's peak is never told to be less than its parent's.
_MEASURE: Final = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss, file=sys.stderr)
sys.exit(code)
"""


def assert_bounded(
    plugin: str,
    pair: DbPair,
    command: Command,
    workdir: Path,
    schema: str,
    work: Sequence[str],
    *,
    timeout: float = 120,
) -> None:
    """Make a schema on both sides, do the work on the source, follow it stage by stage, twice each: from the beginning,
    and where it was left. Fails unless the contents are the same and the peaks within the bound."""
    lossy = []
    if plugin == "wal2json":
        require_wal2json(pair.source.cluster)
        lossy = ["--wal2json-lossy-nan"]
    for database in (pair.source, pair.target):
        database.execute(schema)
    env = uris(pair)
    command.run("stream", "setup", "--plugin", plugin, *lossy, "--dir", workdir, env=env)
    try:
        for statements in work:
            pair.source.execute(statements)
        pair.source.execute("UPDATE pgcopydb.sentinel SET apply = true, endpos = pg_current_wal_flush_lsn()")
        peaks = {}
        for stage in STAGES:
            for turn in ("begun", "resumed"):
                peaks[stage, turn] = _peak_mb(["stream", stage, "--dir", str(workdir)], env, timeout)
                if (stage, turn) == ("receive", "begun"):
                    longest = _longest_line(workdir / "cdc") / (1 << 20)
        assert_same_content(pair.source.dsn, pair.target.dsn)
    finally:
        command.run("stream", "cleanup", "--dir", workdir, env=env)
    bound = BASE_MB + LINES * longest
    over = {of: peak for of, peak in peaks.items() if peak > bound}
    assert not over, f"more than {bound:.0f} MB: {over}"


def _peak_mb(arguments: list[str], env: dict[str, str], timeout: float) -> float:
    done = subprocess.run(
        [sys.executable, "-S", "-c", _MEASURE, PROGRAM, *arguments],
        check=False,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        env={**os.environ, **env},
        timeout=timeout,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stderr.split()[-1]) / 1024


def _longest_line(folder: Path) -> int:
    longest = 0
    for path in folder.glob("*.json*"):
        with path.open("rb") as file:
            longest = max(longest, max(map(len, file), default=0))
    return longest
