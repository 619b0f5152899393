"""One policy for every act that may be tried again: which kinds of error, how long, how often.

``retry`` is for a step of a bounded run; ``persist`` for a stage that runs for weeks.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from typing import TypeVar

import tenacity

from pgcopydb.runtime.errors import Kind, PgcopydbError
from pgcopydb.runtime.policy import POLICY, trouble_of
from pgcopydb.runtime.stop import Stop

T = TypeVar("T")
logger = logging.getLogger(__name__)

RECONNECT_SECONDS = 60.0
"""How long a lost server is waited for: a restart of a busy one takes about this long."""

# The C program's figures: decorrelated jitter between 5 ms and 2 s, so that many workers do not come back in step.
_WAIT = tenacity.wait_random_exponential(multiplier=0.05, min=0.005, max=2.0)

_WENT_WELL_SECONDS = 10.0
_LOUD_ATTEMPTS = 10


def is_transient(error: BaseException) -> bool:
    return isinstance(error, PgcopydbError) and error.kind is Kind.RETRY


def retry(act: Callable[[], T], *, what: str, seconds: float, stop: Stop | None = None) -> T:
    """Call ``act`` until it succeeds, raises an error that is not transient, or ``seconds`` are over.

    The last error is raised as it is. A stop request ends the wait between two attempts.
    """

    def warn(state: tenacity.RetryCallState) -> None:
        error = state.outcome.exception() if state.outcome else None
        level = logging.WARNING if state.attempt_number == 1 else logging.DEBUG
        until = "" if seconds == math.inf else f" for up to {seconds:.0f} s"
        logger.log(level, "%s failed, trying again%s: %s", what, until, error)

    def sleep(pause: float) -> None:
        if (stop or Stop()).wait(pause) and stop is not None:
            stop.check()

    attempts = tenacity.Retrying(
        retry=tenacity.retry_if_exception(is_transient),
        stop=tenacity.stop_after_delay(seconds),
        wait=_WAIT,
        before_sleep=warn,
        sleep=sleep,
        reraise=True,
    )
    return attempts(act)


def persist(
    act: Callable[[], None], *, what: str, stop: Stop, on_retry: Callable[[PgcopydbError], None] | None = None
) -> None:
    """Call ``act`` until it returns, raises an error that the policy leaves to a person, or a stop is requested.

    It begins with short pauses again after each call that went well for a while. ``on_retry`` hears of each error that
    is waited for.
    """
    attempt = -1
    while not stop.mode:
        began = time.monotonic()
        try:
            act()
        except PgcopydbError as error:
            again = POLICY[trouble_of(error)]
            if again is None:
                raise
            if stop.mode:
                logger.debug("%s: %s", what, error)
                return
            attempt = 0 if time.monotonic() - began > _WENT_WELL_SECONDS else attempt + 1
            pause = again.pause(attempt)
            if on_retry is not None:
                on_retry(error)
            level = logging.WARNING if attempt < _LOUD_ATTEMPTS or attempt % _LOUD_ATTEMPTS == 0 else logging.DEBUG
            logger.log(level, "%s: %s; trying again in %.1f s", what, error, pause)
            stop.wait(pause)
        else:
            return
