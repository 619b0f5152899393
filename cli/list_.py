"""``pgcopydb list …``: what the source has, and how far a run is."""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import orjson
import typer

from pgcopydb.bootstrap import listing
from pgcopydb.bootstrap.catalog import fetch_catalog
from pgcopydb.bootstrap.copy_plan import plan_parts
from pgcopydb.bootstrap.filtering import dependents
from pgcopydb.bootstrap.options import CloneOptions, Split
from pgcopydb.bootstrap.schema_json import schema_json
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.cli import list_options as lo
from pgcopydb.cli import options as o
from pgcopydb.cli.given import begin_logging, filters_of, server
from pgcopydb.cli.groups import command_group
from pgcopydb.cli.list_progress import progress
from pgcopydb.cli.tables import new_console, new_table
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Connection, Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.names import Name
from pgcopydb.postgres.selection import Selection, report_unmatched, select
from pgcopydb.postgres.server import inspect_server
from pgcopydb.runtime.errors import UsageError
from pgcopydb.runtime.sizes import pretty_size
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger("pgcopydb.cli")


@contextmanager
def _reading(
    source: str | None, filters: Path | None, *, skipped: bool = False
) -> Iterator[tuple[Connection, Selection]]:
    """A connection, and what filters choose there."""
    if skipped and filters is None:
        raise UsageError("--list-skipped says nothing without --filters", hint="Give both, or leave it out.")
    rules = filters_of(filters)
    endpoint = Endpoint(server(Side.SOURCE, source), "list")
    with endpoint.connect("list") as connection, server_errors(Side.SOURCE, "listing"):
        selection = select(connection, rules)
        report_unmatched(selection)
        yield connection, selection


def _print(rows: Sequence[dict[str, Any]], columns: dict[str, str], *, json: bool) -> None:
    """``columns``: headings, by key."""
    if json:
        typer.echo(orjson.dumps(list(rows), option=orjson.OPT_INDENT_2).decode())
        return
    numbers = tuple(heading for key, heading in columns.items() if any(type(row[key]) is int for row in rows))
    table = new_table(*columns.values(), right=numbers)
    for row in rows:
        table.add_row(*("" if row[key] is None else str(row[key]) for key in columns))
    new_console().print(table)


def databases(
    *,
    source: o.Source = None,
    directory: o.Directory = None,
    json: lo.ListJson = False,
    ignored: lo.Ignored = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Databases of the source's server, the largest first."""
    begin_logging(verbose, notice, debug, trace, quiet)
    with _reading(source, None) as (connection, _):
        rows = [
            {"oid": oid, "name": name, "bytes": size, "bytes-pretty": None if size is None else pretty_size(size)}
            for oid, name, size in listing.databases(connection)
        ]
    _print(rows, {"oid": "OID", "name": "Database Name", "bytes-pretty": "On-disk size"}, json=json)


def extensions(
    *,
    source: o.Source = None,
    directory: o.Directory = None,
    filters: o.Filters = None,
    available: lo.Available = False,
    required: lo.Requirements = False,
    json: lo.ListJson = False,
    ignored: lo.Ignored = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Extensions of the source, with how many of their tables hold rows of users."""
    begin_logging(verbose, notice, debug, trace, quiet)
    with _reading(source, filters) as (connection, selection):
        if available:
            rows = [{**row, "shown": ", ".join(row["versions"])} for row in listing.available_versions(connection)]
            columns = {"name": "Name", "default": "Default", "shown": "Available"}
        elif required:
            rows = [dict(row) for row in listing.requirements(connection, selection)]
            columns, json = {"name": "Name", "version": "Version"}, True
        else:
            rows = [
                {
                    **row,
                    "count": len(row["config"]),
                    "shown": ", ".join(f"{each['schema']}.{each['name']}" for each in row["config"]),
                }
                for row in listing.extensions(connection, selection)
            ]
            columns = {
                "oid": "OID",
                "name": "Name",
                "schema": "Schema",
                "version": "Version",
                "count": "Count",
                "shown": "Config",
            }
    if json:
        rows = [{key: value for key, value in row.items() if key not in {"shown", "count"}} for row in rows]
    _print(rows, columns, json=json)


def collations(
    *,
    source: o.Source = None,
    directory: o.Directory = None,
    json: lo.ListJson = False,
    ignored: lo.Ignored = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Collations other than the default one, and what uses them."""
    begin_logging(verbose, notice, debug, trace, quiet)
    with _reading(source, None) as (connection, _):
        rows = [{"oid": oid, "name": name, "object": what} for oid, name, what in listing.collations(connection)]
    _print(rows, {"oid": "OID", "name": "Name", "object": "Object name"}, json=json)


def tables(
    *,
    source: o.Source = None,
    directory: o.Directory = None,
    filters: o.Filters = None,
    skipped: lo.Skipped = False,
    without_key: lo.WithoutKey = False,
    estimate_table_sizes: o.EstimateSizes = False,
    json: lo.ListJson = False,
    ignored: lo.Ignored = False,
    snapshot: lo.IgnoredSnapshot = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Tables that a copy takes, the largest first."""
    begin_logging(verbose, notice, debug, trace, quiet)
    if skipped and without_key:
        raise UsageError("--without-pkey does not go with --list-skipped", hint="Leave one of them out.")
    with _reading(source, filters, skipped=skipped) as (connection, selection):
        if skipped:
            found = listing.skipped_tables(connection, selection)
        else:
            found = listing.tables(connection, selection, without_key=without_key, estimate=estimate_table_sizes)
    rows = [
        {
            "oid": each.oid,
            "schema": each.name.schema,
            "name": each.name.name,
            "reltuples": each.rows,
            "bytes": each.bytes,
            "bytes-pretty": pretty_size(each.bytes),
            **({"why": each.why} if skipped else {}),
        }
        for each in found
    ]
    columns = {"oid": "OID", "schema": "Schema Name", "name": "Table Name", "reltuples": "Est. Row Count"}
    columns |= {"bytes-pretty": "On-disk size"} | ({"why": "Why"} if skipped else {})
    _print(rows, columns, json=json)


def table_parts(
    *,
    source: o.Source = None,
    directory: o.Directory = None,
    schema_name: lo.SchemaName = "public",
    table_name: lo.TableName = None,
    split_tables_larger_than: o.SplitLargerThan = 0,
    split_max_parts: o.SplitMaxParts = None,
    skip_split_by_ctid: o.SkipSplitByCtid = False,
    estimate_table_sizes: o.EstimateSizes = False,
    json: lo.ListJson = False,
    ignored: lo.Ignored = False,
    snapshot: lo.IgnoredSnapshot = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """How one table would be copied in parts."""
    begin_logging(verbose, notice, debug, trace, quiet)
    if table_name is None:
        raise UsageError("no table is named", hint="Give --table-name, and --schema-name unless it is in public.")
    name = Name(schema_name or "public", table_name)
    split = Split(split_tables_larger_than, split_max_parts, not skip_split_by_ctid, estimate_table_sizes)
    with _reading(source, None) as (connection, _):
        parts = listing.table_parts(connection, name, split)
    if len(parts) == 1:
        logger.info("Table %s will be copied in one piece", name)
        if not split.larger_than:
            logger.warning("Nothing is split without --split-tables-larger-than")
    else:
        logger.info("Table %s will be copied in %d parts, by %s", name, len(parts), parts[-1].by)
    rows = [
        {
            "part": f"{each.part}/{each.parts}",
            "min": each.least,
            "max": each.most,
            "count": each.count,
            "by": each.by,
        }
        for each in parts
    ]
    _print(rows, {"part": "Part", "min": "Min", "max": "Max", "count": "Count", "by": "By"}, json=json)


def sequences(
    *,
    source: o.Source = None,
    directory: o.Directory = None,
    filters: o.Filters = None,
    skipped: lo.Skipped = False,
    json: lo.ListJson = False,
    ignored: lo.Ignored = False,
    snapshot: lo.IgnoredSnapshot = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Sequences, with the column that owns each."""
    begin_logging(verbose, notice, debug, trace, quiet)
    with _reading(source, filters, skipped=skipped) as (connection, selection):
        rows = listing.sequences(connection, selection, skipped=skipped)
    columns = {"oid": "OID", "schema": "Schema Name", "name": "Sequence Name", "owned-by": "Owned By"}
    _print(rows, {**columns, "attrelid": "attrelid", "attroid": "attroid"}, json=json)


def indexes(
    *,
    source: o.Source = None,
    directory: o.Directory = None,
    filters: o.Filters = None,
    schema_name: lo.SchemaName = None,
    table_name: lo.TableName = None,
    json: lo.ListJson = False,
    ignored: lo.Ignored = False,
    snapshot: lo.IgnoredSnapshot = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Indexes that a copy builds, with their constraints."""
    begin_logging(verbose, notice, debug, trace, quiet)
    if schema_name is not None and table_name is None:
        raise UsageError("--schema-name says nothing without --table-name", hint="Give both, or leave it out.")
    with _reading(source, filters) as (connection, selection):
        rows = listing.indexes(connection, selection, schema_name, table_name)
    columns = {"oid": "OID", "schema": "Schema", "name": "Index Name", "constraint": "Constraint Name"}
    _print(rows, {**columns, "constraint-sql": "Constraint", "sql": "DDL"}, json=json)


def depends(
    *,
    source: o.Source = None,
    directory: o.Directory = None,
    filters: o.Filters = None,
    skipped: lo.Skipped = True,
    json: lo.ListJson = False,
    ignored: lo.Ignored = False,
    snapshot: lo.IgnoredSnapshot = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """What goes with what --filters names, because it depends on it."""
    begin_logging(verbose, notice, debug, trace, quiet)
    if filters is None:
        raise UsageError("`list depends` shows what depends on what is filtered", hint="Give --filters.")
    with _reading(source, filters, skipped=True) as (connection, selection):
        found = dependents(connection, selection)
    rows = [
        {
            "schema": None if each.table is None else each.table.schema,
            "name": None if each.table is None else each.table.name,
            "catalog": each.address[0],
            "oid": each.address[1],
            "type": each.type,
            "identity": each.identity,
        }
        for each in found
    ]
    columns = {"schema": "Schema Name", "name": "Table Name", "catalog": "Catalog", "oid": "OID"}
    _print(rows, {**columns, "type": "Type", "identity": "Identity"}, json=json)


def schema(
    *,
    source: o.Source = None,
    directory: o.Directory = None,
    filters: o.Filters = None,
    split_tables_larger_than: o.SplitLargerThan = 0,
    split_max_parts: o.SplitMaxParts = None,
    skip_split_by_ctid: o.SkipSplitByCtid = False,
    estimate_table_sizes: o.EstimateSizes = False,
    json: lo.ListJson = True,
    ignored: lo.Ignored = False,
    snapshot: lo.IgnoredSnapshot = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Everything that a copy would take, as JSON: tables with columns and parts, indexes, sequences."""
    begin_logging(verbose, notice, debug, trace, quiet)
    split = Split(split_tables_larger_than, split_max_parts, not skip_split_by_ctid, estimate_table_sizes)
    options = CloneOptions(split=split, filters=filters_of(filters))
    endpoint = Endpoint(server(Side.SOURCE, source), "list")
    with tempfile.TemporaryDirectory(prefix="pgcopydb-list-") as folder:
        workdir = WorkDir(Path(folder))
        workdir.create()
        with closing(CatalogStore.create(workdir.catalog)) as store, endpoint.connect("list") as connection:
            facts = inspect_server(connection, Side.SOURCE)
            fetch_catalog(store, workdir, endpoint, None, options)
            plan_parts(store, endpoint, None, split, standby=facts.in_recovery)
            with server_errors(Side.SOURCE, "listing"):
                shown = schema_json(store, options, connection, endpoint.info.display())
    typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())


def register(app: typer.Typer) -> None:
    group = command_group("List what the source has, and what a run knows.")
    for command in (
        databases,
        extensions,
        collations,
        tables,
        table_parts,
        sequences,
        indexes,
        depends,
        schema,
        progress,
    ):
        group.command(command.__name__.replace("_", "-"))(command)
    app.add_typer(group, name="list")
