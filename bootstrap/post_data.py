"""Restore post-data: what the index workers did not build, foreign keys, triggers, rules, policies, publications.

Reads the archive and what is built of indexes and constraints. One object that cannot be made, a foreign key with an
orphan row for example, does not keep the others from being made: every error comes back, and as long as there are
errors step ``post_data`` is not done. A resumed restore makes only what is not there. Materialized views are refreshed
elsewhere. Foreign keys that are to be validated later are added here, and nothing more.
"""

from __future__ import annotations

import logging
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Final

from pgcopydb.bootstrap.addresses import standing
from pgcopydb.bootstrap.archive import ArchiveEntry
from pgcopydb.bootstrap.foreign_keys import add_not_valid, foreign_keys
from pgcopydb.bootstrap.options import ForeignKeys, RestoreOptions
from pgcopydb.bootstrap.placement import Placement, placement_of
from pgcopydb.bootstrap.restore import (
    OWNED_APART,
    drop_owned_apart,
    end_leftovers,
    option_flags,
    read_entries,
    restore,
)
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.daemon.stream import find_stream
from pgcopydb.postgres.binaries import Tools
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.runtime.errors import PartialFailure
from pgcopydb.runtime.failpoint import failpoint
from pgcopydb.runtime.logs import NOTICE
from pgcopydb.runtime.stop import Stop
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger(__name__)

_CONFLICTS: Final = "post_data_conflicts"
"""Numbers of the entries whose object stood on the target before post-data began: not ours, never dropped."""

_INDEX: Final = 1259
_CONSTRAINT: Final = 2606
_PUBLICATION: Final = "PUBLICATION"
_REFRESHES: Final = frozenset({"MATERIALIZED VIEW DATA"})

_ATTACHED: Final = frozenset({"INDEX", "CONSTRAINT", "INDEX ATTACH"})
"""Of partitioned tables, and of materialized views that hold no rows yet: work on the catalogs alone. Attaching locks
parents and partitions in another order than the rest of post-data does; side by side they deadlock."""


def restore_post_data(
    store: CatalogStore,
    workdir: WorkDir,
    target: Endpoint,
    tools: Tools,
    options: RestoreOptions,
    jobs: int,
    stop: Stop,
) -> list[str]:
    """One error for each object that could not be made; none when an earlier run made them all."""
    if store.step_done("post_data"):
        logger.info("Post-data was restored by an earlier run")
        return []
    errors: list[str] = []
    try:
        with store.step("post_data"):
            errors = _restore(store, workdir, target, tools, options, jobs, stop)
            if errors:
                raise PartialFailure(f"{len(errors)} objects of post-data could not be restored")
    except PartialFailure as failure:
        logger.debug("step post_data stays open: %s", failure)
    return errors


def select_post_data(
    entries: Sequence[ArchiveEntry], built: set[tuple[int, int]], own_publications: Collection[str] = ()
) -> tuple[list[ArchiveEntry], list[ArchiveEntry]]:
    """What is restored and what is left out.

    ``built``: (catalog, oid) of what the index workers have built. ``own_publications``: made for following changes.
    """
    kept: list[ArchiveEntry] = []
    left_out: list[ArchiveEntry] = []
    own = {f"- {name}" for name in own_publications}
    published = {
        entry.dump_id for entry in entries if entry.kind == _PUBLICATION and entry.rest.rsplit(" ", 1)[0] in own
    }
    for entry in entries:
        ours = entry.kind in _REFRESHES or entry.address in built
        followed = entry.dump_id in published or (
            entry.kind.startswith(_PUBLICATION) and published & set(entry.depends)
        )
        (left_out if ours or followed else kept).append(entry)
    return kept, left_out


def _built(store: CatalogStore) -> set[tuple[int, int]]:
    indexes = store.rows("SELECT oid FROM built_index WHERE state = 'done'")
    constraints = store.rows("SELECT oid FROM built_constraint WHERE state = 'done'")
    return {(_INDEX, row["oid"]) for row in indexes} | {(_CONSTRAINT, row["oid"]) for row in constraints}


def _restore(
    store: CatalogStore,
    workdir: WorkDir,
    target: Endpoint,
    tools: Tools,
    options: RestoreOptions,
    jobs: int,
    stop: Stop,
) -> list[str]:
    stream = find_stream(workdir)
    publications = stream.publications if stream is not None else ()
    entries, left_out = select_post_data(read_entries(workdir, "post-data"), _built(store), publications)
    logger.info("Left out of post-data: %d entries that this run builds itself", len(left_out))
    with target.connect("schema") as connection:
        placement = placement_of(store, connection, options)
        missing, conflicts = _missing(store, connection, target, entries, options, stop)
    logger.info("Restoring post-data (%d entries) with %d jobs, pg_restore %s", len(missing), jobs, tools.restore)
    failpoint("post_data.before_restore")
    restorer = _Restorer(store, workdir, target, tools, options, placement, stop)
    errors = restorer.run(missing, jobs)
    if errors and jobs > 1:
        # Jobs write their complaints through each other, and a deadlock between two of them is no fault of the schema.
        logger.log(NOTICE, "What is missing of post-data is restored once more with one job")
        with target.connect("schema") as connection:
            missing, conflicts = _missing(store, connection, target, entries, options, stop)
        errors = restorer.run(missing, 1)
    failpoint("post_data.after_restore")
    return [f"{entry}: an object of this name stood on the target before" for entry in conflicts] + errors


@dataclass(frozen=True, slots=True)
class _Restorer:
    store: CatalogStore
    workdir: WorkDir
    target: Endpoint
    tools: Tools
    options: RestoreOptions
    placement: Placement
    stop: Stop

    def run(self, entries: Sequence[ArchiveEntry], jobs: int) -> list[str]:
        """What keys and comments refer to comes first, then keys that are to be validated later, then the rest."""
        first = [entry for entry in entries if entry.kind in _ATTACHED]
        later = self._validated_later(entries)
        rest = [entry for entry in entries if entry.kind not in _ATTACHED and entry.address not in later]
        errors = self._pg_restore(first, 1)
        if later:
            with self.target.connect("schema") as connection:
                errors += add_not_valid(self.store, connection, {oid for _, oid in later})
        return errors + self._pg_restore(rest, jobs)

    def _validated_later(self, entries: Sequence[ArchiveEntry]) -> set[tuple[int, int]]:
        if self.options.fk is not ForeignKeys.NOT_VALID_FIRST:
            return set()
        keys = {(_CONSTRAINT, key.oid) for key in foreign_keys(self.store)}
        return keys.intersection(entry.address for entry in entries)

    def _pg_restore(self, entries: Sequence[ArchiveEntry], jobs: int) -> list[str]:
        if not entries:
            return []
        if not self.placement.renames:
            return self._run(entries, jobs, self.target, self.options)
        # Indexes and constraints alone are placed, and none of them needs another entry of post-data.
        errors = []
        for tablespace, those in self.placement.groups(entries):
            target = replace(self.target, info=self.target.info.with_settings({"default_tablespace": tablespace}))
            errors += self._run(those, jobs, target, replace(self.options, no_tablespaces=True))
        return errors

    def _run(self, entries: Sequence[ArchiveEntry], jobs: int, target: Endpoint, options: RestoreOptions) -> list[str]:
        reported = restore(
            self.workdir,
            target,
            self.tools.restore,
            entries,
            section="post-data",
            flags=[*option_flags(options), f"--jobs={jobs}"],
            tolerate=self.tools.restore_too_new,
            stop=self.stop,
        )
        return [str(error) for error in reported]


def _missing(
    store: CatalogStore,
    connection: Connection,
    target: Endpoint,
    entries: list[ArchiveEntry],
    options: RestoreOptions,
    stop: Stop,
) -> tuple[list[ArchiveEntry], list[ArchiveEntry]]:
    """What is to be made, and what cannot because something that is not ours has its name."""
    recorded = store.setting(_CONFLICTS)
    if recorded is None:
        if options.drop_if_exists:
            drop_owned_apart(store, connection, entries, ("EVENT TRIGGER", "PUBLICATION", "STATISTICS"))
        strangers = standing(store, connection, entries)
        store.set_setting(_CONFLICTS, sorted(strangers))
    else:
        end_leftovers(connection, target, stop)
        strangers = set(recorded)
        ours = [entry for entry in entries if entry.dump_id not in strangers]
        drop_owned_apart(store, connection, ours, OWNED_APART)
    there = standing(store, connection, entries)
    for entry in entries:
        if entry.dump_id in there - strangers:
            logger.log(NOTICE, "restored by the interrupted run: %s", entry)
    missing = [entry for entry in entries if entry.dump_id not in there]
    return missing, [entry for entry in entries if entry.dump_id in there & strangers]
