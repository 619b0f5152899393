"""Somebody stops what follows changes, or kills the process that all others belong to: it goes on where it was."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import Following, is_halted, pair_of, prepare
from tests.workload import Workload

SIGNALS = [signal.SIGTERM, signal.SIGINT]


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 18) as pair:
        yield pair


@pytest.mark.parametrize("signum", [*SIGNALS, signal.SIGKILL], ids=lambda signum: signum.name)
def test_while_changes_are_applied(signum: signal.Signals, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """Also to the main process alone, as kill(1) does it: none of its children outlives it."""
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    with Workload(pair.source.dsn, seed=12, writers=2):
        run.catches_up()
        run.process.send_signal(signum)
        assert run.process.wait(20) == (12 if signum in SIGNALS else -signum), run.log
        run.leaves_nothing(10)
        if signum in SIGNALS:
            assert "stopped before the end position: applied up to" in run.log
            assert "Continue with --resume" in run.log
        assert "Traceback" not in run.log
        run.start()
        run.catches_up()
    run.set_end()
    run.ends()


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
def test_during_the_copy(signum: signal.Signals, pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path)
    with Workload(pair.source.dsn, seed=13):
        run.begin(failpoints="copy.after_commit=stop@5")
        run.wait(lambda: is_halted(run.process.pid), "the copy to be under way")
        run.process.send_signal(signum)
        run.process.send_signal(signal.SIGCONT)
        assert run.process.wait(30) == 12, run.log
        assert "stopped on request" in run.log
        run.leaves_nothing(10)
        run.start()
        run.catches_up()
    run.set_end()
    run.ends()


@pytest.mark.parametrize("signum", SIGNALS, ids=lambda signum: signum.name)
def test_while_the_slot_waits_for_a_transaction(
    signum: signal.Signals, pair: DbPair, pgcopydb: Command, workdir_path: Path
) -> None:
    """A slot is there when all that was written to at its beginning has ended, which may be hours later."""
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path)
    with pair.source.connect(autocommit=False) as writer:
        writer.execute("INSERT INTO public.by_bigint VALUES (1000)")
        run.begin()
        waits = "SELECT FROM pg_stat_activity WHERE backend_type = 'walsender' AND wait_event_type = 'Lock'"
        run.wait(lambda: bool(pair.source.fetch(waits)), "the slot to be waited for")
        run.process.send_signal(signum)
        assert run.process.wait(20) == 12, run.log
        run.leaves_nothing(10)
        assert pair.source.fetch("SELECT FROM pg_replication_slots WHERE slot_name = 'pgcopydb'") == []
    run.start()
    run.set_end()
    run.ends()
