"""Killed where the copy and the changes meet: while the target catches up before foreign keys are made, and where a
conflict is on the disk and its transaction is not yet committed."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import orjson
import pytest

from pgcopydb.runtime.failpoint import NAMES
from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import is_applied, is_halted, pair_of, uris
from tests.integration.test_follow_read_at import FIXED, ONE_JOB, STOPPED, end, read_at
from tests.wait import wait_until

CATCH_UP = sorted(name for name in NAMES if name.startswith("catch_up."))
LATER = """
UPDATE keyless SET b = 'changed'; DELETE FROM keyless WHERE a < 10;
INSERT INTO parent SELECT i, 'new' FROM generate_series(1001, 1100) i;
TRUNCATE child; INSERT INTO child SELECT i, i + 1000 FROM generate_series(1, 100) i;
UPDATE big SET filler = 'small' WHERE id % 7 = 0
"""


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 18) as pair:
        yield pair


@pytest.mark.parametrize(
    "name", [pytest.param(name, marks=() if name == "catch_up.after_apply" else pytest.mark.slow) for name in CATCH_UP]
)
def test_killed_while_the_target_catches_up(name: str, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """What was read later than the rest stays known, and nothing of it is applied twice."""
    pair.source.execute(FIXED)
    env = uris(pair, f"{STOPPED},{name}=kill")
    process = pgcopydb.start("clone", "--follow", "--dir", workdir_path, *ONE_JOB, env=env)
    wait_until(lambda: is_halted(process.pid), 60, "the first table, which is the big one, to be copied")
    pair.source.execute(LATER)
    os.kill(process.pid, signal.SIGCONT)
    assert process.wait(90) == -signal.SIGKILL, pgcopydb.log_of(process)
    assert read_at(workdir_path) == {"child"}
    pair.source.execute("UPDATE keyless SET a = a + 1; DELETE FROM child WHERE id = 5; INSERT INTO child VALUES (0, 1)")
    end(pgcopydb, pair, workdir_path, *ONE_JOB)
    assert read_at(workdir_path) == {"child"}


def test_killed_between_a_conflict_and_its_commit(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """It is met again, and the end is no success."""
    pair.source.execute(FIXED)
    following: list[str | os.PathLike[str]] = ["clone", "--follow", "--dir", workdir_path, "--on-conflict", "warn"]
    process = pgcopydb.start(*following, env=uris(pair, "conflicts.after_keep=kill"))
    wait_until(lambda: is_applied(pair) or process.poll() is not None, 60, "changes to be applied")
    pair.target.execute("DELETE FROM child WHERE id = 1; DELETE FROM parent WHERE id = 1")
    pair.source.execute("BEGIN; UPDATE parent SET t = 'x' WHERE id = 1; UPDATE parent SET t = 'y' WHERE id = 2; COMMIT")
    assert process.wait(120) not in {0, 12}, pgcopydb.log_of(process)
    assert pair.target.fetch("SELECT t FROM parent WHERE id = 2") == [("p2",)]
    resumed = pgcopydb.start(*following, "--resume", env=uris(pair))
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir_path, env=uris(pair))
    assert resumed.wait(90) == 12, pgcopydb.log_of(resumed)
    kept = [orjson.loads(line) for line in (workdir_path / "conflicts.jsonl").read_bytes().splitlines()]
    assert len({each["lsn"] for each in kept}) == 1
    pair.target.execute("INSERT INTO parent VALUES (1, 'x'); INSERT INTO child VALUES (1, 1)")
    assert_same_content(pair.source.dsn, pair.target.dsn)
