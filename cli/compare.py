"""``pgcopydb compare data`` and ``compare schema``."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, Final

import orjson
import typer

from pgcopydb.bootstrap.compare import Checksum, DataComparison, TableComparison, compare_data
from pgcopydb.bootstrap.compare_schema import SchemaComparison, SchemaDifference, SchemaObject, compare_schema
from pgcopydb.bootstrap.databases import compared_pairs
from pgcopydb.bootstrap.options import Split
from pgcopydb.bootstrap.placement import TABLESPACE_MAP
from pgcopydb.bootstrap.run import log_finding
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.cli import options as o
from pgcopydb.cli.contradictions import check_all_databases
from pgcopydb.cli.given import begin_logging, filters_of, servers, workdir_of
from pgcopydb.cli.groups import command_group
from pgcopydb.cli.settings import tablespace_map_of
from pgcopydb.cli.tables import print_comparison, print_schema_comparison
from pgcopydb.cli.values import whole_number
from pgcopydb.daemon.stream import find_stream
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo
from pgcopydb.postgres.filters import FilterRules
from pgcopydb.postgres.names import Name
from pgcopydb.postgres.selection import load_selection
from pgcopydb.runtime.errors import ExitCode, UsageError
from pgcopydb.runtime.logs import speaking_of
from pgcopydb.runtime.stop import stop_on_signals
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger("pgcopydb.cli")

_DATABASE: Final = Name("pg_catalog", "pg_database")
_MISSING: Final = "the target does not have the database"

Jobs = Annotated[
    int,
    typer.Option(
        "--table-jobs",
        "--jobs",
        "-j",
        envvar="PGCOPYDB_TABLE_JOBS",
        parser=whole_number(1, 128),
        help="Tables (or parts of them) compared at once, on both sides each.",
        metavar="N",
    ),
]
Json = Annotated[bool, typer.Option("--json", "-J", help="Print JSON.")]
AllDatabases = Annotated[
    bool,
    typer.Option(
        "--all-databases",
        "-a",
        help="Compare every database of the source's server that allows connections and is no template with the one of "
        "its name.",
    ),
]
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
    all_databases: AllDatabases = False,
    exclude_database: o.ExcludeDatabase = None,
    rows: Rows = 0,
    json: Json = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Compare every table by checksum, and sequences and large objects too. Exit code 12 when anything differs."""
    begin_logging(verbose, notice, debug, trace, quiet)
    split = Split(split_tables_larger_than, split_max_parts)
    workdirs = _workdirs(directory)
    tables: list[TableComparison] = []
    with stop_on_signals() as stop:
        for name, one, other in _pairs(servers(source, target), all_databases, exclude_database):
            if other is None:
                tables.append(TableComparison(_DATABASE, None, None, _MISSING, database=name))
                continue
            rules = _rules(workdirs(name), filters)
            found = compare_data(one, other, table_jobs, stop, rules=rules, split=split, rows=rows)
            tables += [replace(table, database=name) for table in found.tables]
    comparison = DataComparison(tables)
    if json:
        typer.echo(orjson.dumps(_json(comparison), option=orjson.OPT_INDENT_2).decode())
    else:
        print_comparison(comparison)
    for row in comparison.differences:
        logger.error("%s differs%s", row.title, f": {row.problem}" if row.problem else "")
        for told in row.rows:
            logger.error("%s: row %s", row.title, told)
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
    all_databases: AllDatabases = False,
    exclude_database: o.ExcludeDatabase = None,
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
    begin_logging(verbose, notice, debug, trace, quiet)
    workdirs = _workdirs(directory)
    shown: list[dict[str, Any]] = []
    differences = 0
    for name, one, other in _pairs(servers(source, target), all_databases, exclude_database):
        if other is None:
            comparison = SchemaComparison([SchemaDifference(SchemaObject("database", name), "", "", None)], [], {})
        else:
            workdir = workdirs(name)
            comparison = compare_schema(
                one,
                other,
                _rules(workdir, filters),
                owners=not no_owner,
                grants=not no_acl,
                tablespaces=not no_tablespaces,
                tablespace_map=_map(workdir, tablespace_map, no_tablespaces=no_tablespaces),
                own_publications=_own_publications(workdir),
            )
        differences += len(comparison.differences)
        shown.append({**({"database": name} if all_databases else {}), **_schema_json(comparison)})
        if not json:
            print_schema_comparison(comparison, name)
        with speaking_of(name) if name else nullcontext():
            for each in comparison.notes:
                logger.info("%s", each)
            for each in comparison.differences:
                logger.error("%s", each)
    if json:
        typer.echo(orjson.dumps(shown if all_databases else shown[0], option=orjson.OPT_INDENT_2).decode())
    if differences:
        logger.error("The schemas differ in %d places", differences)
        raise typer.Exit(ExitCode.INTERNAL_ERROR)
    logger.info("pgcopydb schema inspection is successful")


def _pairs(
    servers: tuple[ConnInfo, ConnInfo], all_databases: bool, excluded: Sequence[str] | None
) -> list[tuple[str, Endpoint, Endpoint | None]]:
    """What is compared: with no name where the connection strings alone say it."""
    check_all_databases({"all_databases": all_databases, "exclude_database": excluded})
    source, target = (Endpoint(info, "compare") for info in servers)
    if not all_databases:
        return [("", source, target)]
    pairs, findings = compared_pairs(source, target, excluded or ())
    for finding in findings:
        log_finding(finding)
    if not pairs:
        raise UsageError("no database is left to be compared", hint="Leave out --exclude-database.")
    return pairs


def _schema_json(comparison: SchemaComparison) -> dict[str, Any]:
    return {
        "counts": {kind: {"source": one, "target": other} for kind, (one, other) in comparison.counts.items()},
        "differences": [*map(_difference, comparison.differences)],
        "notes": [*map(_difference, comparison.notes)],
    }


def _difference(each: SchemaDifference) -> dict[str, str | None]:
    return {
        "kind": each.object.kind,
        "identity": each.object.identity,
        "property": each.property or None,
        "source": each.source,
        "target": each.target,
    }


def _workdirs(directory: Path | None) -> Callable[[str], WorkDir | None]:
    """Of a database, by its name where there are several; none unless one was named."""
    if directory is None:
        return lambda _: None
    top = workdir_of(directory)
    return lambda database: top.database(database) if database else top


def _rules(workdir: WorkDir | None, filters: Path | None) -> FilterRules:
    """Of the file, or else of the run whose work directory was named."""
    if filters is not None or workdir is None:
        return filters_of(filters)
    return load_selection(workdir).rules


def _map(workdir: WorkDir | None, given: list[str] | None, *, no_tablespaces: bool) -> Mapping[str, str]:
    """What was given, or else what the run was told whose work directory was named."""
    mapped = tablespace_map_of(given, no_tablespaces=no_tablespaces)
    if mapped or workdir is None or not workdir.exists():
        return mapped
    with closing(CatalogStore.read(workdir.catalog)) as store:
        return store.setting(TABLESPACE_MAP) or {}


def _own_publications(workdir: WorkDir | None) -> Sequence[str]:
    """Those that the run has made whose work directory was named."""
    stream = None if workdir is None else find_stream(workdir)
    return () if stream is None else stream.publications


def _json(comparison: DataComparison) -> list[dict[str, Any]]:
    return [
        {
            **({"database": row.database} if row.database else {}),
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
