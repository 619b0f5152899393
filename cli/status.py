"""``pgcopydb status``."""

from __future__ import annotations

import secrets
import signal
import time
from collections.abc import Callable
from typing import Annotated

import orjson
import typer
from rich.live import Live

from pgcopydb.cli import options as o
from pgcopydb.cli.given import begin_logging, workdir_of
from pgcopydb.cli.several import databases_of
from pgcopydb.cli.status_all import OfAll, PictureOfAll
from pgcopydb.cli.status_one import OfOne, Picture
from pgcopydb.cli.tables import new_console
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side

Watch = Annotated[
    bool,
    typer.Option("--watch", "-W", help="Go on showing it, every two seconds, until Ctrl-C; with --json a line each."),
]

_WATCH_SECONDS = 2.0


def status(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    watch: Watch = False,
    json: o.ShortJson = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Show how a migration that follows changes stands: its stages, how far the target is behind, slot, disk.

    It may be running in another process, or be down; a server that does not answer is said, and the rest is shown.
    """
    begin_logging(verbose, notice, debug, trace, quiet)
    workdir = workdir_of(directory)
    source_end, target_end = (
        Endpoint(ConnInfo.parse(side, text), secrets.token_hex(4)) if text else None
        for side, text in ((Side.SOURCE, source), (Side.TARGET, target))
    )

    databases = databases_of(workdir)
    look: Callable[[], Picture | PictureOfAll] = OfOne(workdir, source_end, target_end).look
    if databases:
        look = OfAll(workdir, source_end, target_end, databases).look
    if not watch:
        picture = look()
        if json:
            typer.echo(orjson.dumps(picture.json(), option=orjson.OPT_INDENT_2).decode())
        else:
            new_console().print(picture.shown())
        return
    # Also where a shell has started this in the background, with the signal ignored.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        if json:
            while True:
                typer.echo(orjson.dumps(look().json()).decode())
                time.sleep(_WATCH_SECONDS)
        console = new_console()
        while not console.is_terminal:
            # Nothing can be painted over: each picture follows the one before.
            console.print(look().shown())
            time.sleep(_WATCH_SECONDS)
        with Live(look().shown(), console=console, auto_refresh=False) as live:
            while True:
                time.sleep(_WATCH_SECONDS)
                live.update(look().shown(), refresh=True)
    except KeyboardInterrupt:
        return


def register(app: typer.Typer) -> None:
    app.command("status")(status)
