"""``pgcopydb stream …``: the parts of following changes, one by one."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, closing, contextmanager
from pathlib import Path
from typing import IO, Annotated, Optional, cast

import click
import orjson
import typer

from pgcopydb.apply import apply_stage, transform_stage
from pgcopydb.apply.catalog import Catalogs
from pgcopydb.apply.pipe import apply_pipe, print_statements, transform_pipe
from pgcopydb.apply.prune import LOCK as PRUNE
from pgcopydb.apply.prune import prunable
from pgcopydb.apply.prune import prune as remove_durable
from pgcopydb.apply.replay import ApplyMode, OnConflict
from pgcopydb.cli import options as o
from pgcopydb.cli import sentinel, stages
from pgcopydb.cli import stream_options as so
from pgcopydb.cli.cleanup import cleanup
from pgcopydb.cli.contradictions import check_plugin
from pgcopydb.cli.given import begin_logging, log_flags, server, servers, workdir_of
from pgcopydb.cli.groups import command_group
from pgcopydb.cli.known import known_stream
from pgcopydb.daemon.control import check_reached
from pgcopydb.daemon.disk import Limits
from pgcopydb.daemon.plugins import PluginChoice
from pgcopydb.daemon.progress import Progress
from pgcopydb.daemon.receive_stage import SERVICE as RECEIVE
from pgcopydb.daemon.receive_stage import print_stage, receive_stage
from pgcopydb.daemon.slot import StreamOptions, all_or_nothing, clean_up, make_ready, make_slot, sentinel_of
from pgcopydb.daemon.stream import DEFAULT_NAME, MAKING, find_stream
from pgcopydb.postgres.connect import Endpoint
from pgcopydb.postgres.conninfo import ConnInfo, Side
from pgcopydb.postgres.lsn import Lsn
from pgcopydb.runtime.durable import disk_errors
from pgcopydb.runtime.errors import UsageError
from pgcopydb.runtime.stop import stop_on_signals
from pgcopydb.runtime.workdir import WorkDir

logger = logging.getLogger("pgcopydb.cli")

JsonFile = Annotated[
    Optional[str],  # noqa: UP045  typer reads this form on every Python that is supported
    typer.Argument(metavar="[JSON]", help="A change file, or - for stdin. (default: all of the work directory)"),
]
SqlFile = Annotated[
    Optional[str],  # noqa: UP045
    typer.Argument(metavar="[SQL]", help="An SQL file, or - for the standard stream. (default: the work directory's)"),
]


@contextmanager
def _opened(name: str, mode: str) -> Iterator[IO[bytes]]:
    if name == "-":
        yield sys.stdin.buffer if mode == "rb" else sys.stdout.buffer
        return
    with disk_errors(Path(name), "opening"), Path(name).open(mode) as file:
        yield cast("IO[bytes]", file)


def _or_standard(name: str | None, option: str, wanted: bool) -> str | None:
    """The file that was named, or - when an option says so."""
    if wanted and name not in {None, "-"}:
        raise UsageError(f"{option} and the file {name} exclude each other", hint="Give one of them.")
    return "-" if wanted else name


def _endpoint(side: Side, text: str | None, workdir: WorkDir) -> Endpoint:
    return Endpoint(server(side, text).noticing_loss(), workdir.mark)


def _optional_target(text: str | None, workdir: WorkDir) -> Endpoint | None:
    """Receiving needs no target, unless the sentinel is there."""
    return Endpoint(ConnInfo.parse(Side.TARGET, text).noticing_loss(), workdir.mark) if text else None


def setup(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    plugin: so.PluginOption = PluginChoice.AUTO,
    wal2json_numeric_as_string: so.NumericAsString = False,
    wal2json_lossy_nan: so.LossyNan = False,
    slot_name: so.SlotName = DEFAULT_NAME,
    origin: so.OriginName = DEFAULT_NAME,
    endpos: so.Endpos = None,
    json: o.ShortJson = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Make what following changes needs: the slot unless `snapshot --follow` made it, the sentinel and the origin."""
    begin_logging(verbose, notice, debug, trace, quiet)
    check_plugin(click.get_current_context().params)
    workdir = workdir_of(directory)
    source_end, target_end = _endpoint(Side.SOURCE, source, workdir), _endpoint(Side.TARGET, target, workdir)
    workdir.create()
    with ExitStack() as stack:
        stop = stack.enter_context(stop_on_signals())
        stack.enter_context(workdir.lock(MAKING))
        stream = find_stream(workdir)
        if stream is None or not stream.ready:
            # A migration may be making it right now.
            stack.enter_context(workdir.lock("follow"))
            stream = find_stream(workdir)
        if stream is not None and not stream.consistent_point:
            logger.info("An earlier run was interrupted while it made slot %s: beginning again", stream.slot)
            clean_up(source_end, target_end, workdir, slot_name, origin)
            stream = None
        if stream is not None:
            stream = make_ready(stream, source_end, target_end, workdir, endpos or Lsn())
        else:
            chosen = StreamOptions(
                plugin.plugin, slot_name, origin, wal2json_numeric_as_string, lossy_nan=wal2json_lossy_nan
            )
            with all_or_nothing(source_end, target_end, workdir, chosen, endpos or Lsn()):
                stream, session = make_slot(source_end, workdir, chosen, stop)
                session.close()
                stream = make_ready(stream, source_end, target_end, workdir, endpos or Lsn())
    if json:
        typer.echo(orjson.dumps(stream.describe()))
    else:
        for name, value in stream.describe().items():
            typer.echo(f"{name:<18} {value}")


def receive(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    endpos: so.Endpos = None,
    max_disk: so.MaxDisk = 0,
    min_free: so.MinFree = None,
    to_stdout: so.ToStdout = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Receive changes into JSON files, or to stdout, until the end position."""
    begin_logging(verbose, notice, debug, trace, quiet)
    workdir = workdir_of(directory)
    source_end = _endpoint(Side.SOURCE, source, workdir)
    stream = known_stream(workdir)
    with stop_on_signals() as stop:
        sentinel_here = sentinel_of(stream, source_end, _optional_target(target, workdir))
        if endpos is not None:
            sentinel_here.set_endpos(endpos)
        if to_stdout:
            with workdir.lock(RECEIVE):
                print_stage(source_end, sentinel_here, stream, stop, sys.stdout.buffer)
        else:
            receive_stage(source_end, sentinel_here, workdir, stream, stop, Limits(max_disk, min_free))


def transform(
    json_file: JsonFile = None,
    sql_file: SqlFile = None,
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    replay_no_op_updates: so.ReplayNoOp = False,
    from_stdin: so.FromStdin = False,
    to_stdout: so.SqlToStdout = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Turn JSON files into SQL files as they grow, until the end position; or one file, or stdin (-)."""
    begin_logging(verbose, notice, debug, trace, quiet)
    json_file, sql_file = (
        _or_standard(json_file, "--from-stdin", from_stdin),
        _or_standard(sql_file, "--to-stdout", to_stdout),
    )
    if json_file is None and sql_file is not None:
        raise UsageError("--to-stdout says nothing without a JSON file", hint="Name one, or give --from-stdin.")
    workdir = workdir_of(directory)
    source_end, target_end = _endpoint(Side.SOURCE, source, workdir), _endpoint(Side.TARGET, target, workdir)
    stream = known_stream(workdir)
    if json_file is not None:
        with ExitStack() as stack:
            catalogs = Catalogs(
                stack.enter_context(source_end.connect("transform")),
                stack.enter_context(target_end.connect("transform")),
            )
            lines = stack.enter_context(_opened(json_file, "rb"))
            out = stack.enter_context(_opened(sql_file or "-", "wb"))
            transform_pipe(lines, out, catalogs, stream.plugin, name=json_file, keep_no_op=replay_no_op_updates)
        return
    with stop_on_signals() as stop:
        transform_stage.transform_stage(
            transform_stage.Stage(
                source_end,
                target_end,
                sentinel_of(stream, source_end, target_end),
                workdir,
                stream,
                stop,
                keep_no_op=replay_no_op_updates,
            )
        )


def apply(
    sql_file: SqlFile = None,
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    endpos: so.Endpos = None,
    on_conflict: so.OnConflictOption = OnConflict.ERROR,
    apply_mode: so.ApplyModeOption = ApplyMode.SERIAL,
    keep_files: so.KeepFiles = False,
    from_stdin: so.FromStdin = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Apply SQL files to the target as they grow, until the end position; or one file, or stdin (-).

    The target knows what it has: nothing is applied twice, whatever is fed in. With `--target -` the statements are
    printed instead: those of the file, or of all SQL files that there are.
    """
    begin_logging(verbose, notice, debug, trace, quiet)
    sql_file = _or_standard(sql_file, "--from-stdin", from_stdin)
    if target == "-":
        print_statements(workdir_of(directory).changes, sql_file, sys.stdout.buffer)
        return
    workdir = workdir_of(directory)
    target_end = _endpoint(Side.TARGET, target, workdir)
    stream = known_stream(workdir)
    if sql_file is not None:
        with (
            stop_on_signals() as stop,
            workdir.lock(apply_stage.SERVICE),
            apply_stage.connect_for_apply(target_end) as connection,
            _opened(sql_file, "rb") as lines,
        ):
            progress = Progress(stream.origin, stream.tracking)
            apply_pipe(connection, progress, lines.fileno(), on_conflict, apply_mode, stop, endpos or Lsn())
        return
    source_end = _endpoint(Side.SOURCE, source, workdir)
    with stop_on_signals() as stop:
        sentinel_here = sentinel_of(stream, source_end, target_end)
        if endpos is not None:
            sentinel_here.set_endpos(endpos)
        stage = apply_stage.Stage(target_end, sentinel_here, workdir, stream, stop, on_conflict, apply_mode, keep_files)
        apply_stage.run_apply(stage)


def prune(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    dry_run: o.DryRun = False,
    json: o.ShortJson = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Remove the files of changes that the target has on its disk, and say which. Applying does so by itself."""
    begin_logging(verbose, notice, debug, trace, quiet)
    workdir = workdir_of(directory)
    stream = known_stream(workdir)
    source_end, target_end = _endpoint(Side.SOURCE, source, workdir), _optional_target(target, workdir)
    with closing(sentinel_of(stream, source_end, target_end)) as sentinel_here:
        durable = sentinel_here.read().replay_lsn
    if dry_run:
        with workdir.lock(PRUNE, wait=True):
            found = prunable(workdir.changes, stream.segment_size, durable)
    else:
        found = remove_durable(workdir, stream.segment_size, durable, wait=True)
    names = [path.name for path in found]
    if json:
        typer.echo(orjson.dumps({"removed": [] if dry_run else names, "removable": names if dry_run else []}))
        return
    for name in names:
        typer.echo(f"{'Would remove' if dry_run else 'Removed'} {name}")


def prefetch(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    endpos: so.Endpos = None,
    max_disk: so.MaxDisk = 0,
    min_free: so.MinFree = None,
    replay_no_op_updates: so.ReplayNoOp = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Receive and transform until the end position; nothing is applied."""
    begin_logging(verbose, notice, debug, trace, quiet)
    flags = log_flags(verbose, notice, debug, trace, quiet)
    more = stages.flags_of_stages(replay_no_op_updates=replay_no_op_updates, max_disk=max_disk, min_free=min_free)
    _run(source, target, directory, endpos, stages.RECEIVE_AND_TRANSFORM, flags, more)


def catchup(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    endpos: so.Endpos = None,
    on_conflict: so.OnConflictOption = OnConflict.ERROR,
    apply_mode: so.ApplyModeOption = ApplyMode.SERIAL,
    keep_files: so.KeepFiles = False,
    replay_no_op_updates: so.ReplayNoOp = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Transform and apply what was received, until the end position; nothing is received."""
    begin_logging(verbose, notice, debug, trace, quiet)
    flags = log_flags(verbose, notice, debug, trace, quiet)
    more = stages.flags_of_stages(
        on_conflict=on_conflict, apply_mode=apply_mode, keep_files=keep_files, replay_no_op_updates=replay_no_op_updates
    )
    _run(source, target, directory, endpos, stages.TRANSFORM_AND_APPLY, flags, more)


def replay(
    *,
    source: o.Source = None,
    target: o.Target = None,
    directory: o.Directory = None,
    endpos: so.Endpos = None,
    on_conflict: so.OnConflictOption = OnConflict.ERROR,
    apply_mode: so.ApplyModeOption = ApplyMode.SERIAL,
    keep_files: so.KeepFiles = False,
    max_disk: so.MaxDisk = 0,
    min_free: so.MinFree = None,
    replay_no_op_updates: so.ReplayNoOp = False,
    verbose: o.Verbose = 0,
    notice: o.Notice = False,
    debug: o.Debug = False,
    trace: o.Trace = False,
    quiet: o.Quiet = False,
) -> None:
    """Receive, transform and apply until the end position."""
    begin_logging(verbose, notice, debug, trace, quiet)
    flags = log_flags(verbose, notice, debug, trace, quiet)
    more = stages.flags_of_stages(
        on_conflict=on_conflict,
        apply_mode=apply_mode,
        keep_files=keep_files,
        replay_no_op_updates=replay_no_op_updates,
        max_disk=max_disk,
        min_free=min_free,
    )
    _run(source, target, directory, endpos, stages.ALL, flags, more)


def _run(
    source: str | None,
    target: str | None,
    directory: o.Directory,
    endpos: Lsn | None,
    names: tuple[str, ...],
    flags: list[str],
    more: Mapping[str, Sequence[str]],
) -> None:
    source_info, target_info = servers(source, target)
    workdir = workdir_of(directory)
    stream = known_stream(workdir)
    with stop_on_signals() as stop, workdir.lock("follow"):
        following = stages.Following.between(source_info, target_info, workdir, stop, flags, more)
        with following.service(names):
            stages.set_endpos(following, stream, endpos)
            supervisor = following.supervisor(stream, names)
            supervisor.start()
            stages.wait(following, stream, supervisor)
            if "apply" in names:
                stages.finish(following, stream, supervisor, sequences=False)
            else:
                check_reached(supervisor.reached)


def register(app: typer.Typer) -> None:
    group = command_group("Follow changes step by step.")
    for command in (setup, cleanup, prune, receive, transform, apply, prefetch, catchup, replay):
        group.command(command.__name__)(command)
    group.add_typer(sentinel.group(), name="sentinel")
    app.add_typer(group, name="stream")
