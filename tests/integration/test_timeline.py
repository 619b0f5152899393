"""A source that was promoted or restored is followed on when it has all that was received from it, and only then."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from demo.clusters import Cluster
from pgcopydb.daemon.timeline import end_of_timeline
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import CorruptState
from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers, fresh_database
from tests.following import drop_progress, uris
from tests.wait import wait_until

HISTORY = "1\t0/3000060\tno recovery target specified\n\n# a comment\n2\t1A/BC0\tbefore 2026-01-01 00:00:00+00\n"


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    """With a source of its own, whose folder is changed."""
    with Cluster.of_major(15) as cluster, fresh_database(servers.get(17, "target"), "target") as target:
        cluster.create_database("source")
        source = Database(cluster, "source")
        source.execute("CREATE TABLE t (i int PRIMARY KEY)")
        yield DbPair(source, target)
        drop_progress(target)


def keep(cluster: Cluster) -> Path:
    """A copy of the folder as it is now."""
    cluster.stop()
    kept = cluster.folder / "kept"
    subprocess.run(["/bin/cp", "-a", cluster.data_dir, kept], check=True)
    cluster.start()
    return kept


def promote(cluster: Cluster, kept: Path | None = None) -> None:
    """On another timeline from here on, or from where the copy is."""
    cluster.stop()
    if kept is not None:
        shutil.rmtree(cluster.data_dir)
        kept.rename(cluster.data_dir)
    for name, content in (("recovery.signal", ""), ("postgresql.auto.conf", "restore_command = '/bin/false'\n")):
        path = cluster.data_dir / name
        path.write_text(content)
        shutil.chown(path, cluster.data_dir.owner(), cluster.data_dir.group())
    cluster.start()
    database = Database(cluster, "source")
    wait_until(lambda: database.fetch("SELECT pg_is_in_recovery()") == [(False,)], 30, "the end of recovery")


def position(source: Database) -> str:
    return str(source.fetch("SELECT pg_current_wal_flush_lsn()")[0][0])


def follow(pgcopydb: Command, pair: DbPair, workdir: Path, *, check: bool = True) -> str:
    endpos = position(pair.source)
    return pgcopydb.run("follow", "--dir", workdir, "--endpos", endpos, env=uris(pair), check=check).stderr


def clone(pgcopydb: Command, pair: DbPair, workdir: Path) -> None:
    options = ["--plugin", "test_decoding", "--endpos", position(pair.source)]
    pgcopydb.run("clone", "--follow", "--dir", workdir, *options, env=uris(pair))


def test_a_source_that_has_everything(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    clone(pgcopydb, pair, workdir_path)
    for timeline in (2, 3):
        promote(pair.source.cluster)
        pair.source.execute(f"INSERT INTO t VALUES ({timeline}); SELECT pg_switch_wal()")
        assert f"on timeline {timeline} now" in follow(pgcopydb, pair, workdir_path)
    assert "on timeline" not in follow(pgcopydb, pair, workdir_path)
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_a_source_that_took_over_without_what_was_received(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    clone(pgcopydb, pair, workdir_path)
    kept = keep(pair.source.cluster)
    pair.source.execute("INSERT INTO t SELECT generate_series(1, 1000)")
    follow(pgcopydb, pair, workdir_path)
    promote(pair.source.cluster, kept)
    assert "the source's WAL ends at" in follow(pgcopydb, pair, workdir_path, check=False)
    pair.source.execute("INSERT INTO t SELECT generate_series(1001, 3000)")
    assert "it left that at" in follow(pgcopydb, pair, workdir_path, check=False)
    assert pair.target.fetch("SELECT max(i) FROM t") == [(1000,)]


def test_a_history_file() -> None:
    assert end_of_timeline(HISTORY, 1) == Lsn.parse("0/3000060")
    assert end_of_timeline(HISTORY, 2) == Lsn.parse("1A/BC0")
    assert end_of_timeline(HISTORY, 3) is None
    with pytest.raises(CorruptState):
        end_of_timeline("one\t0/1\n", 1)
