"""``pgcopydb list progress``."""

from __future__ import annotations

from typing import Annotated, Any

import orjson
import typer

from pgcopydb.bootstrap.progress import progress_json, read_progress
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.summary import build_summary, summary_json
from pgcopydb.cli import options as o
from pgcopydb.cli.groups import command_group
from pgcopydb.cli.tables import print_progress, print_summary

Summary = Annotated[bool, typer.Option("--summary", "-y", help="Print what each table and step took instead.")]


def progress(
    *,
    directory: o.Directory = None,
    summary: Summary = False,
    json: o.Json = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Show how far the run of a work directory is; it may be going on in another process."""
    o.begin_logging(verbose, notice, debug, trace, quiet)
    store = CatalogStore.read(o.workdir_of(directory).catalog)
    if json:
        shown: dict[str, Any] = summary_json(store) if summary else progress_json(store)
        typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
    elif summary:
        print_summary(build_summary(store))
    else:
        print_progress(read_progress(store))
    store.close()


def register(app: typer.Typer) -> None:
    group = command_group("List what a run knows.")
    group.command("progress")(progress)
    app.add_typer(group, name="list")
