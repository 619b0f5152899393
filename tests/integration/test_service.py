"""What a service manager is told, and what ``pgcopydb status`` shows: of a migration that runs, stops, cannot go on."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import threading
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import orjson
import pytest

from pgcopydb.daemon import supervise
from pgcopydb.daemon.heartbeat import read_state
from pgcopydb.daemon.sentinel import Sentinel
from pgcopydb.daemon.service import Service, Teller
from pgcopydb.daemon.supervise import Supervisor
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.runtime.stop import Stop, StopMode
from pgcopydb.runtime.workdir import WorkDir
from tests.fix_command import Command
from tests.fix_servers import DbPair, Servers
from tests.following import Following, end_ahead, go_beyond, is_halted, pair_of, prepare, processes_of, stage
from tests.wait import wait_until
from tests.workload import Workload


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 18) as pair:
        yield pair


STATES = {"READY=1", "RELOADING=1", "STOPPING=1"}


class Manager:
    """The socket of a service manager (sd_notify(3)), and everything that came."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "notify"
        self._socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._socket.bind(str(self.path))
        self.datagrams: list[list[str]] = []
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        while message := self._socket.recv(1 << 16):
            self.datagrams.append(message.decode().splitlines())

    def told(self) -> list[str]:
        """All lines so far, in their order."""
        return [line for lines in self.datagrams for line in lines]

    def states(self) -> list[str]:
        """Those that the service was in, as systemd takes them: of several in one message the last."""
        found = ([line for line in lines if line in STATES][-1:] for lines in self.datagrams)
        return [state for states in found for state in states]

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._reader.join()
        self._socket.close()


@pytest.fixture
def manager(tmp_path: Path) -> Iterator[Manager]:
    manager = Manager(tmp_path)
    yield manager
    manager.close()


def begin_service(run: Following, manager: Manager) -> None:
    run.process = run.pgcopydb.start(
        *("clone", "--follow", "--resume", "--dir", run.workdir), env={**run.env(), "NOTIFY_SOCKET": str(manager.path)}
    )


def start_service(run: Following, manager: Manager) -> subprocess.Popen[bytes]:
    begin_service(run, manager)
    run.wait(lambda: "READY=1" in manager.told(), "the service to be ready")
    return run.process


def status_of(run: Following, *more: str, env: dict[str, str] | None = None) -> dict[str, Any]:
    done = run.pgcopydb.run("status", "--json", "--dir", run.workdir, *more, env=run.env() if env is None else env)
    found: dict[str, Any] = orjson.loads(done.stdout)
    return found


def stage_in(status: dict[str, Any], name: str) -> dict[str, Any]:
    return next(found for found in status["stages"] if found["name"] == name)


def test_what_a_service_manager_is_told(pair: DbPair, pgcopydb: Command, workdir_path: Path, manager: Manager) -> None:
    prepare(pair)
    pair.source.execute("CREATE TABLE held (id int PRIMARY KEY)")
    run = Following(pgcopydb, pair, workdir_path)
    start_service(run, manager)
    told = manager.told()
    assert "WATCHDOG=1" in told
    Workload(pair.source.dsn, seed=2).run(50)
    run.wait(lambda: any("transactions/s" in line for line in manager.told()), "a status with rates")
    run.process.send_signal(signal.SIGHUP)
    run.wait(lambda: "RELOADING=1" in manager.told(), "the answer to SIGHUP")
    reload = manager.told().index("RELOADING=1")
    assert manager.told()[reload + 1].startswith("MONOTONIC_USEC=")
    run.wait(lambda: "READY=1" in manager.told()[reload:], "the end of reloading")
    with pair.target.connect(autocommit=False) as blocker:
        blocker.execute("LOCK TABLE held IN ACCESS EXCLUSIVE MODE")
        pair.source.execute("INSERT INTO held VALUES (1)")
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'held'::regclass"
        run.wait(lambda: pair.target.fetch(waits) == [(1,)], "a transaction in hand")
        run.process.send_signal(signal.SIGTERM)
        run.wait(lambda: "STOPPING=1" in manager.told(), "a word")
        assert manager.told()[manager.told().index("STOPPING=1") + 1].startswith("EXTEND_TIMEOUT_USEC=")
        blocker.rollback()
    assert run.process.wait(30) == 0, "a service that ends because it was told to has not failed"
    assert "stopped before the end position" in run.log
    assert pair.target.fetch("SELECT * FROM held") == [(1,)]
    run.leaves_nothing()
    start_service(run, manager)
    run.set_end()
    run.ends()
    before = len(manager.states())
    begin_service(run, manager)
    run.ends()
    assert manager.states()[before:] == ["READY=1", "STOPPING=1"], "at the end already: a start that succeeded"


def test_a_service_that_is_over_before_it_was_seen_to_receive(
    pair: DbPair, workdir_path: Path, manager: Manager, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At its end position already: a start that succeeded."""
    monkeypatch.setenv("NOTIFY_SOCKET", str(manager.path))
    source = Endpoint(ConnInfo.parse(Side.SOURCE, pair.source.dsn), "over")
    with Teller(Stop(), {"": Service(source, WorkDir(workdir_path), ["receive"])}).running():
        pass
    wait_until(lambda: "STOPPING=1" in manager.told(), 10, "the last word")
    assert manager.states() == ["READY=1", "STOPPING=1"]


def kill_all(run: Following) -> None:
    run.process.kill()
    run.process.wait(30)
    wait_until(lambda: not processes_of(run.workdir), 30, "all to end")


@pytest.mark.parametrize("side", ["source", "target"])
def test_a_server_that_is_away_when_the_service_starts(
    side: str, pair: DbPair, pgcopydb: Command, workdir_path: Path, manager: Manager
) -> None:
    """After a power failure all machines start at once: the manager is asked for patience, and told when it goes on."""
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    kill_all(run)
    cluster = (pair.source if side == "source" else pair.target).cluster
    cluster.stop("fast")
    begin_service(run, manager)
    run.wait(lambda: any(line.startswith("EXTEND_TIMEOUT_USEC=") for line in manager.told()), "a word")
    run.wait(lambda: f"connecting to the {side} failed, trying again" in run.log, "the reason")
    run.process.send_signal(signal.SIGHUP)
    more = len(manager.told()) + 3
    run.wait(lambda: len(manager.told()) > more, "more words")
    assert "READY=1" not in manager.told()
    cluster.start()
    run.wait(lambda: "READY=1" in manager.told(), "the service to be ready")
    run.set_end()
    run.ends()


def test_a_server_that_dies_while_the_service_copies(
    pair: DbPair, pgcopydb: Command, workdir_path: Path, manager: Manager
) -> None:
    """The service ends with what says to its manager that starting it again helps, and that does."""
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path)
    env = {**run.env("copy.after_commit=stop@5"), "NOTIFY_SOCKET": str(manager.path)}
    run.process = pgcopydb.start("clone", "--follow", "--resume", "--dir", workdir_path, env=env)
    run.wait(lambda: is_halted(run.process.pid), "the copy to be under way")
    pair.source.cluster.restart("immediate")
    run.process.send_signal(signal.SIGCONT)
    assert run.process.wait(90) == 75, run.log
    run.leaves_nothing()
    start_service(run, manager)
    run.set_end()
    run.ends()


def is_replaced(workdir: Path, name: str, pid: int) -> bool:
    return stage(workdir, name) not in {0, pid}


def test_a_stage_that_is_stopped_is_no_service_of_its_own(
    pair: DbPair, pgcopydb: Command, workdir_path: Path, manager: Manager
) -> None:
    """Else it would say that it succeeded, and be taken for one that has come to the end position."""
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path)
    start_service(run, manager)
    ahead = end_ahead(pair)
    pgcopydb.run("stream", "sentinel", "set", "endpos", ahead, "--dir", workdir_path, env=run.env())
    for name in ("receive", "transform", "apply"):
        stopped = wait_until(partial(stage, workdir_path, name), 30, f"{name} to run")
        assert b"NOTIFY_SOCKET" not in Path(f"/proc/{stopped}/environ").read_bytes()
        os.kill(stopped, signal.SIGTERM)
        wait_until(partial(is_replaced, workdir_path, name, stopped), 30, f"{name} to be started again")
    Workload(pair.source.dsn, seed=5).run(20)
    go_beyond(pair)
    run.ends()


def test_status(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """While it runs, while a server is away, when it is stopped, when all was cleaned up."""
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    Workload(pair.source.dsn, seed=2).run(50)
    run.catches_up_idle()
    run.wait(lambda: status_of(run)["lag_seconds"] == 0.0, "no lag to be shown")
    found = status_of(run)
    assert found["running"]
    assert found["problems"] == []
    assert [one["phase"] for one in found["stages"]] == ["running"] * 3
    assert found["sentinel"]["apply"]
    assert found["slot"]["active"]
    assert found["slot"]["exists"]
    assert found["slot"]["retained_bytes"] > 0
    assert found["disk"]["json_bytes"] > 0
    assert stage_in(found, "apply")["transactions"] > 0
    people = pgcopydb.run("status", "--dir", workdir_path, env=run.env()).stdout
    slot = "slot        pgcopydb: reserved, active"
    for said in ("receive", "applying    enabled; end position not set", slot, "files "):
        assert said in people

    pair.target.cluster.stop("immediate")
    Workload(pair.source.dsn, seed=3).run(5)
    run.wait(lambda: stage_in(status_of(run), "apply")["phase"] == "retrying", "the loss to be shown")
    found = status_of(run)
    assert stage_in(found, "apply")["error"]
    assert stage_in(found, "apply")["hint"]
    assert found["lag_bytes"] > 0
    pair.target.cluster.start()
    run.catches_up_idle()

    run.process.send_signal(signal.SIGTERM)
    run.process.wait(30)
    found = status_of(run)
    assert not found["running"]
    assert [one["phase"] for one in found["stages"]] == ["stopped"] * 3
    assert not found["slot"]["active"]
    without = status_of(run, env={})
    assert without["sentinel"] is None
    assert "PGCOPYDB_SOURCE_PGURI" in without["problems"][0]
    pair.source.cluster.stop("fast")
    found = status_of(run)
    assert "cannot connect to the source" in found["problems"][0]
    assert stage_in(found, "apply")["transactions"] > 0
    pair.source.cluster.start()

    pgcopydb.run("stream", "cleanup", "--dir", workdir_path, env=run.env())
    refused = pgcopydb.run("status", "--dir", workdir_path, env=run.env(), check=False)
    assert refused.returncode == 3
    assert "Traceback" not in refused.stderr


def test_status_goes_on(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """``--watch``, until Ctrl-C: for a program a line each time, for a person one picture that changes."""
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    watch = pgcopydb.start("status", "--watch", "--json", "--dir", workdir_path, env=run.env())

    def shown() -> dict[str, Any]:
        lines = [line for line in pgcopydb.log_of(watch).splitlines(keepends=True) if line.endswith("}\n")]
        return orjson.loads(lines[-1]) if lines else {"running": None}

    wait_until(lambda: shown()["running"] is True, 30, "the first line")
    assert shown()["seconds_to_endpos"] is None
    run.process.terminate()
    assert run.process.wait(30) == 12
    wait_until(lambda: shown()["running"] is False, 30, "a line that says that it is stopped")
    assert [one["transaction_rate"] for one in shown()["stages"]] == [0.0] * 3
    pgcopydb.run("stream", "sentinel", "set", "endpos", "F/0", "--dir", workdir_path, env=run.env())
    wait_until(lambda: shown()["sentinel"]["endpos"] == "F/0", 30, "a line with the end position")
    assert shown()["seconds_to_endpos"] is None, "nothing is on the way to it"
    watch.send_signal(signal.SIGINT)
    assert watch.wait(30) == 0
    people = pgcopydb.start("status", "-W", "--dir", workdir_path, env=run.env())
    wait_until(lambda: pgcopydb.log_of(people).count("files ") > 1, 30, "two pictures")
    people.send_signal(signal.SIGINT)
    assert people.wait(30) == 0


def test_the_last_error_stays_to_be_read(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    pair.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    run = Following(pgcopydb, pair, workdir_path).start()
    pair.source.execute("ALTER TABLE t ADD COLUMN more int; INSERT INTO t VALUES (1, 1)")
    wait_until(lambda: run.process.poll() is not None, 60, "replay to stop")
    failed = stage_in(status_of(run), "transform")
    assert failed["phase"] == "failed"
    assert "column more of public.t is not on the target" in failed["error"]
    assert "ALTER TABLE" in failed["hint"]
    people = pgcopydb.run("status", "--dir", workdir_path, env=run.env()).stdout
    assert "last error of transform" in people
    assert "hint: On the target: ALTER TABLE" in people


def is_alive(workdir: Path, pid: int) -> bool:
    """Whether this process has said as the stage that receives that it lives."""
    state = read_state(WorkDir(workdir), "receive")
    return state is not None and state.pid == pid


def test_a_stage_that_hangs_is_started_again(
    pair: DbPair, pgcopydb: Command, workdir_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As often as that happens, if it lived for a while in between; and it holds up no stop."""
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    run.process.terminate()
    run.process.wait(30)
    monkeypatch.setattr(supervise, "STUCK_SECONDS", 8.0)
    monkeypatch.setattr(supervise, "_WENT_WELL_SECONDS", 1.0)
    monkeypatch.setattr(supervise, "_CRASHES", 2)
    stop = Stop()
    source = Endpoint(ConnInfo.parse(Side.SOURCE, pair.source.dsn), "hangs")
    commands = {"receive": ["stream", "receive", "--dir", str(workdir_path), "--quiet"]}
    supervisor = Supervisor(commands, {**os.environ, **run.env()}, Sentinel(source), stop, WorkDir(workdir_path))
    supervisor.start()
    hung = {0}
    for _ in range(3):
        wait_until(lambda: stage(workdir_path, "receive") not in hung, 60, "another one")
        pid = stage(workdir_path, "receive")
        wait_until(partial(is_alive, workdir_path, pid), 30, "it to work")
        os.kill(pid, signal.SIGSTOP)
        hung.add(pid)
    stop.request(StopMode.GRACEFUL)
    supervisor.wait()


def test_the_transaction_in_hand_is_waited_for_within_reason(
    pair: DbPair, pgcopydb: Command, workdir_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    prepare(pair)
    pair.source.execute("CREATE TABLE held (id int PRIMARY KEY)")
    run = Following(pgcopydb, pair, workdir_path).start()
    kill_all(run)
    monkeypatch.setattr(supervise, "LAST_TRANSACTION_SECONDS", 1.0)
    stop = Stop()
    commands = {
        name: ["stream", name, "--dir", str(workdir_path), "--quiet"] for name in ("receive", "transform", "apply")
    }
    source = Endpoint(ConnInfo.parse(Side.SOURCE, pair.source.dsn), "hangs")
    supervisor = Supervisor(commands, {**os.environ, **run.env()}, Sentinel(source), stop, WorkDir(workdir_path))
    with pair.target.connect(autocommit=False) as blocker:
        blocker.execute("LOCK TABLE held")
        supervisor.start()
        pair.source.execute("INSERT INTO held VALUES (1)")
        waits = "SELECT count(*) FROM pg_locks WHERE NOT granted AND relation = 'held'::regclass"
        wait_until(lambda: pair.target.fetch(waits) == [(1,)], 60, "a transaction in hand")
        stop.request(StopMode.GRACEFUL)
        supervisor.wait()
    run.start()
    run.set_end()
    run.ends()


def test_a_slot_in_danger_is_warned_of(pair: DbPair, pgcopydb: Command, workdir_path: Path) -> None:
    """While the target is held up, and the source may not keep all WAL."""
    prepare(pair)
    run = Following(pgcopydb, pair, workdir_path).start()
    try:
        pair.source.execute("ALTER SYSTEM SET max_slot_wal_keep_size = '64MB'")
        pair.source.execute("SELECT pg_reload_conf()")
        with pair.target.connect(autocommit=False) as blocker:
            tables = "SELECT string_agg(oid::regclass::text, ', ') FROM pg_class WHERE relnamespace::regnamespace::text"
            names = pair.target.fetch(f"{tables} = 'work' AND relkind = 'r'")[0][0]
            blocker.execute(f"LOCK TABLE {names} IN ACCESS EXCLUSIVE MODE".encode())
            Workload(pair.source.dsn, seed=3).run(20)
            for _ in range(4):
                pair.source.execute("SELECT pg_switch_wal(); SELECT pg_logical_emit_message(true, 'x', 'y')")
            run.wait(lambda: "may be lost when" in run.log or "about to be lost" in run.log, "the warning", 60)
            assert status_of(run)["warnings"]
            blocker.rollback()
        run.set_end()
        run.ends()
    finally:
        pair.source.execute("ALTER SYSTEM RESET max_slot_wal_keep_size")
        pair.source.execute("SELECT pg_reload_conf()")
