"""A file system without room for changes: nothing that was acknowledged is lost, and with room again it goes on."""

from __future__ import annotations

import shutil
from functools import partial
from pathlib import Path

import pytest

from tests.content import assert_same_content
from tests.faults.test_bootstrap_connections import small_disk
from tests.faults.test_follow_kill import nothing_runs, pair, run_to_the_end, uris
from tests.fix_command import Command
from tests.fix_servers import DbPair
from tests.following import is_applied
from tests.wait import wait_until
from tests.workload import SCHEMA, Workload

__all__ = ["pair", "small_disk"]


@pytest.mark.parametrize("left", [0, pytest.param(100_000, marks=pytest.mark.slow)])
def test_the_disk_is_full(left: int, pair: DbPair, pgcopydb: Command, small_disk: Path) -> None:
    workdir = small_disk / "work"
    ballast = small_disk / "ballast"
    pair.source.execute(SCHEMA)
    with Workload(pair.source.dsn, seed=3, writers=2):
        process = pgcopydb.start("clone", "--follow", "--dir", workdir, env=uris(pair))
        wait_until(lambda: process.poll() is not None or is_applied(pair), 60, "changes to be applied")
        assert process.poll() is None, pgcopydb.log_of(process)
        with ballast.open("wb") as file:
            while (free := shutil.disk_usage(small_disk).free) > left:
                file.write(bytes(min(1 << 16, free - left)))
                file.flush()
        wait_until(lambda: process.poll() is not None, 60, "the disk to be full")
        full = pgcopydb.log_of(process)
        again = pgcopydb.run("follow", "--dir", workdir, env=uris(pair), check=False)
    for code, log in ((process.returncode, full), (again.returncode, again.stderr)):
        assert code == 3, log
        assert "No space left on device" in log
        assert "Free some room" in log
        assert "internal error" not in log
    wait_until(partial(nothing_runs, pair), 20, "all sessions to end")
    ballast.unlink()
    log = run_to_the_end(pgcopydb, pair, workdir)
    assert log.startswith("0:"), log
    assert_same_content(pair.source.dsn, pair.target.dsn)
