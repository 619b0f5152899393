"""Children: their words reach the log, and none outlives this process."""

from __future__ import annotations

import logging
import os
import select
import signal
import subprocess
import sys
import threading

import pytest

from pgcopydb.runtime.child import KEPT_LINES, run_child
from pgcopydb.runtime.errors import BinaryError, Stopped
from pgcopydb.runtime.logs import NOTICE
from pgcopydb.runtime.stop import Stop, StopMode

ENVIRONMENT = dict(os.environ)


def shell(script: str) -> list[str]:
    return ["/bin/sh", "-c", script]


def ended(pidfd: int) -> bool:
    """Whether a process ends within a deadline."""
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    return bool(poll.poll(10_000))


def test_lines_are_logged_at_the_level_that_the_program_gave_them(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "pgcopydb")
    script = """
        echo 'pg_dump: reading extensions' >&2
        echo 'pg_dump: warning: odd' >&2
        echo 'pg_dump: error: query failed: ERROR:  no' >&2
        echo 'pg_dump: detail: Query was: SELECT' >&2
        echo 'more of it' >&2
        echo 'NOTICE:  well' >&2
        echo 'not for the log'
        exit 3
    """
    result = run_child(shell(script), environment=ENVIRONMENT, stop=Stop(), what="testing")
    assert result.returncode == 3
    assert result.errors == [
        "pg_dump: error: query failed: ERROR:  no",
        "pg_dump: detail: Query was: SELECT",
        "more of it",
    ]
    logged = [(record.levelno, record.getMessage()) for record in caplog.records]
    assert logged[:6] == [
        (logging.DEBUG, "pg_dump: reading extensions"),
        (logging.WARNING, "pg_dump: warning: odd"),
        (logging.ERROR, "pg_dump: error: query failed: ERROR:  no"),
        (logging.ERROR, "pg_dump: detail: Query was: SELECT"),
        (logging.ERROR, "more of it"),
        (NOTICE, "NOTICE:  well"),
    ]
    assert "not for the log" not in caplog.text


def test_only_the_last_errors_are_kept() -> None:
    lines = KEPT_LINES + 50
    script = f'i=0; while [ $i -lt {lines} ]; do echo "p: error: $i" >&2; i=$((i+1)); done'
    seen: list[str] = []
    result = run_child(shell(script), environment=ENVIRONMENT, stop=Stop(), what="testing", on_line=seen.append)
    assert len(seen) == lines
    assert result.errors == seen[-KEPT_LINES:]


def test_a_secret_of_the_environment_reaches_the_child_and_no_argument_list() -> None:
    seen: list[str] = []
    script = "echo \"$PGPASSWORD\" >&2; tr '\\0' ' ' < /proc/$$/cmdline >&2"
    run_child(
        shell(script),
        environment={**ENVIRONMENT, "PGPASSWORD": "sekret"},
        stop=Stop(),
        what="testing",
        on_line=seen.append,
    )
    assert seen[0] == "sekret"
    assert "sekret" not in seen[1]


def test_what_is_of_nobody_elses_business_stays_here() -> None:
    """Connection strings of the other server, and the socket of the service manager."""
    kept: list[str] = []
    environment = {
        **ENVIRONMENT,
        "PGCOPYDB_TARGET_PGURI": "postgres://u:secret@h/d",
        "NOTIFY_SOCKET": "/run/x",
        "WATCHDOG_USEC": "1",
        "PGPASSWORD": "needed",
    }
    run_child(shell("env >&2"), environment=environment, stop=Stop(), what="looking", on_line=kept.append)
    names = {line.partition("=")[0] for line in kept}
    assert "PGPASSWORD" in names
    assert not names & {"PGCOPYDB_TARGET_PGURI", "NOTIFY_SOCKET", "WATCHDOG_USEC"}


def test_a_program_that_is_missing() -> None:
    with pytest.raises(BinaryError, match="testing: /nonexistent is not a program"):
        run_child(["/nonexistent"], environment=ENVIRONMENT, stop=Stop(), what="testing")


@pytest.mark.parametrize(
    "script", ["echo $$ >&2; exec sleep 1000", "trap '' TERM; echo $$ >&2; while true; do sleep 1; done"]
)
def test_a_fast_stop_ends_the_child(script: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("pgcopydb.runtime.child._KILL_AFTER_SECONDS", 0.2)
    stop = Stop()
    pidfds: list[int] = []

    def on_line(line: str) -> None:
        pidfds.append(os.pidfd_open(int(line)))
        threading.Thread(target=stop.request, args=(StopMode.FAST,)).start()

    with pytest.raises(Stopped):
        run_child(shell(script), environment=ENVIRONMENT, stop=stop, what="testing", on_line=on_line)
    assert ended(pidfds[0])
    os.close(pidfds[0])


def test_nothing_is_started_after_a_stop_request() -> None:
    stop = Stop()
    stop.request(StopMode.GRACEFUL)
    with pytest.raises(Stopped):
        run_child(shell("exit 0"), environment=ENVIRONMENT, stop=stop, what="testing")


@pytest.mark.parametrize("path", [os.environ["PATH"], "/nowhere"], ids=["setpriv", "python"])
def test_the_child_goes_when_its_parent_is_killed(path: str) -> None:
    program = """
import os
from pgcopydb.runtime.child import run_child
from pgcopydb.runtime.stop import Stop
run_child(["/bin/sh", "-c", "echo $$ >&2; exec /bin/sleep 1000"], environment=dict(os.environ), stop=Stop(), what="t",
          on_line=lambda line: print(line, flush=True))
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, env={**ENVIRONMENT, "PATH": path}
    ) as parent:
        assert parent.stdout is not None
        pidfd = os.pidfd_open(int(parent.stdout.readline()))
        try:
            parent.send_signal(signal.SIGKILL)
            assert ended(pidfd)
        finally:
            os.close(pidfd)
