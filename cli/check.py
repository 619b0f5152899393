"""``pgcopydb check``."""

from __future__ import annotations

import dataclasses
from dataclasses import replace

import click
import orjson
import typer

from pgcopydb.bootstrap.findings import Severity
from pgcopydb.bootstrap.options import FollowOptions
from pgcopydb.bootstrap.preflight import check_clone
from pgcopydb.bootstrap.preflight_databases import check_databases
from pgcopydb.cli import options as o
from pgcopydb.cli import stream_options as so
from pgcopydb.cli.given import begin_logging, servers, workdir_of
from pgcopydb.cli.settings import clone_options
from pgcopydb.cli.tables import print_findings
from pgcopydb.daemon.plugins import PluginChoice
from pgcopydb.daemon.slot import StreamOptions
from pgcopydb.daemon.stream import DEFAULT_NAME
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.runtime.errors import ExitCode


def check(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    table_jobs: o.TableJobs = 4,
    index_jobs: o.IndexJobs = 4,
    restore_jobs: o.RestoreJobs = None,
    large_objects_jobs: o.LargeObjectsJobs = 4,
    split_tables_larger_than: o.SplitLargerThan = 0,
    drop_if_exists: o.DropIfExists = False,
    no_owner: o.NoOwner = False,
    no_acl: o.NoAcl = False,
    no_tablespaces: o.NoTablespaces = False,
    tablespace_map: o.TablespaceMap = None,
    skip_large_objects: o.SkipLargeObjects = False,
    skip_extensions: o.SkipExtensions = False,
    skip_collations: o.SkipCollations = False,
    requirements: o.RequirementsFile = None,
    filters: o.Filters = None,
    all_databases: o.AllDatabases = False,
    exclude_database: o.ExcludeDatabase = None,
    database_jobs: o.DatabaseJobs = 2,
    roles: o.WithRoles = False,
    no_role_passwords: o.NoRolePasswords = False,
    skip_vacuum: o.SkipVacuum = False,
    skip_db_properties: o.SkipDbProperties = False,
    follow: so.Follow = False,
    plugin: so.PluginOption = PluginChoice.AUTO,
    wal2json_numeric_as_string: so.NumericAsString = False,
    wal2json_lossy_nan: so.LossyNan = False,
    slot_name: so.SlotName = DEFAULT_NAME,
    origin: so.OriginName = DEFAULT_NAME,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Try everything that a clone with these options needs, and print what is missing with what mends it.

    Nothing is changed on either server. Exit code 0 when nothing stands in the way, 4 otherwise.
    """
    begin_logging(verbose, notice, debug, trace, quiet)
    source_info, target_info = servers(source, target)
    chosen = StreamOptions(plugin.plugin, slot_name, origin, wal2json_numeric_as_string, lossy_nan=wal2json_lossy_nan)
    settings = replace(
        clone_options(click.get_current_context().params), follow=FollowOptions(chosen) if follow else None
    )
    workdir = workdir_of(directory)
    ends = Endpoint(source_info, "check"), Endpoint(target_info, "check")
    if all_databases:
        _, findings = check_databases(*ends, workdir, settings, exclude_database or ())
    else:
        findings = check_clone(*ends, workdir, settings)
    if json:
        rows = [dataclasses.asdict(finding) for finding in findings]
        typer.echo(orjson.dumps(rows, option=orjson.OPT_INDENT_2).decode())
    else:
        print_findings(findings)
    if any(finding.severity is Severity.ERROR for finding in findings):
        raise typer.Exit(ExitCode.PGSQL)


def register(app: typer.Typer) -> None:
    app.command("check")(check)
