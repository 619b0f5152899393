"""``pgcopydb ping``."""

from __future__ import annotations

import logging
from concurrent.futures import ThreadPoolExecutor
from typing import Annotated

import typer

from pgcopydb.cli import options as o
from pgcopydb.cli.given import begin_logging, server
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.server import inspect_server
from pgcopydb.runtime.errors import ExitCode, PgcopydbError, UsageError
from pgcopydb.runtime.retry import RECONNECT_SECONDS, retry
from pgcopydb.runtime.stop import Stop, stop_on_signals

logger = logging.getLogger("pgcopydb.cli")

Wait = Annotated[float, typer.Option("--timeout", min=0, help="Seconds to wait for a server that does not answer yet.")]


def ping(
    *,
    source: o.Source = None,
    target: o.Target = None,
    wait: Wait = RECONNECT_SECONDS,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Wait until both servers (or the one that is given) answer. Exit code 12 when one does not."""
    begin_logging(verbose, notice, debug, trace, quiet)
    given = [(side, text) for side, text in ((Side.SOURCE, source), (Side.TARGET, target)) if text]
    if not given:
        raise UsageError("no connection string to ping", hint="Give --source, --target or both.")
    infos = [server(side, text) for side, text in given]
    with stop_on_signals() as stop, ThreadPoolExecutor(max_workers=len(infos)) as pool:
        answers = list(pool.map(lambda info: _ping(info, wait, stop), infos))
    if not all(answers):
        raise typer.Exit(ExitCode.INTERNAL_ERROR)


def _ping(info: ConnInfo, wait: float, stop: Stop) -> bool:
    endpoint = Endpoint(info, "ping")
    try:
        with retry(
            lambda: endpoint.connect("ping"), what=f"connecting to the {info.side}", seconds=wait, stop=stop
        ) as connection:
            facts = inspect_server(connection, info.side)
    except PgcopydbError as error:
        logger.error("%s", error)
        if error.hint:
            logger.error("hint: %s", error.hint)
        return False
    typer.echo(f"{info.side}: {facts}")
    return True


def register(app: typer.Typer) -> None:
    app.command("ping")(ping)
