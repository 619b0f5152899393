"""Make what following changes needs on both servers, and remove it again.

``make_slot`` leaves, in this order: the description in the work directory, for pgoutput the publications, the slot with
an exported snapshot, the description with its position. ``make_ready`` leaves the progress on the target, the sentinel,
and the description that says so. Inside ``all_or_nothing`` they leave nothing when they fail. ``clean_up`` removes all
of that, whatever is there of it, and says what it removed; it can be run at any time and again. What is of another
migration it leaves.
"""

from __future__ import annotations

import logging
import re
import secrets
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Final

import psycopg

from pgcopydb.daemon.identity import followed_tables, publication_members, without_identity
from pgcopydb.daemon.plugin_choice import choose_plugin
from pgcopydb.daemon.plugins import Plugin
from pgcopydb.daemon.progress import check_origin, create_progress, drop_progress
from pgcopydb.daemon.published import remember_counters
from pgcopydb.daemon.requirements import (
    heed_past_endpos,
    login_problem,
    replica_role_problem,
    source_problems,
    target_problems,
)
from pgcopydb.daemon.sentinel import Sentinel, drop_own_schema, owner_of, owning_slot
from pgcopydb.daemon.stream import DEFAULT_NAME, Stream, find_stream
from pgcopydb.daemon.waited import telling_what_is_waited_for
from pgcopydb.postgres.classify import classify, server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.postgres.names import quote_ident
from pgcopydb.postgres.replication import CreatedSlot, ReplicationSession
from pgcopydb.postgres.selection import Selection, load_selection
from pgcopydb.postgres.server import inspect_server
from pgcopydb.runtime.errors import CorruptState, PgcopydbError, SourceError, StateError, TargetError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

_SHOWN: Final = 10
_LONGEST_SLOT: Final = 56
"""So that the names of its publications are names too (63 bytes)."""
_PARTITIONED_ARE_PUBLISHED: Final = 130000


@dataclass(frozen=True, slots=True)
class StreamOptions:
    """What the operator may choose. ``plugin`` None: the best that the source has. ``lossy_nan``: take NULL for NaN."""

    plugin: Plugin | None = None
    slot: str = DEFAULT_NAME
    origin: str = DEFAULT_NAME
    numeric_as_string: bool = False
    lossy_nan: bool = False

    def of_database(self, database: str) -> StreamOptions:
        """For one of several: slots belong to a whole server, and so do origins."""
        return replace(self, slot=_name_for(self.slot, database), origin=_name_for(self.origin, database))


def _name_for(prefix: str, database: str) -> str:
    """Of what a slot's name may be of, and another one for each database. Pure."""
    plain = re.sub(r"[^a-z0-9_]", "_", database.lower())
    name = f"{prefix}_{plain}"
    if plain == database and len(name) <= _LONGEST_SLOT:
        return name
    return f"{name[: _LONGEST_SLOT - 9]}_{zlib.crc32(database.encode()):08x}"


@contextmanager
def all_or_nothing(
    source: Endpoint, target: Endpoint | None, workdir: WorkDir, options: StreamOptions, endpos: Lsn
) -> Iterator[None]:
    """For a stream that is new: raises before anything is made when something is in the way, and what is made inside
    the block is removed again when that fails."""
    with source.connect("setup") as reader:
        _check_source(reader, options.slot)
        login = login_problem(source, reader)
        if login is not None:
            raise SourceError(login.message, hint=login.fix)
        heed_past_endpos(reader, endpos)
    if target is not None:
        with target.connect("setup") as writer:
            for problem in target_problems(writer):
                raise TargetError(problem.message, hint=problem.fix)
            check_origin(writer, options.origin)
    try:
        yield
    except PgcopydbError as error:
        if find_stream(workdir) is not None:
            logger.info("Removing again what was made, because: %s", error)
            try:
                clean_up(source, target, workdir, options.slot, options.origin)
            except PgcopydbError as another:
                logger.warning("%s; `pgcopydb stream cleanup` removes what is left", another)
        raise


def make_slot(
    source: Endpoint, workdir: WorkDir, options: StreamOptions, stop: Stop
) -> tuple[Stream, ReplicationSession]:
    """Make what is needed on the source. The session keeps the slot's snapshot until its next command.

    Waits for transactions that write now; a stop ends that with ``Stopped``.
    """
    with source.connect("setup") as reader:
        facts = inspect_server(reader, Side.SOURCE)
        _check_source(reader, options.slot)
        choice = choose_plugin(reader, options.plugin, options.numeric_as_string, lossy_nan=options.lossy_nan)
        selection = load_selection(workdir)
        _report_identities(reader, choice.plugin, selection)
        names = (options.slot, f"{options.slot}_insert") if choice.plugin is Plugin.PGOUTPUT else ()
        _check_publications(reader, names)
        session = ReplicationSession(source.info, source.title("slot"))
        try:
            identity = session.identify()
            stream = Stream(
                slot=options.slot,
                plugin=choice.plugin,
                origin=options.origin,
                sentinel=Side.TARGET if facts.in_recovery else Side.SOURCE,
                system=identity.system,
                timeline=identity.timeline,
                segment_size=_segment_size(reader),
                publications=names,
                numeric_as_string=choice.numeric_as_string,
            )
            stream.save(workdir)
            failpoint("stream.before_slot")
            if names:
                _create_publications(reader, names, selection)
                remember_counters(reader, workdir, selection)
            failpoint("stream.after_publications")
            with telling_what_is_waited_for(reader):
                slot = session.create_slot(stream.slot, stream.plugin, stop)
            failpoint("stream.after_slot")
            stream = replace(stream, consistent_point=slot.consistent_point, snapshot=slot.snapshot)
            stream.save(workdir)
        except BaseException:
            session.close()
            raise
    logger.info("Slot %s (%s) keeps changes from %s on", stream.slot, stream.plugin, stream.consistent_point)
    return stream, session


@contextmanager
def temporary_slot(source: Endpoint, plugin: Plugin, stop: Stop) -> Iterator[CreatedSlot]:
    """A slot that is gone when the block is left, for its snapshot and the position that goes with it."""
    with ReplicationSession(source.info, source.title("snapshot")) as session:
        session.identify()
        with source.connect("snapshot") as reader, telling_what_is_waited_for(reader):
            slot = session.create_slot(f"pgcopydb_{secrets.token_hex(6)}", plugin, stop, temporary=True)
        yield slot


def make_ready(stream: Stream, source: Endpoint, target: Endpoint, workdir: WorkDir, endpos: Lsn) -> Stream:
    """Make the rest: progress on the target, and the sentinel. Nothing when that is done."""
    if stream.ready:
        return stream
    with target.connect("setup") as writer:
        problem = replica_role_problem(writer)
        if problem is not None:
            logger.warning("%s", problem.message)
            logger.warning("fix: %s", problem.fix)
        progress = create_progress(writer, stream.origin, stream.consistent_point)
    failpoint("stream.after_origin")
    _check_sentinel(source if stream.sentinel is Side.SOURCE else target, stream.slot)
    sentinel = sentinel_of(stream, source, target, "setup")
    try:
        sentinel.create(stream.consistent_point, endpos, owner_of(stream.slot, stream.system))
    finally:
        sentinel.close()
    failpoint("stream.after_sentinel")
    ready = replace(stream, tracking=progress.tracking, ready=True)
    ready.save(workdir)
    return ready


def sentinel_of(stream: Stream, source: Endpoint, target: Endpoint | None, role: str = "sentinel") -> Sentinel:
    """The sentinel of a stream. Raises ``StateError`` when it is on the target and that is not known here."""
    if stream.sentinel is Side.SOURCE:
        return Sentinel(source, role)
    if target is None:
        raise StateError(
            "the source is a standby, so the sentinel is on the target, which was not given",
            hint="Give --target or set PGCOPYDB_TARGET_PGURI.",
        )
    return Sentinel(target, role)


def clean_up(source: Endpoint, target: Endpoint | None, workdir: WorkDir, slot: str, origin: str) -> list[str]:
    """Remove everything; what was removed, in words. The names count when the work directory does not know better."""
    try:
        stream = find_stream(workdir)
    except CorruptState as error:
        logger.warning("%s", error)
        stream = None
    slot, origin = (stream.slot, stream.origin) if stream is not None else (slot, origin)
    removed: list[str] = []

    def act(done: bool, what: str) -> None:
        if done:
            logger.info("Removed %s", what)
            removed.append(what)

    with source.connect("cleanup") as reader:
        act(_drop_slot(reader, slot), f"replication slot {slot} on the source")
        failpoint("cleanup.after_slot")
        if not inspect_server(reader, Side.SOURCE).in_recovery:
            for name in (slot, f"{slot}_insert"):
                act(_drop_publication(reader, name), f"publication {name} on the source")
            failpoint("cleanup.after_publications")
            act(_drop_schema(reader, Side.SOURCE, slot), "schema pgcopydb on the source")
    failpoint("cleanup.after_source")
    if target is not None:
        with target.connect("cleanup") as writer:
            progress = drop_progress(writer, origin)
            act(bool(progress), f"{progress} on the target")
            failpoint("cleanup.after_progress")
            act(_drop_schema(writer, Side.TARGET, slot), "schema pgcopydb on the target")
    failpoint("cleanup.before_files")
    act(workdir.clear_changes(), f"the files of changes in {workdir.changes}")
    return removed


def _drop_schema(connection: Connection, side: Side, slot: str) -> bool:
    return drop_own_schema(connection, side, _other_owner(connection, side, slot))


def _other_owner(connection: Connection, side: Side, slot: str) -> str:
    """Of which other migration this server has the sentinel; empty when of none that goes on."""
    owner = owning_slot(connection, side)
    if owner in {"", slot}:
        return ""
    return owner if side is Side.TARGET or _slot_database(connection, owner) is not None else ""


def _check_sentinel(endpoint: Endpoint, slot: str) -> None:
    with endpoint.connect("setup") as connection:
        owner = _other_owner(connection, endpoint.side, slot)
    if owner:
        raise StateError(
            f"the {endpoint.side} has the sentinel of another migration, with slot {owner}",
            hint="A database can be migrated once at a time. If that one is over: `pgcopydb stream cleanup --slot-name "
            f"{owner}` with its --dir, or DROP SCHEMA pgcopydb CASCADE on the {endpoint.side}.",
        )


def _check_source(reader: Connection, slot: str) -> None:
    for problem in source_problems(reader, slot):
        raise SourceError(problem.message, hint=problem.fix)


def _report_identities(reader: Connection, plugin: Plugin, selection: Selection) -> None:
    lacking = without_identity(followed_tables(reader, plugin, selection))
    what = "are not published, and fail the run in the end" if plugin is Plugin.PGOUTPUT else "stop replay"
    for name in lacking[:_SHOWN]:
        logger.warning("table %s has no usable replica identity: its UPDATEs and DELETEs %s", name, what)
        logger.warning("fix: ALTER TABLE %s REPLICA IDENTITY FULL;", name.sql)
    if len(lacking) > _SHOWN:
        logger.warning("… and %d more tables without a replica identity", len(lacking) - _SHOWN)
    if lacking and plugin is Plugin.PGOUTPUT:
        logger.warning("were they published, the source's own writes to these tables would fail")


def _segment_size(reader: Connection) -> int:
    with server_errors(Side.SOURCE, "reading the size of WAL segments"):
        row = reader.execute(
            "SELECT setting::bigint * CASE unit WHEN '8kB' THEN 8192 ELSE 1 END FROM pg_catalog.pg_settings"
            " WHERE name = 'wal_segment_size'"
        ).fetchone()
    assert row is not None  # noqa: S101  a setting of every server
    return int(row[0])


def _check_publications(reader: Connection, names: Sequence[str]) -> None:
    with server_errors(Side.SOURCE, "looking for publications"):
        found = reader.execute(
            "SELECT pubname FROM pg_catalog.pg_publication WHERE pubname = ANY (%s)", (list(names),)
        ).fetchall()
    if found:
        raise SourceError(
            f"publication {found[0][0]} exists on the source already",
            hint="`pgcopydb stream cleanup` removes what an earlier run left; --slot-name gives this one another name.",
        )


def _create_publications(reader: Connection, names: Sequence[str], selection: Selection) -> None:
    followed = followed_tables(reader, Plugin.PGOUTPUT, selection)
    if reader.info.server_version < _PARTITIONED_ARE_PUBLISHED:
        followed = [table for table in followed if not table.partitioned]
    everything, inserts = publication_members(followed)
    for name, members, publish in (
        (names[0], everything, "insert, update, delete, truncate"),
        (names[1], inserts, "insert, truncate"),
    ):
        tables = f" FOR TABLE {', '.join(table.sql for table in members)}" if members else ""
        with server_errors(Side.SOURCE, f"creating publication {name}"):
            reader.execute(f"CREATE PUBLICATION {quote_ident(name)}{tables} WITH (publish = '{publish}')".encode())


def _slot_database(reader: Connection, slot: str) -> str | None:
    """None when there is no such slot, empty for a physical one."""
    with server_errors(Side.SOURCE, f"looking for slot {slot}"):
        row = reader.execute(
            "SELECT coalesce(database, '') FROM pg_catalog.pg_replication_slots WHERE slot_name = %s", (slot,)
        ).fetchone()
    return str(row[0]) if row else None


def _drop_slot(reader: Connection, slot: str) -> bool:
    database = _slot_database(reader, slot)
    if database is None:
        return False
    if database != reader.info.dbname:
        logger.warning(
            "replication slot %s is left on the source: it is %s",
            slot,
            f"of database {database}" if database else "a physical one",
        )
        return False
    try:
        reader.execute("SELECT pg_catalog.pg_drop_replication_slot(%s)", (slot,))
    except psycopg.errors.ObjectInUse as exc:
        raise SourceError(
            f"{exc.diag.message_primary} of the source",
            hint="Stop the pgcopydb that receives from it, then clean up again; or end that process with "
            "pg_terminate_backend.",
        ) from exc
    except psycopg.Error as exc:
        raise classify(Side.SOURCE, exc, f"dropping slot {slot}") from exc
    return True


def _drop_publication(reader: Connection, name: str) -> bool:
    with server_errors(Side.SOURCE, f"dropping publication {name}"):
        row = reader.execute("SELECT FROM pg_catalog.pg_publication WHERE pubname = %s", (name,)).fetchone()
        if row is None:
            return False
        reader.execute(f"DROP PUBLICATION {quote_ident(name)}".encode())
    return True
