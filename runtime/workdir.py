"""The work directory: every path that is written, and the lock that keeps a second process out.

The lock is ``flock`` on an open file, so that the kernel releases it whatever way its holder dies. Names of files are
spelled here and nowhere else.
"""

from __future__ import annotations

import fcntl
import hashlib
import logging
import os
import shutil
import socket
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, unquote

from pgcopydb.runtime.durable import disk_errors
from pgcopydb.runtime.errors import StateError

logger = logging.getLogger(__name__)


class InUse(StateError):
    """Another process holds the lock of a service."""


def default_directory() -> Path:
    """``$TMPDIR/pgcopydb``, as the C program has it."""
    return Path(os.environ.get("TMPDIR") or tempfile.gettempdir()) / "pgcopydb"


@dataclass(frozen=True, slots=True)
class WorkDir:
    """Paths under one work directory (``--dir``)."""

    top: Path

    @property
    def mark(self) -> str:
        """For names of sessions: the same for each process of this work directory on this machine, so that a session
        can be told to be its own."""
        return hashlib.sha256(f"{socket.gethostname()}:{self.top.resolve()}".encode()).hexdigest()[:8]

    @property
    def catalog(self) -> Path:
        """SQLite catalog and job list; one writer, any number of readers."""
        return self.top / "schema" / "source.db"

    @property
    def schema_dump(self) -> Path:
        """pg_dump's archive (custom format) of pre-data and post-data."""
        return self.top / "schema" / "schema.dump"

    @property
    def roles_sql(self) -> Path:
        return self.top / "schema" / "roles.sql"

    def database(self, name: str) -> WorkDir:
        """The work directory of one of the databases that a run copies; any name gives the name of a folder."""
        folder = quote(name, safe=" ")
        return WorkDir(self.top / "db" / (f"%2E{folder[1:]}" if folder.startswith(".") else folder))

    def databases(self) -> list[tuple[str, WorkDir]]:
        """Those that have a work directory, by their names."""
        return sorted((unquote(folder.name), WorkDir(folder)) for folder in (self.top / "db").glob("*"))

    def restore_list(self, section: str) -> Path:
        """What pg_restore is told to restore of one section, e.g. ``pre-data.list``."""
        return self.top / "schema" / f"{section}.list"

    def contents(self, section: str) -> Path:
        """The entries of one section of the schema dump."""
        return self.top / "schema" / f"{section}.toc"

    @property
    def snapshot(self) -> Path:
        """Identifier of the snapshot that the run reads under; written by whoever exports it."""
        return self.top / "snapshot"

    @property
    def changes(self) -> Path:
        """Folder of the change files (JSON) and of the SQL files made of them."""
        return self.top / "cdc"

    @property
    def stream(self) -> Path:
        """Which slot the changes come from, under which plugin, and what was made for it on both servers."""
        return self.top / "stream.json"

    @property
    def filters(self) -> Path:
        """What the run leaves out, and by which rules."""
        return self.top / "filters.json"

    @property
    def read_at(self) -> Path:
        """At which position tables were read that were read later than the others."""
        return self.top / "read_at.json"

    @property
    def unpublished(self) -> Path:
        """How many rows had been changed of tables whose changes are not published, when the stream was made."""
        return self.top / "unpublished.json"

    @property
    def apply_result(self) -> Path:
        """How far applying came when it last ended."""
        return self.top / "apply.json"

    @property
    def conflicts(self) -> Path:
        """Changes that did not find their rows on the target, a line each."""
        return self.top / "conflicts.jsonl"

    def state(self, name: str) -> Path:
        """What a process of a migration says of itself."""
        return self.top / "state" / f"{name}.json"

    @property
    def summary(self) -> Path:
        return self.top / "summary.json"

    def lock_file(self, service: str) -> Path:
        return self.top / "lock" / service

    def exists(self) -> bool:
        """Whether an earlier run left its state here."""
        return self.catalog.exists()

    def copy_began(self) -> bool:
        """Whether an earlier run has got as far as the schema of the source."""
        return self.schema_dump.exists()

    def create(self) -> None:
        """Make the folders, private to this user: the catalog names tables and keys of a production database."""
        with disk_errors(self.top, "creating the work directory"):
            for folder in (self.top, *(self.top / name for name in ("schema", "lock", "state")), self.changes):
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)

    def clear(self) -> None:
        """Forget an earlier run: what a clone writes here, not the snapshot that another command may hold."""
        with disk_errors(self.top, "clearing the work directory"):
            shutil.rmtree(self.top / "schema", ignore_errors=True)
            for folder in (self.top / "db").glob("*"):
                WorkDir(folder).clear()
            self.summary.unlink(missing_ok=True)
            self.filters.unlink(missing_ok=True)

    def clear_changes(self) -> bool:
        """Forget a stream and its files; whether there was anything."""
        with disk_errors(self.changes, "removing the files of changes"):
            files = [*self.changes.iterdir()] if self.changes.exists() else []
            found = self.stream.exists() or bool(files)
            self.stream.unlink(missing_ok=True)
            self.apply_result.unlink(missing_ok=True)
            self.read_at.unlink(missing_ok=True)
            self.unpublished.unlink(missing_ok=True)
            self.conflicts.unlink(missing_ok=True)
            for path in [*files, *(self.top / "state").glob("*.json")]:
                path.unlink()
        return found

    def is_locked(self, service: str) -> bool:
        """Whether a process holds the lock of a service now."""
        try:
            fd = os.open(self.lock_file(service), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return False
        try:
            fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
        finally:
            os.close(fd)
        return False

    @contextmanager
    def lock(self, service: str = "clone", *, wait: bool = False) -> Iterator[None]:
        """Hold the lock of a service for the block; ``InUse`` when another process has it, unless it is waited for."""
        path = self.lock_file(service)
        with disk_errors(path, "opening the lock file"):
            fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as exc:
                holder = os.pread(fd, 32, 0).decode("ascii", "replace").strip() or "unknown"
                if not wait:
                    raise InUse(
                        f"the work directory {self.top} is in use by another pgcopydb {service} (process {holder})",
                        hint="Wait for it, stop it, or give this run a work directory of its own with --dir.",
                    ) from exc
                logger.info("Waiting for another process (%s) that holds the lock %s", holder, service)
                fcntl.flock(fd, fcntl.LOCK_EX)
            # The lock is what counts: without room on the disk its holder has no name.
            with suppress(OSError):
                os.ftruncate(fd, 0)
                os.pwrite(fd, f"{os.getpid()}\n".encode(), 0)
            yield
        finally:
            os.close(fd)
