"""Examples of the page on file formats are what the program makes: change files become the SQL files beside them."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from pgcopydb.apply.decode import decoder_of, read_line
from pgcopydb.apply.known_rows import messages_of
from pgcopydb.apply.sql_lines import read_mark
from pgcopydb.apply.statements import Comparison, TableFacts
from pgcopydb.apply.transform import Transformer
from pgcopydb.daemon.plugins import Plugin
from pgcopydb.postgres.names import Name

PAGE = Path(__file__).parents[2] / "docs" / "file-formats.md"
SECTION = re.compile(r"^### (\w+):.*?```json\n(.*?)```.*?```sql\n(.*?)```", re.MULTILINE | re.DOTALL)
FACTS = {
    Name("public", "item"): TableFacts(
        key=frozenset({"id"}), comparisons=dict.fromkeys(("id", "name", "price", "picture"), Comparison.EXACT)
    ),
    Name("public", "note"): TableFacts(key=frozenset(), comparisons=dict.fromkeys(("t", "at"), Comparison.EXACT)),
}


def examples() -> list[tuple[Plugin, list[bytes], list[bytes]]]:
    found = SECTION.findall(PAGE.read_text(encoding="utf-8"))
    return [
        (Plugin(plugin), changes.encode().splitlines(), statements.encode().splitlines())
        for plugin, changes, statements in found
    ]


def test_there_is_an_example_of_each_plugin() -> None:
    assert [plugin for plugin, _, _ in examples()] == [Plugin.TEST_DECODING, Plugin.WAL2JSON, Plugin.PGOUTPUT]


@pytest.mark.parametrize("known", [False, True])
@pytest.mark.parametrize(("plugin", "changes", "statements"), examples(), ids=list(Plugin))
def test_what_becomes_of_a_change_file(
    plugin: Plugin, changes: list[bytes], statements: list[bytes], known: bool
) -> None:
    transformer = Transformer(FACTS.__getitem__, decoder_of(plugin), messages_of(plugin) if known else None)
    made = b"".join(transformer.feed(read_line(line)) for line in changes)
    assert made.splitlines() == statements


def test_the_lines_are_those_of_the_tables() -> None:
    page = PAGE.read_text(encoding="utf-8")
    for _, changes, statements in examples():
        for line in changes:
            assert f"`{read_line(line).action}`" in page
        for line in statements:
            mark = read_mark(line)
            assert mark is None or mark.mark.value[:-1].decode() in page
