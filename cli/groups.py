"""Commands and groups of commands, as scripts written for the C program call them.

Beside what a command declares, it accepts options that it has no use for (``accepted``); long options may be cut short
as long as one alone begins so, as ``getopt_long`` has it; and the flags of the program itself (``pgcopydb --verbose
clone``) are flags of the command.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import redirect_stdout
from typing import Any

import click
import typer
from typer.core import TyperCommand, TyperGroup

from pgcopydb.cli.accepted import accepted
from pgcopydb.runtime.errors import ExitCode


class ScriptCommand(TyperCommand):
    """One command."""

    _accepted: list[click.Parameter] | None = None

    def get_params(self, ctx: click.Context) -> list[click.Parameter]:
        params = super().get_params(ctx)
        if self._accepted is None:
            declared = [name for parameter in params for name in (*parameter.opts, *parameter.secondary_opts)]
            path = ctx.command_path.partition(" ")[2]
            self._accepted = [each.option() for each in accepted(path, declared)]
        return [*params, *self._accepted]

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        params = self.get_params(ctx)
        return super().parse_args(ctx, [*_inherited(ctx, params), *completed(params, args)])


def _inherited(context: click.Context, params: Sequence[click.Parameter]) -> Iterator[str]:
    """Flags that stand before the name of the command, if it has them."""
    for name, value in context.find_root().params.items():
        if any(parameter.name == name for parameter in params) and context.parent is not None:
            yield from [f"--{name}"] * int(value or 0)


def completed(params: Sequence[click.Parameter], args: Sequence[str]) -> Iterator[str]:
    """The arguments, with long options that were cut short in full where one option alone begins so."""
    options = {name: each for each in params if isinstance(each, click.Option) for name in each.opts}
    rest = iter(args)
    for word in rest:
        if word == "--":
            yield word
            yield from rest
            return
        name, equals, value = word.partition("=")
        if name.startswith("--") and name not in options:
            near = [known for known in options if known.startswith(name)]
            if len({id(options[known]) for known in near}) == 1:
                name = near[0]
        yield f"{name}{equals}{value}"
        option = options.get(name)
        if option is not None and not equals and not option.is_flag and not option.count:
            yield from (following for following in (next(rest, None),) if following is not None)


def print_help(context: click.Context, *, err: bool = False) -> None:
    """The help of a command; on stderr when nobody has asked for it."""
    # rich prints to stdout whatever it is told.
    with redirect_stdout(sys.stderr if err else sys.stdout):
        text = context.get_help()
        if text.strip():
            typer.echo(text)


class ScriptGroup(TyperGroup):
    """A group that shows what it has when it is asked for help or for something that it does not have."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args[0] == "help" and "help" not in self.commands:
            print_help(ctx)
            ctx.exit()
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError:
            print_help(ctx, err=True)
            raise


class Application(typer.Typer):
    """Its commands are such commands."""

    def command(self, name: str | None = None, *, cls: type[TyperCommand] | None = None, **settings: Any) -> Any:
        return super().command(name, cls=cls or ScriptCommand, **settings)


def command_group(text: str) -> Application:
    """A group that prints its help to stderr, as an error, when no command of it is named."""
    group = Application(help=text, cls=ScriptGroup)

    @group.callback(invoke_without_command=True, help=text)
    def no_command(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            print_help(context, err=True)
            raise typer.Exit(ExitCode.BAD_ARGS)

    return group
