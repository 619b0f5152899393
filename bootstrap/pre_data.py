"""Restore pre-data: schemas, types, functions, tables, views; whatever needs no rows.

Reads the archive, the addresses of its objects, and what stands on the target; the latter is recorded before the first
statement (``target_object``) and never dropped or created again. Nothing is restored over an object that stood there
before, unless the operator asked for ``--drop-if-exists``. So every object of the list that is found when an
interrupted restore is resumed was made by it, and may be dropped and made anew: no rows are in yet. Step ``pre_data``.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Sequence
from dataclasses import replace
from typing import Final

from pgcopydb.bootstrap.addresses import addresses_of, standing
from pgcopydb.bootstrap.archive import ArchiveEntry, attached_to
from pgcopydb.bootstrap.extensions import create_extensions, pins_of
from pgcopydb.bootstrap.options import RestoreOptions
from pgcopydb.bootstrap.placement import DATABASE_DEFAULT, move_tables, placement_of
from pgcopydb.bootstrap.queries import query
from pgcopydb.bootstrap.restore import (
    RestoreError,
    drop_owned_apart,
    end_leftovers,
    option_flags,
    read_entries,
    restore,
)
from pgcopydb.bootstrap.script import grants_of_others, run_script, script_of
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.postgres.binaries import TRANSACTION_TIMEOUT_SINCE, Tools
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name, quote_ident
from pgcopydb.runtime.errors import Kind, TargetError
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.logs import NOTICE
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

ONE_TRANSACTION_UP_TO: Final = 2000
"""Entries that are restored in one transaction: it holds a lock on each object until it ends."""

_TRANSACTION_SIZE: Final = 1000
_DROP_BATCH: Final = 500
_RECORDED: Final = "target_objects_recorded"
_BEGUN: Final = "pre_data_begun"
_NAMED: Final = 10


def restore_pre_data(
    store: CatalogStore, workdir: WorkDir, target: Endpoint, tools: Tools, options: RestoreOptions, stop: Stop
) -> None:
    """Restore unless an earlier run did. Raises ``TargetError`` at the first object that cannot be created."""
    if store.step_done("pre_data"):
        logger.info("The schema was restored by an earlier run")
        return
    with store.step("pre_data"), target.connect("schema") as connection:
        resumed = store.setting(_BEGUN) is not None
        if resumed:
            end_leftovers(connection, target, stop)
        placement = placement_of(store, connection, options)
        _record_target(store, connection)
        entries = _select(store, connection, read_entries(workdir, "pre-data"), options)
        if options.drop_if_exists:
            post_data = read_entries(workdir, "post-data")
            _drop_before(store, connection, post_data, stop)
        there = standing(store, connection, entries)
        if there and not (resumed or options.drop_if_exists):
            raise _conflict([entry for entry in entries if entry.dump_id in there])
        store.set_setting(_BEGUN, "yes")
        _create_public(store, connection)
        if pins_of(store, options) is not None:
            create_extensions(store, target, options, stop)
        failpoint("pre_data.before_restore")
        clean = ["--clean", "--if-exists"] if there or options.drop_if_exists else []
        with_places = replace(options, no_tablespaces=True) if placement.renames else options
        if placement.renames:
            target = replace(target, info=target.info.with_settings({"default_tablespace": DATABASE_DEFAULT}))
        flags = [*option_flags(with_places), *clean]
        if options.no_acl or connection.info.parameter_status("is_superuser") == "on":
            errors = _run(workdir, target, tools, entries, flags, stop)
        else:
            errors = _run_as_member(workdir, target, tools, entries, flags, stop)
        if errors:
            raise _failure(errors)
        failpoint("pre_data.after_restore")
        if placement.renames:
            move_tables(store, connection, entries, placement, stop)


def _record_target(store: CatalogStore, connection: Connection) -> None:
    """Once, and before anything of ours is there."""
    if store.setting(_RECORDED) is not None:
        return
    rows = _target_objects(connection)
    with store.transaction():
        store.executemany("INSERT INTO target_object VALUES (?, ?)", [row[:2] for row in rows])
        store.set_setting(_RECORDED, "yes")


def _target_objects(connection: Connection) -> list[tuple[str, str, str]]:
    """Kind, name and owner."""
    with server_errors(Side.TARGET, "reading which schemas and extensions stand on the target"):
        return [(row[0], row[1], row[2]) for row in connection.execute(query("target_objects")).fetchall()]


def _create_public(store: CatalogStore, connection: Connection) -> None:
    """pg_dump takes the schema ``public`` for granted, but it may have been dropped on the target."""
    if store.value("SELECT count(*) FROM namespace WHERE name = 'public'"):
        with server_errors(Side.TARGET, "creating the schema public"):
            connection.execute("CREATE SCHEMA IF NOT EXISTS public")


def select_pre_data(
    entries: Sequence[ArchiveEntry],
    options: RestoreOptions,
    stood_before: set[int],
    created: Collection[int] = (),
) -> tuple[list[ArchiveEntry], dict[str, list[ArchiveEntry]]]:
    """What is restored, and what is left out, by reason. ``stood_before``: schemas and extensions, by dump id;
    ``created``: those that are made one by one, for ``--requirements``."""
    extensions = {entry.dump_id for entry in entries if entry.kind == "EXTENSION"}
    collations = {entry.dump_id for entry in entries if entry.kind == "COLLATION"}
    comments = {entry.dump_id for entry in entries if is_extension_comment(entry)}
    reasons: list[tuple[str, set[int]]] = [
        ("belongs to the database", {e.dump_id for e in entries if e.kind in {"DATABASE", "DATABASE PROPERTIES"}}),
        ("stood on the target before", stood_before),
        ("stood on the target before", _attached(entries, stood_before & extensions)),
        ("created for --requirements", set(created)),
    ]
    if options.skip_extensions:
        reasons.append(("--skip-extensions", extensions | comments | _attached(entries, extensions)))
    if options.skip_ext_comments:
        reasons.append(("--skip-ext-comments", comments))
    if options.skip_collations:
        reasons.append(("--skip-collations", collations | _attached(entries, collations)))
    left_out: dict[str, list[ArchiveEntry]] = {}
    kept = []
    for entry in entries:
        reason = next((reason for reason, numbers in reasons if entry.dump_id in numbers), None)
        if reason is None:
            kept.append(entry)
        else:
            left_out.setdefault(reason, []).append(entry)
    return kept, left_out


def is_extension_comment(entry: ArchiveEntry) -> bool:
    """An extension has no schema in the list, and what a comment is about stands before its name."""
    return entry.kind == "COMMENT" and entry.rest.startswith("- EXTENSION ")


def _attached(entries: Iterable[ArchiveEntry], owners: set[int]) -> set[int]:
    return {entry.dump_id for entry in attached_to(entries, owners)}


def _select(
    store: CatalogStore, connection: Connection, entries: list[ArchiveEntry], options: RestoreOptions
) -> list[ArchiveEntry]:
    addresses = addresses_of(store, entries)
    recorded = {(row["kind"], row["name"]) for row in store.rows("SELECT kind, name FROM target_object")}
    stood_before = {dump_id for dump_id, address in addresses.items() if (address.type, address.names[-1]) in recorded}
    kept, left_out = select_pre_data(entries, options, stood_before, _created(store, entries, options))
    for reason, those in left_out.items():
        logger.info("Left out of the schema: %d entries (%s)", len(those), reason)
        for entry in those:
            logger.log(NOTICE, "left out (%s): %s", reason, entry)
    schemas = {entry.dump_id for those in left_out.values() for entry in those if entry.kind == "SCHEMA"}
    if schemas and not options.no_owner:
        _warn_about_owners(store, connection, {addresses[dump_id].names[-1] for dump_id in schemas & stood_before})
    return kept


def _created(store: CatalogStore, entries: Sequence[ArchiveEntry], options: RestoreOptions) -> set[int]:
    """Extensions, and the schemas that they are created in."""
    if pins_of(store, options) is None:
        return set()
    hosts = {row["schema"] for row in store.rows("SELECT schema FROM extension")}
    schemas = [entry for entry in entries if entry.kind == "SCHEMA"]
    found = {number for number, address in addresses_of(store, schemas).items() if address.names[-1] in hosts}
    return found | {entry.dump_id for entry in entries if entry.kind == "EXTENSION"}


def _warn_about_owners(store: CatalogStore, connection: Connection, schemas: set[str]) -> None:
    """A schema that stood before keeps its owner, which the operator may not expect."""
    owners = {name: owner for kind, name, owner in _target_objects(connection) if kind == "schema"}
    for row in store.rows("SELECT name, owner FROM namespace ORDER BY name"):
        name, owner = row["name"], row["owner"]
        if name in schemas and owners.get(name, owner) != owner:
            logger.warning(
                "The schema %s keeps its owner %s on the target. As on the source: ALTER SCHEMA %s OWNER TO %s;",
                name,
                owners[name],
                quote_ident(name),
                quote_ident(owner),
            )


def _conflict(entries: Sequence[ArchiveEntry]) -> TargetError:
    named = "; ".join(str(entry) for entry in entries[:_NAMED])
    more = f" and {len(entries) - _NAMED} more" if len(entries) > _NAMED else ""
    return TargetError(
        f"the target already has {len(entries)} of the objects to restore: {named}{more}",
        hint="Clone into an empty database, or let --drop-if-exists drop them. Nothing was changed.",
    )


def _drop_before(store: CatalogStore, connection: Connection, post_data: list[ArchiveEntry], stop: Stop) -> None:
    """Drop the tables of the source, and what else would keep pre-data from being dropped. May be done twice."""
    tables = store.rows("SELECT schema, name FROM copied_table") + store.rows(
        "SELECT schema, name FROM partitioned_table"
    )
    names = [Name(row["schema"], row["name"]).sql for row in tables]
    logger.info("Dropping %d tables on the target where they exist", len(names))
    drop_owned_apart(store, connection, post_data, ("EVENT TRIGGER", "PUBLICATION"))
    for start in range(0, len(names), _DROP_BATCH):
        stop.check()
        with server_errors(Side.TARGET, "dropping tables on the target"):
            connection.execute(f"DROP TABLE IF EXISTS {', '.join(names[start : start + _DROP_BATCH])} CASCADE".encode())


def _run_as_member(
    workdir: WorkDir, target: Endpoint, tools: Tools, entries: list[ArchiveEntry], flags: list[str], stop: Stop
) -> list[RestoreError]:
    """Rights come last in any case; this role cannot be others, it can only act as them."""
    grants = [entry for entry in entries if entry.kind == "ACL"]
    with grants_of_others(workdir, tools, grants, flags, stop) as script:
        if script is None:
            return _run(workdir, target, tools, entries, flags, stop)
        others = [entry for entry in entries if entry.kind != "ACL"]
        errors = _run(workdir, target, tools, others, flags, stop)
        return errors or run_script(script, target, tools, one_transaction=True, stop=stop)


def _run(
    workdir: WorkDir, target: Endpoint, tools: Tools, entries: list[ArchiveEntry], flags: list[str], stop: Stop
) -> list[RestoreError]:
    small = len(entries) <= ONE_TRANSACTION_UP_TO
    logger.info("Restoring pre-data (%d entries) with pg_restore %s", len(entries), tools.restore)
    with script_of(workdir, tools, entries, flags, stop) as script:
        if script is not None:
            logger.info("Restoring through psql: pg_dump printed what only the source's release understands")
            return run_script(script, target, tools, one_transaction=small, stop=stop)
    return restore(
        workdir,
        target,
        tools.restore,
        entries,
        section="pre-data",
        flags=[*flags, *_transaction_flags(tools, small=small)],
        tolerate=tools.restore_too_new,
        stop=stop,
    )


def _transaction_flags(tools: Tools, *, small: bool) -> list[str]:
    if tools.restore_too_new:
        # Its first statement fails, which must neither end the restore nor spoil a transaction.
        return []
    if small:
        return ["--exit-on-error", "--single-transaction"]
    if tools.restore.major >= TRANSACTION_TIMEOUT_SINCE:
        return ["--exit-on-error", f"--transaction-size={_TRANSACTION_SIZE}"]
    return ["--exit-on-error"]


def _failure(errors: list[RestoreError]) -> TargetError:
    more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
    return TargetError(
        f"restoring pre-data: {errors[0]}{more}",
        hint="Roles, tablespaces and extensions that the schema names must exist on the target, or be left out: "
        "--no-owner --no-acl --no-tablespaces --skip-extensions --no-comments. Then continue with --resume.",
        kind=Kind.RETRY if errors[0].lost_connection else Kind.OPERATOR,
    )
