"""``pgcopydb list progress``: how far the run of a work directory is."""

from __future__ import annotations

from contextlib import closing

import orjson
import typer

from pgcopydb.bootstrap.all_reports import (
    AllProgress,
    is_of_all,
    progress_of_all_json,
    summary_of_all,
    summary_of_all_json,
)
from pgcopydb.bootstrap.progress import progress_json, read_progress
from pgcopydb.bootstrap.store import CatalogStore
from pgcopydb.bootstrap.summary import build_summary, summary_json
from pgcopydb.cli import list_options as lo
from pgcopydb.cli import options as o
from pgcopydb.cli.given import begin_logging, workdir_of
from pgcopydb.cli.tables import print_progress, print_progress_of_all, print_summary


def progress(
    *,
    directory: o.Directory = None,
    summary: lo.Summary = False,
    json: lo.ListJson = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Show how far the run of a work directory is; it may be going on in another process."""
    begin_logging(verbose, notice, debug, trace, quiet)
    workdir = workdir_of(directory)
    with closing(CatalogStore.read(workdir.catalog)) as store:
        of_all = is_of_all(store)
        if json and of_all:
            shown = summary_of_all_json(store, workdir) if summary else progress_of_all_json(store, workdir)
            typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
        elif json:
            shown = summary_json(store) if summary else progress_json(store)
            typer.echo(orjson.dumps(shown, option=orjson.OPT_INDENT_2).decode())
        elif summary:
            print_summary(summary_of_all(store, workdir) if of_all else build_summary(store))
        elif of_all:
            reader = AllProgress(workdir)
            print_progress_of_all(reader.databases(store), reader.total(store))
        else:
            print_progress(read_progress(store))
