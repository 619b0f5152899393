"""Files of changes that were cut or damaged: what is whole is read, the rest is refused, and nothing is taken for what
it is not."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pgcopydb.apply.catalog import MissingTable
from pgcopydb.apply.decode import decoder_of, read_line
from pgcopydb.apply.known_rows import messages_of
from pgcopydb.apply.pipe import PipeReader
from pgcopydb.apply.sql_reader import Position, SqlReader, Transaction
from pgcopydb.apply.statements import TableFacts
from pgcopydb.apply.transform import Transformer
from pgcopydb.daemon.change_file import recover
from pgcopydb.daemon.plugins import Plugin
from pgcopydb.daemon.segments import Segment
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import Name
from pgcopydb.runtime.errors import CorruptState, PgcopydbError
from tests.golden import FACTS, FOLDER

SIZE = 1 << 24
SEGMENT = Segment(1, 2, SIZE)
CHANGES = {plugin: (FOLDER / f"{plugin}.json").read_bytes() for plugin in Plugin}
STATEMENTS = {plugin: (FOLDER / f"{plugin}.sql").read_bytes() for plugin in Plugin}
WHOLE_SQL = STATEMENTS[Plugin.TEST_DECODING]

plugins = st.sampled_from(list(Plugin))
pieces = st.one_of(
    st.binary(max_size=6),
    st.sampled_from(
        [
            b"\\ud800",
            b"\\u0000",
            b"\xff",
            b"[" * 3000,
            b'"',
            b"'",
            b"null",
            b"1e999",
            b"{}",
            b"-",
            b"\n",
            b'"lsn":"0/0",',
        ]
    ),
)
"""What takes the place of some bytes."""


@st.composite
def damage(draw: st.DrawFn, content: bytes) -> tuple[bytes, int]:
    """The content with something else in one place, and how many lines before that place are whole."""
    start = draw(st.integers(0, len(content)))
    end = min(len(content), start + draw(st.sampled_from([0, 1, 2, 5, 40])))
    return content[:start] + draw(pieces) + content[end:], content[:start].count(b"\n")


def facts(name: Name) -> TableFacts:
    if name not in FACTS:
        raise MissingTable(f"table {name} is not on the target")
    return FACTS[name]


def transformed(plugin: Plugin, lines: Sequence[bytes]) -> Iterator[bytes]:
    transformer = Transformer(facts, decoder_of(plugin), messages_of(plugin))
    for line in lines:
        yield transformer.feed(read_line(line))


Unit = tuple[Lsn, list[bytes]] | Position


def units(content: bytes) -> Iterator[Unit]:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{SEGMENT.name}.sql.partial"
        path.write_bytes(content)
        reader = SqlReader(Path(folder), SIZE)
        reader.go_to(Lsn())
        try:
            while (unit := reader.next()) is not None:
                yield (unit.commit, list(reader.statements(unit))) if isinstance(unit, Transaction) else unit
        finally:
            reader.close()


def units_of_a_pipe(content: bytes) -> Iterator[Unit]:
    with tempfile.TemporaryFile() as file:
        file.write(content)
        os.lseek(file.fileno(), 0, os.SEEK_SET)
        file.seek(0)
        reader = PipeReader(file.fileno())
        reader.go_to(Lsn())
        while not reader.ended:
            unit = reader.next()
            if unit is not None:
                yield (unit.commit, list(reader.statements(unit))) if isinstance(unit, Transaction) else unit


ALL_UNITS = list(units(WHOLE_SQL))


def test_both_readers_read_the_same() -> None:
    assert list(units_of_a_pipe(WHOLE_SQL)) == ALL_UNITS
    assert len(ALL_UNITS) == 10


@given(plugins, st.data())
def test_a_change_file_that_was_cut(plugin: Plugin, data: st.DataObject) -> None:
    content = CHANGES[plugin]
    cut = data.draw(st.integers(0, len(content)))
    lines = content[:cut].split(b"\n")[:-1]
    assert STATEMENTS[plugin].startswith(b"".join(transformed(plugin, lines)))


@settings(max_examples=400)
@given(plugins, st.data())
def test_a_change_file_that_was_damaged(plugin: Plugin, data: st.DataObject) -> None:
    content, whole = data.draw(damage(CHANGES[plugin]))
    out = transformed(plugin, content.splitlines())
    before = b"".join(next(out) for _ in range(whole))
    assert STATEMENTS[plugin].startswith(before)
    try:
        after = b"".join(out)
    except PgcopydbError:
        return
    assert after.decode() is not None, "it is text at least"


@given(st.integers(0, len(WHOLE_SQL)))
def test_an_sql_file_that_was_cut(cut: int) -> None:
    for read in (units, units_of_a_pipe):
        found = list(read(WHOLE_SQL[:cut]))
        assert found == ALL_UNITS[: len(found)]


@settings(max_examples=300)
@given(damage(WHOLE_SQL))
def test_an_sql_file_that_was_damaged(damaged: tuple[bytes, int]) -> None:
    content, whole = damaged
    sound = list(units(b"".join(WHOLE_SQL.splitlines(keepends=True)[:whole])))
    for read in (units, units_of_a_pipe):
        found: list[Unit] = []
        try:
            for unit in read(content):
                found.append(unit)  # noqa: PERF402  what came before an error counts
        except CorruptState:
            pass
        assert found[: len(sound)] == sound


LINES = WHOLE_SQL.splitlines(keepends=True)
MARKS = [number for number, line in enumerate(LINES) if line.startswith((b"BEGIN", b"COMMIT"))]


@pytest.mark.parametrize("number", MARKS)
def test_an_sql_file_that_lost_the_begin_or_the_end_of_a_transaction(number: int) -> None:
    """A transaction without both is not passed over."""
    lines = [*LINES[:number], *LINES[number + 1 :]]
    for read in (units, units_of_a_pipe):
        with pytest.raises(CorruptState):
            list(read(b"".join(lines)))


@pytest.mark.parametrize("plugin", list(Plugin))
def test_a_change_file_that_lost_the_begin_or_the_end_of_a_transaction(plugin: Plugin) -> None:
    lines = CHANGES[plugin].splitlines()
    for number, line in enumerate(lines):
        # What the first line of all is missing, the reader of SQL files sees.
        if line.startswith((b'{"action":"B"', b'{"action":"C"')) and number > 0:
            with pytest.raises(CorruptState, match="lines are missing"):
                list(transformed(plugin, [*lines[:number], *lines[number + 1 :]]))


@settings(max_examples=200)
@given(damage(CHANGES[Plugin.PGOUTPUT]))
def test_a_damaged_file_that_receiving_goes_on_with(damaged: tuple[bytes, int]) -> None:
    content, _ = damaged
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{SEGMENT.name}.json.partial"
        path.write_bytes(content)
        try:
            recover(Path(folder))
        except CorruptState:
            assert content.startswith(next(Path(folder).iterdir()).read_bytes())
        else:
            # One that is closed gets its final name.
            left = next(Path(folder).iterdir()).read_bytes()
            assert content.startswith(left)
            assert not left or left.endswith(b"\n")
