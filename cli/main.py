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
from typing import Annotated, Any, Final, Optional

import click
import typer

from pgcopydb.cli import options as o
from pgcopydb.cli import version
from pgcopydb.cli.groups import Application, ScriptGroup, print_help
from pgcopydb.daemon.service import under_systemd
from pgcopydb.runtime.environment import normalise_booleans
from pgcopydb.runtime.errors import ExitCode, PgcopydbError, Stopped
from pgcopydb.runtime.logs import STAGE_VARIABLE, LogSettings, setup_logging
from pgcopydb.runtime.policy import POLICY, trouble_of

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
    app = Application(
        name="pgcopydb",
        cls=ScriptGroup,
        help="Copy a PostgreSQL database to another server, in parallel and under one snapshot.",
        add_completion=False,
        no_args_is_help=False,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["--help", "-h"]},
    )
    app.callback(invoke_without_command=True)(root)
    named = _MODULES.get(next((word for word in words if not word.startswith("-")), ""))
    for module in [named] if named is not None else dict.fromkeys(_MODULES.values()):
        importlib.import_module(f"pgcopydb.cli.{module}").register(app)
    app.command("help")(show_help)
    return app


def root(
    context: typer.Context,
    show_version: Annotated[bool, typer.Option("--version", "-V", help="Print the version and exit.")] = False,
    json: o.ShortJson = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Copy a PostgreSQL database to another server, in parallel and under one snapshot.

    Flags that stand before the name of a command count as flags of that command.
    """
    if show_version:
        version.version(json=json)
        raise typer.Exit
    if context.invoked_subcommand is None:
        print_help(context, err=True)
        raise typer.Exit(ExitCode.BAD_ARGS)


Words = Annotated[Optional[list[str]], typer.Argument(metavar="COMMAND", help="Only of this command.")]  # noqa: UP045


def show_help(context: typer.Context, words: Words = None) -> None:
    """Print all commands, or the help of one."""
    at = context.find_root()
    for word in words or ():
        command = getattr(at.command, "commands", {}).get(word)
        if command is None:
            raise click.UsageError(f"No such command {word!r}.", ctx=at)
        at = click.Context(command, parent=at, info_name=word)
    print_help(at)
    if not words:
        for line in _tree(at.command, "pgcopydb"):
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
        return _exit_code(error)
    except BrokenPipeError:
        # Whoever read our output has gone; there is nobody to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return ExitCode.INTERNAL_ERROR
    except Exception as error:
        logger.critical("internal error: %s: %s", type(error).__name__, error)
        logger.critical("hint: this is a defect of pgcopydb; --debug shows where. What is done is kept for --resume.")
        logger.debug("where it came from", exc_info=error)
        return ExitCode.FATAL


def _exit_code(error: PgcopydbError) -> int:
    """A service manager wants to know of a service whether it failed, and if so whether starting it again helps."""
    if not under_systemd():
        return error.exit_code
    if isinstance(error, Stopped):
        return ExitCode.QUIT
    return error.exit_code if POLICY[trouble_of(error)] is None else ExitCode.TRY_AGAIN


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
