"""Files of changes that were damaged or removed: said with file and place, nothing behind the damage is applied."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.content import assert_same_content
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers, fresh_database
from tests.following import uris

TABLE = "CREATE TABLE t (id int PRIMARY KEY, v text)"
SEGMENTS = 3
EACH = 4
"""Transactions in each file; the last row of a file is (file * 10 + EACH)."""


@dataclass
class Received:
    """Everything is received and transformed; nothing is applied."""

    pair: DbPair
    workdir: Path
    command: Command
    endpos: str = ""

    @property
    def env(self) -> dict[str, str]:
        return uris(self.pair)

    def run(self, *words: str, check: bool = True) -> tuple[int, str]:
        done = self.command.run("stream", *words, "--dir", self.workdir, env=self.env, check=check)
        return done.returncode, done.stderr

    def files(self, suffix: str) -> list[Path]:
        return sorted((self.workdir / "cdc").glob(f"*{suffix}*"))

    def rows(self) -> list[int]:
        return [row[0] for row in self.pair.target.fetch("SELECT id FROM t ORDER BY id")]


@pytest.fixture(scope="module")
def everything(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Received]:
    with (
        fresh_database(servers.get(15), "source") as source,
        fresh_database(servers.get(17, "target"), "target") as target,
    ):
        folder = tmp_path_factory.mktemp("received")
        received = Received(DbPair(source, target), folder / "work", Command(folder))
        source.execute(TABLE)
        target.execute(TABLE)
        received.run("setup", "--plugin", "test_decoding")
        for file in range(SEGMENTS):
            with source.connect() as connection:
                for number in range(1, EACH + 1):
                    connection.execute("INSERT INTO t VALUES (%s, 'v')", (file * 10 + number,))
                connection.execute("SELECT pg_switch_wal()")
        source.execute("UPDATE pgcopydb.sentinel SET apply = true, endpos = pg_current_wal_flush_lsn()")
        received.endpos = source.fetch("SELECT endpos FROM pgcopydb.sentinel")[0][0]
        received.run("prefetch")
        assert len(received.files(".sql")) >= SEGMENTS
        try:
            yield received
        finally:
            received.run("cleanup")


@pytest.fixture
def received(everything: Received, tmp_path: Path) -> Received:
    """As it was before anything was applied; the files are those of this test alone."""
    everything.pair.target.execute("TRUNCATE t")
    startpos = everything.pair.source.fetch("SELECT startpos FROM pgcopydb.sentinel")[0][0]
    everything.pair.target.execute(f"UPDATE pgcopydb.progress SET lsn = '{startpos}'")
    everything.pair.source.execute("UPDATE pgcopydb.sentinel SET replay_lsn = '0/0'")
    everything.pair.source.execute(f"UPDATE pgcopydb.sentinel SET endpos = '{everything.endpos}'")
    shutil.copytree(everything.workdir, tmp_path / "work")
    return Received(everything.pair, tmp_path / "work", everything.command)


def line_of(path: Path, wanted: bytes) -> tuple[int, bytes]:
    """Where the line begins that has this in it, and the line."""
    start = 0
    for line in path.read_bytes().splitlines(keepends=True):
        if wanted in line:
            return start, line
        start += len(line)
    raise AssertionError(f"{path} has no {wanted!r}")


def replace_in(path: Path, line: bytes, other: bytes) -> None:
    path.write_bytes(path.read_bytes().replace(line, other, 1))


def refused(received: Received, *words: str, code: int = 3) -> str:
    found, said = received.run(*words, check=False)
    assert found == code, said
    assert "Traceback" not in said
    assert "hint: " in said
    return said


def remove_from(received: Received, path: Path) -> None:
    """As the hint says; the ones before it may be gone already, for the target has what is in them."""
    for made in received.files(".sql"):
        if made.name >= path.name:
            made.unlink()


UP_TO_THE_SECOND = [1, 2, 3, 4, 11, 12]
"""What comes before the third row of the second file."""


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"\0" * 80 + b"\n", lambda line: line[: len(line) // 2], lambda line: line.replace(b"id[", b"id", 1)],
    ids=["overwritten", "cut", "unreadable"],
)
def test_a_damaged_line_of_a_change_file(damage: Callable[[bytes], bytes], received: Received) -> None:
    """Everything before it is transformed and applied; after the file was restored, the rest."""
    path = received.files(".json")[1]
    kept = path.read_bytes()
    _, line = line_of(path, b"id[integer]:13 ")
    replace_in(path, line, damage(line))
    for made in received.files(".sql"):
        made.unlink()
    said = refused(received, "catchup")
    assert path.name in said
    assert received.rows() == UP_TO_THE_SECOND
    assert "received transactions remain" in said
    path.write_bytes(kept)
    received.run("catchup")
    assert_same_content(received.pair.source.dsn, received.pair.target.dsn)


@pytest.mark.parametrize("mark", [b'"action":"B"', b'"action":"C"'], ids=["begin", "commit"])
def test_a_lost_line_of_a_change_file(mark: bytes, received: Received) -> None:
    """A transaction would go unnoticed with it."""
    path = received.files(".json")[1]
    start, line = line_of(path, mark)
    path.write_bytes(path.read_bytes()[:start] + path.read_bytes()[start + len(line) :])
    for made in received.files(".sql"):
        made.unlink()
    said = refused(received, "transform")
    assert path.name in said


@pytest.mark.parametrize(
    "damage",
    [lambda _: b"x" * 80 + b"\n", lambda line: line[20:], lambda _: b"\n"],
    ids=["overwritten", "cut", "empty"],
)
def test_a_damaged_line_of_an_sql_file(damage: Callable[[bytes], bytes], received: Received) -> None:
    """The hint is true: removed, it is made again."""
    path = received.files(".sql")[1]
    start, line = line_of(path, b"('13',")
    replace_in(path, line, damage(line))
    said = refused(received, "apply")
    assert f"{path}, byte {start}" in said
    assert received.rows() == UP_TO_THE_SECOND
    remove_from(received, path)
    received.run("catchup")
    assert_same_content(received.pair.source.dsn, received.pair.target.dsn)


def test_half_a_statement_is_for_the_target_to_refuse(received: Received) -> None:
    path = received.files(".sql")[1]
    _, line = line_of(path, b"('13',")
    replace_in(path, line, line[: line.index(b"'13'") + 2] + b"\n")
    said = refused(received, "apply", code=7)
    assert "INSERT INTO" in said
    assert received.rows() == UP_TO_THE_SECOND


@pytest.mark.parametrize("mark", [b"BEGIN; -- ", b"COMMIT; -- "], ids=["begin", "commit"])
def test_a_lost_line_of_an_sql_file(mark: bytes, received: Received) -> None:
    path = received.files(".sql")[1]
    start, line = line_of(path, mark)
    path.write_bytes(path.read_bytes()[:start] + path.read_bytes()[start + len(line) :])
    said = refused(received, "apply")
    assert path.name in said
    assert received.rows() == [1, 2, 3, 4]


@pytest.mark.parametrize("suffix", [".json", ".sql"])
def test_a_file_in_the_middle_is_gone(suffix: str, received: Received) -> None:
    received.files(suffix)[1].unlink()
    if suffix == ".json":
        for made in received.files(".sql"):
            made.unlink()
    later = received.files(suffix)[1]
    said = refused(received, "transform" if suffix == ".json" else "apply")
    assert f"before {later.name}" in said
    if suffix == ".sql":
        assert received.rows() == [1, 2, 3, 4]
        remove_from(received, later)
        received.run("catchup")
        assert_same_content(received.pair.source.dsn, received.pair.target.dsn)


def test_the_first_files_are_gone(received: Received) -> None:
    """Somebody needed room. What they held is not passed over."""
    for path in (*received.files(".sql")[:2], *received.files(".json")[:2]):
        path.unlink()
    said = refused(received, "apply")
    assert received.files(".sql")[0].name in said
    assert received.rows() == []
    for path in received.files(".sql"):
        path.unlink()
    said = refused(received, "transform")
    assert received.files(".json")[0].name in said


def test_the_first_files_are_gone_that_the_target_has(received: Received) -> None:
    """The program itself has removed them, and goes on."""
    received.run("apply")
    assert len(received.files(".sql")) == 1
    received.pair.source.execute("INSERT INTO t VALUES (100, 'v')")
    received.pair.source.execute("UPDATE pgcopydb.sentinel SET endpos = pg_current_wal_flush_lsn()")
    received.run("replay")
    assert 100 in received.rows()
    received.pair.source.execute("DELETE FROM t WHERE id = 100")
