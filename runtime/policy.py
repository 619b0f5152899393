"""What is done about everything that can go wrong while changes are followed: the one table of it.

Pure: what an error or the end of a stage is, and how long to wait before the same is tried again. Waiting and trying
are the caller's (``retry.persist`` in a stage, the supervisor for whole stages).
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from enum import Enum
from typing import Final

from pgcopydb.runtime.errors import DiskFull, ExitCode, Kind, PartialFailure, PgcopydbError

_SERVER_DISK_FULL: Final = "53100"


class Trouble(Enum):
    """Kinds of what goes wrong, by what helps."""

    AWAY = "a lost connection, a server that starts, a deadlock"
    NO_ROOM = "a full disk, here or of a server"
    KILLED = "a stage that was killed or stopped by somebody else, or is stuck"
    FOR_A_PERSON = "anything else"
    STOP = "a stop that was asked for"


@dataclass(frozen=True, slots=True)
class Again:
    """Pauses in seconds: twice as long each time, up to the longest; the real one is up to a half shorter."""

    first: float
    longest: float

    def pause(self, attempt: int) -> float:
        """Before the next attempt, when so many have failed since the last one that went well."""
        whole = min(self.longest, self.first * 2.0 ** min(attempt, 30))
        return whole * (1 - random.random() / 2)  # noqa: S311  so that many do not come back in step


POLICY: Final[dict[Trouble, Again | None]] = {
    Trouble.AWAY: Again(0.2, 5.0),
    Trouble.NO_ROOM: Again(1.0, 5.0),
    Trouble.KILLED: Again(0.1, 60.0),
    Trouble.FOR_A_PERSON: None,
    Trouble.STOP: None,
}
"""None: never by itself."""


def trouble_of(error: PgcopydbError) -> Trouble:
    if isinstance(error, PartialFailure) and error.causes:
        troubles = [trouble_of(cause) for cause in error.causes]
        return next((trouble for trouble in troubles if POLICY[trouble] is None), troubles[0])
    if error.kind is Kind.RETRY:
        return Trouble.AWAY
    if isinstance(error, DiskFull) or error.sqlstate == _SERVER_DISK_FULL:
        return Trouble.NO_ROOM
    return Trouble.STOP if error.kind is Kind.STOPPED else Trouble.FOR_A_PERSON


def trouble_of_exit(code: int) -> Trouble | None:
    """Of a stage that ended though nobody who may asked it to; negative: the signal that ended it. None: it is done."""
    if code == 0:
        return None
    # What a stage ends with that got a signal.
    return Trouble.KILLED if code < 0 or code == ExitCode.INTERNAL_ERROR else Trouble.FOR_A_PERSON
