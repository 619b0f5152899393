"""Which snapshot a run reads under, and whether what an earlier run copied may be kept beside it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Collection
from dataclasses import replace
from enum import StrEnum

from pgcopydb.bootstrap.beside import ChangesBeside
from pgcopydb.bootstrap.options import EVERY_STEP, CloneOptions, Step
from pgcopydb.bootstrap.snapshot import HeldSnapshot, adopt_snapshot, begin_under, export_snapshot, offered_snapshot
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.daemon.stream import find_stream
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.runtime.errors import SourceError, StateError
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)


class Verdict(StrEnum):
    """What a snapshot means for the state that an earlier run left."""

    SAME = "same"
    """It sees the same rows: go on."""
    BEGIN_AGAIN = "begin again"
    """Nothing is on the target yet: read the catalog anew."""
    MIXED = "mixed"
    """The same, and the operator accepts that."""
    REFUSED = "refused"
    """The schema or some rows are on the target as another snapshot saw them."""


def judge(*, stored: str | None, content: str, restored: bool, anything_read: bool, not_consistent: bool) -> Verdict:
    """``stored`` and ``content`` are the earlier and the new snapshot; ``restored``: the schema is on the target."""
    if stored is None or stored == content:
        return Verdict.SAME
    if (restored or anything_read) and not not_consistent:
        return Verdict.REFUSED
    return Verdict.MIXED if restored else Verdict.BEGIN_AGAIN


def needs_snapshot(store: CatalogStore, steps: Collection[Step] = EVERY_STEP) -> bool:
    """Whether anything is left to be read from the source's tables for these steps."""
    if not store.step_done("catalog"):
        return True
    marks = {
        Step.DUMP: store.step_done("dump"),
        Step.LARGE_OBJECTS: store.step_done("large_objects"),
        Step.EXTENSION_DATA: store.step_done("extension_data"),
        Step.TABLE_DATA: store.value("SELECT count(*) FROM copy_part WHERE state NOT IN ('done', 'gone')") == 0
        and store.value("SELECT count(*) FROM copy_part") >= store.value("SELECT count(*) FROM copied_table"),
    }
    return not all(done for step, done in marks.items() if step in steps)


def take_snapshot(
    store: CatalogStore,
    source: Endpoint,
    workdir: WorkDir,
    options: CloneOptions,
    on_lost: Callable[[SourceError], None],
    changes: ChangesBeside | None = None,
) -> HeldSnapshot:
    """The snapshot that was asked for or that ``pgcopydb snapshot`` offers in this work directory, else a new one.

    Raises ``StateError`` when it does not see the same rows as the snapshot that finished tables were read under, and
    no ``changes`` make up for that.
    """
    asked = options.snapshot or offered_snapshot(workdir)
    held = adopt_snapshot(source, asked, on_lost) if asked else export_snapshot(source, on_lost)
    verdict = judge(
        stored=store.setting("snapshot"),
        content=held.under.content,
        restored=store.step_done("pre_data"),
        anything_read=_anything_read(store),
        not_consistent=options.not_consistent,
    )
    if verdict is Verdict.SAME:
        held.under = replace(held.under, read_at=store.setting("snapshot_read_at"))
    elif changes is not None and asked is None:
        held.release()
        return take_another_snapshot(store, source, on_lost, changes)
    if not (store.setting("snapshot") is not None and verdict is Verdict.SAME) and _passes_by_stream(workdir, asked):
        held.release()
        raise StateError(
            f"the work directory {workdir.top} has a stream of changes, and this is not the snapshot that it begins at:"
            " changes would be lost or applied twice",
            hint="Copy with `pgcopydb clone --follow`, and --resume if a copy was begun; or keep `pgcopydb snapshot"
            " --follow` running from before `stream setup` until the copy is complete. `pgcopydb stream cleanup`"
            " removes the stream.",
        )
    if verdict is Verdict.REFUSED:
        held.release()
        raise StateError(
            "the snapshot that the earlier run read under is gone, and the source has changed since",
            hint="Copy the rest as it is now with --resume --not-consistent, or begin again with --restart "
            "--drop-if-exists; next time `pgcopydb snapshot` in another session keeps the snapshot over a crash.",
        )
    if verdict is Verdict.BEGIN_AGAIN:
        _read_catalog_again(store)
    if verdict is Verdict.MIXED:
        logger.warning("What is not copied yet is read under a new snapshot: tables may show different moments")
        _refresh_filenodes(store, source, held.under.id)
    _remember(store, held)
    return held


def _passes_by_stream(workdir: WorkDir, asked: str | None) -> bool:
    """Whether a stream of changes begins elsewhere than at the snapshot that was asked for."""
    stream = find_stream(workdir)
    return stream is not None and bool(stream.consistent_point) and asked != stream.snapshot


def take_another_snapshot(
    store: CatalogStore, source: Endpoint, on_lost: Callable[[SourceError], None], changes: ChangesBeside
) -> HeldSnapshot:
    """For what is not copied yet, at a known position of the changes; what is copied stays as it is."""
    with changes.another_snapshot() as snapshot:
        held = adopt_snapshot(source, snapshot.id, on_lost)
    held.under = replace(held.under, read_at=str(snapshot.position))
    logger.info("What is not copied yet is read as of %s; changes up to there are left out of it", snapshot.position)
    if store.step_done("pre_data"):
        _refresh_filenodes(store, source, held.under.id)
    else:
        _read_catalog_again(store)
    _remember(store, held)
    return held


def _read_catalog_again(store: CatalogStore) -> None:
    """Nothing is on the target yet."""
    store.execute("DELETE FROM step WHERE name IN ('catalog', 'dump')")


def _remember(store: CatalogStore, held: HeldSnapshot) -> None:
    with store.transaction():
        store.set_setting("snapshot", held.under.content)
        store.set_setting("snapshot_read_at", held.under.read_at)
    logger.info("Reading under snapshot %s", held.under.id)


def _anything_read(store: CatalogStore) -> bool:
    return bool(
        store.value(
            "SELECT (SELECT count(*) FROM copy_part WHERE state IN ('running', 'done'))"
            " + (SELECT count(*) FROM large_object_batch WHERE state = 'done')"
            " + (SELECT count(*) FROM extension_config WHERE state = 'done')"
        )
    )


def _refresh_filenodes(store: CatalogStore, source: Endpoint, snapshot: str) -> None:
    """A table that was rewritten before the new snapshot can be read under it."""
    oids = [row["oid"] for row in store.rows("SELECT oid FROM copied_table WHERE copied IS NULL")]
    with source.connect("catalog") as connection, server_errors(Side.SOURCE, "reading the tables' file nodes"):
        begin_under(connection, snapshot)
        found = _filenodes(connection, oids)
    store.executemany("UPDATE copied_table SET filenode = ? WHERE oid = ?", found)


def _filenodes(connection: Connection, oids: list[int]) -> list[tuple[int, int]]:
    rows = connection.execute(
        "SELECT relfilenode::bigint, oid::bigint FROM pg_catalog.pg_class WHERE oid = ANY (%s)", (oids,)
    ).fetchall()
    return [(row[0], row[1]) for row in rows]
