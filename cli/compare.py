"""``pgcopydb compare data`` and ``compare schema``."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from contextlib import closing
from pathlib import Path
from typing import Annotated, Any

import orjson
import typer

from pgcopydb.bootstrap.compare import Checksum, DataComparison, compare_data
from pgcopydb.bootstrap.compare_schema import SchemaDifference, compare_schema
from pgcopydb.bootstrap.options import Split
from pgcopydb.bootstrap.placement import TABLESPACE_MAP
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.cli import options as o
from pgcopydb.cli.groups import command_group
from pgcopydb.cli.settings import tablespace_map_of
from pgcopydb.cli.tables import print_comparison, print_schema_comparison
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.filters import FilterRules
from pgcopydb.postgres.selection import load_selection
from pgcopydb.runtime.errors import ExitCode
from pgcopydb.runtime.stop import stop_on_signals

logger = logging.getLogger("pgcopydb.cli")


Jobs = Annotated[
    int,
    typer.Option(
        "--table-jobs",
        "--jobs",
        "-j",
        envvar="PGCOPYDB_TABLE_JOBS",
        parser=o.whole_number(1, 128),
        help="Tables (or parts of them) compared at once, on both sides each.",
        metavar="N",
    ),
]
Json = Annotated[bool, typer.Option("--json", "-J", help="Print JSON.")]
Rows = Annotated[
    int, typer.Option("--rows", min=0, metavar="N", help="Tell the keys of up to N rows of each table that differs.")
]


def data(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    table_jobs: Jobs = 4,
    split_tables_larger_than: o.SplitLargerThan = 0,
    split_max_parts: o.SplitMaxParts = None,
    filters: o.Filters = None,
    rows: Rows = 0,
    json: Json = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Compare every table by checksum, and sequences and large objects too. Exit code 12 when anything differs."""
    o.begin_logging(verbose, notice, debug, trace, quiet)
    source_info, target_info = o.servers(source, target)
    rules = _rules(directory, filters)
    with stop_on_signals() as stop:
        comparison = compare_data(
            Endpoint(source_info, "compare"),
            Endpoint(target_info, "compare"),
            table_jobs,
            stop,
            rules=rules,
            split=Split(split_tables_larger_than, split_max_parts),
            rows=rows,
        )
    if json:
        typer.echo(orjson.dumps(_json(comparison), option=orjson.OPT_INDENT_2).decode())
    else:
        print_comparison(comparison)
    for row in comparison.differences:
        logger.error("%s differs%s", row.name, f": {row.problem}" if row.problem else "")
        for told in row.rows:
            logger.error("%s: row %s", row.name, told)
    if not comparison.equal:
        logger.error("%d of %d relations differ", len(comparison.differences), len(comparison.tables))
        raise typer.Exit(ExitCode.INTERNAL_ERROR)
    logger.info("All %d relations are equal", len(comparison.tables))


def schema(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    filters: o.Filters = None,
    no_owner: o.NoOwner = False,
    no_acl: o.NoAcl = False,
    no_tablespaces: o.NoTablespaces = False,
    tablespace_map: o.TablespaceMap = None,
    json: Json = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Compare both schemas, in both directions, property by property. Exit code 12 when anything differs."""
    o.begin_logging(verbose, notice, debug, trace, quiet)
    source_info, target_info = o.servers(source, target)
    comparison = compare_schema(
        Endpoint(source_info, "compare"),
        Endpoint(target_info, "compare"),
        _rules(directory, filters),
        owners=not no_owner,
        grants=not no_acl,
        tablespaces=not no_tablespaces,
        tablespace_map=_map(directory, tablespace_map, no_tablespaces=no_tablespaces),
    )
    if json:
        shown = {
            "counts": {kind: {"source": one, "target": other} for kind, (one, other) in comparison.counts.items()},
            "differences": [*map(_difference, comparison.differences)],
            "notes": [*map(_difference, comparison.notes)],
        }
        typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    else:
        print_schema_comparison(comparison)
    for each in comparison.notes:
        logger.info("%s", each)
    for each in comparison.differences:
        logger.error("%s", each)
    if comparison.differences:
        logger.error("The schemas differ in %d places", len(comparison.differences))
        raise typer.Exit(ExitCode.INTERNAL_ERROR)
    logger.info("pgcopydb schema inspection is successful")


def _difference(each: SchemaDifference) -> dict[str, str | None]:
    return {
        "kind": each.object.kind,
        "identity": each.object.identity,
        "property": each.property or None,
        "source": each.source,
        "target": each.target,
    }


def _rules(directory: Path | None, filters: Path | None) -> FilterRules:
    """Of the file, or else of the run whose work directory was named."""
    if filters is not None or directory is None:
        return o.filters_of(filters)
    return load_selection(o.workdir_of(directory)).rules


def _map(directory: Path | None, given: list[str] | None, *, no_tablespaces: bool) -> Mapping[str, str]:
    """What was given, or else what the run was told whose work directory was named."""
    mapped = tablespace_map_of(given, no_tablespaces=no_tablespaces)
    if mapped or directory is None or not (workdir := o.workdir_of(directory)).exists():
        return mapped
    with closing(CatalogStore.read(workdir.catalog)) as store:
        return store.setting(TABLESPACE_MAP) or {}


def _json(comparison: DataComparison) -> list[dict[str, Any]]:
    return [
        {
            "schema": row.name.schema,
            "name": row.name.name,
            "equal": row.equal,
            "source": _checksum(row.source),
            "target": _checksum(row.target),
            "problem": row.problem,
            "rows": list(row.rows),
        }
        for row in comparison.tables
    ]


def _checksum(checksum: Checksum | None) -> dict[str, Any] | None:
    return None if checksum is None else {"rowcount": checksum.rows, "checksum": checksum.digest}


def register(app: typer.Typer) -> None:
    group = command_group("Compare both databases.")
    group.command("data")(data)
    group.command("schema")(schema)
    app.add_typer(group, name="compare")
