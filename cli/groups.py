"""Groups of commands."""

from __future__ import annotations

import typer

from pgcopydb.runtime.errors import ExitCode


def command_group(text: str) -> typer.Typer:
    """A group that prints its help to stderr, as an error, when no command of it is named."""
    group = typer.Typer(help=text)

    @group.callback(invoke_without_command=True, help=text)
    def no_command(context: typer.Context) -> None:
        if context.invoked_subcommand is None:
            typer.echo(context.get_help(), err=True)
            raise typer.Exit(ExitCode.BAD_ARGS)

    return group
