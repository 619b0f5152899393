"""Write the source's schema to the work directory: pg_dump's archive of pre-data and post-data.

Runs pg_dump under the run's snapshot, then notes for each entry how its object is found on any server
(``object_address``). When it returns the archive is complete under its final name and on disk, and step ``dump`` is
done. Leaves to others: large objects (their owners, grants and comments too), data, roles, database properties.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Final

from pgcopydb.bootstrap.addresses import fetch_addresses
from pgcopydb.bootstrap.filtering import dump_flags, select_entries
from pgcopydb.bootstrap.restore import last_words, list_archive, write_contents
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.binaries import Tools
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.selection import load_selection
from pgcopydb.runtime.child import ChildResult, run_child
from pgcopydb.runtime.durable import disk_errors, fsync_file, publish
from pgcopydb.runtime.errors import BinaryError, DiskFull, Kind, PgcopydbError, SourceError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

_OWN_SCHEMA: Final = "pgcopydb"

_HINTS: Final = (
    ("permission denied", "Grant SELECT on the object to this role, or use a role that owns it."),
    ("out of shared memory", "pg_dump locks every table: raise max_locks_per_transaction on the source."),
    ("invalid snapshot", "The session that exported the snapshot has ended; see --snapshot and --not-consistent."),
)


def dump_schema(
    store: CatalogStore, workdir: WorkDir, source: Endpoint, tools: Tools, snapshot: str | None, stop: Stop
) -> None:
    """Dump unless an earlier run did. Raises ``SourceError`` or ``BinaryError`` with pg_dump's last words."""
    if store.step_done("dump") and workdir.schema_dump.exists():
        logger.info("Using the schema dump of an earlier run: %s", workdir.schema_dump)
        return
    logger.info("Dumping the schema of the source with pg_dump %s", tools.dump)
    with store.step("dump"):
        with source.connect("schema") as connection, server_errors(Side.SOURCE, "reading what pg_dump may see"):
            flags = dump_flags(connection, store, load_selection(workdir))
        _run_pg_dump(workdir, source, tools, snapshot, flags, stop)
        failpoint("dump.after_publish")
        entries = select_entries(store, list_archive(workdir, tools.restore, stop))
        write_contents(workdir, entries)
        doing = "reading how the dumped objects are found by name"
        with source.connect("schema") as connection, server_errors(Side.SOURCE, doing):
            fetch_addresses(store, connection, entries)


def _run_pg_dump(
    workdir: WorkDir, source: Endpoint, tools: Tools, snapshot: str | None, flags: Sequence[str], stop: Stop
) -> None:
    path = workdir.schema_dump
    aside = path.with_name(f".{path.name}.new")
    with disk_errors(aside, "removing an unfinished"):
        aside.unlink(missing_ok=True)
    argv = [
        tools.dump.program("pg_dump"),
        "--no-password",
        f"--dbname={source.info.child_dsn()}",
        "--format=custom",
        "--section=pre-data",
        "--section=post-data",
        "-B",
        f"--exclude-schema={_OWN_SCHEMA}",
        *flags,
        f"--file={aside}",
    ]
    if snapshot is not None:
        argv.append(f"--snapshot={snapshot}")
    result = run_child(
        argv,
        environment=source.info.child_environment(source.title("pg_dump")),
        stop=stop,
        what="dumping the schema",
    )
    if result.returncode != 0:
        raise _dump_error(result, tools)
    with disk_errors(aside, "flushing"):
        fsync_file(aside)
    failpoint("dump.before_publish")
    with disk_errors(path, "publishing"):
        publish(aside, path)


def _dump_error(result: ChildResult, tools: Tools) -> PgcopydbError:
    said = last_words(result.errors)
    message = f"pg_dump {tools.dump.version_text} failed (exit code {result.returncode}): {said}"
    if "server version mismatch" in said:
        return BinaryError(message, hint="Set PG_CONFIG to the pg_config of an installation of the source's version.")
    if "No space left on device" in said:
        return DiskFull(message, hint="Free some room in the work directory's file system, then use --resume.")
    if result.returncode < 0:
        return BinaryError(message, hint="Something else ended pg_dump (the kernel, for lack of memory?).")
    lost = "connection to server" in said or "server closed the connection" in said
    hint = next((hint for sign, hint in _HINTS if sign in said), None)
    return SourceError(message, hint=hint, kind=Kind.RETRY if lost else Kind.OPERATOR)
