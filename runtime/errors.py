"""The one error shape of the program and its named cases.

An error carries what was being done, the cause in the server's words, a hint that helps an operator, the exit code
that the process ends with when nothing handles it, and a kind that the retry policy reads.
Raising is all that a stage does with an error; only the process entry point logs it and picks the exit code.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum, StrEnum


class ExitCode(IntEnum):
    """Exit codes of the command line, as scripts written for the C program expect them."""

    QUIT = 0
    BAD_ARGS = 1
    BAD_CONFIG = 2
    BAD_STATE = 3
    PGSQL = 4
    PGCTL = 5
    SOURCE = 6
    TARGET = 7
    INTERNAL_ERROR = 12
    TRY_AGAIN = 75
    """For a service manager alone: of an error that passes by itself (EX_TEMPFAIL of sysexits.h)."""
    FATAL = 122


class Kind(StrEnum):
    """What may be done about an error."""

    RETRY = "retry"
    """Transient: the same act may succeed on a new connection (connection lost, server starting up, deadlock)."""
    OPERATOR = "operator"
    """A person has to change something first."""
    STOPPED = "stopped"
    """Not a failure: somebody asked this process to stop."""


class PgcopydbError(Exception):
    """Base of every error that the program raises on purpose.

    ``message`` is one line that says what was being done and what went wrong; ``hint`` is one line that says what to
    do about it; ``sqlstate`` is the server's five-character code when a server raised it.
    """

    exit_code: ExitCode = ExitCode.INTERNAL_ERROR

    def __init__(
        self,
        message: str,
        *,
        hint: str | None = None,
        kind: Kind = Kind.OPERATOR,
        sqlstate: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.kind = kind
        self.sqlstate = sqlstate

    def __str__(self) -> str:
        """The message as it is now: whoever passes the error on may have said in it where it was."""
        return self.message


class UsageError(PgcopydbError):
    """The command line or the environment asks for something that makes no sense."""

    exit_code = ExitCode.BAD_ARGS


class ConfigError(PgcopydbError):
    """A configuration that was read cannot be used: a connection string, a file, a setting."""

    exit_code = ExitCode.BAD_CONFIG


class StateError(PgcopydbError):
    """What is on disk forbids the command: another run's work directory, a lock that is held, a lost snapshot."""

    exit_code = ExitCode.BAD_STATE


class CorruptState(StateError):
    """A file of the work directory does not hold what was written there."""


class DiskFull(StateError):
    """The work directory's file system has no room left."""


class BinaryError(PgcopydbError):
    """A Postgres client program is missing, unusable, or failed."""

    exit_code = ExitCode.PGCTL


class SourceError(PgcopydbError):
    """The source server refused something, or the connection to it failed."""

    exit_code = ExitCode.SOURCE


class TargetError(PgcopydbError):
    """The target server refused something, or the connection to it failed."""

    exit_code = ExitCode.TARGET


class PreflightFailed(PgcopydbError):
    """Something that the command needs is missing; the findings say what, and which statement mends it."""

    exit_code = ExitCode.PGSQL


class PartialFailure(PgcopydbError):
    """Some objects failed while the rest was done; each was reported when it did."""

    def __init__(self, message: str, *, hint: str | None = None, causes: Sequence[PgcopydbError] = ()) -> None:
        super().__init__(message, hint=hint)
        self.causes = tuple(causes)
        codes = {cause.exit_code for cause in causes}
        if len(codes) == 1:
            self.exit_code = codes.pop()


class Stopped(PgcopydbError):
    """The operator asked this process to stop before the work was complete."""

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        super().__init__(message, hint=hint, kind=Kind.STOPPED)
