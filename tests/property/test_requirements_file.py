"""The file of --requirements: read as the standard library reads JSON, or refused with the line."""

from __future__ import annotations

import json
import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pgcopydb.bootstrap.pins import parse_requirements
from pgcopydb.runtime.errors import ConfigError

TEXTS = st.text(st.characters(exclude_categories=("C", "Z")), min_size=1, max_size=15)
PINS = st.dictionaries(TEXTS, TEXTS, max_size=5)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.sampled_from(["name", "version"]),
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.dictionaries(st.sampled_from(["name", "version", "versions", "default"]), inner, max_size=4)
    ),
    max_leaves=12,
)


def refusal(text: str) -> str:
    with pytest.raises(ConfigError) as caught:
        parse_requirements(text, "pins.json")
    assert re.match(r"pins\.json, line \d+: found .+, expected .+", caught.value.message, re.DOTALL)
    assert "pgcopydb list extensions --requirements" in (caught.value.hint or "")
    return caught.value.message


@given(PINS, st.sampled_from([None, 0, 2]), st.booleans(), st.booleans())
def test_what_is_written_is_read(pins: dict[str, str], indent: int | None, ascii_only: bool, reverse: bool) -> None:
    rows = [{"name": name, "version": version} for name, version in pins.items()]
    if reverse:
        rows = [dict(reversed(row.items())) for row in rows]
    assert parse_requirements(json.dumps(rows, indent=indent, ensure_ascii=ascii_only), "pins.json") == pins


@given(JSON)
def test_other_json_is_refused(value: object) -> None:
    """Unless it says the same: then every row is a name and a version."""
    text = json.dumps(value, indent=1)
    try:
        pins = parse_requirements(text, "pins.json")
    except ConfigError:
        refusal(text)
    else:
        assert value == [{"name": name, "version": version} for name, version in pins.items()]


@given(PINS, st.data())
def test_a_damaged_file_is_refused_or_still_means_what_it_says(pins: dict[str, str], data: st.DataObject) -> None:
    text = json.dumps([{"name": name, "version": version} for name, version in pins.items()], indent=1)
    start = data.draw(st.integers(0, len(text)))
    damaged = text[:start] + data.draw(st.text(max_size=3)) + text[start + data.draw(st.integers(0, 3)) :]
    try:
        found = parse_requirements(damaged, "pins.json")
    except ConfigError:
        refusal(damaged)
    else:
        assert json.loads(damaged) in (
            [{"name": name, "version": version} for name, version in found.items()],
            [{"version": version, "name": name} for name, version in found.items()],
        )


@given(st.text())
@example("[" * 100_000)
@example('[{"name": "a", "version": ' + "9" * 10_000 + "}]")
@example('[{"name": "\\ud800", "version": "1"}]')
@example('[{"name": "a", "version": "1\\u0000"}]')
def test_anything_else_is_refused(text: str) -> None:
    try:
        assert parse_requirements(text, "pins.json") == {}
        assert re.fullmatch(r"[ \t\r\n]*\[[ \t\r\n]*\][ \t\r\n]*", text)
    except ConfigError:
        refusal(text)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "line 1: found the end of the file, expected [, the beginning of an array"),
        ('{"hstore": "1.8"}', 'line 1: found \'{"hstore": "1.8"}\', expected [, the beginning of an array'),
        ('[\n  {"name": "hstore", "version": "1.8"},\n  {"name": "citext"}\n]', "line 3: found an object without 'ver"),
        ('[\n{"name": "hstore", "version": 1.8}]', "line 2: found a number as version, expected a text"),
        ('[{"name": "", "version": "1"}]', "line 1: found an empty string as name"),
        ('[{"name": "hstore", "version": null}]', "found null as version"),
        ('[\n\n"hstore"]', "line 3: found a string, expected an object with"),
        ('[{"name": "hstore", "versions": ["1.7", "1.8"]}]', "found the key 'versions', expected"),
        ('[{"name": "a", "name": "b", "version": "1"}]', "found the key 'name' twice in one object"),
        ('[{"name": "a", "version": "1"},\n {"name": "a", "version": "1"}]', "line 2: found extension 'a' for the sec"),
        ('[{"name": "a", "version": "1"},\n]', "line 2: found ']', expected JSON"),
        ('[{"name": "a", "version": "1"}\n{"name"', "line 2: found '{\"name\"', expected a comma or ]"),
        ('[{"name": "a", "version": "1"}', "found the end of the file, expected a comma or ]"),
        ("[]\n[]", "line 2: found '[]', expected nothing behind the array"),
        (f'[{{"name": "{"é" * 32}", "version": "1"}}]', "expected at most 63 bytes"),
    ],
)
def test_what_is_said(text: str, said: str) -> None:
    assert said in refusal(text)
