"""pgbench writes as fast as it can, and every few seconds something is killed."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import Following, pair_of, processes_of
from tests.integration.test_follow_pgbench import pgbench_running
from tests.lot import lot
from tests.wait import wait_until

KILLS = 10


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 18) as pair:
        program = pair.source.cluster.bin_dir / "pgbench"
        subprocess.run([program, "--initialize", "--quiet", "--scale=2", pair.source.dsn], check=True)
        yield pair


@pytest.mark.slow
def test_any_process_is_killed_under_pgbench(
    pair: DbPair, pgcopydb: Command, workdir_path: Path, tmp_path: Path
) -> None:
    rng = lot(41)
    run = Following(pgcopydb, pair, workdir_path)
    with pgbench_running(pair.source, tmp_path / "pgbench.log") as pgbench:
        run.start()
        for _ in range(KILLS):
            run.catches_up()
            victim = rng.choice(sorted(processes_of(workdir_path)))
            os.kill(victim, signal.SIGKILL)
            if victim == run.process.pid or rng.random() < 0.3:
                run.process.kill()
                run.process.wait()
                wait_until(lambda: not processes_of(workdir_path), 30, "its stages to end")
                run.start()
        assert pgbench.poll() is None, (tmp_path / "pgbench.log").read_text()
    run.set_end()
    run.ends()
