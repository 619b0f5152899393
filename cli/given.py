"""What the shared options of a command come to: logs, servers, files and the work directory."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import click

from pgcopydb.bootstrap.pins import parse_requirements
from pgcopydb.cli.accepted import SAID
from pgcopydb.postgres.conninfo import SECRETS, ConnInfo, Side
from pgcopydb.postgres.filters import FilterRules, Section, parse_filters
from pgcopydb.runtime.errors import ConfigError, UsageError
from pgcopydb.runtime.logs import level_of, settings_from, setup_logging
from pgcopydb.runtime.workdir import WorkDir, default_directory

logger = logging.getLogger("pgcopydb.cli")


def begin_logging(
    verbose: int, notice: bool = False, debug: bool = False, trace: bool = False, quiet: bool = False
) -> None:
    """Set up the logs as the verbosity options and ``PGCOPYDB_LOG_*`` say."""
    level = level_of(verbose=verbose, notice=notice, debug=debug, trace=trace, quiet=quiet)
    setup_logging(settings_from(os.environ, level))
    context = click.get_current_context(silent=True)
    for severity, text in context.meta.get(SAID, ()) if context is not None else ():
        logger.log(severity, "%s", text)


def log_flags(verbose: int, notice: bool, debug: bool, trace: bool, quiet: bool) -> list[str]:
    """The verbosity options, for a process that is started to log as this one does."""
    flags = {"--notice": notice, "--debug": debug, "--trace": trace, "--quiet": quiet}
    return ["--verbose"] * verbose + [flag for flag, given in flags.items() if given]


def servers(source: str | None, target: str | None) -> tuple[ConnInfo, ConnInfo]:
    """Both connection strings, parsed."""
    return server(Side.SOURCE, source), server(Side.TARGET, target)


def server(side: Side, text: str | None) -> ConnInfo:
    """One connection string, parsed; says when its password can be read by everybody on this machine."""
    info = ConnInfo.parse(side, text)
    origin = click.get_current_context().get_parameter_source(side)
    if SECRETS.intersection(info.params) and origin is click.core.ParameterSource.COMMANDLINE:
        logger.warning(
            "The password in --%s can be seen in the process list: set %s or use a passfile", side, side.variable
        )
    return info


def filters_of(path: Path | None, *, skip_extensions: bool = False) -> FilterRules:
    """The rules of a filter file, none without one. Raises ``ConfigError``, or ``UsageError`` when it is not there."""
    if path is None:
        return FilterRules()
    try:
        rules = parse_filters(path.read_text(encoding="utf-8"), str(path))
        if skip_extensions and rules.has(Section.ONLY_EXTENSION):
            raise UsageError(
                f"--skip-extensions and [{Section.ONLY_EXTENSION}] of {path} exclude each other",
                hint="Leave one of them out.",
            )
        if skip_extensions and rules.has(Section.NOT_EXTENSION):
            logger.warning("--skip-extensions leaves out all of them: [%s] says nothing more", Section.NOT_EXTENSION)
        return rules
    except OSError as exc:
        raise UsageError(f"--filters {path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8: byte {exc.start}", hint="Save it as UTF-8.") from exc


def requirements_of(path: Path | None, *, skip_extensions: bool = False) -> dict[str, str] | None:
    """The versions of a requirements file, none without one. Raises ``ConfigError`` or ``UsageError``."""
    if path is None:
        return None
    if skip_extensions:
        raise UsageError("--requirements and --skip-extensions exclude each other", hint="Give one of them.")
    try:
        return parse_requirements(path.read_text(encoding="utf-8"), str(path))
    except OSError as exc:
        raise UsageError(f"--requirements {path} cannot be read: {exc.strerror}") from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8: byte {exc.start}", hint="Save it as UTF-8.") from exc


def workdir_of(directory: Path | None) -> WorkDir:
    """The work directory; its name goes to the log."""
    workdir = WorkDir((directory or default_directory()).absolute())
    logger.info('Using work dir "%s"', workdir.top)
    return workdir
