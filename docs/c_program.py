"""``c_program.toml``, read: every command, option and variable of the C program, and what became of each here.

``compatibility_page`` makes ``docs/compatibility.md`` of it.
"""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

DATA: Final = Path(__file__).with_name("c_program.toml")
PAGE: Final = Path(__file__).with_name("compatibility.md")
ACCEPTED: Final = "unit/test_compatibility.py"
"""The test that gives every option of the table to its command."""
NO_EFFECT: Final = "no effect on it, there and here"

_HEAD: Final = """\
# Compatibility with the C program

Written by `make docs` from `c_program.toml`, which the test suite holds against this program's own declarations.
*Same*: a script that says it gets what it got. *Better*: it gets that, and more. *Not*: it is refused, or has another
name. Tests are below `tests/`.

Options that mean nothing here (`--host`, `--max-replaydb-size`) are accepted with a warning that says what is done
instead; those that have no effect on a command there either are accepted with a line at `--notice`.
"""


@dataclass(frozen=True, slots=True)
class Row:
    """One entry. ``names``: of an option, the short one last; ``value``: what follows it, empty for a flag."""

    names: tuple[str, ...]
    value: str
    verdict: str
    text: str
    test: str

    @property
    def said(self) -> str:
        return f"{self.verdict} ({self.text})" if self.text else self.verdict


@dataclass(frozen=True, slots=True)
class Group:
    """Commands that take the same options. ``like``: those of that command too."""

    commands: tuple[str, ...]
    rows: tuple[Row, ...]
    like: str


@dataclass(frozen=True, slots=True)
class Program:
    """The whole table."""

    commands: tuple[Row, ...]
    groups: tuple[Group, ...]
    everywhere: tuple[Row, ...]
    variables: tuple[Row, ...]
    behaviour: tuple[Row, ...]

    def options_of(self, command: str) -> Iterator[Row]:
        """Every option of a command, each once."""
        seen: set[str] = set()
        mine = [group for group in self.groups if command in group.commands]
        for row in (row for group in mine for row in group.rows):
            seen.add(row.names[0])
            yield row
        for group in mine:
            for row in self.options_of(group.like) if group.like else ():
                if row.names[0] not in seen:
                    yield row if row.verdict == "not" else Row(row.names, row.value, "same", NO_EFFECT, ACCEPTED)


def read_program() -> Program:
    """Raises ``ValueError`` for an entry that is not of the form that the file's head describes."""
    data = tomllib.loads(DATA.read_text(encoding="utf-8"))
    tests: Mapping[str, str] = data["tests"]
    return Program(
        commands=tuple(_row((name,), "", entry, tests) for name, entry in data["commands"].items()),
        groups=tuple(
            Group(tuple(group["commands"]), _options(group["options"], tests), group.get("like", ""))
            for group in data["group"]
        ),
        everywhere=_options(data["everywhere"], tests),
        variables=tuple(_row((name,), "", entry, tests) for name, entry in data["variables"].items()),
        behaviour=tuple(_row((name,), "", entry, tests) for name, entry in data["behaviour"].items()),
    )


def _options(entries: Mapping[str, Sequence[str]], tests: Mapping[str, str]) -> tuple[Row, ...]:
    rows = []
    for key, entry in entries.items():
        words = key.split()
        names = tuple(word for word in words if word.startswith("-"))
        rows.append(_row(names, " ".join(words[len(names) :]), entry, tests))
    return tuple(rows)


def _row(names: tuple[str, ...], value: str, entry: Sequence[str], tests: Mapping[str, str]) -> Row:
    verdict, text, test = (*entry, "", "")[:3]
    if verdict not in {"same", "better", "not"} or (verdict != "same" and not text):
        raise ValueError(f"{DATA.name}: {names[0]}: expected same, better with how, or not with why; found {entry}")
    fallback = "c_scripts/clone_environment.sh" if names[0].isupper() and verdict != "not" else ""
    return Row(names, value, verdict, text, test or tests.get(names[0], fallback))


def compatibility_page() -> str:
    """The whole page."""
    program = read_program()
    parts = [_HEAD, "## Commands", "", *_table("command", program.commands), ""]
    for group in program.groups:
        names = ", ".join(f"`{command}`" for command in group.commands if command) or "`pgcopydb` itself"
        parts += [f"## Options of {names}", ""]
        if group.like:
            parts += [f"All options of `{group.like}` are taken; those that are not named here have {NO_EFFECT}.", ""]
        parts += [*_table("option", group.rows), ""]
    parts += ["## Options of every command", "", *_table("option", program.everywhere), ""]
    parts += ["## Environment", "", *_table("variable", program.variables), ""]
    parts += ["## What scripts see", "", *_table("", program.behaviour, code=False)]
    return "\n".join(parts) + "\n"


def _table(what: str, rows: Sequence[Row], *, code: bool = True) -> Iterator[str]:
    yield f"| {what} | | test |"
    yield "|---|---|---|"
    for row in rows:
        name = ", ".join(f"`{each}`" if code else each for each in row.names)
        value = f" {row.value}" if row.value else ""
        yield f"| {name}{value} | {row.said.replace('|', chr(92) + '|')} | {f'`{row.test}`' if row.test else ''} |"


def entries(program: Program) -> Iterator[tuple[str, Row]]:
    """All rows, each with where it stands."""
    yield from (("commands", row) for row in program.commands)
    yield from ((group.commands[0], row) for group in program.groups for row in group.rows)
    for name in ("everywhere", "variables", "behaviour"):
        found: Any = getattr(program, name)
        yield from ((name, row) for row in found)
