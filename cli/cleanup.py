"""``pgcopydb stream cleanup``: a migration is over, or given up."""

from __future__ import annotations

from contextlib import ExitStack

import orjson
import typer

from pgcopydb.apply import apply_stage
from pgcopydb.bootstrap.databases import is_there
from pgcopydb.cli import options as o
from pgcopydb.cli import stream_options as so
from pgcopydb.cli.given import begin_logging, servers, workdir_of
from pgcopydb.cli.several import each_of
from pgcopydb.daemon.receive_stage import SERVICE as RECEIVE
from pgcopydb.daemon.slot import StreamOptions, clean_up
from pgcopydb.daemon.stream import DEFAULT_NAME, MAKING
from pgcopydb.postgres.classify import server_errors
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.runtime.workdir import WorkDir


def _ends(infos: tuple[ConnInfo, ConnInfo], database: str, workdir: WorkDir) -> tuple[Endpoint, Endpoint | None]:
    """Of one of several databases no target when that has none yet."""
    source, target = (Endpoint(info.noticing_loss(), workdir.mark) for info in infos)
    if not database:
        return source, target
    with target.connect("cleanup") as connection, server_errors(Side.TARGET, "looking which databases it has"):
        if not is_there(connection, database):
            return source.of_database(database), None
    return source.of_database(database), target.of_database(database)


def cleanup(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    slot_name: so.SlotName = DEFAULT_NAME,
    origin: so.OriginName = DEFAULT_NAME,
    json: o.ShortJson = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Remove slot, publications, sentinel, origin and the files of changes, and say what was removed.

    Can be run after a run that was aborted, and again. A migration that is running is not touched.
    """
    begin_logging(verbose, notice, debug, trace, quiet)
    infos = servers(source, target)
    top = workdir_of(directory)
    top.create()
    removed: list[str] = []
    with ExitStack() as stack:
        stack.enter_context(top.lock("follow"))
        for database, workdir in each_of(top):
            names = StreamOptions(slot=slot_name, origin=origin)
            if database:
                names = names.of_database(database)
                workdir.create()
                stack.enter_context(workdir.lock("follow"))
            for service in (MAKING, RECEIVE, "transform", apply_stage.SERVICE):
                stack.enter_context(workdir.lock(service))
            done = clean_up(*_ends(infos, database, workdir), workdir, names.slot, names.origin)
            removed += [f"{what} (database {database})" if database else what for what in done]
    if json:
        typer.echo(orjson.dumps({"removed": removed}))
    else:
        for what in removed or ["nothing: there was nothing to remove"]:
            typer.echo(f"Removed {what}")
