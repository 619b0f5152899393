"""``pgcopydb copy …``, ``dump …`` and ``restore …``: one step of a clone at a time, in one work directory."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Final, Optional

import click
import typer

from pgcopydb.bootstrap.archive import parse_list
from pgcopydb.bootstrap.one_side import dump_one, restore_sections
from pgcopydb.bootstrap.options import CopyFormat, ForeignKeys, Step
from pgcopydb.bootstrap.pipeline import run_clone
from pgcopydb.bootstrap.restore import SECTIONS, read_entries
from pgcopydb.bootstrap.roles import dump_roles, restore_roles
from pgcopydb.cli import options as o
from pgcopydb.cli.clone import clone
from pgcopydb.cli.display import watching
from pgcopydb.cli.given import begin_logging, server, servers, workdir_of
from pgcopydb.cli.groups import command_group
from pgcopydb.cli.known import check_filters
from pgcopydb.cli.settings import clone_options
from pgcopydb.cli.version import program_version
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.runtime.durable import disk_errors
from pgcopydb.runtime.errors import CorruptState, StateError, UsageError
from pgcopydb.runtime.stop import stop_on_signals

logger = logging.getLogger("pgcopydb.cli")

Copy = Callable[..., None]

_DATA: Final = frozenset(
    {
        *(Step.EXTENSION_DATA, Step.TABLE_DATA, Step.LARGE_OBJECTS),
        *(Step.INDEXES, Step.CONSTRAINTS, Step.VACUUM, Step.SEQUENCES, Step.MATVIEWS),
    }
)
_STEPS: Final[dict[str, tuple[Collection[Step], str]]] = {
    "schema": (
        {Step.DUMP, Step.PRE_DATA, Step.POST_DATA, Step.PROPERTIES, Step.MATVIEWS},
        "Copy the schema: dump it, restore pre-data, restore post-data, settings of the database.",
    ),
    "data": (
        _DATA,
        "Copy rows, large objects, sequences and extensions' data; build indexes and constraints. The schema is there.",
    ),
    "table-data": ({Step.TABLE_DATA}, "Copy the rows of tables. Tables are emptied first."),
    "sequences": ({Step.SEQUENCES}, "Set sequences to what they are on the source now."),
    "indexes": ({Step.INDEXES}, "Build the indexes that the target does not have."),
    "constraints": ({Step.CONSTRAINTS}, "Make constraints of the indexes: primary keys, unique, exclusion."),
    "extensions": (
        {Step.EXTENSIONS, Step.EXTENSION_DATA},
        "Create the extensions of the source, and copy what users put into their configuration tables.",
    ),
}


def _command(steps: Collection[Step], text: str) -> Copy:
    def command(
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
        skip_db_properties: o.SkipDbProperties = False,
        filters: o.Filters = None,
        skip_vacuum: o.SkipVacuum = False,
        fk: o.ForeignKeysOption = ForeignKeys.VALID,
        copy_format: o.CopyFormatOption = CopyFormat.AUTO,
        use_copy_binary: o.UseCopyBinary = False,
        fail_fast: o.FailFast = False,
        restart: o.Restart = False,
        resume: o.ResumeAnyway = False,
        not_consistent: o.NotConsistent = False,
        snapshot: o.Snapshot = None,
        verbose: o.Verbose = 0,
        notice: o.Notice = False,
        debug: o.Debug = False,
        trace: o.Trace = False,
        quiet: o.Quiet = False,
    ) -> None:
        _begin(verbose, notice, debug, trace, quiet)
        settings = replace(clone_options(click.get_current_context().params), steps=frozenset(steps))
        source_info, target_info = servers(source, target)
        workdir = workdir_of(directory)
        with stop_on_signals() as stop, watching(workdir):
            run_clone(source_info, target_info, workdir, settings, stop)

    command.__doc__ = text
    return command


def _begin(verbose: int, notice: bool, debug: bool, trace: bool, quiet: bool) -> None:
    begin_logging(verbose, notice, debug, trace, quiet)
    logger.info('Running pgcopydb version %s from "%s"', program_version(), sys.argv[0])


Changed = Annotated[
    bool,
    typer.Option(
        "--changed",
        help="Copy those that are new or have changed since they were copied, and remove those that are gone.",
    ),
]


def copy_blobs(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    large_objects_jobs: o.LargeObjectsJobs = 4,
    drop_if_exists: o.DropIfExists = False,
    no_owner: o.NoOwner = False,
    no_acl: o.NoAcl = False,
    no_comments: o.NoComments = False,
    changed: Changed = False,
    fail_fast: o.FailFast = False,
    restart: o.Restart = False,
    resume: o.ResumeAnyway = False,
    not_consistent: o.NotConsistent = False,
    snapshot: o.Snapshot = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Copy large objects, with owner, grants and comments; with --changed what has changed of them since."""
    _begin(verbose, notice, debug, trace, quiet)
    settings = replace(
        clone_options(click.get_current_context().params), steps=frozenset({Step.LARGE_OBJECTS}), changed_only=changed
    )
    source_info, target_info = servers(source, target)
    workdir = workdir_of(directory)
    with stop_on_signals() as stop, watching(workdir):
        run_clone(source_info, target_info, workdir, settings, stop)


def copy_roles(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    no_role_passwords: o.NoRolePasswords = False,
    resume: o.ResumeAnyway = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Make the roles of the source's server on the target's; those that are there stay as they are."""
    _begin(verbose, notice, debug, trace, quiet)
    source_info, target_info = servers(source, target)
    workdir = workdir_of(directory)
    workdir.create()
    with workdir.lock():
        dump_roles(Endpoint(source_info, "roles"), workdir, passwords=not no_role_passwords)
        restore_roles(Endpoint(target_info, "roles"), workdir)


def dump_schema(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    skip_extensions: o.SkipExtensions = False,
    filters: o.Filters = None,
    restart: o.Restart = False,
    resume: o.ResumeAnyway = False,
    not_consistent: o.NotConsistent = False,
    snapshot: o.Snapshot = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Write the source's schema to the work directory. The target is accepted, and not looked at."""
    _begin(verbose, notice, debug, trace, quiet)
    info = server(Side.SOURCE, source)
    workdir = workdir_of(directory)
    with stop_on_signals() as stop:
        dump_one(info, workdir, clone_options(click.get_current_context().params), stop)


def dump_roles_command(
    *,
    source: o.Source = None,
    directory: o.Directory = None,
    no_role_passwords: o.NoRolePasswords = False,
    resume: o.ResumeAnyway = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Write the roles of the source's server to schema/roles.sql of the work directory."""
    _begin(verbose, notice, debug, trace, quiet)
    info = server(Side.SOURCE, source)
    workdir = workdir_of(directory)
    workdir.create()
    with workdir.lock():
        dump_roles(Endpoint(info, "roles"), workdir, passwords=not no_role_passwords)


def restore_roles_command(
    *,
    target: o.Target = None,
    directory: o.Directory = None,
    resume: o.ResumeAnyway = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Make the roles of schema/roles.sql on the target; those that are there stay as they are."""
    _begin(verbose, notice, debug, trace, quiet)
    info = server(Side.TARGET, target)
    workdir = workdir_of(directory)
    if not workdir.roles_sql.exists():
        raise StateError(f"there is no {workdir.roles_sql}", hint="`pgcopydb dump roles` of the same --dir writes it.")
    with workdir.lock():
        restore_roles(Endpoint(info, "roles"), workdir)


def _restore(steps: tuple[Step, ...], text: str) -> Copy:
    def command(
        *,
        source: o.Source = None,
        target: o.Target = None,
        directory: o.Directory = None,
        restore_jobs: o.RestoreJobs = None,
        drop_if_exists: o.DropIfExists = False,
        no_owner: o.NoOwner = False,
        no_acl: o.NoAcl = False,
        no_comments: o.NoComments = False,
        no_tablespaces: o.NoTablespaces = False,
        tablespace_map: o.TablespaceMap = None,
        skip_extensions: o.SkipExtensions = False,
        requirements: o.RequirementsFile = None,
        skip_ext_comments: o.RestoreSkipExtComments = False,
        skip_collations: o.SkipCollations = False,
        fk: o.ForeignKeysOption = ForeignKeys.VALID,
        skip_db_properties: o.SkipDbProperties = False,
        resume: o.ResumeAnyway = False,
        verbose: o.Verbose = 0,
        notice: o.Notice = False,
        debug: o.Debug = False,
        trace: o.Trace = False,
        quiet: o.Quiet = False,
    ) -> None:
        _begin(verbose, notice, debug, trace, quiet)
        info = server(Side.TARGET, target)
        workdir = workdir_of(directory)
        check_filters(workdir)
        with stop_on_signals() as stop:
            restore_sections(info, workdir, clone_options(click.get_current_context().params), steps, stop)

    command.__doc__ = f"{text} The source is accepted, and not looked at."
    return command


ListFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Argument(metavar="FILE", help="Output of `pg_restore --list`. (default: what the work directory dumped)"),
]


def restore_parse_list(
    file: ListFile = None,
    *,
    directory: o.Directory = None,
    resume: o.ResumeAnyway = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Print the entries of an archive's list: dump id, catalog and object oid, kind, the rest."""
    begin_logging(verbose, notice, debug, trace, quiet)
    if file is None:
        workdir = workdir_of(directory)
        if not workdir.contents(SECTIONS[0]).exists():
            raise StateError(
                f"the work directory {workdir.top} has no schema dump",
                hint="`pgcopydb dump schema` makes it; or name a FILE.",
            )
        entries = [entry for section in SECTIONS for entry in read_entries(workdir, section)]
    else:
        if not file.is_file():
            raise UsageError(f"{file} is not a file", hint="Name a file with the output of `pg_restore --list`.")
        with disk_errors(file, "reading"):
            text = file.read_bytes().decode("utf-8", "replace")
        try:
            entries = parse_list(text)
        except CorruptState as error:
            raise UsageError(
                f"{file}: {error.message}", hint="Expected are lines like: 215; 1259 16390 TABLE public t owner"
            ) from error
    for entry in entries:
        typer.echo(f"{entry.dump_id}; {entry.catalog_oid} {entry.oid} {entry}")


def register(app: typer.Typer) -> None:
    copy = command_group("Copy one thing of a database.")
    copy.command("db", help="The same as clone.")(clone)
    copy.command("roles")(copy_roles)
    copy.command("blobs")(copy_blobs)
    for name, (steps, text) in _STEPS.items():
        copy.command(name)(_command(steps, text))
    app.add_typer(copy, name="copy")
    dump = command_group("Write what the source has to the work directory.")
    dump.command("schema")(dump_schema)
    for section in ("pre-data", "post-data"):
        dump.command(section, help="The same as dump schema: both sections are written at once, of one moment.")(
            dump_schema
        )
    dump.command("roles")(dump_roles_command)
    app.add_typer(dump, name="dump")
    restore = command_group("Restore on the target what was dumped.")
    restore.command("schema")(_restore((Step.PRE_DATA, Step.POST_DATA), "Restore pre-data and post-data."))
    restore.command("pre-data")(_restore((Step.PRE_DATA,), "Restore schemas, types, tables, views…"))
    restore.command("post-data")(
        _restore((Step.POST_DATA,), "Restore what is left: indexes and constraints that are not built, foreign keys…")
    )
    restore.command("roles")(restore_roles_command)
    restore.command("parse-list")(restore_parse_list)
    app.add_typer(restore, name="restore")
