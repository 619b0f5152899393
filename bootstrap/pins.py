"""The file of ``--requirements``: which version of which extension is wanted on the target.

A JSON array of ``{"name": …, "version": …}``, as ``pgcopydb list extensions --requirements`` prints it. Pure: text in,
versions by name out, or an error with the line, what was found and what is expected.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Final

from pgcopydb.runtime.errors import ConfigError

_KEYS: Final = ("name", "version")
_SHAPE: Final = '[{"name": "hstore", "version": "1.8"}, …], as `pgcopydb list extensions --requirements` prints it'
_SPACE: Final = re.compile(r"[ \t\r\n]*")
_LONGEST_NAME: Final = 63


class _Pairs(list[tuple[str, Any]]):
    """An object of the file, with keys that stand twice."""


class _Refused(Exception):
    """What was found where, and what is expected there."""

    def __init__(self, at: int, found: str, expected: str) -> None:
        super().__init__(found)
        self.at = at
        self.found = found
        self.expected = expected


def parse_requirements(text: str, label: str) -> dict[str, str]:
    """Versions by the extension's name. ``label`` is the file's name, for errors. Raises ``ConfigError``."""
    pins: dict[str, str] = {}
    try:
        for at, item in _items(text):
            name, version = _pin(at, item)
            if name in pins:
                raise _Refused(at, f"extension {name!r} for the second time", "each extension once")
            pins[name] = version
    except _Refused as refused:
        line = text.count("\n", 0, refused.at) + 1
        raise ConfigError(
            f"{label}, line {line}: found {refused.found}, expected {refused.expected}",
            hint=f"The file is {_SHAPE}.",
        ) from None
    return pins


def _items(text: str) -> Iterator[tuple[int, Any]]:
    """The elements of the array, each with where it begins."""
    # A number is no name and no version; how large it is does not matter.
    decoder = json.JSONDecoder(object_pairs_hook=_Pairs, parse_int=float)
    at = _skip(text, 0)
    if text[at : at + 1] != "[":
        raise _Refused(at, _shown(text, at), "[, the beginning of an array")
    at = _skip(text, at + 1)
    ends = text[at : at + 1] == "]"
    while not ends:
        begin = at
        try:
            item, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as exc:
            raise _Refused(exc.pos, _shown(text, exc.pos), f"JSON ({exc.msg})") from None
        except RecursionError:
            raise _Refused(begin, "arrays or objects deep in each other", "an object of two strings") from None
        yield begin, item
        at = _skip(text, at)
        ends = text[at : at + 1] == "]"
        if not ends:
            if text[at : at + 1] != ",":
                raise _Refused(at, _shown(text, at), "a comma or ] behind an element")
            at = _skip(text, at + 1)
    at = _skip(text, at + 1)
    if at < len(text):
        raise _Refused(at, _shown(text, at), "nothing behind the array")


def _skip(text: str, at: int) -> int:
    match = _SPACE.match(text, at)
    return match.end() if match is not None else at


def _shown(text: str, at: int) -> str:
    rest = text[at : at + 20].split("\n", 1)[0]
    return repr(rest) if rest else "the end of the file" if at >= len(text) else "the end of the line"


def _pin(at: int, item: Any) -> tuple[str, str]:
    if not isinstance(item, _Pairs):
        raise _Refused(at, _kind(item), 'an object with "name" and "version"')
    found: dict[str, str] = {}
    for key, value in item:
        if key not in _KEYS:
            raise _Refused(at, f"the key {key!r}", '"name" and "version" alone')
        if key in found:
            raise _Refused(at, f"the key {key!r} twice in one object", "each key once")
        if not isinstance(value, str) or not value:
            raise _Refused(at, f"{_kind(value)} as {key}", "a text that is not empty")
        if not value.isprintable():
            raise _Refused(at, f"{value!r} as {key}", "a text without control characters")
        found[key] = value
    for key in _KEYS:
        if key not in found:
            raise _Refused(at, f"an object without {key!r}", 'both "name" and "version"')
    if len(found["name"].encode()) > _LONGEST_NAME:
        raise _Refused(at, f"the name {found['name']!r}", f"at most {_LONGEST_NAME} bytes")
    return found["name"], found["version"]


def _kind(value: Any) -> str:
    if value is None or isinstance(value, bool):
        return {None: "null", True: "true", False: "false"}[value]
    kinds = {str: "a string", float: "a number", _Pairs: "an object", list: "an array"}
    found = kinds[type(value)]
    return "an empty string" if value == "" else found
