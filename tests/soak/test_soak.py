"""A migration under moderate load for long: memory, open files and disk stay as they are after the first minutes.

``PGCOPYDB_SOAK_SECONDS`` says how long, an hour unless set. What was measured is printed, and kept in ``soak.json`` of
the test's folder.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

import orjson
import pytest

from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import Following, has_worked, pair_of, prepare, stage
from tests.workload import Workload

SECONDS = float(os.environ.get("PGCOPYDB_SOAK_SECONDS", "3600"))
REST_SECONDS = 0.02
"""Between the transactions of a writer: some tens of them a second, so that the target keeps up on any machine."""
STAGES = ("receive", "transform", "apply")
BETWEEN_SECONDS = 10.0
MOST_FILES_BYTES = 20 * (16 << 20)
"""Ten WAL segments' worth of JSON and SQL: what a target that keeps up may leave for a moment."""

pytestmark = pytest.mark.timeout(SECONDS * 2 + 600)


@dataclass(frozen=True)
class Sample:
    """Kilobytes of memory and open files of each process, bytes of the change files, seconds behind."""

    at: float
    memory: dict[str, int]
    files: dict[str, int]
    disk: int
    lag: float | None


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 18) as pair:
        yield pair


def sample(run: Following, began: float) -> Sample:
    processes = {"supervisor": run.process.pid} | {name: stage(run.workdir, name) for name in STAGES}
    status = orjson.loads(run.pgcopydb.run("status", "--json", "--dir", run.workdir, env=run.env()).stdout)
    return Sample(
        time.monotonic() - began,
        {name: resident(pid) for name, pid in processes.items()},
        {name: sum(1 for _ in Path(f"/proc/{pid}/fd").iterdir()) for name, pid in processes.items()},
        status["disk"]["json_bytes"] + status["disk"]["sql_bytes"],
        status["lag_seconds"],
    )


def resident(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line for line in lines if line.startswith("VmRSS:")).split()[1])


def test_for_long(pair: DbPair, pgcopydb: Command, workdir_path: Path, tmp_path: Path) -> None:
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    began = time.monotonic()
    samples: list[Sample] = []
    with Workload(pair.source.dsn, seed=1, writers=2, rest_seconds=REST_SECONDS) as workload:
        while time.monotonic() - began < SECONDS:
            due = time.monotonic() + BETWEEN_SECONDS
            run.wait(lambda due=due: time.monotonic() >= due, "the next look", BETWEEN_SECONDS + 30)  # type: ignore[misc]
            samples.append(sample(run, began))
        run.wait(partial(has_worked, workload, workload.committed + 10), "work on the source")
        run.catches_up()
        committed = workload.committed
    run.set_end()
    run.ends()
    (tmp_path / "soak.json").write_bytes(orjson.dumps([asdict(each) for each in samples]))
    early, late = samples[len(samples) // 4], samples[-1]
    print(f"\n{committed} transactions in {late.at:.0f} s; early and late:")
    for name in ("supervisor", *STAGES):
        line = f"{name}: {early.memory[name]} kB, {late.memory[name]} kB; {early.files[name]}, {late.files[name]} files"
        print(line)
    print(f"change files: at most {max(each.disk for each in samples)} bytes")
    for name in ("supervisor", *STAGES):
        assert late.memory[name] < early.memory[name] * 1.2 + 5_000, name
        assert late.files[name] <= early.files[name] + 2, name
    assert max(each.disk for each in samples) < MOST_FILES_BYTES
