"""Damaged files and end positions in odd places: an error that names the file, or exactly what was asked for."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from pgcopydb.postgres.lsn import Lsn
from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers, fresh_database
from tests.following import drop_progress, uris
from tests.integration.test_follow import current


@pytest.fixture
def pair(servers: Servers, pgcopydb: Command, workdir_path: Path) -> Iterator[DbPair]:
    """The same table on both sides, and a stream that may be applied."""
    with (
        fresh_database(servers.get(15), "source") as source,
        fresh_database(servers.get(17, "target"), "target") as target,
    ):
        pair = DbPair(source, target)
        for database in (source, target):
            database.execute("CREATE TABLE t (i int PRIMARY KEY)")
        pgcopydb.run("stream", "setup", "--plugin", "test_decoding", "--dir", workdir_path, env=uris(pair))
        pgcopydb.run("stream", "sentinel", "set", "apply", "--dir", workdir_path, env=uris(pair))
        yield pair
        pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=uris(pair))
        drop_progress(target)


def rows(pair: DbPair) -> list[int]:
    return [row[0] for row in pair.target.fetch("SELECT i FROM t ORDER BY i")]


def run(pgcopydb: Command, pair: DbPair, workdir: Path, stage: str, endpos: str | None = None) -> tuple[int, str]:
    more = ["--endpos", endpos] if endpos and stage != "transform" else []  # which takes the sentinel's
    done = pgcopydb.run("stream", stage, "--dir", workdir, *more, env=uris(pair), check=False, timeout=60)
    assert "Traceback" not in done.stderr
    return done.returncode, done.stderr


def only(workdir: Path, suffix: str) -> Path:
    found = list((workdir / "cdc").glob(f"*{suffix}*"))
    assert len(found) == 1
    return found[0]


@pytest.mark.parametrize(
    ("suffix", "stage"), [(".json", "transform"), (".sql", "apply")], ids=["change file", "SQL file"]
)
@pytest.mark.parametrize("damage", ["garbage", "half a line"])
def test_a_damaged_line(
    damage: str, suffix: str, stage: str, pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    """What is before it may be applied, what is behind it must not."""
    for number in (1, 2, 3):
        pair.source.execute(f"INSERT INTO t VALUES ({number})")
    end = current(pair)
    for each in ("receive", "transform")[: 1 if suffix == ".json" else 2]:
        assert run(pgcopydb, pair, workdir_path, each, end)[0] == 0
    path = only(workdir_path, suffix)
    lines = path.read_bytes().splitlines(keepends=True)
    at = next(number for number, line in enumerate(lines) if b"[integer]:2" in line or b"('2')" in line)
    lines[at] = b"\x00\xff garbage\n" if damage == "garbage" else lines[at][: len(lines[at]) // 2] + b"\n"
    path.write_bytes(b"".join(lines))
    code, said = run(pgcopydb, pair, workdir_path, stage)
    assert code != 0, said
    assert "hint: " in said
    if stage == "transform":
        assert path.name.removesuffix(".partial") in said or "not a line of a change file" in said
    assert rows(pair) in ([], [1])


def test_a_file_is_missing_in_the_middle(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    for number in (1, 2, 3):
        pair.source.execute(f"INSERT INTO t VALUES ({number})")
        pair.source.execute("SELECT pg_switch_wal()")
    assert run(pgcopydb, pair, workdir_path, "receive", current(pair))[0] == 0
    files = sorted((workdir_path / "cdc").glob("*.json"))
    assert len(files) > 2
    files[1].unlink()
    code, said = run(pgcopydb, pair, workdir_path, "transform")
    assert code == 3, said
    assert "a file is missing" in said


def test_end_positions_between_transactions(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """At a commit, between two transactions, in the past, and moved on."""
    behind = {}
    for number in (1, 2, 3, 4):
        pair.source.execute(f"INSERT INTO t VALUES ({number})")
        behind[number] = current(pair)
    end = current(pair)
    assert run(pgcopydb, pair, workdir_path, "receive", end)[0] == 0
    assert run(pgcopydb, pair, workdir_path, "transform", end)[0] == 0
    for number in (1, 2, 3):
        code, said = run(pgcopydb, pair, workdir_path, "apply", behind[number])
        assert code == 0, said
        assert rows(pair) == list(range(1, number + 1))
    # It lies in the past by now.
    assert run(pgcopydb, pair, workdir_path, "apply", behind[1])[0] == 0
    assert rows(pair) == [1, 2, 3]
    assert run(pgcopydb, pair, workdir_path, "apply", end)[0] == 0
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_an_end_position_inside_a_transaction_that_was_not_received_whole(
    pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    with pair.source.connect(autocommit=False) as writer:
        writer.execute("INSERT INTO t VALUES (1)")
        inside = str(writer.execute("SELECT pg_current_wal_insert_lsn()").fetchall()[0][0])
        writer.execute("INSERT INTO t VALUES (2)")
        writer.commit()
    assert Lsn.parse(inside) < Lsn.parse(current(pair))
    for stage in ("receive", "transform", "apply"):
        code, said = run(pgcopydb, pair, workdir_path, stage, inside)
        assert code == 0, said
    assert rows(pair) == []
    end = current(pair)
    for stage in ("receive", "transform", "apply"):
        assert run(pgcopydb, pair, workdir_path, stage, end)[0] == 0
    assert rows(pair) == [1, 2]
