"""``pgcopydb compare data``."""

from __future__ import annotations

import logging
from typing import Any

import orjson
import typer

from pgcopydb.bootstrap.compare import Checksum, DataComparison, compare_data
from pgcopydb.cli import options as o
from pgcopydb.cli.groups import command_group
from pgcopydb.cli.tables import print_comparison
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.runtime.errors import ExitCode
from pgcopydb.runtime.stop import stop_on_signals

logger = logging.getLogger("pgcopydb.cli")


def data(
    *,
    source: o.Source = None,
    target: o.Target = None,
    table_jobs: o.TableJobs = 4,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Compare every table by checksum, and sequences and large objects too. Exit code 12 when anything differs."""
    o.begin_logging(verbose, notice, debug, trace, quiet)
    source_info, target_info = o.servers(source, target)
    with stop_on_signals() as stop:
        comparison = compare_data(Endpoint(source_info, "compare"), Endpoint(target_info, "compare"), table_jobs, stop)
    if json:
        typer.echo(orjson.dumps(_json(comparison), option=orjson.OPT_INDENT_2).decode())
    else:
        print_comparison(comparison)
    for row in comparison.differences:
        logger.error("%s differs%s", row.name, f": {row.problem}" if row.problem else "")
    if not comparison.equal:
        logger.error("%d of %d relations differ", len(comparison.differences), len(comparison.tables))
        raise typer.Exit(ExitCode.INTERNAL_ERROR)
    logger.info("All %d relations are equal", len(comparison.tables))


def _json(comparison: DataComparison) -> list[dict[str, Any]]:
    return [
        {
            "schema": row.name.schema,
            "name": row.name.name,
            "equal": row.equal,
            "source": _checksum(row.source),
            "target": _checksum(row.target),
            "problem": row.problem,
        }
        for row in comparison.tables
    ]


def _checksum(checksum: Checksum | None) -> dict[str, Any] | None:
    return None if checksum is None else {"rowcount": checksum.rows, "checksum": checksum.digest}


def register(app: typer.Typer) -> None:
    group = command_group("Compare both databases.")
    group.command("data")(data)
    app.add_typer(group, name="compare")
