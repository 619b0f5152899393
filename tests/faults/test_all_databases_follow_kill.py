"""Kill a run of all databases that follows changes, at places of its own; go on, and compare them all."""

from __future__ import annotations

import os
import signal

import pytest

from tests.fix_all_databases import Run
from tests.following import is_halted
from tests.wait import wait_until

BEFORE = ("stream.after_slot", "databases.after_copy", "follow.after_copy", "supervise.after_launch")
AT_THE_END = ("databases.after_follow", "databases.after_finish", "databases.after_mark")
# Walked on every change; the others with `make faults`.
SHORT = {"databases.after_copy", "databases.after_follow"}


def walked() -> list[object]:
    places = [(name, passes) for name in (*BEFORE, *AT_THE_END) for passes in (1, 2)]
    return [
        pytest.param(name, passes, marks=() if name in SHORT and passes == 2 else pytest.mark.slow)
        for name, passes in places
    ]


@pytest.mark.parametrize(("name", "passes"), walked())
def test_killed_and_gone_on(name: str, passes: int, run_of_all: Run) -> None:
    """When none, or one of the databases has passed there."""
    at_the_end = name in AT_THE_END
    process = run_of_all.start("--database-jobs", "1", PGCOPYDB_FAILPOINTS=f"{name}=kill@{passes}")
    if at_the_end:
        run_of_all.wait_until_copied(process)
        run_of_all.write("before the end")
        run_of_all.set_end()
    wait_until(lambda: process.poll() is not None, 60, "the death of the process")
    assert process.returncode == -signal.SIGKILL, run_of_all.pgcopydb.log_of(process)
    wait_until(lambda: not run_of_all.processes(), 30, "the stages to end with it")
    if not at_the_end:
        run_of_all.write("while nothing runs")
    process = run_of_all.start("--database-jobs", "1", "--resume", "--not-consistent")
    if at_the_end:
        run_of_all.comes_to_its_end(process)
        return
    run_of_all.wait_until_copied(process)
    run_of_all.write("after it went on")
    run_of_all.set_end()
    run_of_all.comes_to_its_end(process)


def test_a_target_that_is_away_is_waited_for(run_of_all: Run) -> None:
    """The slot of a database whose copy was broken off keeps WAL: nobody has to come and start it again."""
    process = run_of_all.start("--database-jobs", "1", PGCOPYDB_FAILPOINTS="pre_data.before_restore=stop@2")
    wait_until(lambda: is_halted(process.pid), 60, "the schema of the second database")
    run_of_all.target.stop("immediate")
    os.kill(process.pid, signal.SIGCONT)
    wait_until(lambda: "it is tried again in" in run_of_all.pgcopydb.log_of(process), 90, "another attempt")
    run_of_all.target.start()
    run_of_all.wait_until_copied(process)
    run_of_all.write("after the fall")
    run_of_all.end(process)
