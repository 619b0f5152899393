"""Kill a run of all databases that follows changes, at places of its own; go on, and compare them all."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.clusters import Cluster
from tests.fix_command import Command
from tests.following import is_halted
from tests.following_all import Run, clusters_of_all, run_of
from tests.wait import wait_until

BEFORE = ("stream.after_slot", "databases.after_copy", "follow.after_copy", "supervise.after_launch")
AT_THE_END = ("databases.after_follow", "databases.after_finish", "databases.after_mark")
# Walked on every change; the others with `make faults`.
SHORT = {"databases.after_copy", "databases.after_follow"}


@pytest.fixture(scope="module")
def clusters() -> Iterator[tuple[Cluster, Cluster]]:
    with clusters_of_all() as clusters:
        yield clusters


@pytest.fixture
def run(clusters: tuple[Cluster, Cluster], pgcopydb: Command, workdir_path: Path) -> Iterator[Run]:
    with run_of(clusters, pgcopydb, workdir_path) as run:
        yield run


def walked() -> list[object]:
    places = [(name, passes) for name in (*BEFORE, *AT_THE_END) for passes in (1, 2)]
    return [
        pytest.param(name, passes, marks=() if name in SHORT and passes == 2 else pytest.mark.slow)
        for name, passes in places
    ]


@pytest.mark.parametrize(("name", "passes"), walked())
def test_killed_and_gone_on(name: str, passes: int, run: Run) -> None:
    """When none, or one of the databases has passed there."""
    at_the_end = name in AT_THE_END
    process = run.start("--database-jobs", "1", PGCOPYDB_FAILPOINTS=f"{name}=kill@{passes}")
    if at_the_end:
        run.wait_until_copied(process)
        run.write("before the end")
        run.set_end()
    wait_until(lambda: process.poll() is not None, 60, "the death of the process")
    assert process.returncode == -signal.SIGKILL, run.pgcopydb.log_of(process)
    wait_until(lambda: not run.processes(), 30, "the stages to end with it")
    if not at_the_end:
        run.write("while nothing runs")
    process = run.start("--database-jobs", "1", "--resume", "--not-consistent")
    if at_the_end:
        run.comes_to_its_end(process)
        return
    run.wait_until_copied(process)
    run.write("after it went on")
    run.set_end()
    run.comes_to_its_end(process)


def test_a_target_that_is_away_is_waited_for(run: Run) -> None:
    """The slot of a database whose copy was broken off keeps WAL: nobody has to come and start it again."""
    process = run.start("--database-jobs", "1", PGCOPYDB_FAILPOINTS="pre_data.before_restore=stop@2")
    wait_until(lambda: is_halted(process.pid), 60, "the schema of the second database")
    run.target.stop("immediate")
    os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: "it is tried again in" in run.pgcopydb.log_of(process), 90, "another attempt")
    run.target.start()
    run.wait_until_copied(process)
    run.write("after the fall")
    run.end(process)
