"""The unit file under a real systemd, in namespaces of its own: installed as the manual says, then disturbed."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.content import assert_same_content
from tests.fix_command import PROGRAM, Command
from tests.fix_servers import Database, DbPair, Servers
from tests.following import is_applied, pair_of, prepare
from tests.wait import wait_until
from tests.workload import Workload

SOURCES = Path(__file__).parents[2]
SERVICE = "pgcopydb-follow"
TARGET = "[Unit]\nDescription=Where the test begins\nRequires=basic.target\nAfter=basic.target\nAllowIsolate=yes\n"
HIDDEN = ("/home", "/root", "/tmp", "/var/tmp")  # noqa: S108  nothing is written there
NAMESPACES = ("-m", "-p", "-u", "-i", "-n", "-C", "-r", "-w")


@dataclass
class Machine:
    """One that runs systemd."""

    init: int

    def run(self, *command: str, check: bool = True, text: str | None = None) -> str:
        enter = ["/usr/bin/nsenter", "-t", str(self.init), *NAMESPACES]
        try:
            done = subprocess.run(
                [*enter, *command], check=False, input=text, capture_output=True, text=True, timeout=60
            )
        except subprocess.TimeoutExpired:
            pytest.fail(f"{' '.join(command)} does not end: {self.journal()}")
        if check and done.returncode != 0:
            pytest.fail(f"{' '.join(command)}: {done.stdout}{done.stderr}{self.journal()}")
        return done.stdout.strip()

    def write(self, path: str, text: str) -> None:
        self.run("/bin/sh", "-c", f"mkdir -p $(dirname {path}) && umask 077 && cat > {path}", text=text)

    def show(self, name: str) -> str:
        return self.run("systemctl", "show", "--value", "-p", name, SERVICE)

    def journal(self) -> str:
        return self.run("journalctl", "--no-pager", "-n", "40", "-u", SERVICE, check=False)


@pytest.fixture
def pair(servers: Servers) -> Iterator[DbPair]:
    with pair_of(servers, 15, 18) as pair, asked_for_its_password(pair.source), asked_for_its_password(pair.target):
        yield pair


@contextmanager
def asked_for_its_password(database: Database) -> Iterator[None]:
    """The role of the service, unlike those of other tests."""
    rules = database.cluster.data_dir / "pg_hba.conf"
    before = rules.read_text()
    database.execute("CREATE ROLE keeper SUPERUSER LOGIN PASSWORD 'se:cret'")
    rules.write_text(f"local all keeper scram-sha-256\n{before}")
    database.execute("SELECT pg_reload_conf()")
    try:
        yield
    finally:
        rules.write_text(before)
        database.execute("SELECT pg_reload_conf()")
        database.execute("DROP OWNED BY keeper CASCADE; DROP ROLE keeper")


@pytest.fixture
def machine(pair: DbPair, tmp_path: Path) -> Iterator[Machine]:
    """With the checkout below /opt, and the servers' sockets below /run."""
    missing = [name for name in ("unshare", "nsenter", "setpriv", "systemctl") if shutil.which(name) is None]
    if missing or os.geteuid() != 0 or not Path("/lib/systemd/systemd").exists():
        pytest.skip(f"booting systemd needs root, systemd and util-linux (missing: {', '.join(missing) or 'root'})")
    interpreter = Path("/usr/bin/python{}.{}".format(*sys.version_info))
    if not interpreter.exists() or any(SOURCES.is_relative_to(folder) for folder in HIDDEN):
        pytest.skip(f"a service does not see {', '.join(HIDDEN)}: {interpreter} and a checkout elsewhere are needed")
    units = tmp_path / "units"
    units.mkdir()
    shutil.copy(SOURCES / "systemd" / f"{SERVICE}.service", units)
    (units / "try.target").write_text(TARGET)
    with (tmp_path / "boot.log").open("wb") as log:
        process = subprocess.Popen(
            [
                *(Path(__file__).with_name("boot-systemd"), units),
                *(pair.source.cluster.folder, "source", pair.target.cluster.folder, "target"),
            ],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
    machine = Machine(0)

    def booted() -> bool:
        machine.init = init_below(process.pid)
        return process.poll() is not None or (
            machine.init > 0 and machine.run("systemctl", "is-active", "try.target", check=False) == "active"
        )

    wait_until(booted, 60, "systemd to boot")
    if process.poll() is not None:
        pytest.skip(f"systemd does not boot here: {(tmp_path / 'boot.log').read_text(errors='replace')[-300:]}")
    yield machine
    machine.run("systemctl", "poweroff", "--force", "--force", check=False)
    process.wait(60)


def init_below(parent: int) -> int:
    """The child of a process; 0 when there is none yet."""
    children = Path(f"/proc/{parent}/task/{parent}/children")
    found = children.read_text().split() if children.exists() else []
    return int(found[0]) if found else 0


def uri(side: str, pair: DbPair) -> str:
    database = pair.source if side == "source" else pair.target
    return f"postgres://keeper@/{database.name}?host=/run/{side}&port={database.cluster.port}"


def install(machine: Machine, pair: DbPair) -> None:
    """A virtual environment below /opt that runs the checkout, with an interpreter that services may see."""
    venv, version = PROGRAM.parents[1], "python{}.{}".format(*sys.version_info)
    machine.run(
        *("/bin/sh", "-ec"),
        f"""
        rm -rf /opt/pgcopydb
        mkdir -p /opt/pgcopydb/.venv/bin /opt/pgcopydb/.venv/lib
        cd /opt/pgcopydb/.venv
        ln -s {venv}/lib/{version} lib/{version}
        ln -s /usr/bin/{version} bin/python
        printf 'home = /usr/bin\ninclude-system-site-packages = false\n' > pyvenv.cfg
        sed '1c #!/opt/pgcopydb/.venv/bin/python' {PROGRAM} > bin/pgcopydb
        chmod 755 bin/pgcopydb
        """,
    )
    machine.write(
        "/etc/pgcopydb/follow.conf",
        f'PGCOPYDB_SOURCE_PGURI="{uri("source", pair)}"\nPGCOPYDB_TARGET_PGURI="{uri("target", pair)}"\n',
    )
    # Nobody brings up a network here.
    machine.run("systemctl", "mask", "--now", "systemd-networkd-wait-online.service")
    machine.write("/etc/pgcopydb/follow.pgpass", "*:*:*:keeper:se\\:cret\n")
    machine.run("systemctl", "daemon-reload")


def test_the_service(machine: Machine, pair: DbPair, pgcopydb: Command, tmp_path: Path) -> None:
    """Started, killed, reloaded, stopped, started again, at its end: nothing is lost, and systemd knows how it went."""
    prepare(pair)
    install(machine, pair)
    machine.run("systemctl", "start", SERVICE)
    assert machine.show("ActiveState") == "active"
    wait_until(lambda: is_applied(pair), 60, "changes to be applied")
    with Workload(pair.source.dsn, seed=7, writers=2) as workload:
        wait_until(lambda: "transactions/s" in machine.show("StatusText"), 30, "a status")
        machine.run("systemctl", "kill", "-s", "KILL", "--kill-who=main", SERVICE)
        wait_until(lambda: machine.show("NRestarts") == "1", 60, "a restart")
        wait_until(lambda: machine.show("ActiveState") == "active", 60, "it to be ready again")
        machine.run("systemctl", "reload", SERVICE)
        wait_until(lambda: machine.show("SubState") == "running", 30, "the end of reloading")
        machine.run("systemctl", "stop", SERVICE)
        assert machine.show("Result") == "success", machine.journal()
        assert machine.show("ActiveState") == "inactive"
        done = workload.committed
        wait_until(lambda: workload.committed > done + 50, 30, "work on the source")
        machine.run("systemctl", "start", SERVICE)
    shown = machine.run(
        *("env", f"PGCOPYDB_SOURCE_PGURI={uri('source', pair)}", "PGPASSFILE=/etc/pgcopydb/follow.pgpass"),
        *("/opt/pgcopydb/.venv/bin/pgcopydb", "status", "--json", "--dir", f"/var/lib/{SERVICE}"),
    )
    assert '"running": true' in shown
    end = ("stream", "sentinel", "set", "endpos", "--current", "--dir", str(tmp_path / "none"))
    pgcopydb.run(*end, env={"PGCOPYDB_SOURCE_PGURI": pair.source.dsn})
    wait_until(lambda: machine.show("ActiveState") in {"inactive", "failed"}, 60, "the end position")
    assert machine.show("Result") == "success", machine.journal()
    assert machine.show("ExecMainStatus") == "0"
    machine.run("systemctl", "start", SERVICE)
    wait_until(lambda: machine.show("ActiveState") in {"inactive", "failed"}, 60, "the end position once more")
    assert machine.show("Result") == "success", machine.journal()
    assert_same_content(pair.source.dsn, pair.target.dsn)


def test_what_a_person_has_to_mend_is_not_tried_again(machine: Machine, pair: DbPair) -> None:
    pair.source.execute("CREATE TABLE t (id int PRIMARY KEY)")
    install(machine, pair)
    machine.run("systemctl", "start", SERVICE)
    wait_until(lambda: is_applied(pair), 60, "changes to be applied")
    pair.source.execute("ALTER TABLE t ADD COLUMN more int; INSERT INTO t VALUES (1, 1)")
    wait_until(lambda: machine.show("ActiveState") == "failed", 60, "replay to stop")
    assert machine.show("ExecMainStatus") == "7"
    assert machine.show("NRestarts") == "0"
    assert "ALTER TABLE" in machine.journal()
    pair.target.execute("ALTER TABLE t ADD COLUMN more int")
    machine.run("systemctl", "start", SERVICE)
    wait_until(lambda: pair.target.fetch("SELECT id FROM t") == [(1,)], 60, "the change")
