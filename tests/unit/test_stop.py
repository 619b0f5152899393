"""Signals that come while the main thread is blocked are heard at once."""

from __future__ import annotations

import subprocess
import sys

import pytest

from pgcopydb.runtime.errors import ExitCode

_PROGRAM = """
import signal, threading
from pgcopydb.runtime.stop import stop_on_signals

def act(*signals):
    # The thread that a signal comes to is not the one that is blocked, which nothing wakes.
    for number in signals:
        heard = threading.Event() if stop.mode else stop
        signal.pthread_kill(threading.get_ident(), number)
        if number != signal.SIGHUP:
            print(heard.wait(10), stop.mode.name, flush=True)

SIGNALS = [SIGNALS]
with stop_on_signals() as stop:
    thread = threading.Thread(target=act, args=SIGNALS)
    thread.start()
    thread.join()
print(stop.take_hangup(), stop.take_hangup())
for number in {signal.SIGTERM, signal.SIGHUP}:
    assert signal.getsignal(number) is signal.SIG_DFL
assert signal.set_wakeup_fd(-1) == -1
"""


@pytest.mark.parametrize(
    ("signals", "code", "lines"),
    [
        ("TERM", 0, ["True GRACEFUL", "False False"]),
        ("INT", 0, ["True FAST", "False False"]),
        ("HUP TERM", 0, ["True GRACEFUL", "True False"]),
        ("INT INT", ExitCode.INTERNAL_ERROR, ["True FAST"]),
        ("TERM QUIT", ExitCode.INTERNAL_ERROR, ["True GRACEFUL"]),
        ("QUIT", ExitCode.INTERNAL_ERROR, []),
    ],
)
def test_signals_while_the_main_thread_is_blocked(signals: str, code: int, lines: list[str]) -> None:
    names = ", ".join(f"signal.SIG{name}" for name in signals.split())
    done = subprocess.run(
        [sys.executable, "-c", _PROGRAM.replace("[SIGNALS]", f"[{names}]")],
        check=False,
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert (done.returncode, done.stdout.splitlines()) == (code, lines), done.stderr
