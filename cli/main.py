"""Entry point: one typer application, and what an error means for the exit code.

Every error ends here as one line with a hint. Results go to stdout, everything else to stderr. A process loads the
modules of the command that it runs: to load those of all of them takes longer than many a command.
"""

from __future__ import annotations

import importlib
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from typing import Annotated, Any, Final

import click
import typer

from pgcopydb.cli import version
from pgcopydb.daemon.service import under_systemd
from pgcopydb.runtime.environment import normalise_booleans
from pgcopydb.runtime.errors import ExitCode, PgcopydbError, Stopped
from pgcopydb.runtime.logs import STAGE_VARIABLE, LogSettings, setup_logging

logger = logging.getLogger("pgcopydb.cli")

_MODULES: Final = {
    "clone": "clone",
    "fork": "clone",
    "check": "check",
    "compare": "compare",
    "follow": "follow",
    "list": "list_",
    "ping": "ping",
    "snapshot": "snapshot",
    "status": "status",
    "copy": "steps",
    "dump": "steps",
    "restore": "steps",
    "stream": "stream",
    "version": "version",
}
"""Which module of this package registers a command."""


def application(words: Sequence[str] = ()) -> typer.Typer:
    """All commands, or those of one module that are enough for this command line."""
    app = typer.Typer(
        name="pgcopydb",
        help="Copy a PostgreSQL database to another server, in parallel and under one snapshot.",
        add_completion=False,
        no_args_is_help=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback(invoke_without_command=True)(root)
    named = _MODULES.get(words[0]) if words else None
    for module in [named] if named is not None else dict.fromkeys(_MODULES.values()):
        importlib.import_module(f"pgcopydb.cli.{module}").register(app)
    app.command("help")(show_help)
    return app


def root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", "-V", help="Print the version and exit.")] = False,
) -> None:
    """Copy a PostgreSQL database to another server, in parallel and under one snapshot."""
    if show_version:
        version.print_version()
        raise typer.Exit
    if context.invoked_subcommand is None:
        typer.echo(context.get_help(), err=True)
        raise typer.Exit(ExitCode.BAD_ARGS)


def show_help(context: typer.Context) -> None:
    """Print all commands."""
    root_context = context.find_root()
    typer.echo(root_context.get_help())
    for line in _tree(root_context.command, "pgcopydb"):
        typer.echo(line)


def _tree(command: click.Command, path: str) -> Iterator[str]:
    children: dict[str, click.Command] = getattr(command, "commands", {})
    if not children:
        yield f"  {path:<28}{command.get_short_help_str(limit=80)}"
    for name, child in children.items():
        yield from _tree(child, f"{path} {name}")


def main() -> None:
    """Run the command line of this process and exit."""
    sys.exit(run(sys.argv[1:]))


def run(arguments: list[str]) -> int:
    """The exit code of a command line."""
    setup_logging(LogSettings())
    try:
        normalise_booleans(os.environ)
        return _invoke(arguments)
    except PgcopydbError as error:
        # Whoever started a stage and stops it says so itself.
        level = logging.DEBUG if STAGE_VARIABLE in os.environ and isinstance(error, Stopped) else logging.ERROR
        logger.log(level, "%s", error)
        if error.hint:
            logger.log(level, "hint: %s", error.hint)
        if isinstance(error, Stopped) and under_systemd():
            # For a service manager a service that ends because it was told to has not failed.
            return ExitCode.QUIT
        return error.exit_code
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.INTERNAL_ERROR
    except Exception as error:
        logger.critical("internal error: %s: %s", type(error).__name__, error)
        logger.critical("hint: this is a defect of pgcopydb; --debug shows where. What is done is kept for --resume.")
        logger.debug("where it came from", exc_info=error)
        return ExitCode.FATAL


def _invoke(arguments: list[str]) -> int:
    command = typer.main.get_command(application(arguments))
    try:
        result: Any = command.main(arguments, prog_name="pgcopydb", standalone_mode=False)
    except click.ClickException as error:
        logger.error("%s", error.format_message().replace("\n", " "))
        context = error.ctx if isinstance(error, click.UsageError) else None
        logger.error("hint: see %s --help", context.command_path if context else "pgcopydb")
        return ExitCode.BAD_ARGS
    except click.Abort:
        return ExitCode.INTERNAL_ERROR
    return result if isinstance(result, int) else ExitCode.QUIT
