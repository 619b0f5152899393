"""The table of what became of the C program's options says what this program does."""

from __future__ import annotations

import re
from pathlib import Path

import click
import pytest
import typer

from docs.c_program import Program, Row, entries, read_program
from pgcopydb.cli.accepted import AcceptedOption, Kind
from pgcopydb.cli.main import application
from pgcopydb.runtime.errors import UsageError

TESTS = Path(__file__).parents[1]
PROGRAM = read_program()
ROOT = typer.main.get_command(application())


def context_of(path: str) -> click.Context | None:
    """None where there is no such command."""
    context = click.Context(ROOT, info_name="pgcopydb", **ROOT.context_settings)
    for word in path.split():
        command = getattr(context.command, "commands", {}).get(word)
        if command is None:
            return None
        context = click.Context(command, parent=context, info_name=word)
    return context


def options_of(path: str) -> dict[str, click.Option]:
    context = context_of(path)
    assert context is not None, path
    params = context.command.get_params(context)
    return {name: each for each in params if isinstance(each, click.Option) for name in each.opts}


def commands(program: Program) -> list[str]:
    return [path for group in program.groups for path in group.commands]


def disagreement(row: Row, taken: dict[str, click.Option]) -> str:
    """What is wrong with a row, given the options that the command takes; empty when nothing is."""
    option = taken.get(row.names[0])
    kind = option.accepted.kind if isinstance(option, AcceptedOption) else None
    if row.verdict == "not":
        return "" if option is None or kind is Kind.REFUSED else "is not, but taken"
    if option is None:
        return "is not taken"
    if kind is Kind.REFUSED or (kind is Kind.REPLACED and row.verdict == "same"):
        return f"is {row.verdict}, but {kind.name.lower()}"
    others = [name for name in row.names if taken.get(name) is not option]
    if others:
        return f"has not the name {others}"
    is_flag = option.is_flag or option.count
    return "takes a value where the other does not, or the other way round" if is_flag == bool(row.value) else ""


@pytest.mark.parametrize("path", sorted(set(commands(PROGRAM))))
def test_every_option_is_taken_as_the_table_says(path: str) -> None:
    taken = options_of(path)
    rows = [*PROGRAM.options_of(path), *(PROGRAM.everywhere if path not in {"", "version"} else ())]
    wrong = {row.names[0]: why for row in rows if (why := disagreement(row, taken))}
    assert wrong == {}


@pytest.mark.parametrize("path", sorted(set(commands(PROGRAM))))
def test_what_is_accepted_for_the_sake_of_scripts_is_in_the_table(path: str) -> None:
    accepted = {option.opts[0] for option in options_of(path).values() if isinstance(option, AcceptedOption)}
    assert accepted <= {name for row in PROGRAM.options_of(path) for name in row.names}


def test_every_command_is_there_as_the_table_says() -> None:
    for row in PROGRAM.commands:
        assert (context_of(row.names[0]) is not None) == (row.verdict != "not"), row.names
    listed = {row.names[0] for row in PROGRAM.commands if row.verdict != "not"}
    assert set(commands(PROGRAM)) - {""} | {"help"} == listed


@pytest.mark.parametrize(("where", "row"), [*entries(PROGRAM)], ids=lambda value: getattr(value, "names", [value])[0])
def test_the_test_of_a_row_is_there(where: str, row: Row) -> None:
    text = (TESTS / row.test).read_text(encoding="utf-8")
    if row.test == f"unit/{Path(__file__).name}" or where == "behaviour":
        return
    words = [row.names[0].split()[-1]] if where == "commands" else row.names
    assert any(re.search(rf"(?<![\w-]){re.escape(word)}(?![\w-])", text) for word in words), row.test


def parse(*arguments: str) -> click.Context:
    path = " ".join(word for word in arguments if not word.startswith("-"))
    context = context_of(path)
    assert context is not None
    context.command.parse_args(context, [word for word in arguments if word.startswith("-")])
    return context


@pytest.mark.parametrize(
    ("arguments", "name", "value"),
    [
        (("clone", "--table-j=8"), "table_jobs", 8),
        (("clone", "--split-t=1GB"), "split_tables_larger_than", 1 << 30),
        (("clone", "--skip-bl"), "skip_large_objects", True),
        (("stream", "sentinel", "get", "--repl"), "replay_lsn", True),
    ],
)
def test_long_options_may_be_cut_short(arguments: tuple[str, ...], name: str, value: object) -> None:
    assert parse(*arguments).params[name] == value


@pytest.mark.parametrize("ambiguous", ["--split=1", "--no", "--skip-ex"])
def test_not_when_several_begin_so(ambiguous: str) -> None:
    with pytest.raises(click.NoSuchOption):
        parse("clone", ambiguous)


def test_a_value_is_no_option_that_was_cut_short() -> None:
    context = context_of("clone")
    assert context is not None
    context.command.parse_args(context, ["--dir", "--targ", "--source", "--"])
    assert (str(context.params["directory"]), context.params["source"]) == ("--targ", "--")


def test_flags_before_the_command_are_its_own() -> None:
    context = context_of("list tables")
    assert context is not None
    context.find_root().params.update({"verbose": 2, "json": True, "quiet": False, "trace": True, "debug": True})
    context.command.parse_args(context, [])
    chosen = {name: context.params[name] for name in ("verbose", "json", "quiet", "trace", "debug")}
    assert chosen == {"verbose": 2, "json": True, "quiet": False, "trace": True, "debug": True}


@pytest.mark.parametrize(
    "arguments",
    [
        ("follow", "--restart"),
        ("follow", "--all-databases"),
        ("copy", "table-data", "--all-databases"),
        ("restore", "schema", "-r"),
        ("stream", "cleanup", "--dry-run"),
        ("stream", "receive", "--restart"),
    ],
)
def test_what_would_harm_is_refused(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError, match="is not for `pgcopydb ") as refused:
        parse(*arguments)
    assert refused.value.hint
