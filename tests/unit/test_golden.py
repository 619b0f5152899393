"""Change files become SQL files byte for byte, as ``tests/golden`` has them."""

from __future__ import annotations

import pytest

from pgcopydb.apply.decode import decoder_of, read_line
from pgcopydb.apply.known_rows import Messages, messages_of
from pgcopydb.apply.transform import Transformer
from pgcopydb.daemon.plugins import Plugin
from tests.golden import FACTS, FOLDER

FILES = [*((plugin, plugin) for plugin in Plugin), ("positions", Plugin.TEST_DECODING)]


@pytest.mark.parametrize("known", [True, False], ids=["known forms", "decoded in full"])
@pytest.mark.parametrize(("name", "plugin"), FILES)
def test_the_same_sql(name: str, plugin: Plugin, known: bool) -> None:
    messages: Messages | None = messages_of(plugin) if known else None
    transformer = Transformer(FACTS.__getitem__, decoder_of(plugin), messages)
    lines = (FOLDER / f"{name}.json").read_bytes().splitlines()
    found = b"".join(transformer.feed(read_line(line)) for line in lines)
    assert found.decode() == (FOLDER / f"{name}.sql").read_text(encoding="utf-8")
