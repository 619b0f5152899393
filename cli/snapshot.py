"""``pgcopydb snapshot``."""

from __future__ import annotations

import secrets
from collections.abc import Callable
from dataclasses import replace

import click
import typer

from pgcopydb.bootstrap.snapshot import HeldSnapshot, adopt_snapshot, export_snapshot, hold_snapshot
from pgcopydb.cli import options as o
from pgcopydb.cli import stream_options as so
from pgcopydb.cli.contradictions import check_plugin
from pgcopydb.cli.given import begin_logging, server, workdir_of
from pgcopydb.daemon.plugins import PluginChoice
from pgcopydb.daemon.slot import StreamOptions, all_or_nothing, make_slot
from pgcopydb.daemon.stream import DEFAULT_NAME, MAKING, find_stream
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.errors import SourceError, StateError
from pgcopydb.runtime.stop import Stop, stop_on_signals


def snapshot(
    *,
    source: o.Source = None,
    directory: o.Directory = None,
    follow: so.FollowSnapshot = False,
    plugin: so.PluginOption = PluginChoice.AUTO,
    wal2json_numeric_as_string: so.NumericAsString = False,
    wal2json_lossy_nan: so.LossyNan = False,
    slot_name: so.SlotName = DEFAULT_NAME,
    origin: so.OriginName = DEFAULT_NAME,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Export a snapshot, print its identifier and hold it until this command is stopped.

    A clone of the same work directory uses it by itself, and can be resumed under it after a crash.
    """
    begin_logging(verbose, notice, debug, trace, quiet)
    check_plugin(click.get_current_context().params)
    endpoint = Endpoint(server(Side.SOURCE, source), secrets.token_hex(4))
    workdir = workdir_of(directory)
    chosen = StreamOptions(plugin.plugin, slot_name, origin, wal2json_numeric_as_string, lossy_nan=wal2json_lossy_nan)

    def take(source_end: Endpoint, on_lost: Callable[[SourceError], None], stop: Stop) -> HeldSnapshot:
        if not follow:
            return export_snapshot(source_end, on_lost)
        # Until the slot is made: whatever goes on with it may run beside the snapshot.
        with workdir.lock(MAKING), workdir.lock("follow"):
            if find_stream(workdir) is not None:
                raise StateError(
                    f"the work directory {workdir.top} has a stream already, and its snapshot was another one",
                    hint="Remove it with `pgcopydb stream cleanup`, or choose another work directory with --dir.",
                )
            with all_or_nothing(source_end, None, workdir, chosen, Lsn()):
                stream, session = make_slot(source_end, workdir, chosen, stop)
                with session:
                    held = adopt_snapshot(source_end, stream.snapshot, on_lost)
                # By this name the copy knows that its changes begin where its rows end.
                replace(stream, snapshot=held.under.id).save(workdir)
        return held

    with stop_on_signals() as stop:
        hold_snapshot(endpoint, workdir, stop, typer.echo, lambda source_end, on_lost: take(source_end, on_lost, stop))


def register(app: typer.Typer) -> None:
    app.command("snapshot")(snapshot)
