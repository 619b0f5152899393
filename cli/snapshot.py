"""``pgcopydb snapshot``."""

from __future__ import annotations

import secrets

import typer

from pgcopydb.bootstrap.snapshot import hold_snapshot
from pgcopydb.cli import options as o
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.runtime.stop import stop_on_signals


def snapshot(
    *,
    source: o.Source = None,
    directory: o.Directory = None,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Export a snapshot, print its identifier and hold it until this command is stopped.

    A clone of the same work directory uses it by itself, and can be resumed under it after a crash.
    """
    o.begin_logging(verbose, notice, debug, trace, quiet)
    endpoint = Endpoint(o.server(Side.SOURCE, source), secrets.token_hex(4))
    workdir = o.workdir_of(directory)
    with stop_on_signals() as stop:
        hold_snapshot(endpoint, workdir, stop, typer.echo)


def register(app: typer.Typer) -> None:
    app.command("snapshot")(snapshot)
