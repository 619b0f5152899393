"""How a run begins: a fresh one, a resumed one, or a refusal.

Reads what an earlier run left in the work directory. Writes the identity of both databases and of the run. Once a run
has gone through all of this module, the store belongs to these two databases, and no session of an earlier process of
this run is alive on either.
"""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Mapping
from contextlib import closing
from typing import Any, Final

import orjson

from pgcopydb.bootstrap.options import CloneOptions, Step
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.server import ServerFacts
from pgcopydb.runtime.errors import StateError, UsageError
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

_LEFTOVER_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.2
_DATABASES: Final = "databases"
_SOURCE_VERSION: Final = "source_version"
_BEGUN: Final = """
SELECT count(*) FROM copy_part JOIN copied_table ON oid = table_oid WHERE with_rows AND state <> 'pending'
"""


def open_store(workdir: WorkDir, options: CloneOptions) -> CatalogStore:
    """The store of this run; the caller holds the work directory's lock.

    Raises ``StateError`` when an earlier run's state is there and neither ``--resume`` nor ``--restart`` was given.
    """
    if options.resume and options.restart:
        raise UsageError("--resume and --restart exclude each other", hint="Give one of them.")
    if options.restart or (workdir.exists() and not _begun(workdir)):
        workdir.clear()
        workdir.create()
    elif workdir.exists() and not options.resume:
        raise StateError(
            f"the work directory {workdir.top} holds an earlier run",
            hint="Continue it with --resume, discard it with --restart, or choose another one with --dir.",
        )
    store = CatalogStore.create(workdir.catalog)
    if store.setting("run_id") is None:
        store.set_setting("run_id", secrets.token_hex(4))
    return store


def all_databases(store: CatalogStore) -> list[dict[str, Any]] | None:
    """What a run that copies all databases has noted of each; none of a run that copies one."""
    found: list[dict[str, Any]] | None = store.setting(_DATABASES)
    return found


def remember_databases(store: CatalogStore, databases: list[dict[str, Any]]) -> None:
    store.set_setting(_DATABASES, databases)


def database_step(name: str) -> str:
    """The step of a run of all databases that is done when this one is complete."""
    return f"database {name}"


def refuse_all_databases(store: CatalogStore, workdir: WorkDir) -> None:
    """For what copies one database."""
    if all_databases(store) is not None:
        raise StateError(
            f"the work directory {workdir.top} holds a run of all databases",
            hint="Go on with it by --all-databases --resume, discard it with --restart, or choose another --dir.",
        )


def _begun(workdir: WorkDir) -> bool:
    """Whether an earlier run got so far that it changed anything: not before its preflight was passed."""
    with closing(CatalogStore.create(workdir.catalog)) as store:
        return store.step_done("preflight")


def check_identity(store: CatalogStore, facts: Mapping[Side, ServerFacts], options: CloneOptions | None) -> None:
    """Refuse a work directory of other databases, or one whose tables are copied by rules other than the options'.

    As long as no row is copied they may be divided by other rules: what dumps and what restores says nothing of that.
    """
    for side, server in facts.items():
        stored: dict[str, Any] | None = store.setting(side)
        identity = server.identity()
        if stored is not None and not is_same_database(stored, identity):
            raise StateError(
                f"the work directory belongs to another {side}: {_where(stored)}, not {_where(identity)}",
                hint="Use that connection string, choose another --dir, or discard the earlier run with --restart.",
            )
        if stored is not None and side is Side.TARGET and _moved(stored, identity) and not store.step_done("summary"):
            raise StateError(
                f"the target was {_where(stored)} and is {_where(identity)}, a server of the same cluster: whether it"
                " has all that was copied before is not known",
                hint="Connect to the server of before, or begin again with --restart --drop-if-exists.",
            )
        if stored is None or identity["system"]:
            store.set_setting(side, identity)
    if options is None or Step.TABLE_DATA not in options.steps:
        return
    split = {"larger_than": options.split.larger_than, "max_parts": options.split.max_parts}
    stored = store.setting("split")
    if stored == split:
        return
    if not store.value(_BEGUN):
        store.execute("DELETE FROM copy_part")
        store.set_setting("split", split)
    elif stored is not None:
        raise StateError(
            f"the earlier run divided its tables by other rules: {stored['larger_than']} bytes,"
            f" at most {stored['max_parts'] or 'any number of'} parts",
            hint="Give the same --split-tables-larger-than and --split-max-parts, or begin again with --restart.",
        )


def is_same_database(stored: Mapping[str, str], identity: Mapping[str, str]) -> bool:
    """Whether both are one database. Pure.

    A cluster that fails over is at another place and has the same system identifier. Where that is not known of both,
    the place counts.
    """
    if any(stored[key] != identity[key] for key in ("dbname", "user")):
        return False
    known, found = stored.get("system", ""), identity["system"]
    return known == found if known and found else not _moved(stored, identity)


def _moved(stored: Mapping[str, str], identity: Mapping[str, str]) -> bool:
    return any(stored[key] != identity[key] for key in ("host", "port"))


def remembered(store: CatalogStore, key: str, given: Any, option: str) -> Any:
    """What a run was first told by an option that holds for all of it; ``given`` is none where it was not said now.

    Raises ``StateError`` when something else is said now.
    """
    stored = store.setting(key)
    if given is None or given == stored:
        return stored
    if stored is not None:
        raise StateError(
            f"the earlier run was told another {option}: {orjson.dumps(stored).decode()}",
            hint=f"Say the same, or leave {option} out: it is remembered. --restart begins again.",
        )
    store.set_setting(key, given)
    return given


def remember_version(store: CatalogStore, source: ServerFacts) -> None:
    """For what restores without a look at the source."""
    store.set_setting(_SOURCE_VERSION, source.version)


def source_version(store: CatalogStore) -> int:
    """``server_version_num`` of the source that was dumped."""
    return int(store.setting(_SOURCE_VERSION))


def _where(identity: Mapping[str, str]) -> str:
    system = f" (system {identity['system']})" if identity.get("system") else ""
    return f"{identity['user']}@{identity['host'] or 'local'}:{identity['port']}/{identity['dbname']}{system}"


def end_leftovers(connection: Connection, endpoint: Endpoint, stop: Stop) -> None:
    """Terminate sessions of an earlier process of this run, and wait until the server has let go of them.

    A killed client's backend may still be building an index, or be about to commit. This process has no other session
    of the run yet.
    """
    deadline = time.monotonic() + _LEFTOVER_SECONDS
    with server_errors(endpoint.side, f"ending leftover sessions on the {endpoint.side}"):
        while True:
            found = connection.execute(
                "SELECT pid, application_name, pg_catalog.pg_terminate_backend(pid) FROM pg_catalog.pg_stat_activity"
                " WHERE application_name LIKE 'pgcopydb[%%' AND application_name LIKE %s"
                " AND pid <> pg_catalog.pg_backend_pid()",
                (f"% {endpoint.run_id}",),
            ).fetchall()
            if not found:
                return
            for pid, name, _ in found:
                logger.info("Ending session %d (%s) of the interrupted run on the %s", pid, name, endpoint.side)
            if time.monotonic() > deadline:
                raise StateError(
                    f"session {found[0][0]} of the interrupted run does not end on the {endpoint.side}",
                    hint=f"Look in pg_stat_activity at what process {found[0][0]} waits for.",
                )
            stop.wait(_POLL_SECONDS)
            stop.check()
