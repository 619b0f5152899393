"""Whatever a person writes into a file or a variable is read, or refused with where, what, and what instead."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import TypeVar
from unittest import mock

import click
import typer
from hypothesis import given
from hypothesis import strategies as st

from pgcopydb.bootstrap.archive import KINDS, parse_list
from pgcopydb.cli.main import application
from pgcopydb.postgres.filters import Pattern, Section, parse_filters
from pgcopydb.runtime.environment import BOOLEANS, normalise_booleans
from pgcopydb.runtime.errors import ConfigError, CorruptState, UsageError

T = TypeVar("T")
E = TypeVar("E", bound=Exception)

ROOT = typer.main.get_command(application())
CLONE: click.Command = ROOT.commands["clone"]  # type: ignore[attr-defined]

NAMES = st.text(st.characters(exclude_characters="\n\r\v\f\x1c\x1d\x1e\x85\u2028\u2029", codec="utf-8"), min_size=1)
LINES = st.one_of(
    st.sampled_from([f"[{section}]" for section in Section]),
    st.sampled_from(
        [
            "[exclude",
            "[]",
            "[exclude-tables]",
            "; why",
            "# why",
            "",
            "a.b",
            "a",
            '"a',
            '"a"b',
            "~/x",
            "~//",
            "~",
            ".",
            "a.",
        ]
    ),
    st.text(st.sampled_from(list("ab.\"~/[]{};# \t'\\\x00é")), max_size=20),
    st.text(max_size=20),
)


def attempt(act: Callable[[], T], kind: type[E]) -> tuple[T | None, E | None]:
    """The result, or the error."""
    try:
        return act(), None
    except kind as error:
        return None, error


@given(st.lists(LINES).map("\n".join))
def test_any_filter_file(text: str) -> None:
    found, error = attempt(lambda: parse_filters(text, "f.ini").rules, ConfigError)
    lines = text.splitlines()
    if error is not None:
        number = re.match(r"f\.ini, lines? (\d+)( and \d+)?: ", error.message)
        assert number is not None, error.message
        assert 1 <= int(number[1]) <= len(lines)
        assert error.hint
    for rule in found or ():
        assert rule.text in lines[rule.line - 1]


@given(NAMES, NAMES)
def test_any_name_can_be_written_in_a_filter_file(schema: str, name: str) -> None:
    quoted = [f'"{each.replace(chr(34), chr(34) * 2)}"' for each in (schema, name)]
    [rule] = parse_filters(f"[exclude-table]\n{quoted[0]}.{quoted[1]} ; a remark\n", "f.ini").rules
    assert (rule.schema, rule.name) == (Pattern(schema, quoted=True), Pattern(name, quoted=True))


ENTRIES = st.one_of(
    st.builds(
        "{}; {} {} {} {}".format,
        st.integers(0, 1 << 40), st.integers(0, 1 << 32), st.integers(0, 1 << 32), st.sampled_from(KINDS), NAMES,
    ),
    st.sampled_from([";", "; a remark", ";\tdepends on: 1 2", ";\tdepends on: 1 x"]),
    st.sampled_from(["1;", "1; 2 3", "1; 2 3 NOTHING x", "x", ""]),
    st.text(max_size=30),
)  # fmt: skip


@given(st.lists(ENTRIES).map("\n".join))
def test_any_list_of_an_archive(text: str) -> None:
    found, error = attempt(lambda: parse_list(text), CorruptState)
    lines = text.split("\n")
    if error is not None:
        number = re.match(r"line (\d+) of pg_restore's list is no entry: ", error.message)
        assert number is not None, error.message
        assert repr(lines[int(number[1]) - 1]) in error.message
    else:
        said = [line for line in lines if line.strip() and not line.startswith(";")]
        assert [entry.line for entry in found or ()] == said


VARIABLES = sorted(
    {str(option.envvar) for option in CLONE.params if isinstance(option, click.Option) and option.envvar}
)
VALUES = st.one_of(
    st.sampled_from(
        [
            "",
            "0",
            "1",
            "-1",
            "128",
            "129",
            "1.5",
            "on",
            "of",
            "yes",
            "tru",
            "maybe",
            "5 GB",
            "5gb",
            "9" * 40,
            "0/0",
            "x/y",
        ]
    ),
    st.text(st.characters(exclude_characters="\x00", codec="utf-8"), max_size=12),
)


@given(st.sampled_from(VARIABLES), VALUES)
def test_any_value_of_a_variable(name: str, value: str) -> None:
    """Read by the rules of its type, or refused by name."""
    environment = {name: value}
    _, refused = attempt(lambda: normalise_booleans(environment), UsageError)
    if refused is not None:
        assert name in BOOLEANS
        assert refused.message.startswith(f"{name}: {value!r} ")
        assert refused.hint
        return
    with mock.patch.dict("os.environ", environment, clear=True):
        _, error = attempt(lambda: CLONE.parse_args(click.Context(CLONE, info_name="clone"), []), click.UsageError)
    if error is not None:
        option = next(each for each in CLONE.params if getattr(each, "envvar", None) == name)
        assert {name, option.opts[0]} & set(re.split("[ ':]", error.format_message()))
