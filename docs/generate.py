"""Write what is made of the program's own declarations: ``docs/manual/commands.md``, every command and option;
``docs/compatibility.md``, what became of those of the C program; manual pages in roff; completion for three shells.

``make docs`` runs it. The test suite compares the files with what this module would write.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final

import click
import typer

from docs import c_program
from docs.roff import man_pages, takes_value, value_of, variables
from docs.shells import completions
from pgcopydb.cli.main import application

PAGE: Final = Path(__file__).parent / "manual" / "commands.md"

_HEAD: Final = """\
# Commands and options

Written by `make docs` from the program's own declarations. What a command does in full is on its manual page.
"""


def commands_page() -> str:
    """The whole page."""
    root = typer.main.get_command(application())
    parts = [_HEAD, *(_section(path, command) for path, command in _leaves(root, "pgcopydb"))]
    return "\n".join(parts)


def _leaves(command: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    children: dict[str, click.Command] = getattr(command, "commands", {})
    if not children:
        yield path, command
    for name, child in sorted(children.items()):
        yield from _leaves(child, f"{path} {name}")


def _section(path: str, command: click.Command) -> str:
    text = " ".join((command.help or "").split())
    options = [option for option in command.params if isinstance(option, click.Option)]
    lines = [f"## {path}", "", text, ""]
    if options:
        lines += ["| option | environment | default | |", "|---|---|---|---|", *map(_row, options), ""]
    return "\n".join(lines)


def _row(option: click.Option) -> str:
    value = f" {value_of(option)}" if takes_value(option) else ""
    names = ", ".join(f"`{name}`" for name in option.opts)
    default = "" if not takes_value(option) or option.default is None else f"`{_default(option)}`"
    text = " ".join((option.help or "").split()).replace("|", "\\|")
    return f"| {names}{value} | {', '.join(f'`{name}`' for name in variables(option))} | {default} | {text} |"


def _default(option: click.Option) -> str:
    return str(getattr(option.default, "value", option.default))


def pages() -> dict[Path, str]:
    """Every generated file, and what is in it."""
    command = typer.main.get_command(application())
    root = click.Context(command, info_name="pgcopydb", **command.context_settings)
    return {
        PAGE: commands_page(),
        c_program.PAGE: c_program.compatibility_page(),
        **man_pages(root),
        **completions(root),
    }


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
