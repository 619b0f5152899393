"""pgbench writes as fast as it can while its database is cloned and followed."""

from __future__ import annotations

import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import orjson
import pytest

from pgcopydb.postgres.lsn import Lsn
from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import Database, DbPair, Servers, fresh_database
from tests.following import sentinel_row
from tests.wait import wait_until

CLIENTS = 2
WHILE_APPLYING = 500
"""Transactions that come after the first change was applied, and before pgbench is stopped."""

# One statement is one snapshot, and each transaction of pgbench adds the same amount to all four: they agree in every
# state that the source has ever been in.
TOTALS = """
SELECT (SELECT sum(abalance) FROM pgbench_accounts), (SELECT sum(tbalance) FROM pgbench_tellers),
    (SELECT sum(bbalance) FROM pgbench_branches), (SELECT coalesce(sum(delta), 0) FROM pgbench_history)
"""
TRANSACTIONS = "SELECT count(*) FROM pgbench_history"


@contextmanager
def pgbench_running(source: Database, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Until the block is left: every transaction is then either committed or gone."""
    program = source.cluster.bin_dir / "pgbench"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [program, "--no-vacuum", f"--client={CLIENTS}", "--time=300", source.dsn], stdout=output, stderr=output
        )
    try:
        yield process
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait()
        wait_until(
            lambda: source.fetch("SELECT count(*) FROM pg_stat_activity WHERE application_name = 'pgbench'") == [(0,)],
            20,
            "the sessions of pgbench to end",
        )


def in_front(source: Database, target: Database) -> bool:
    """Whether the target has a transaction that the copy did not have."""
    row = sentinel_row(source)
    return (
        bool(row) and Lsn.parse(row["replay_lsn"]) > Lsn.parse(row["startpos"]) and target.fetch(TRANSACTIONS)[0][0] > 0
    )


def totals_agree(target: Database) -> None:
    accounts, tellers, branches, history = target.fetch(TOTALS)[0]
    assert accounts == tellers == branches == history, "the target is in a state that the source never was in"


@pytest.mark.parametrize(("major", "plugin"), [(15, "test_decoding"), (18, "pgoutput")])
def test_pgbench_at_full_speed(
    major: int, plugin: str, servers: Servers, pgcopydb: Command, workdir_path: Path, tmp_path: Path
) -> None:
    """pgbench_history has no primary key, and only ever gets new rows."""
    with (
        fresh_database(servers.get(15), "source") as source,
        fresh_database(servers.get(major, "target"), "target") as target,
    ):
        follow_pgbench(DbPair(source, target), plugin, pgcopydb, workdir_path, tmp_path / "pgbench.log")


def follow_pgbench(pair: DbPair, plugin: str, pgcopydb: Command, workdir: Path, log: Path) -> None:
    source, target = pair.source, pair.target
    env = {"PGCOPYDB_SOURCE_PGURI": source.dsn, "PGCOPYDB_TARGET_PGURI": target.dsn}
    initialise = [str(source.cluster.bin_dir / "pgbench"), "--initialize", "--quiet", "--foreign-keys", source.dsn]
    subprocess.run(initialise, check=True, capture_output=True)
    with pgbench_running(source, log) as pgbench:
        wait_until(lambda: source.fetch(TRANSACTIONS)[0][0] > 100, 30, "transactions before the snapshot")
        clone = pgcopydb.start("clone", "--follow", "--plugin", plugin, "--dir", workdir, env=env)
        wait_until(lambda: clone.poll() is not None or in_front(source, target), 60, "changes to be applied")
        assert clone.poll() is None, pgcopydb.log_of(clone)
        enough = source.fetch(TRANSACTIONS)[0][0] + WHILE_APPLYING
        while target.fetch(TRANSACTIONS)[0][0] < enough:
            totals_agree(target)
            assert clone.poll() is None, pgcopydb.log_of(clone)
            assert pgbench.poll() is None, log.read_text(encoding="utf-8")
    pgcopydb.run("stream", "sentinel", "set", "endpos", "--current", "--dir", workdir, env=env)
    assert clone.wait(60) == 0, pgcopydb.log_of(clone)
    assert_same_content(source.dsn, target.dsn)
    assert target.fetch(TRANSACTIONS)[0][0] >= enough
    assert orjson.loads((workdir / "apply.json").read_bytes())["conflicts"] == 0
    pgcopydb.run("stream", "cleanup", "--dir", workdir, env=env)
