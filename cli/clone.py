"""``pgcopydb clone``, also called ``fork``."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from contextlib import ExitStack, closing
from dataclasses import replace
from functools import partial

import click
import typer

from pgcopydb.apply.replay import ApplyMode, OnConflict
from pgcopydb.bootstrap.all_databases import clone_databases
from pgcopydb.bootstrap.all_reports import summary_of_all
from pgcopydb.bootstrap.options import CloneOptions, CopyFormat, FollowOptions, ForeignKeys
from pgcopydb.bootstrap.pipeline import run_clone
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.summary import build_summary
from pgcopydb.cli import options as o
from pgcopydb.cli import stream_options as so
from pgcopydb.cli.contradictions import check_snapshot
from pgcopydb.cli.display import watching
from pgcopydb.cli.given import begin_logging, log_flags, servers, workdir_of
from pgcopydb.cli.migration import Migration
from pgcopydb.cli.migration_of_all import MigrationOfAll
from pgcopydb.cli.settings import clone_options
from pgcopydb.cli.stages import Following, flags_of_stages
from pgcopydb.cli.tables import print_summary
from pgcopydb.cli.version import program_version
from pgcopydb.daemon.plugins import PluginChoice
from pgcopydb.daemon.service import Teller
from pgcopydb.daemon.slot import StreamOptions
from pgcopydb.daemon.stream import DEFAULT_NAME
from pgcopydb.postgres.conninfo import ConnInfo
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.stop import Stop, stop_on_signals
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger("pgcopydb.cli")


def clone(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    table_jobs: o.TableJobs = 4,
    index_jobs: o.IndexJobs = 4,
    restore_jobs: o.RestoreJobs = None,
    large_objects_jobs: o.LargeObjectsJobs = 4,
    split_tables_larger_than: o.SplitLargerThan = 0,
    split_max_parts: o.SplitMaxParts = None,
    estimate_table_sizes: o.EstimateSizes = False,
    skip_split_by_ctid: o.SkipSplitByCtid = False,
    skip_analyze: o.SkipAnalyze = False,
    drop_if_exists: o.DropIfExists = False,
    no_owner: o.NoOwner = False,
    no_acl: o.NoAcl = False,
    no_comments: o.NoComments = False,
    no_tablespaces: o.NoTablespaces = False,
    tablespace_map: o.TablespaceMap = None,
    skip_large_objects: o.SkipLargeObjects = False,
    skip_extensions: o.SkipExtensions = False,
    requirements: o.RequirementsFile = None,
    skip_ext_comments: o.SkipExtComments = False,
    skip_collations: o.SkipCollations = False,
    filters: o.Filters = None,
    all_databases: o.AllDatabases = False,
    exclude_database: o.ExcludeDatabase = None,
    database_jobs: o.DatabaseJobs = 2,
    roles: o.WithRoles = False,
    no_role_passwords: o.NoRolePasswords = False,
    skip_vacuum: o.SkipVacuum = False,
    skip_db_properties: o.SkipDbProperties = False,
    fk: o.ForeignKeysOption = ForeignKeys.VALID,
    copy_format: o.CopyFormatOption = CopyFormat.AUTO,
    use_copy_binary: o.UseCopyBinary = False,
    fail_fast: o.FailFast = False,
    restart: o.Restart = False,
    resume: o.Resume = False,
    not_consistent: o.NotConsistent = False,
    snapshot: o.Snapshot = None,
    follow: so.Follow = False,
    plugin: so.PluginOption = PluginChoice.AUTO,
    wal2json_numeric_as_string: so.NumericAsString = False,
    wal2json_lossy_nan: so.LossyNan = False,
    slot_name: so.SlotName = DEFAULT_NAME,
    origin: so.OriginName = DEFAULT_NAME,
    endpos: so.Endpos = None,
    on_conflict: so.OnConflictOption = OnConflict.ERROR,
    apply_mode: so.ApplyModeOption = ApplyMode.SERIAL,
    keep_files: so.KeepFiles = False,
    max_disk: so.MaxDisk = 0,
    min_free: so.MinFree = None,
    replay_no_op_updates: so.ReplayNoOp = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Copy a whole database: schema, data, indexes, constraints, sequences, large objects and settings."""
    begin_logging(verbose, notice, debug, trace, quiet)
    logger.info('Running pgcopydb version %s from "%s"', program_version(), sys.argv[0])
    chosen = StreamOptions(plugin.plugin, slot_name, origin, wal2json_numeric_as_string, lossy_nan=wal2json_lossy_nan)
    settings = replace(
        clone_options(click.get_current_context().params),
        follow=FollowOptions(chosen, endpos or Lsn()) if follow else None,
    )
    source_info, target_info = servers(source, target)
    workdir = workdir_of(directory)
    flags = log_flags(verbose, notice, debug, trace, quiet)
    stage_flags = flags_of_stages(
        on_conflict=on_conflict,
        apply_mode=apply_mode,
        keep_files=keep_files,
        replay_no_op_updates=replay_no_op_updates,
        max_disk=max_disk,
        min_free=min_free,
    )
    following_of = partial(
        Following.between, flags=flags, stage_flags=stage_flags, skip_large_objects=skip_large_objects
    )
    if all_databases:
        _clone_all(source_info, target_info, workdir, settings, exclude_database or (), following_of)
        return
    check_snapshot(click.get_current_context().params, workdir)
    with stop_on_signals() as stop, ExitStack() as stack:
        following = following_of(source_info, target_info, workdir, stop)
        migration = Migration(following, chosen, endpos, settings.jobs.restore) if follow else None
        if migration is not None:
            stack.enter_context(migration.running(restart=restart))
        with watching(workdir):
            run_clone(
                source_info,
                target_info,
                workdir,
                settings,
                stop,
                changes=migration,
            )
        if migration is not None:
            migration.finish()
        store = CatalogStore.read(workdir.catalog)
        print_summary(build_summary(store))
        store.close()


def _clone_all(
    source: ConnInfo,
    target: ConnInfo,
    workdir: WorkDir,
    settings: CloneOptions,
    excluded: Sequence[str],
    following_of: Callable[..., Following],
) -> None:
    def following(database: str, stop: Stop, teller: Teller) -> Following:
        ends = (info.of_database(database) for info in (source, target))
        return following_of(*ends, workdir.database(database), stop, database=database, teller=teller)

    with stop_on_signals() as stop, ExitStack() as stack:
        migration = None
        if settings.follow is not None:
            follow = settings.follow
            migration = MigrationOfAll(
                workdir, follow.stream, follow.endpos or None, settings.jobs.restore, following, stop
            )
            stack.enter_context(migration.running(source, target, restart=settings.restart))
        with watching(workdir):
            clone_databases(source, target, workdir, settings, excluded, stop, changes=migration)
        with closing(CatalogStore.read(workdir.catalog)) as store:
            print_summary(summary_of_all(store, workdir))


def register(app: typer.Typer) -> None:
    app.command("clone")(clone)
    app.command("fork", help="The same as clone.")(clone)
