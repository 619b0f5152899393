"""Log lines: text on stderr, JSON lines on request, and a file of their own.

Reads the ``PGCOPYDB_LOG_*`` variables. Results of commands go to stdout; this module never writes there.
Severities and the JSON keys are those of the C program, so that existing collectors keep working.
"""

from __future__ import annotations

import logging
import logging.handlers
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar, copy_context
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import Final, ParamSpec, TextIO, TypeVar

import orjson

from pgcopydb.runtime.errors import ConfigError

TRACE: Final = 5
SQL: Final = 13
NOTICE: Final = 16

_SEVERITY: Final = {
    TRACE: (0, "TRACE"),
    logging.DEBUG: (2, "DEBUG"),
    SQL: (3, "SQL"),
    NOTICE: (4, "NOTICE"),
    logging.INFO: (5, "INFO"),
    logging.WARNING: (6, "WARN"),
    logging.ERROR: (7, "ERROR"),
    logging.CRITICAL: (8, "FATAL"),
}
STAGE_VARIABLE: Final = "PGCOPYDB_STAGE"
"""Set for a process that was started by another one of this program."""
ABOUT_VARIABLE: Final = "PGCOPYDB_STAGE_OF"
"""What all log lines of such a process are about, where several do the same for different databases."""
P = ParamSpec("P")
T = TypeVar("T")

_about: ContextVar[str] = ContextVar("about", default="")
_VERBOSITY: Final = (logging.INFO, NOTICE, SQL, logging.DEBUG, TRACE)
_COLOURS: Final = {logging.WARNING: "\x1b[33m", logging.ERROR: "\x1b[31m", logging.CRITICAL: "\x1b[35m"}


@dataclass(frozen=True, slots=True)
class LogSettings:
    """Where log lines go and what they look like."""

    level: int = logging.INFO
    json: bool = False
    time_format: str | None = None
    file: Path | None = None
    file_json: bool = False
    about: str = ""


def level_of(
    *, verbose: int = 0, notice: bool = False, debug: bool = False, trace: bool = False, quiet: bool = False
) -> int:
    """The severity that the verbosity options of the command line ask for."""
    level = _VERBOSITY[min(verbose, len(_VERBOSITY) - 1)]
    if notice:
        level = min(level, NOTICE)
    if debug:
        level = min(level, logging.DEBUG)
    if trace:
        level = TRACE
    return logging.ERROR if quiet else level


def settings_from(environment: Mapping[str, str], level: int) -> LogSettings:
    """Read ``PGCOPYDB_LOG_*``; the boolean ones are already ``true`` or ``false``."""
    name = environment.get("PGCOPYDB_LOG_FILENAME")
    return LogSettings(
        level=level,
        json=environment.get("PGCOPYDB_LOG_JSON") == "true",
        time_format=environment.get("PGCOPYDB_LOG_TIME_FORMAT"),
        file=Path(name) if name else None,
        file_json=environment.get("PGCOPYDB_LOG_JSON_FILE") == "true",
        about=_prefix(environment.get(ABOUT_VARIABLE, "")),
    )


@contextmanager
def speaking_of(subject: str) -> Iterator[None]:
    """Log lines of the block begin with the subject: of this thread, and of others by ``in_this_context``."""
    token = _about.set(_prefix(subject))
    try:
        yield
    finally:
        _about.reset(token)


def _prefix(subject: str) -> str:
    one_line = subject.replace("\n", "\\n").replace("\r", "\\r")
    return f"{one_line}: " if one_line else ""


def in_this_context(act: Callable[P, T]) -> Callable[P, T]:
    """For one thread that is about to be started: its log lines speak of what the caller's do."""
    return partial(copy_context().run, act)


class _Text(logging.Formatter):
    def __init__(self, time_format: str, about: str, *, place: bool, colour: bool) -> None:
        super().__init__()
        self._of_process = about
        self._time_format = time_format
        self._place = place
        self._colour = colour

    def format(self, record: logging.LogRecord) -> str:
        moment = time.strftime(self._time_format, time.localtime(record.created))
        severity = _severity(record)[1]
        place = f" {record.filename}:{record.lineno}" if self._place else ""
        line = (
            f"{moment}.{record.msecs:03.0f} {record.process} {severity:<6}{place} {_message(record, self._of_process)}"
        )
        if record.exc_info:
            line = f"{line}\n{self.formatException(record.exc_info)}"
        colour = _COLOURS.get(record.levelno) if self._colour else None
        return f"{colour}{line}\x1b[0m" if colour else line


class _Json(logging.Formatter):
    def __init__(self, about: str) -> None:
        super().__init__()
        self._of_process = about

    def format(self, record: logging.LogRecord) -> str:
        number, severity = _severity(record)
        moment = datetime.fromtimestamp(record.created)  # noqa: DTZ006  local time, as in the text form
        line = {
            "timestamp": moment.strftime("%Y-%m-%d %H:%M:%S.") + f"{record.msecs:03.0f}",
            "pid": record.process,
            "error_level": number,
            "error_severity": severity,
            "file_name": record.filename,
            "file_line_num": record.lineno,
            "message": _message(record, self._of_process),
        }
        if record.exc_info:
            line["traceback"] = self.formatException(record.exc_info)
        return orjson.dumps(line).decode()


def _message(record: logging.LogRecord, of_process: str) -> str:
    return f"{_about.get() or of_process}{record.getMessage()}"


def _severity(record: logging.LogRecord) -> tuple[int, str]:
    return _SEVERITY.get(record.levelno, (5, record.levelname))


class _Stderr(logging.StreamHandler[TextIO]):
    """Writes to whatever ``sys.stderr`` is at the time: a live progress display replaces it."""

    def __init__(self) -> None:
        super().__init__(sys.stderr)

    def emit(self, record: logging.LogRecord) -> None:
        self.stream = sys.stderr
        super().emit(record)


def setup_logging(settings: LogSettings) -> None:
    """Install the handlers on the program's logger. Calling it again replaces them."""
    terminal = sys.stderr.isatty()
    detailed = not terminal or settings.level <= logging.DEBUG
    long_time = "%Y-%m-%d %H:%M:%S"
    stderr = _Stderr()
    if settings.json:
        stderr.setFormatter(_Json(settings.about))
    else:
        time_format = settings.time_format or ("%H:%M:%S" if terminal else long_time)
        place = detailed and settings.level <= logging.DEBUG
        stderr.setFormatter(_Text(time_format, settings.about, place=place, colour=terminal))
    handlers: list[logging.Handler] = [stderr]
    if settings.file is not None:
        try:
            # What is there says why an earlier run ended, or is being written by one that goes on.
            file = logging.handlers.WatchedFileHandler(settings.file, mode="a", encoding="utf-8")
        except OSError as exc:
            raise ConfigError(
                f"PGCOPYDB_LOG_FILENAME: cannot write {settings.file}: {exc.strerror}",
                hint="Name a file in a folder that this user may write to.",
            ) from exc
        file.setFormatter(
            _Json(settings.about)
            if settings.file_json
            else _Text(settings.time_format or long_time, settings.about, place=True, colour=False)
        )
        handlers.append(file)
    logger = logging.getLogger("pgcopydb")
    for old in logger.handlers:
        old.close()
    logger.handlers = handlers
    logger.setLevel(settings.level)
    logger.propagate = False
