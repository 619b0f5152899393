"""Whatever file of the work directory is damaged: the next run says which it is, or does not need it."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random

import pytest

from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import Following, pair_of, prepare, processes_of
from tests.lot import lot
from tests.wait import wait_until

Damage = Callable[[bytes, Random], bytes]
NOT_AGAIN = {"source.db-shm", "source.db-wal"}
"""SQLite's own: made again, or as a whole."""


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 18) as pair:
        yield pair


def a_bit(content: bytes, rng: Random) -> bytes:
    place = rng.randrange(len(content))
    return content[:place] + bytes([content[place] ^ (1 << rng.randrange(8))]) + content[place + 1 :]


def the_end(content: bytes, rng: Random) -> bytes:
    return content[: rng.randrange(len(content))]


def everything(content: bytes, _rng: Random) -> bytes:
    return bytes(len(content))


def files_of(workdir: Path) -> list[Path]:
    """But for the files of changes, which have tests of their own, and locks, whose content means nothing."""
    found = (path for path in sorted(workdir.rglob("*")) if path.is_file() and path.stat().st_size)
    return [
        path
        for path in found
        if path.parent.name != "lock" and path.name not in NOT_AGAIN and not path.name.startswith("0000")
    ]


def kill(run: Following) -> None:
    for pid in processes_of(run.workdir):
        os.kill(pid, signal.SIGKILL)
    run.process.wait(30)
    wait_until(lambda: not processes_of(run.workdir), 20, "all processes to end")


def follows(run: Following) -> bool:
    """A row comes through."""
    return run.pair.target.fetch("TABLE marks") == run.pair.source.fetch("TABLE marks")


slow = pytest.mark.slow


@pytest.mark.parametrize("damage", [a_bit, pytest.param(the_end, marks=slow), pytest.param(everything, marks=slow)])
def test_a_file_is_damaged(damage: Damage, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    prepare(pair)
    pair.source.execute("CREATE TABLE marks (n int PRIMARY KEY)")
    run = Following(pgcopydb, pair, workdir_path).start()
    # Files are removed, and what is kept of that too.
    for number in range(3):
        pair.source.execute(f"INSERT INTO marks VALUES ({-number})")
        pair.source.execute("SELECT pg_switch_wal()")
        run.wait(lambda: follows(run), "a row to come through")
    rng = lot(len(damage.__name__))
    paths = files_of(workdir_path)
    catalog = next(path for path in paths if path.name == "source.db")
    undamaged = catalog.read_bytes()
    assert {"stream.json", "first", "source.db", "apply.json"} <= {path.name for path in paths}
    for number, path in enumerate(paths):
        kill(run)
        kept, mode = path.read_bytes(), path.stat().st_mode
        path.write_bytes(damage(kept, rng))
        pair.source.execute(f"INSERT INTO marks VALUES ({number + 1})")
        run.begin()
        wait_until(lambda: run.process.poll() is not None or follows(run), 60, f"an answer about {path.name}")
        log = run.log
        assert "Traceback" not in log, (path, log)
        assert "internal error" not in log, (path, log)
        if run.process.poll() is not None:
            assert path.name in log, (path, log)
            path.write_bytes(kept)
            path.chmod(mode)
            run.start()
    # The catalog of the copy is read once more at the end: where its damage was not met before, it would be there.
    kill(run)
    catalog.write_bytes(undamaged)
    run.start()
    run.set_end()
    run.ends()
